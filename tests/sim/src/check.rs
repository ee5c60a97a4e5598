//! What must always hold, checked against the events themselves and against a model that shares no code with the kernel
//! but the arithmetic of recurrences.
//!
//! - What was told to be durable is in the log for ever, byte for byte, whatever crashed.
//! - Each occurrence of each timer fires exactly once in the log, or is skipped with a reason, in the order of its
//!   schedule and without a gap.
//! - Nothing fires before its time but by hand.
//! - The state that the program shows is the fold of all events.

use chronotick_core::Timestamp;
use minoots::store::TimerIndex;
use minoots_kernel::recurrence::{IntervalMode, Recurrence};
use minoots_kernel::{
    Event, EventRecord, Kernel, NothingCold, Occurrence, ScheduleSpec, TimerDefinition, TimerId,
    TimerInstance,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All that has been seen of one partition.
#[derive(Default)]
pub struct Checker {
    /// Every event that was told to be durable, from the first on.
    history: Vec<EventRecord>,
    /// The fold of them.
    fold: Option<Kernel>,
    timers: BTreeMap<TimerId, Expected>,
    /// The versions of timers that were acknowledged.
    acknowledged: BTreeMap<TimerId, u64>,
}

/// What is expected of one timer.
struct Expected {
    definition: Arc<TimerDefinition>,
    recurrence: Option<Recurrence>,
    base: Timestamp,
    /// The nominal time of the occurrence that is to be decided next; `None` when none is known.
    next_ns: Option<i64>,
    buffered_ns: Option<i64>,
    fired: BTreeSet<i64>,
    decided: u64,
    /// Its next due time may have been moved by hand.
    is_moved: bool,
    is_cancelled: bool,
}

impl Checker {
    /// Nothing seen.
    pub fn new() -> Self {
        Self { fold: Some(Kernel::new()), ..Self::default() }
    }

    /// How many events were seen.
    pub fn last_sequence(&self) -> u64 {
        self.history.len() as u64
    }

    /// A timer was acknowledged as it stands.
    pub fn acknowledge(&mut self, timer: &TimerInstance) {
        let version = self.acknowledged.entry(timer.id).or_default();
        *version = timer.status.version.max(*version);
    }

    /// Takes note of the next event that is durable.
    pub fn note(&mut self, record: EventRecord) -> Result<(), String> {
        let expected = self.last_sequence() + 1;
        if record.sequence != expected {
            return Err(format!("event {} came where event {expected} was expected", record.sequence));
        }
        self.follow(&record).map_err(|why| format!("{why}: {record:?}"))?;
        let fold = self.fold.as_mut().ok_or("no fold")?;
        fold.replay(record.clone(), &NothingCold).map_err(|e| e.to_string())?;
        fold.commit();
        self.history.push(record);
        Ok(())
    }

    /// Compares what a restart finds with what was told to be durable. More may be there: what nobody was told of.
    pub fn compare(&mut self, found: &[EventRecord], oldest: u64) -> Result<(), String> {
        let told = self.history.iter().skip(oldest as usize - 1);
        for (number, (told, found)) in told.zip(found).enumerate() {
            if told != found {
                return Err(format!("event {number} after the crash is {found:?}, but {told:?} was told"));
            }
        }
        let last = oldest - 1 + found.len() as u64;
        if last < self.last_sequence() {
            return Err(format!(
                "the log ends at event {last} after the crash, but event {} was told to be durable",
                self.last_sequence()
            ));
        }
        for record in found.iter().filter(|r| r.sequence > self.last_sequence()).cloned().collect::<Vec<_>>()
        {
            self.note(record)?;
        }
        Ok(())
    }

    /// Compares the state that the program shows with the fold of all events. Timers that ended before `kept_from_ns`
    /// may be forgotten.
    pub fn compare_state(
        &self,
        kernel: &Kernel,
        index: &dyn TimerIndex,
        kept_from_ns: i64,
    ) -> Result<(), String> {
        let fold = self.fold.as_ref().ok_or("no fold")?;
        for timer in fold.timers() {
            let shown = match kernel.timer(timer.id) {
                Some(shown) => Some(shown.clone()),
                None => index.timer(timer.tenant(), timer.id).map_err(|e| e.to_string())?,
            };
            match shown {
                Some(shown) if shown == *timer => {}
                None if timer.status.ended_ns.is_some_and(|ns| ns < kept_from_ns) => {}
                other => return Err(format!("the program shows {other:?}, but the log says {timer:?}")),
            }
        }
        for (id, version) in &self.acknowledged {
            let known = fold.timer(*id).map_or(0, |t| t.status.version);
            if known < *version {
                return Err(format!("version {version} of timer {id} was acknowledged, the log has {known}"));
            }
        }
        Ok(())
    }

    /// After everything that is due was decided: nothing that is due may be left.
    pub fn nothing_is_overdue(&self, now: Timestamp) -> Result<(), String> {
        let fold = self.fold.as_ref().ok_or("no fold")?;
        let overdue = fold.timers().find(|t| t.due_key().is_some_and(|key| key.due_ns <= now.as_ns()));
        overdue.map_or(Ok(()), |timer| Err(format!("it is {now:?}, and this did not fire: {timer:?}")))
    }

    /// The firings under way, by the fold.
    pub fn flights(&self) -> BTreeSet<(TimerId, i64)> {
        let timers = self.fold.iter().flat_map(Kernel::timers);
        timers.flat_map(|t| t.status.flights.iter().map(|f| (t.id, f.nominal_ns))).collect()
    }

    fn follow(&mut self, record: &EventRecord) -> Result<(), String> {
        let (id, at) = (record.event.timer(), Timestamp::from_ns(record.at_ns));
        if let Event::Scheduled { definition, .. } | Event::Held { definition, .. } = &record.event {
            let is_held = matches!(record.event, Event::Held { .. });
            let expected = Expected::new(definition.clone(), at, is_held)?;
            if let Event::Scheduled { due_ns, nominal_ns, .. } = &record.event {
                ensure(expected.next_ns == Some(nominal_ns.unwrap_or(*due_ns)), "the first occurrence")?;
            }
            return match self.timers.insert(id, expected) {
                None => Ok(()),
                Some(_) => Err("it was created twice".to_string()),
            };
        }
        let timer = self.timers.get_mut(&id).ok_or("it was never created")?;
        timer.follow(&record.event, at)
    }
}

impl Expected {
    fn new(definition: Arc<TimerDefinition>, base: Timestamp, is_held: bool) -> Result<Self, String> {
        let recurrence = match &definition.schedule {
            ScheduleSpec::Interval(spec) => Some(Recurrence::interval(spec, &definition.bounds)),
            ScheduleSpec::Cron(spec) => Some(Recurrence::cron(spec, &definition.bounds)),
            _ => None,
        };
        let recurrence = recurrence.transpose().map_err(|e| e.to_string())?;
        let mut expected = Self {
            definition,
            recurrence,
            base,
            next_ns: None,
            buffered_ns: None,
            fired: BTreeSet::new(),
            decided: 0,
            is_moved: false,
            is_cancelled: false,
        };
        if !is_held {
            expected.begin(base);
        }
        Ok(expected)
    }

    fn begin(&mut self, base: Timestamp) {
        self.base = base;
        self.next_ns = match (&self.definition.schedule, &self.recurrence) {
            (ScheduleSpec::AfterNs(ns), _) => Some(base.as_ns() + ns),
            (ScheduleSpec::AtNs(ns), _) => Some(*ns),
            (_, Some(recurrence)) => recurrence.first(base).map(Timestamp::as_ns),
            (_, None) => None,
        };
    }

    fn is_fixed_delay(&self) -> bool {
        matches!(&self.definition.schedule, ScheduleSpec::Interval(i) if i.mode == IntervalMode::FixedDelay)
    }

    /// The occurrence after this one, when so many have been decided.
    fn after(&self, ns: i64) -> Option<i64> {
        if self.definition.bounds.count.is_some_and(|count| self.decided >= count) {
            return None;
        }
        let next = self.recurrence.as_ref()?.next(self.base, Timestamp::from_ns(ns))?;
        Some(next.as_ns())
    }

    /// One occurrence, or several in a row, are decided.
    fn decide(&mut self, first_ns: i64, last_ns: i64, count: u64) -> Result<(), String> {
        ensure(self.next_ns == Some(first_ns), "the occurrence that comes next")?;
        let mut at = first_ns;
        for step in 0..count {
            self.decided += 1;
            if step + 1 < count {
                at = self.after(at).ok_or("more occurrences than the schedule has")?;
            }
        }
        ensure(at == last_ns, "the last occurrence of a row")?;
        self.next_ns = self.after(at);
        self.is_moved = false;
        Ok(())
    }

    /// What a timer with a fixed delay waits for after something has ended: one delay from then. Its name is later where
    /// that moment has been named before, since the clock was set back.
    fn begin_delay(&mut self, at: Timestamp, next: Option<Occurrence>) -> Result<(), String> {
        let expected = self.after(at.as_ns());
        self.next_ns = next.map(|n| n.nominal_ns);
        ensure(
            self.next_ns.is_some() == expected.is_some(),
            "a delay after the end while occurrences are left",
        )?;
        ensure(self.next_ns >= expected, "the delay counts from the end")
    }

    fn follow(&mut self, event: &Event, at: Timestamp) -> Result<(), String> {
        match event {
            Event::Firing { firing, lateness_ns, is_extra, .. } => {
                ensure(self.fired.insert(firing.nominal_ns), "fired once")?;
                let due_ns = at.as_ns() - lateness_ns;
                if *is_extra {
                    return Ok(());
                }
                if self.buffered_ns == Some(firing.nominal_ns) {
                    self.buffered_ns = None;
                    return Ok(());
                }
                self.decide(firing.nominal_ns, firing.nominal_ns, 1)?;
                if self.is_fixed_delay() {
                    self.next_ns = None;
                }
                let is_one_shot = self.recurrence.is_none();
                // A one-shot may be fired by hand ahead of its time.
                ensure(*lateness_ns >= 0 || is_one_shot, "not before its time")?;
                ensure(
                    due_ns >= firing.nominal_ns || !is_one_shot || self.is_moved,
                    "due from its nominal time on",
                )
            }
            Event::Buffered { occurrence, next, .. } => {
                ensure(self.buffered_ns.is_none(), "one occurrence waits")?;
                self.decide(occurrence.nominal_ns, occurrence.nominal_ns, 1)?;
                if self.is_fixed_delay() {
                    self.next_ns = next.map(|n| n.nominal_ns);
                }
                self.buffered_ns = Some(occurrence.nominal_ns);
                Ok(())
            }
            Event::Skipped { nominal_ns, last_nominal_ns, count, next, .. } => {
                if self.buffered_ns == Some(*nominal_ns) {
                    self.buffered_ns = None;
                    return ensure(*count == 1, "one occurrence waited");
                }
                self.decide(*nominal_ns, last_nominal_ns.unwrap_or(*nominal_ns), *count)?;
                if self.is_fixed_delay() { self.begin_delay(at, *next) } else { Ok(()) }
            }
            Event::Completed { next, .. } | Event::Failed { next, .. } => {
                let is_last = self.next_ns.is_none() && !self.is_cancelled && self.buffered_ns.is_none();
                let waits = self.is_fixed_delay() && is_last && next.is_some();
                if waits { self.begin_delay(at, *next) } else { Ok(()) }
            }
            Event::Resolved { next, .. } => {
                if let Some(next) = next {
                    self.begin(at);
                    ensure(self.next_ns == Some(next.nominal_ns), "the first occurrence after the wait")?;
                }
                Ok(())
            }
            Event::Rescheduled { next, .. } => {
                self.is_moved = true;
                if self.recurrence.is_none() {
                    self.next_ns = Some(next.nominal_ns);
                }
                ensure(self.next_ns == Some(next.nominal_ns), "a moved occurrence keeps its name")
            }
            Event::Cancelled { .. } => {
                self.is_cancelled = true;
                self.next_ns = None;
                ensure(self.buffered_ns.is_none(), "an occurrence that waited is told of")
            }
            Event::Scheduled { .. }
            | Event::Held { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Acknowledged { .. } => Ok(()),
        }
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("broken: {what}")) }
}
