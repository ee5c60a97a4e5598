//! Waiting for a moment of corrected time.

use crate::client::Client;
use crate::error::WaitError;
use crate::os_clock::boottime;
use chronotick_core::page::Reading;
use chronotick_core::{Span, Timestamp};
use rustix::thread::{ClockId, NanosleepRelativeResult, Timespec};

/// The clock is looked at again at least this often, since its page may change while we sleep.
const LOOK_AGAIN: Span = Span::from_ms(250);
/// A wait that can be cancelled asks at least this often.
const ASK_AGAIN: Span = Span::from_ms(50);
/// How often a wait for a clock that can be trusted looks at it.
const POLL_STATUS: Span = Span::from_ms(10);
/// How much earlier than the target a sleep ends when a spin is to do the rest: more than a timer's usual slack.
const SPIN: Span = Span::from_us(200);

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Waited {
    /// The reading that found the target reached.
    pub reading: Reading,
    /// Corrected time at the wake-up minus the target: never negative.
    pub late_by: Span,
}

impl Client {
    /// Blocks until corrected time reaches `target`. With a `tolerance` below a millisecond the last 200 µs are spun,
    /// otherwise they are slept. A wait survives holdover; it ends with an error when the clock is no longer to be
    /// trusted at all.
    pub fn wait_until(&self, target: Timestamp, tolerance: Span) -> Result<Waited, WaitError> {
        loop {
            if let Some(waited) = self.wait_slices(target, tolerance, LOOK_AGAIN, || false)? {
                return Ok(waited);
            }
        }
    }

    /// As [`wait_until`](Self::wait_until), and asks `cancelled` at the start and every 50 ms or sooner: `None` when it
    /// says so.
    pub fn wait_until_or(
        &self,
        target: Timestamp,
        tolerance: Span,
        cancelled: impl FnMut() -> bool,
    ) -> Result<Option<Waited>, WaitError> {
        self.wait_slices(target, tolerance, ASK_AGAIN, cancelled)
    }

    /// Blocks until the clock is synchronized or in holdover, and returns the first such reading. A page that is half
    /// written or not yet readable is waited for as well.
    pub fn wait_synchronized(&self, timeout: Span) -> Result<Reading, WaitError> {
        let deadline = boottime() + timeout;
        loop {
            let reading = self.now();
            match reading {
                Ok(reading) if reading.status.is_trusted() => return Ok(reading),
                _ => {}
            }
            let left = deadline - boottime();
            if left <= Span::ZERO {
                let status = reading?.status;
                return Err(WaitError::StillUntrusted { status, waited: timeout });
            }
            sleep(left.min(POLL_STATUS));
        }
    }

    fn wait_slices(
        &self,
        target: Timestamp,
        tolerance: Span,
        slice: Span,
        mut cancelled: impl FnMut() -> bool,
    ) -> Result<Option<Waited>, WaitError> {
        let spin = tolerance < Span::from_ms(1);
        let mut first = true;
        loop {
            if cancelled() {
                return Ok(None);
            }
            let reading = self.now()?;
            if !reading.status.is_usable() {
                return Err(WaitError::Untrusted { status: reading.status });
            }
            let left = target - reading.corrected;
            if left <= Span::ZERO {
                if first && left < Span::ZERO {
                    return Err(WaitError::AlreadyPast { now: reading.corrected, late_by: -left });
                }
                return Ok(Some(Waited { reading, late_by: -left }));
            }
            first = false;
            let nap = if spin { left - SPIN } else { left };
            if nap > Span::ZERO {
                sleep(nap.min(slice));
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// Sleeps on the monotonic clock; a signal may end it early, which the caller's loop notices.
fn sleep(span: Span) {
    let request =
        Timespec { tv_sec: span.as_ns() / 1_000_000_000, tv_nsec: (span.as_ns() % 1_000_000_000) as _ };
    let _: NanosleepRelativeResult = rustix::thread::clock_nanosleep_relative(ClockId::Monotonic, &request);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::synchronized;
    use chronotick_core::page::{Flags, Record, Status};
    use std::os::unix::fs::FileExt;

    fn client(change: fn(&mut Record)) -> (tempfile::TempDir, Client) {
        let mut record = synchronized(3_600.0);
        change(&mut record);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        std::fs::write(&path, record.to_bytes()).unwrap();
        let client = Client::attach_named(path.to_str()).unwrap();
        (dir, client)
    }

    #[test]
    fn a_wait_ends_at_or_after_its_target() {
        let (_dir, client) = client(|_| {});
        for tolerance in [Span::from_us(100), Span::from_ms(5)] {
            let target = client.now().unwrap().corrected + Span::from_ms(20);
            let waited = client.wait_until(target, tolerance).unwrap();
            assert!(!waited.late_by.is_negative());
            assert_eq!(waited.reading.corrected - target, waited.late_by);
        }
    }

    #[test]
    fn a_wait_can_be_cancelled() {
        let (_dir, client) = client(|_| {});
        let far = client.now().unwrap().corrected + Span::from_secs(3_600);
        let mut asked = 0;
        let waited = client.wait_until_or(far, Span::ZERO, || {
            asked += 1;
            asked > 3
        });
        assert_eq!((waited, asked), (Ok(None), 4));
        let near = client.now().unwrap().corrected + Span::from_ms(1);
        assert!(client.wait_until_or(near, Span::ZERO, || false).unwrap().is_some());
    }

    #[test]
    fn a_wait_for_synchronization_ends_when_it_is_there() {
        let (dir, client) = client(|r| r.flags.0 &= !Flags::WARMUP_COMPLETE);
        let refused = client.wait_synchronized(Span::from_ms(1));
        let waited = Span::from_ms(1);
        assert_eq!(refused, Err(WaitError::StillUntrusted { status: Status::WarmingUp, waited }));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| client.wait_synchronized(Span::MAX));
            let later = Record { sequence: 4, ..synchronized(3_600.0) };
            let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("page")).unwrap();
            file.write_all_at(&later.to_bytes(), 0).unwrap();
            assert_eq!(waiter.join().unwrap().unwrap().status, Status::Synchronized);
        });
    }

    #[test]
    fn a_past_target_and_an_untrusted_clock_are_refused() {
        let (_dir, past) = client(|_| {});
        let target = past.now().unwrap().corrected - Span::from_secs(5);
        assert!(matches!(past.wait_until(target, Span::ZERO), Err(WaitError::AlreadyPast { .. })));
        let (_dir, disrupted) = client(|r| r.flags.0 |= Flags::DISRUPTED);
        let refused = disrupted.wait_until(Timestamp::MAX, Span::ZERO);
        assert_eq!(refused, Err(WaitError::Untrusted { status: Status::Disrupted }));
    }
}
