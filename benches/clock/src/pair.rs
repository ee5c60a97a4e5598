//! Both daemons on one network, and what was seen of them.

use crate::errors::Errors;
use crate::settings::{SHIFT, Setting};
use chronotick::os_clock::realtime;
use chronotick::{Client, Reading, Span, Status, Timestamp};
use e2e::{ChronydClient, ClockDaemon, Relay};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// chronyd asks once a second.
pub(crate) const CHRONYD_POLL: &str = "minpoll 0 maxpoll 0";
/// So does ours.
pub(crate) const OUR_POLL: &str = "log_level = 'warn'\nmin_poll_s = 1\nmax_poll_s = 1";
/// A reading between two readings of the truth that are further apart is taken again: something else ran in between.
const CLEAN: Span = Span::from_us(2);

/// Two clients of one relay.
pub(crate) struct Pair {
    pub(crate) relay: Relay,
    pub(crate) seen: Seen,
    chronyd: ChronydClient,
    client: Client,
    ours: ClockDaemon,
}

/// The samples.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) theirs: Errors,
    pub(crate) ours: Errors,
    pub(crate) bounds_ns: Vec<i64>,
    pub(crate) violations: u64,
    /// Samples without an estimate of chronyd.
    pub(crate) theirs_missing: u64,
    /// Samples without a synchronized page of ours.
    pub(crate) ours_missing: u64,
}

impl Seen {
    /// The samples of all.
    pub(crate) fn together<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for seen in all {
            sum.theirs.extend(&seen.theirs);
            sum.ours.extend(&seen.ours);
            sum.bounds_ns.extend_from_slice(&seen.bounds_ns);
            sum.violations += seen.violations;
            sum.theirs_missing += seen.theirs_missing;
            sum.ours_missing += seen.ours_missing;
        }
        sum
    }
}

impl Pair {
    pub(crate) fn start(
        directory: &Path,
        server: SocketAddr,
        setting: &Setting,
        seed: u64,
    ) -> io::Result<Self> {
        let relay = Relay::start(server, setting.relay(seed))?;
        let chronyd = ChronydClient::start(directory, relay.address(), CHRONYD_POLL)
            .ok_or_else(|| io::Error::other("chronyd is gone"))?;
        let ours = ClockDaemon::start(directory, &[relay.address().to_string()], OUR_POLL);
        Ok(Self { relay, seen: Seen::default(), chronyd, client: ours.client(), ours })
    }

    /// What our daemon warned of.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.ours.lines()
    }

    /// Asks both; a sample counts only when both have an estimate.
    pub(crate) fn sample(&mut self) {
        let (theirs, ours) = (self.chronyd.tracking().ok().flatten(), our_error(&self.client));
        self.seen.theirs_missing += u64::from(theirs.is_none());
        self.seen.ours_missing += u64::from(ours.is_none());
        let Some((theirs, ours)) = theirs.zip(ours) else { return };
        self.seen.theirs.push(Span::from_secs_f64(theirs.offset_s).as_ns() - SHIFT.as_ns());
        self.seen.ours.push(ours.error_ns);
        self.seen.bounds_ns.push(ours.bound_ns);
        self.seen.violations += u64::from(ours.is_violation);
    }
}

struct OurError {
    error_ns: i64,
    bound_ns: i64,
    /// The truth is outside the bound, whenever between the two readings of it ours was taken.
    is_violation: bool,
}

/// One reading of the page between two of the truth; nothing while there is no synchronized page.
fn our_error(client: &Client) -> Option<OurError> {
    let mut best: Option<(Span, Timestamp, Reading, Timestamp)> = None;
    for _ in 0..20 {
        let before = realtime() + SHIFT;
        let reading = client.now().ok()?;
        let after = realtime() + SHIFT;
        if reading.status != Status::Synchronized {
            return None;
        }
        let gap = after - before;
        if best.as_ref().is_none_or(|(least, ..)| gap < *least) {
            best = Some((gap, before, reading, after));
        }
        if gap <= CLEAN {
            break;
        }
    }
    let (gap, before, reading, after) = best?;
    let middle = before + Span::from_ns(gap.as_ns() / 2);
    Some(OurError {
        error_ns: (reading.corrected - middle).as_ns(),
        bound_ns: reading.max_error().as_ns(),
        is_violation: reading.bound.earliest() > after || reading.bound.latest() < before,
    })
}
