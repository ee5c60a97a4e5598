//! The words of the API for the kernel's choices: one table for each, for what is read and for what is shown.

use minoots_kernel::recurrence::{FoldPolicy, GapPolicy, IntervalMode};
use minoots_kernel::{DeliveryEnd, OverlapPolicy, TimerState, UpstreamOn};

/// Words, each with what it stands for.
pub struct Words<T: 'static>(&'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Words<T> {
    /// The words, in order.
    pub fn words(&self) -> impl Iterator<Item = &'static str> + use<T> {
        self.0.iter().map(|(word, _)| *word)
    }

    /// What a word stands for.
    pub fn parse(&self, word: &str) -> Option<T> {
        self.0.iter().find(|(w, _)| *w == word).map(|(_, value)| *value)
    }

    /// The word for a value; every table has each value.
    pub fn of(&self, value: T) -> &'static str {
        self.0.iter().find(|(_, v)| *v == value).map_or("?", |(word, _)| word)
    }

    /// The words, for an error.
    pub fn listed(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => words.concat(),
        }
    }
}

/// Where a timer is in its life.
pub const STATES: Words<TimerState> = Words(&{
    let mut table = [("", TimerState::Waiting); TimerState::ALL.len()];
    let mut i = 0;
    while i < table.len() {
        table[i] = (TimerState::ALL[i].as_str(), TimerState::ALL[i]);
        i += 1;
    }
    table
});

/// What can happen to a timer, as [`minoots_kernel::Event::kind`] says it.
pub const EVENT_KINDS: [&str; 13] = [
    "timer.scheduled",
    "timer.held",
    "timer.resolved",
    "timer.rescheduled",
    "timer.paused",
    "timer.resumed",
    "timer.cancelled",
    "timer.fired",
    "timer.buffered",
    "timer.skipped",
    "timer.completed",
    "timer.failed",
    "timer.acknowledged",
];

/// What the distance of an interval is counted from.
pub const MODES: Words<IntervalMode> =
    Words(&[("fixed_rate", IntervalMode::FixedRate), ("fixed_delay", IntervalMode::FixedDelay)]);

/// What becomes of a local time that the clocks leave out.
pub const GAPS: Words<GapPolicy> =
    Words(&[("skip", GapPolicy::Skip), ("shift", GapPolicy::Shift), ("run_at_end", GapPolicy::RunAtEnd)]);

/// Which pass counts of a local time that occurs twice.
pub const FOLDS: Words<FoldPolicy> =
    Words(&[("first", FoldPolicy::First), ("second", FoldPolicy::Second), ("both", FoldPolicy::Both)]);

/// What becomes of an occurrence that is due while an earlier fire is under way.
pub const OVERLAPS: Words<OverlapPolicy> = Words(&[
    ("allow", OverlapPolicy::Allow),
    ("skip", OverlapPolicy::Skip),
    ("buffer_one", OverlapPolicy::BufferOne),
    ("cancel_previous", OverlapPolicy::CancelPrevious),
]);

/// What a timer has to do for one that waits for it.
pub const UPSTREAM_ONS: Words<UpstreamOn> = Words(&[
    ("fired", UpstreamOn::Fired),
    ("completed", UpstreamOn::Completed),
    ("failed", UpstreamOn::Failed),
    ("ended", UpstreamOn::Ended),
]);

/// How a fire ended.
pub const ENDS: Words<DeliveryEnd> = Words(&[
    ("completed", DeliveryEnd::Completed),
    ("failed", DeliveryEnd::Failed),
    ("superseded", DeliveryEnd::Superseded),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_and_the_list_names_all() {
        fn check<T: Copy + PartialEq + std::fmt::Debug>(words: &Words<T>, listed: &str) {
            assert_eq!(words.listed(), listed);
            for (word, value) in words.0 {
                assert_eq!((words.parse(word), words.of(*value)), (Some(*value), *word));
            }
            assert_eq!(words.parse("else"), None);
        }
        check(&STATES, "waiting, scheduled, paused, firing, completed, failed, cancelled or expired");
        check(&MODES, "fixed_rate or fixed_delay");
        check(&GAPS, "skip, shift or run_at_end");
        check(&FOLDS, "first, second or both");
        check(&OVERLAPS, "allow, skip, buffer_one or cancel_previous");
        check(&UPSTREAM_ONS, "fired, completed, failed or ended");
        check(&ENDS, "completed, failed or superseded");
    }
}
