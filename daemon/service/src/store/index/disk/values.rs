//! The bytes of values: docs/formats/index.md draws them.
//!
//! What is MessagePack is a map with named fields: a reader passes over fields that it does not know, and fields that it
//! misses have their defaults. The names of fields that each change writes are one letter long.

use minoots_kernel::instance::{Flight, LastFire, Resolution};
use minoots_kernel::{
    ActionResult, ClockSource, Delivery, Event, EventRecord, LedgerOutcome, Occurrence, TimerDefinition,
    TimerId, TimerInstance, TimerState, TimerStatus,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// The first byte of every value in `timer`, `state` and `ledger`.
const FORMAT: u8 = 1;
/// Bytes of a creation before its occurrence.
const CREATION_BYTES: usize = 15;

/// Appends what a timer was at its creation.
pub(super) fn put_creation(out: &mut Vec<u8>, tenant: u32, timer: &TimerInstance) -> Result<(), String> {
    let status = &timer.status;
    out.push(FORMAT);
    out.extend_from_slice(&tenant.to_be_bytes());
    out.extend_from_slice(&status.created_ns.to_be_bytes());
    out.push(match status.created_clock {
        ClockSource::Page => 0,
        ClockSource::PageHoldover => 1,
        ClockSource::Os => 2,
    });
    // A timer that has changed since has its state in a row of its own.
    match status.next.filter(|_| status.version == 1) {
        None => out.push(0),
        Some(first) if first.nominal_ns == first.due_ns => {
            out.push(1);
            out.extend_from_slice(&first.due_ns.to_be_bytes());
        }
        Some(first) => {
            out.push(2);
            out.extend_from_slice(&first.due_ns.to_be_bytes());
            out.extend_from_slice(&first.nominal_ns.to_be_bytes());
        }
    }
    rmp_serde::encode::write_named(out, &*timer.definition).map_err(|e| e.to_string())
}

/// The number of the tenant in a creation.
pub(super) fn tenant_of(creation: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(creation.get(1..5)?.try_into().ok()?))
}

/// The timer that a creation and, where it has changed since, its state make.
pub(super) fn timer(id: TimerId, creation: &[u8], state: Option<&[u8]>) -> Result<TimerInstance, String> {
    let header = creation.get(..CREATION_BYTES).ok_or("a creation is cut short")?;
    check_format(header[0])?;
    let created_ns = ns_at(creation, 5)?;
    let created_clock = match header[13] {
        0 => ClockSource::Page,
        1 => ClockSource::PageHoldover,
        2 => ClockSource::Os,
        other => return Err(format!("there is no clock {other}")),
    };
    let (first, length) = match header[14] {
        0 => (None, 0),
        1 => {
            let due_ns = ns_at(creation, CREATION_BYTES)?;
            (Some(Occurrence { nominal_ns: due_ns, due_ns }), 8)
        }
        2 => {
            let (due_ns, nominal_ns) =
                (ns_at(creation, CREATION_BYTES)?, ns_at(creation, CREATION_BYTES + 8)?);
            (Some(Occurrence { nominal_ns, due_ns }), 16)
        }
        other => return Err(format!("there is no kind of occurrence {other}")),
    };
    let definition: TimerDefinition = decode("a definition", &creation[CREATION_BYTES + length..])?;
    let definition = Arc::new(definition);
    if let Some(state) = state {
        let status = status(created_ns, created_clock, state)?;
        return Ok(TimerInstance { id, definition, status });
    }
    let event = match first {
        Some(Occurrence { nominal_ns, due_ns }) => {
            Event::Scheduled { timer: id, definition, due_ns, nominal_ns: Some(nominal_ns) }
        }
        None => Event::Held { timer: id, definition },
    };
    // The fold says what a new timer is like.
    let tenant = Default::default();
    let record = EventRecord { sequence: 0, tenant, at_ns: created_ns, clock: created_clock, event };
    TimerInstance::created_by(&record).ok_or_else(|| "it was not created".to_string())
}

fn check_format(format: u8) -> Result<(), String> {
    if format == FORMAT { Ok(()) } else { Err(format!("a value has format {format}, not {FORMAT}")) }
}

fn ns_at(bytes: &[u8], at: usize) -> Result<i64, String> {
    let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).ok_or("a value is cut short")?;
    Ok(i64::from_be_bytes(bytes))
}

fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|e| format!("{what} cannot be read: {e}"))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// [`TimerStatus`] as it is stored, without what the creation says.
#[derive(Serialize, Deserialize)]
struct StoredStatus<'a> {
    #[serde(rename = "s")]
    state: TimerState,
    #[serde(rename = "v")]
    version: u64,
    #[serde(rename = "b")]
    base_ns: i64,
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    next: Option<(i64, i64)>,
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    occurrences: u64,
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    fires: u64,
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    completions: u64,
    #[serde(rename = "x", default, skip_serializing_if = "is_default")]
    failures: u64,
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    flights: Cow<'a, [Flight]>,
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    buffered: Option<(i64, i64)>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    last: Option<StoredFire<'a>>,
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    resolutions: Cow<'a, [Resolution]>,
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    ended_ns: Option<i64>,
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    reason: Option<Cow<'a, str>>,
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    skip_before_ns: Option<i64>,
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    latest_nominal_ns: Option<i64>,
}

/// [`LastFire`] as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredFire<'a> {
    #[serde(rename = "n")]
    nominal_ns: i64,
    #[serde(rename = "d")]
    due_ns: i64,
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    armed_ns: Option<i64>,
    #[serde(rename = "f")]
    fired_ns: i64,
    #[serde(rename = "c")]
    clock: ClockSource,
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    max_error_ns: Option<i64>,
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    delivered_ns: Option<i64>,
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    results: Cow<'a, [ActionResult]>,
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    acknowledged_ns: Option<i64>,
}

/// Appends the state of a timer that has changed since its creation.
pub(super) fn put_state(out: &mut Vec<u8>, status: &TimerStatus) -> Result<(), String> {
    // Each field is named, so that one that comes later is not forgotten here.
    let TimerStatus {
        state,
        version,
        created_ns: _,
        created_clock: _,
        base_ns,
        next,
        occurrences,
        fires,
        completions,
        failures,
        flights,
        buffered,
        last,
        resolutions,
        ended_ns,
        reason,
        skip_before_ns,
        latest_nominal_ns,
    } = status;
    let stored = StoredStatus {
        state: *state,
        version: *version,
        base_ns: *base_ns,
        next: next.map(|n| (n.nominal_ns, n.due_ns)),
        occurrences: *occurrences,
        fires: *fires,
        completions: *completions,
        failures: *failures,
        flights: Cow::Borrowed(flights),
        buffered: buffered.map(|b| (b.nominal_ns, b.due_ns)),
        last: last.as_ref().map(stored_fire),
        resolutions: Cow::Borrowed(resolutions),
        ended_ns: *ended_ns,
        reason: reason.as_deref().map(Cow::Borrowed),
        skip_before_ns: *skip_before_ns,
        latest_nominal_ns: *latest_nominal_ns,
    };
    out.push(FORMAT);
    rmp_serde::encode::write_named(out, &stored).map_err(|e| e.to_string())
}

fn stored_fire(last: &LastFire) -> StoredFire<'_> {
    let LastFire {
        nominal_ns,
        due_ns,
        armed_ns,
        fired_ns,
        clock,
        max_error_ns,
        delivered_ns,
        results,
        acknowledged_ns,
    } = last;
    StoredFire {
        nominal_ns: *nominal_ns,
        due_ns: *due_ns,
        armed_ns: *armed_ns,
        fired_ns: *fired_ns,
        clock: *clock,
        max_error_ns: *max_error_ns,
        delivered_ns: *delivered_ns,
        results: Cow::Borrowed(results),
        acknowledged_ns: *acknowledged_ns,
    }
}

fn status(created_ns: i64, created_clock: ClockSource, value: &[u8]) -> Result<TimerStatus, String> {
    let (format, rest) = value.split_first().ok_or("a state is empty")?;
    check_format(*format)?;
    let stored: StoredStatus = decode("a state", rest)?;
    let occurrence = |(nominal_ns, due_ns)| Occurrence { nominal_ns, due_ns };
    Ok(TimerStatus {
        state: stored.state,
        version: stored.version,
        created_ns,
        created_clock,
        base_ns: stored.base_ns,
        next: stored.next.map(occurrence),
        occurrences: stored.occurrences,
        fires: stored.fires,
        completions: stored.completions,
        failures: stored.failures,
        flights: stored.flights.into_owned(),
        buffered: stored.buffered.map(occurrence),
        last: stored.last.map(|l| LastFire {
            nominal_ns: l.nominal_ns,
            due_ns: l.due_ns,
            armed_ns: l.armed_ns,
            fired_ns: l.fired_ns,
            clock: l.clock,
            max_error_ns: l.max_error_ns,
            delivered_ns: l.delivered_ns,
            results: l.results.into_owned(),
            acknowledged_ns: l.acknowledged_ns,
        }),
        resolutions: stored.resolutions.into_owned(),
        ended_ns: stored.ended_ns,
        reason: stored.reason.map(Cow::into_owned),
        skip_before_ns: stored.skip_before_ns,
        latest_nominal_ns: stored.latest_nominal_ns,
    })
}

/// Appends a part of a line: an outcome or a delivery, with the event that said so.
fn put_part(out: &mut Vec<u8>, sequence: u64, part: &impl Serialize) -> Result<(), String> {
    out.push(FORMAT);
    out.extend_from_slice(&sequence.to_be_bytes());
    rmp_serde::encode::write_named(out, part).map_err(|e| e.to_string())
}

fn part<'a, T: Deserialize<'a>>(what: &str, value: &'a [u8]) -> Result<(u64, T), String> {
    check_format(*value.first().ok_or("a line is empty")?)?;
    let sequence = ns_at(value, 1)? as u64;
    Ok((sequence, decode(what, &value[9..])?))
}

/// Appends what became of an occurrence.
pub(super) fn put_outcome(out: &mut Vec<u8>, sequence: u64, outcome: &LedgerOutcome) -> Result<(), String> {
    put_part(out, sequence, outcome)
}

/// Appends how the actions of a fire ended.
pub(super) fn put_delivery(out: &mut Vec<u8>, sequence: u64, delivery: &Delivery) -> Result<(), String> {
    put_part(out, sequence, delivery)
}

/// An outcome, with the event that said so.
pub(super) fn outcome(value: &[u8]) -> Result<(u64, LedgerOutcome), String> {
    part("an outcome", value)
}

/// A delivery, with the event that said so.
pub(super) fn delivery(value: &[u8]) -> Result<(u64, Delivery), String> {
    part("a delivery", value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minoots_kernel::TenantId;

    fn changed() -> TimerInstance {
        let definition = TimerDefinition {
            tenant: TenantId::new("t"),
            name: "n".to_string(),
            priority: -3,
            labels: [("a".to_string(), "b".to_string())].into(),
            ..TimerDefinition::default()
        };
        let (id, definition) = (TimerId::from_u128(7), Arc::new(definition));
        let event = Event::Scheduled { timer: id, definition, due_ns: 12, nominal_ns: Some(9) };
        let tenant = TenantId::new("t");
        let record = EventRecord { sequence: 1, tenant, at_ns: -5, clock: ClockSource::Page, event };
        let mut timer = TimerInstance::created_by(&record).unwrap();
        let result =
            ActionResult { action: "a".to_string(), ok: true, attempts: 1, detail: "200".to_string() };
        let status = &mut timer.status;
        status.version = 4;
        status.flights.push(Flight { nominal_ns: 9, fired_ns: 13 });
        status.buffered = Some(Occurrence { nominal_ns: 14, due_ns: 15 });
        status.resolutions.push(Resolution { upstream: TimerId::from_u128(8), counts: true });
        status.reason = Some("why".to_string());
        status.last = Some(LastFire {
            nominal_ns: 9,
            due_ns: 12,
            armed_ns: Some(1),
            fired_ns: 13,
            clock: ClockSource::Os,
            max_error_ns: Some(2),
            delivered_ns: Some(14),
            results: vec![result],
            acknowledged_ns: Some(16),
        });
        timer
    }

    fn created() -> TimerInstance {
        let mut timer = changed();
        let first = Event::Scheduled {
            timer: timer.id,
            definition: timer.definition.clone(),
            due_ns: 12,
            nominal_ns: Some(9),
        };
        let tenant = timer.tenant().clone();
        let record = EventRecord { sequence: 1, tenant, at_ns: -5, clock: ClockSource::Page, event: first };
        timer.status = TimerInstance::created_by(&record).unwrap().status;
        timer
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    /// What format 1 has been from its first day. What is written may change, what is read may not.
    const CREATION: &str = "0100000003fffffffffffffffb0002000000000000000c000000000000000988a674656e616e74a174a46e616d\
        65a16ea87363686564756c6581a861667465725f6e7300a7616374696f6e7390a66c6162656c7381a161a162ad\
        6d657461646174615f6a736f6ec0af6964656d706f74656e63795f6b6579c0a87072696f72697479fd";
    const STATE: &str = "0189a173a97363686564756c6564a17604a162fba16e92090ca1759182aa6e6f6d696e616c5f6e7309a8666972\
        65645f6e730da177920e0fa16c89a16e09a1640ca16101a1660da163a26f73a16202a1650ea1729184a6616374\
        696f6ea161a26f6bc3a8617474656d70747301a664657461696ca3323030a16b10a1729182a875707374726561\
        6dc41000000000000000000000000000000008a6636f756e7473c3a179a3776879";

    #[test]
    fn values_of_format_1_stay_readable() {
        let (mut creation, mut state) = (Vec::new(), Vec::new());
        put_creation(&mut creation, 3, &created()).unwrap();
        put_state(&mut state, &changed().status).unwrap();
        assert_eq!((hex(&creation), hex(&state)), (CREATION.to_string(), STATE.to_string()));
        assert_eq!(timer(TimerId::from_u128(7), &bytes(CREATION), None), Ok(created()));
        assert_eq!(timer(TimerId::from_u128(7), &bytes(CREATION), Some(&bytes(STATE))), Ok(changed()));
        assert_eq!(tenant_of(&creation), Some(3));
    }

    #[test]
    fn fields_that_come_later_are_passed_over() {
        #[derive(Serialize)]
        struct Later {
            s: TimerState,
            v: u64,
            b: i64,
            zz: Vec<u32>,
        }
        let later = Later { s: TimerState::Paused, v: 9, b: 1, zz: vec![1, 2] };
        let state = [&[FORMAT], &rmp_serde::to_vec_named(&later).unwrap()[..]].concat();
        let timer = timer(TimerId::from_u128(7), &bytes(CREATION), Some(&state)).unwrap();
        assert_eq!(
            (timer.status.state, timer.status.version, timer.status.next),
            (TimerState::Paused, 9, None)
        );
    }
}
