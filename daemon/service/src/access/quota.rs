//! Quotas: what each tenant may use of the service.
//!
//! Timers pending: the engine's census counts them, exactly, at the moment in which they become durable
//! (engine/census.rs). A create first reserves its place, under a lock, and gives it back when it has been answered: the
//! census has the timer by then. So the two together never let a tenant past its limit; in the moment between the census
//! and the answer a timer counts twice, and another create at the very edge of the limit may be refused then. A create
//! goes on to its end though its client drops the request (api/operations.rs), and holds its place until then.
//!
//! Fires are not admitted here: their rate delays actions (actions/fair.rs).
//!
//! Rates are those of a bucket that holds one second's worth, so a batch larger than that never passes. What is not
//! limited is not counted, except open streams.

use super::gate::Demand;
use super::tenants::Tenants;
use crate::actions::fair::Rate;
use crate::api::error::{ApiError, ErrorCode, QUOTA_EXCEEDED, RATE_LIMITED, Remaining};
use crate::engine::EngineHandle;
use chronotick::os_clock::boottime;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use minoots_kernel::TenantId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For so many tenants what they use is remembered; the idle ones are forgotten then.
const TENANTS_MAX: usize = 10_000;

/// What a tenant may use; `None` is unlimited, or in the record of a tenant: as in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Timers that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timers_pending: Option<u64>,
    /// New timers in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates_per_s: Option<u32>,
    /// Changes to timers in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_per_s: Option<u32>,
    /// Questions in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_per_s: Option<u32>,
    /// Fires in a second whose actions begin. What is over it waits, and is never refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires_per_s: Option<u32>,
    /// Fires whose actions begin at once after a quiet time; unset, one second's worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires_burst: Option<u32>,
    /// The bytes of text in the definition of one timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<u64>,
    /// Streams of events that are open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
}

impl Limits {
    /// These, and the others where these say nothing.
    pub fn or(self, others: Self) -> Self {
        Self {
            timers_pending: self.timers_pending.or(others.timers_pending),
            creates_per_s: self.creates_per_s.or(others.creates_per_s),
            changes_per_s: self.changes_per_s.or(others.changes_per_s),
            reads_per_s: self.reads_per_s.or(others.reads_per_s),
            fires_per_s: self.fires_per_s.or(others.fires_per_s),
            // A burst belongs to its rate.
            fires_burst: match self.fires_per_s {
                Some(_) => self.fires_burst,
                None => self.fires_burst.or(others.fires_burst),
            },
            payload_bytes: self.payload_bytes.or(others.payload_bytes),
            streams: self.streams.or(others.streams),
        }
    }

    /// Whether a create can be refused for them.
    pub fn limit_creates(self) -> bool {
        self.timers_pending.is_some() || self.creates_per_s.is_some() || self.payload_bytes.is_some()
    }

    /// How fast the actions of fires begin.
    pub fn fire_rate(self) -> Option<Rate> {
        let burst = |per_s| self.fires_burst.unwrap_or(per_s).max(1);
        self.fires_per_s.map(|per_s| Rate { per_s, burst: burst(per_s) })
    }
}

/// Tells the time to the rates, which count from the boot.
#[derive(Clone)]
struct Ticks(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticks")
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>;

/// A rate with its limit.
#[derive(Debug)]
struct Meter {
    per_s: u32,
    /// `None` where nothing passes.
    limiter: Option<Limiter>,
}

impl Meter {
    fn new(per_s: u32, ticks: &Ticks) -> Self {
        let quota = NonZeroU32::new(per_s).map(Quota::per_second);
        Self { per_s, limiter: quota.map(|q| RateLimiter::direct_with_clock(q, ticks.clone())) }
    }

    /// Takes so many, or tells how many are left and when there will be so many.
    fn take(&self, count: u64) -> Result<(), Remaining> {
        let limit = u64::from(self.per_s);
        let Some(count) = u32::try_from(count).ok().map(NonZeroU32::new) else {
            return Err(Remaining { limit, remaining: None, used: None, retry_after_ms: None });
        };
        let Some(count) = count else { return Ok(()) };
        let never = Remaining { limit, remaining: None, used: None, retry_after_ms: None };
        let Some(limiter) = &self.limiter else { return Err(never) };
        match limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => {
                let wait = until.wait_time_from(limiter.clock().now());
                let missing = (wait.as_nanos() * u128::from(self.per_s)).div_ceil(1_000_000_000);
                let remaining = u64::from(count.get()).saturating_sub(missing as u64);
                let retry_after_ms = Some(wait.as_millis() as u64 + 1);
                Err(Remaining { limit, remaining: Some(remaining), used: None, retry_after_ms })
            }
            Err(_too_many) => Err(never),
        }
    }
}

/// What a tenant uses now.
#[derive(Debug, Default)]
struct Held {
    /// Timers whose create is under way.
    reserved: u64,
    streams: u64,
    creates: Option<Meter>,
    changes: Option<Meter>,
    reads: Option<Meter>,
}

/// What one tenant uses; permits share it.
#[derive(Debug, Default)]
struct Use(Mutex<Held>);

impl Use {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was taken, and is given back when this is dropped.
#[derive(Debug, Default)]
pub struct Permit(Option<(Arc<Use>, Taken)>);

#[derive(Clone, Copy, Debug)]
enum Taken {
    Timers(u64),
    Stream,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some((of, taken)) = self.0.take() else { return };
        let mut held = of.held();
        match taken {
            Taken::Timers(count) => held.reserved = held.reserved.saturating_sub(count),
            Taken::Stream => held.streams = held.streams.saturating_sub(1),
        }
    }
}

/// What a tenant uses, with its limits.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// What it may use.
    pub limits: Limits,
    /// Timers that have not ended.
    pub timers_pending: u64,
    /// Open streams.
    pub streams: u64,
}

/// The quotas of every tenant.
#[derive(Debug)]
pub struct Quotas {
    defaults: Limits,
    tenants: Arc<Tenants>,
    uses: Mutex<HashMap<TenantId, Arc<Use>>>,
    ticks: Ticks,
}

impl Default for Quotas {
    fn default() -> Self {
        Self::new(Limits::default(), Arc::default())
    }
}

impl Quotas {
    /// With the limits of the configuration, and those of the tenants' records.
    pub fn new(defaults: Limits, tenants: Arc<Tenants>) -> Self {
        let ticks = Ticks(Arc::new(|| Duration::from_nanos(boottime().as_ns().unsigned_abs())));
        Self { defaults, tenants, uses: Mutex::default(), ticks }
    }

    /// What a tenant may use.
    pub fn limits(&self, tenant: &TenantId) -> Limits {
        let own = self.tenants.get(tenant.as_str()).map(|t| t.limits).unwrap_or_default();
        own.or(self.defaults)
    }

    fn use_of(&self, tenant: &TenantId) -> Arc<Use> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = uses.get(tenant) {
            return of.clone();
        }
        if uses.len() >= TENANTS_MAX {
            // Nobody else holds one that is idle, and under the lock nobody can come to.
            uses.retain(|_, of| Arc::strong_count(of) > 1);
        }
        uses.entry(tenant.clone()).or_default().clone()
    }

    /// What a tenant uses.
    pub fn usage(&self, tenant: &TenantId, engine: &EngineHandle) -> Usage {
        let streams = self.use_of(tenant).held().streams;
        Usage { limits: self.limits(tenant), timers_pending: engine.pending(tenant), streams }
    }

    /// Takes what a request asks for, or refuses it; what is refused has taken nothing but its part of the rate.
    pub fn admit(
        &self,
        tenant: &TenantId,
        demand: Demand,
        pending: impl FnOnce() -> u64,
    ) -> Result<Permit, ApiError> {
        let limits = self.limits(tenant);
        match demand {
            Demand::Read => {
                self.rate(tenant, limits.reads_per_s, 1, "reads", |held| &mut held.reads)?;
                Ok(Permit::default())
            }
            Demand::Change { timers } => {
                // A change of something else than timers counts as one.
                self.rate(tenant, limits.changes_per_s, timers.max(1), "changes", |held| &mut held.changes)?;
                Ok(Permit::default())
            }
            Demand::Create { timers, bytes_max } => {
                if let Some(limit) = limits.payload_bytes.filter(|limit| bytes_max > *limit) {
                    let what = format!(
                        "a timer of {bytes_max} bytes of text is over the tenant's {limit}: make it smaller"
                    );
                    let limits =
                        Remaining { limit, remaining: None, used: Some(bytes_max), retry_after_ms: None };
                    return Err(refuse(&QUOTA_EXCEEDED, what, limits));
                }
                self.rate(tenant, limits.creates_per_s, timers, "creates", |held| &mut held.creates)?;
                let Some(limit) = limits.timers_pending else { return Ok(Permit::default()) };
                let of = self.use_of(tenant);
                let mut held = of.held();
                let used = pending() + held.reserved;
                if used.saturating_add(timers) > limit {
                    let what = format!(
                        "the tenant has {used} pending timers and may have {limit}: cancel some, or wait until some end"
                    );
                    let limits = Remaining {
                        limit,
                        remaining: Some(limit.saturating_sub(used)),
                        used: Some(used),
                        retry_after_ms: None,
                    };
                    return Err(refuse(&QUOTA_EXCEEDED, what, limits));
                }
                held.reserved += timers;
                drop(held);
                Ok(Permit(Some((of, Taken::Timers(timers)))))
            }
            Demand::Stream => {
                let of = self.use_of(tenant);
                let mut held = of.held();
                if let Some(limit) = limits.streams.filter(|limit| held.streams >= *limit) {
                    let used = held.streams;
                    let what = format!("the tenant has {used} open streams and may have {limit}: close one");
                    let limits =
                        Remaining { limit, remaining: Some(0), used: Some(used), retry_after_ms: None };
                    return Err(refuse(&QUOTA_EXCEEDED, what, limits));
                }
                held.streams += 1;
                drop(held);
                Ok(Permit(Some((of, Taken::Stream))))
            }
        }
    }

    fn rate(
        &self,
        tenant: &TenantId,
        per_s: Option<u32>,
        count: u64,
        what: &str,
        slot: impl FnOnce(&mut Held) -> &mut Option<Meter>,
    ) -> Result<(), ApiError> {
        let Some(per_s) = per_s else { return Ok(()) };
        let of = self.use_of(tenant);
        let mut held = of.held();
        let slot = slot(&mut held);
        let rate = match slot {
            Some(rate) if rate.per_s == per_s => rate,
            _ => slot.insert(Meter::new(per_s, &self.ticks)),
        };
        rate.take(count).map_err(|limits| {
            let next = match limits.retry_after_ms {
                Some(ms) => format!("try again in {ms} ms"),
                None => format!("ask for at most {per_s} at once"),
            };
            refuse(&RATE_LIMITED, format!("the tenant may make {per_s} {what} in a second: {next}"), limits)
        })
    }
}

fn refuse(code: &'static ErrorCode, what: String, limits: Remaining) -> ApiError {
    ApiError { limits: Some(Box::new(limits)), ..ApiError::new(code, what) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn quotas(limits: Limits) -> (Quotas, Arc<AtomicU64>) {
        let ms = Arc::new(AtomicU64::new(1_000));
        let clock = ms.clone();
        let ticks = Ticks(Arc::new(move || Duration::from_millis(clock.load(Ordering::SeqCst))));
        (Quotas { ticks, ..Quotas::new(limits, Arc::default()) }, ms)
    }

    fn create(timers: u64) -> Demand {
        Demand::Create { timers, bytes_max: 10 }
    }

    #[test]
    fn a_create_reserves_its_place_until_it_is_answered() {
        let (quotas, _) =
            quotas(Limits { timers_pending: Some(5), payload_bytes: Some(10), ..Limits::default() });
        let a = TenantId::new("a");
        let first = quotas.admit(&a, create(2), || 1).unwrap();
        let e = quotas.admit(&a, create(3), || 1).unwrap_err();
        assert_eq!(e.code, &QUOTA_EXCEEDED);
        let told = e.limits.unwrap();
        assert_eq!((told.limit, told.remaining, told.used), (5, Some(2), Some(3)));
        assert!(quotas.admit(&TenantId::new("b"), create(5), || 0).is_ok(), "another tenant has its own");
        drop(first);
        let _second = quotas.admit(&a, create(4), || 1).unwrap();
        let large = Demand::Create { timers: 1, bytes_max: 11 };
        assert_eq!(quotas.admit(&a, large, || 0).unwrap_err().code, &QUOTA_EXCEEDED);
    }

    #[test]
    fn a_rate_says_what_is_left_and_when() {
        let (quotas, ms) =
            quotas(Limits { changes_per_s: Some(10), reads_per_s: Some(0), ..Limits::default() });
        let a = TenantId::new("a");
        let change = |timers| quotas.admit(&a, Demand::Change { timers }, || 0);
        change(8).unwrap();
        let told = change(5).unwrap_err().limits.unwrap();
        assert_eq!((told.limit, told.remaining), (10, Some(2)));
        assert!(told.retry_after_ms.is_some_and(|wait| (300..=302).contains(&wait)), "{told:?}");
        let never = change(11).unwrap_err();
        assert_eq!((never.code, never.limits.unwrap().retry_after_ms), (&RATE_LIMITED, None));
        ms.fetch_add(302, Ordering::SeqCst);
        change(5).unwrap();
        assert!(quotas.admit(&a, Demand::Read, || 0).is_err(), "no reads at all");
    }

    #[test]
    fn a_stream_is_given_back_at_its_end() {
        let (quotas, _) = quotas(Limits { streams: Some(1), ..Limits::default() });
        let a = TenantId::new("a");
        let open = quotas.admit(&a, Demand::Stream, || 0).unwrap();
        assert!(quotas.admit(&a, Demand::Stream, || 0).is_err());
        drop(open);
        assert!(quotas.admit(&a, Demand::Stream, || 0).is_ok());
    }
}
