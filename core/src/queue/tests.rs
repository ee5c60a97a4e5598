//! The queue against a sorted map that does the same in the plainest way.

use super::*;
use alloc::collections::BTreeMap;
use proptest::prelude::*;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
const DAY: i64 = 86_400 * SECOND;
const YEAR: i64 = 365 * DAY;

fn at(ns: i64) -> Timestamp {
    Timestamp::from_ns(ns)
}

#[test]
fn due_timers_come_out_in_order_and_once() {
    let mut q = TimerQueue::new();
    q.insert(at(30), 'c');
    q.insert(at(10), 'a');
    q.insert(at(10), 'b');
    q.insert(at(99), 'd');
    assert_eq!(q.next_deadline(), Some(at(10)));
    let mut out = Vec::new();
    assert_eq!(q.advance(at(30), 2, &mut out), 2);
    assert_eq!(q.advance(at(30), 2, &mut out), 1);
    assert_eq!(out.iter().map(|d| d.token).collect::<Vec<_>>(), ['a', 'b', 'c']);
    assert_eq!(q.len(), 1);
}

#[test]
fn a_stale_key_never_cancels_the_next_user_of_its_slot() {
    let mut q = TimerQueue::new();
    let first = q.insert(at(1), 1);
    assert_eq!(q.cancel(first), Some(1));
    assert_eq!(q.cancel(first), None);
    let second = q.insert(at(2), 2);
    assert_eq!(second.slot, first.slot);
    assert_eq!(q.cancel(first), None);
    assert_eq!(q.cancel(second), Some(2));
    assert!(q.is_empty());
}

#[test]
fn a_key_of_another_queue_is_answered_too() {
    let (mut q, mut other) = (TimerQueue::new(), TimerQueue::new());
    let foreign: Vec<_> = (0..40_000).map(|i| other.insert(at(i), i)).collect();
    assert_eq!(q.cancel(foreign[39_999]), None);
    let own = q.insert(at(1), 1);
    q.cancel(own);
    let used_twice = q.insert(at(1), 1);
    assert_eq!(q.cancel(foreign[1]), None);
    assert_eq!(q.cancel(used_twice), Some(1));
}

#[test]
fn an_empty_queue_has_nothing_at_any_time() {
    let mut q = TimerQueue::<u8>::new();
    let mut out = Vec::new();
    for now in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!(q.advance(at(now), usize::MAX, &mut out), 0);
        assert_eq!(q.prepare(at(now), usize::MAX), 0);
        assert_eq!(q.next_deadline(), None);
    }
    assert!(out.is_empty());
}

#[test]
fn a_limit_of_nothing_takes_nothing() {
    let mut q = TimerQueue::new();
    q.insert(at(1), ());
    assert_eq!(q.advance(at(2), 0, &mut Vec::new()), 0);
    assert_eq!((q.len(), q.next_deadline()), (1, Some(at(1))));
}

#[test]
fn the_ends_of_time_are_times_like_others() {
    let mut q = TimerQueue::new();
    let mut out = Vec::new();
    q.insert(at(i64::MAX), 'z');
    q.insert(at(i64::MIN), 'a');
    q.insert(at(i64::MAX), 'y');
    assert_eq!(q.next_deadline(), Some(at(i64::MIN)));
    assert_eq!(q.advance(at(i64::MIN), 9, &mut out), 1);
    assert_eq!(q.advance(at(i64::MAX - 1), 9, &mut out), 0);
    assert_eq!(q.next_deadline(), Some(at(i64::MAX)));
    assert_eq!(q.advance(at(i64::MAX), 9, &mut out), 2);
    assert_eq!(out.iter().map(|d| d.token).collect::<Vec<_>>(), ['a', 'z', 'y']);
}

/// Does the same to a queue and to a sorted map and compares every answer.
#[derive(Default)]
struct Pair {
    queue: TimerQueue<usize>,
    model: BTreeMap<(i64, usize), ()>,
    inserted: Vec<(TimerKey, i64)>,
    out: Vec<Due<usize>>,
}

impl Pair {
    fn insert(&mut self, due_ns: i64) {
        let token = self.inserted.len();
        let key = self.queue.insert(at(due_ns), token);
        self.inserted.push((key, due_ns));
        self.model.insert((due_ns, token), ());
        self.check();
    }

    fn cancel(&mut self, token: usize) {
        if let Some(&(key, due_ns)) = self.inserted.get(token) {
            let pending = self.model.remove(&(due_ns, token)).map(|()| token);
            assert_eq!(self.queue.cancel(key), pending);
            self.check();
        }
    }

    fn cancel_next(&mut self) {
        if let Some((&(_, token), ())) = self.model.first_key_value() {
            self.cancel(token);
        }
    }

    fn advance(&mut self, now_ns: i64, limit: usize) {
        self.out.clear();
        let taken = self.queue.advance(at(now_ns), limit, &mut self.out);
        assert_eq!(taken, self.out.len());
        for due in &self.out {
            let ((due_ns, token), ()) = self.model.pop_first().unwrap();
            assert_eq!((due.due.as_ns(), due.token), (due_ns, token));
            assert!(due_ns <= now_ns, "before its time");
        }
        let is_more_due = self.model.first_key_value().is_some_and(|((due, _), ())| *due <= now_ns);
        assert!(taken == limit || !is_more_due, "left out a due timer");
        self.check();
    }

    fn prepare(&mut self, now_ns: i64, budget: usize) {
        self.queue.prepare(at(now_ns), budget);
        self.check();
    }

    fn drain(&mut self, limit: usize) {
        while !self.model.is_empty() {
            self.advance(i64::MAX, limit);
        }
        assert!(self.queue.is_empty());
    }

    fn check(&self) {
        assert_eq!(self.queue.len(), self.model.len());
        assert_eq!(
            self.queue.next_deadline().map(Timestamp::as_ns),
            self.model.first_key_value().map(|((d, _), ())| *d)
        );
    }
}

/// A fixed sequence that looks random.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n.unsigned_abs()) as i64
    }
}

#[test]
fn crowds_of_every_width_stay_in_order() {
    let check = |width_ns: i64, count: usize| {
        let mut pair = Pair::default();
        let mut sequence = Sequence(width_ns.unsigned_abs());
        let start = YEAR + 77;
        pair.advance(start, 1);
        for _ in 0..count {
            pair.insert(start + sequence.below(width_ns));
        }
        for token in (0..count).step_by(3) {
            pair.cancel(token);
        }
        for _ in 0..count / 10 {
            pair.cancel_next();
        }
        pair.prepare(start, count / 4);
        for _ in 0..count / 2 {
            // Some come into what is spread, some before it, while it is taken out.
            pair.insert(start + sequence.below(width_ns));
            pair.advance(start + sequence.below(width_ns), 2);
        }
        pair.drain(17);
    };
    for width_ns in [1, 3, 1_000, 100_000, MS, 5 * MS, SECOND, 10 * SECOND, 60 * SECOND, DAY, YEAR] {
        check(width_ns, 1_500);
    }
}

#[test]
fn a_bucket_that_is_half_spread_keeps_equal_times_in_order() {
    let mut pair = Pair::default();
    let due_ns = 20 * SECOND;
    pair.prepare(due_ns - 10 * SECOND, 0);
    for _ in 0..500 {
        pair.insert(due_ns);
    }
    pair.prepare(due_ns - 10 * SECOND, 200);
    for _ in 0..10 {
        pair.insert(due_ns);
    }
    for token in [0, 199, 200, 201, 499, 500, 509] {
        pair.cancel(token);
    }
    pair.prepare(due_ns - 10 * SECOND, 100);
    pair.insert(due_ns);
    pair.insert(due_ns - 1);
    pair.drain(7);
}

#[test]
fn work_ahead_of_time_is_bounded_and_ends() {
    let mut q = TimerQueue::new();
    q.prepare(at(0), 0);
    for i in 0..10_000 {
        q.insert(at(10 * SECOND + i % 100), i);
        q.insert(at(3 * DAY), i);
    }
    let (mut steps, mut total) = (0, 0);
    loop {
        let moved = q.prepare(at(0), 100);
        if moved == 0 {
            break;
        }
        assert!(moved <= 100 + 8, "{moved} is more than the budget and a round of turns");
        steps += 1;
        total += moved;
    }
    assert_eq!((steps, total), (100, 10_000), "what is days ahead is left alone");
    assert_eq!(q.advance(at(20 * SECOND), usize::MAX, &mut Vec::new()), 10_000);
}

#[test]
fn a_crowd_that_comes_late_is_prepared_too() {
    let mut q = TimerQueue::new();
    assert_eq!(q.prepare(at(0), usize::MAX), 0, "nothing is there yet");
    for i in 0..1_000 {
        q.insert(at(20 * SECOND), i);
    }
    assert_eq!(q.prepare(at(0), usize::MAX), 1_000);
    assert_eq!(q.prepare(at(0), usize::MAX), 0);
}

#[test]
fn the_ring_follows_and_goes_back() {
    let mut pair = Pair::default();
    // The first insertion is a bad hint of what time it is.
    pair.insert(100 * YEAR);
    for i in 0..400 {
        pair.insert(i * DAY / 4);
        pair.insert(i * SECOND);
    }
    pair.advance(0, 1);
    for i in 0..400 {
        pair.insert(i * DAY / 4 + 1);
    }
    for now in [DAY, DAY + 1, 9 * DAY, 3 * DAY, 50 * DAY, -YEAR, 60 * DAY] {
        pair.advance(now, 50);
        pair.insert(now + DAY);
        pair.insert(now - DAY);
        pair.cancel_next();
    }
    pair.drain(33);
}

#[test]
fn many_buckets_come_into_the_ring_at_once() {
    let mut pair = Pair::default();
    pair.advance(0, 1);
    for i in 0..2_000 {
        pair.insert(10 * DAY + i * 5 * SECOND);
    }
    pair.cancel(1_999);
    for step in 0..20 {
        pair.advance(10 * DAY - SECOND + step, 1);
        pair.insert(10 * DAY + step * 500 * SECOND);
    }
    pair.drain(100);
}

/// Inserts a crowd and cancels all but every `keep`th of it, many times over: the slots are used again, and what is
/// kept never has more than a block for each timer.
#[test]
fn memory_stays_bounded_when_most_timers_are_cancelled() {
    const CROWD: usize = if cfg!(miri) { 30 } else { 1_000 };
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 200 };
    let check = |width_ns: i64, keep: usize, fires: bool| {
        let mut q = TimerQueue::new();
        let mut sequence = Sequence(7);
        q.prepare(at(0), 0);
        let (mut now, mut kept) = (0, 0);
        for _ in 0..ROUNDS {
            let keys: Vec<_> = (0..CROWD).map(|i| q.insert(at(now + sequence.below(width_ns)), i)).collect();
            for (_, key) in keys.iter().enumerate().filter(|(i, _)| i % keep != 0) {
                q.cancel(*key).unwrap();
            }
            kept += CROWD.div_ceil(keep);
            assert_eq!(q.len(), kept);
            if fires {
                now += width_ns;
                kept -= q.advance(at(now), usize::MAX, &mut Vec::new());
                assert_eq!((kept, q.next_deadline()), (0, None));
            }
        }
        let most = CROWD + kept + CANCELLED_MAX;
        assert!(q.slab.reached() <= most, "{} nodes for {kept} of {width_ns} ns", q.slab.reached());
        assert!(q.slab.blocks.reached() <= most, "{} blocks for {kept}", q.slab.blocks.reached());
    };
    for width_ns in [1, MS, SECOND, 60 * SECOND, DAY, YEAR] {
        for keep in [2, 13, 500] {
            check(width_ns, keep, true);
            check(width_ns, keep, false);
        }
    }
}

/// The earliest timer is cancelled over and over: by one that has the same due time, and by those after it.
#[test]
fn the_earliest_of_equals_can_be_cancelled_in_any_order() {
    for reverse in [false, true] {
        let mut pair = Pair::default();
        for i in 0..100 {
            pair.insert(20 * SECOND + i / 10);
        }
        pair.prepare(10 * SECOND, 50);
        for i in 0..100 {
            pair.cancel(if reverse { 99 - i } else { i });
        }
        assert!(pair.queue.is_empty());
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(i64),
    /// Inserts this many from a time on, with this distance.
    Crowd(i64, i64, usize),
    Cancel(usize),
    CancelNext,
    Advance(i64, usize),
    Prepare(i64, usize),
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..100i64,
        4 => 0..3 * MS,
        4 => 0..30 * SECOND,
        2 => 0..3 * DAY,
        2 => -DAY..60 * YEAR,
        1 => (0..20i64).prop_map(|i| i * SECOND),
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MIN + 1), Just(i64::MAX - 1), Just(i64::MAX)],
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let step = prop_oneof![Just(0), Just(1), 0..1_000i64, 0..MS, 0..SECOND];
    let limit = prop_oneof![0..5usize, 0..500usize, Just(usize::MAX)];
    prop_oneof![
        6 => time().prop_map(Op::Insert),
        1 => (time(), step, 0..300usize).prop_map(|(t, s, n)| Op::Crowd(t, s, n)),
        4 => (0..1_000usize).prop_map(Op::Cancel),
        2 => Just(Op::CancelNext),
        3 => (time(), limit).prop_map(|(t, l)| Op::Advance(t, l)),
        2 => (time(), 0..400usize).prop_map(|(t, b)| Op::Prepare(t, b)),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_sorted_map(ops in proptest::collection::vec(op(), 0..120)) {
        let mut pair = Pair::default();
        for op in ops {
            match op {
                Op::Insert(due) => pair.insert(due),
                Op::Crowd(from, step, count) => {
                    (0..count as i64).for_each(|i| pair.insert(from.saturating_add(i * step)));
                }
                Op::Cancel(token) => pair.cancel(token),
                Op::CancelNext => pair.cancel_next(),
                Op::Advance(now, limit) => pair.advance(now, limit),
                Op::Prepare(now, budget) => pair.prepare(now, budget),
            }
        }
        pair.drain(64);
    }
}
