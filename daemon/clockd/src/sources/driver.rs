//! The thread of one source: paces it, reports what it says, and ends with the daemon.

use super::pace::{Pace, Progress};
use super::{Ask, Failure, Outcome, Report, Source, SourceCounters};
use crate::log;
use crate::stop::{Stop, Woken};
use chronotick::os_clock::boottime;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// How NTP names each source as a reference, by its place in the list; for those whom we serve.
pub(crate) type ReferenceIds = Arc<Mutex<Vec<[u8; 4]>>>;

/// One source and all that its thread needs.
pub(crate) struct Driver {
    /// Its place in the list.
    pub(crate) source: usize,
    /// Whom to ask.
    pub(crate) what: Box<dyn Source>,
    /// How often.
    pub(crate) pace: Pace,
    /// Where the reports go.
    pub(crate) reports: Sender<Report>,
    /// When to end, and when to hurry.
    pub(crate) stop: Arc<Stop>,
    /// Kept up to date.
    pub(crate) reference_ids: ReferenceIds,
}

impl Driver {
    /// Asks until the daemon stops or the server refuses for good.
    pub(crate) fn run(mut self) {
        let mut progress = Progress::new(self.pace, boottime());
        let mut counters = SourceCounters::default();
        let mut answered_by = None;
        let mut epoch = self.stop.epoch(self.source);
        log::debug(format_args!("{}: asked from now on", self.what.name()));
        loop {
            let begun = boottime();
            let mut ask = Ask {
                source: self.source,
                poll_interval: progress.poll(),
                stop: &self.stop,
                counters: &mut counters,
            };
            let result = self.what.measure(&mut ask);
            let address = self.what.address();
            let mut is_replaced = false;
            let outcome = match result {
                Ok(m) => {
                    counters.accepted += 1;
                    is_replaced = answered_by.is_some() && answered_by != address;
                    answered_by.clone_from(&address);
                    if is_replaced {
                        progress.replaced(begun);
                    }
                    progress.answered();
                    self.note_reference();
                    Outcome::Answer(m)
                }
                Err(Failure::Stopped) => return,
                Err(Failure::Denied(text)) => {
                    progress.failed();
                    if self.what.move_on() { Outcome::Failure(text) } else { Outcome::Stopped(text) }
                }
                Err(Failure::Rate(text)) => {
                    progress.slowed();
                    Outcome::Failure(text)
                }
                Err(Failure::NoRoute(text)) => {
                    progress.failed();
                    self.what.move_on();
                    Outcome::Failure(text)
                }
                Err(Failure::Other(text)) => {
                    if progress.failed() {
                        self.what.move_on();
                    }
                    Outcome::Failure(text)
                }
            };
            let ended = matches!(outcome, Outcome::Stopped(_));
            let report = Report {
                source: self.source,
                address,
                is_authenticated: self.what.is_authenticated(),
                is_replaced,
                poll_interval: progress.poll(),
                counters,
                outcome,
            };
            if self.reports.send(report).is_err() || ended {
                return;
            }
            loop {
                match self.stop.wait_for_call(begun + progress.wait(), self.source, &mut epoch) {
                    Woken::Stopped => return,
                    Woken::Deadline => break,
                    Woken::Called => progress.called(boottime()),
                }
            }
        }
    }

    fn note_reference(&self) {
        let mut ids = self.reference_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.get_mut(self.source) {
            *id = self.what.reference_id();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::{MonoTime, Span};
    use chronotick_discipline::{Leap, Measurement};
    use std::collections::VecDeque;
    use std::sync::mpsc::channel;

    /// Says what it was told to say; then the daemon ends.
    struct Script {
        lines: VecDeque<(&'static str, Result<(), Failure>)>,
        address: Option<String>,
        can_move: bool,
    }

    impl Source for Script {
        fn name(&self) -> String {
            "script".to_owned()
        }

        fn address(&self) -> Option<String> {
            self.address.clone()
        }

        fn is_authenticated(&self) -> bool {
            true
        }

        fn reference_id(&self) -> [u8; 4] {
            *b"TEST"
        }

        fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
            ask.counters.sent += 1;
            let Some((address, result)) = self.lines.pop_front() else { return Err(Failure::Stopped) };
            self.address = Some(address.to_owned());
            result.map(|()| Measurement {
                source: ask.source,
                at: MonoTime::from_ns(0),
                theta: Span::ZERO,
                delay: Span::ZERO,
                round_trip: Span::ZERO,
                root_delay: Span::ZERO,
                root_dispersion: Span::ZERO,
                precision: Span::ZERO,
                stratum: 1,
                leap: Leap::None,
                poll_interval: ask.poll_interval,
                authenticated: true,
            })
        }

        fn move_on(&mut self) -> bool {
            self.can_move
        }
    }

    fn play(can_move: bool, lines: Vec<(&'static str, Result<(), Failure>)>) -> (Vec<Report>, ReferenceIds) {
        let (sender, reports) = channel();
        let reference_ids: ReferenceIds = Arc::new(Mutex::new(vec![[0; 4]; 1]));
        let quick = Span::from_ns(1);
        Driver {
            source: 0,
            what: Box::new(Script { lines: lines.into(), address: None, can_move }),
            pace: Pace { min_poll: quick, max_poll: quick, burst_interval: quick },
            reports: sender,
            stop: Arc::new(Stop::default()),
            reference_ids: reference_ids.clone(),
        }
        .run();
        (reports.iter().collect(), reference_ids)
    }

    #[test]
    fn another_server_behind_the_same_name_is_reported() {
        let other = || Err(Failure::Other("silence".to_owned()));
        let (reports, ids) =
            play(true, vec![("a", Ok(())), ("a", other()), ("b", other()), ("b", Ok(())), ("b", Ok(()))]);
        let replaced: Vec<bool> = reports.iter().map(|r| r.is_replaced).collect();
        assert_eq!(replaced, [false, false, false, true, false]);
        assert_eq!(reports[4].counters, SourceCounters { sent: 5, accepted: 3, ..Default::default() });
        assert_eq!(ids.lock().unwrap()[0], *b"TEST");
    }

    #[test]
    fn a_denial_ends_a_source_that_has_nowhere_to_go() {
        let denied = || Err(Failure::Denied("go away".to_owned()));
        let (reports, _) = play(false, vec![("a", denied()), ("a", Ok(()))]);
        assert!(matches!(&reports[..], [Report { outcome: Outcome::Stopped(_), .. }]));
        let (reports, _) = play(true, vec![("a", denied()), ("b", Ok(()))]);
        assert!(matches!(
            &reports[..],
            [Report { outcome: Outcome::Failure(_), .. }, Report { outcome: Outcome::Answer(_), .. }]
        ));
    }
}
