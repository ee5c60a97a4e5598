//! Properties of the fair queue, with a clock that the test moves.

use super::fair::{FairQueue, Next, RECHECK_NS, Rate, Taken};
use minoots_kernel::TenantId;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

fn tenant(n: usize) -> TenantId {
    TenantId::new(&format!("t{n}"))
}

fn number(tenant: &TenantId) -> usize {
    tenant.as_str()[1..].parse().unwrap()
}

fn unlimited(_: &TenantId) -> Option<Rate> {
    None
}

fn take<T>(next: Next<T>) -> Option<Taken<T>> {
    match next {
        Next::Take(taken) => Some(taken),
        Next::Wait(_) | Next::Nothing => None,
    }
}

#[test]
fn room_is_kept_for_what_is_on_its_way() {
    let mut queue = FairQueue::new(1, 8);
    let refused = (0..8).filter(|n| queue.push(&tenant(0), *n, 0).is_err()).count();
    assert!(refused > 0, "its share is smaller than all");
    let no_rate = |_: &TenantId| None;
    while let Next::Take(taken) = queue.next(0, no_rate) {
        queue.done(&taken.tenant);
    }
    let (of, room) = queue.to_refill().unwrap();
    // While it is fetched, others fill the rest.
    for other in 1..20 {
        for n in 0..8 {
            let _ = queue.push(&tenant(other), n, 0);
        }
    }
    queue.refill(&of, 0..room as u64 + 3, 0, 0);
    assert_eq!(queue.queued(), 8, "never more than there is room for");
    assert!(queue.push(&tenant(30), 0, 0).is_err());
}

#[test]
fn lanes_take_turns_and_keep_their_order() {
    let mut queue = FairQueue::new(100, 1_000);
    for n in 0..5 {
        queue.push(&tenant(0), n, 0).unwrap();
    }
    queue.push(&tenant(1), 10, 0).unwrap();
    queue.push(&tenant(2), 20, 0).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| take(queue.next(0, unlimited)).map(|t| t.what)).collect();
    assert_eq!(order, [0, 10, 20, 1, 2, 3, 4]);
    assert_eq!(queue.next(0, unlimited), Next::Nothing);
}

#[test]
fn a_rate_holds_up_its_own_lane_and_no_other() {
    let rate_of = |t: &TenantId| (number(t) == 0).then_some(Rate { per_s: 10, burst: 2 });
    let mut queue = FairQueue::new(100, 1_000);
    for n in 0..4 {
        queue.push(&tenant(0), n, 1_000).unwrap();
    }
    for n in 10..14 {
        queue.push(&tenant(1), n, 1_000).unwrap();
    }
    let mut order = Vec::new();
    let until_ns = loop {
        match queue.next(1_000, rate_of) {
            Next::Take(taken) => order.push((taken.what, taken.throttled)),
            Next::Wait(until_ns) => break until_ns,
            Next::Nothing => unreachable!("lane 0 has items"),
        }
    };
    assert_eq!(order, [(0, false), (10, false), (1, false), (11, false), (12, false), (13, false)]);
    assert_eq!(until_ns, 1_000 + 100_000_000);
    assert_eq!(queue.status(&tenant(0), rate_of(&tenant(0)), 1_000).left, Some(0));
    assert_eq!(take(queue.next(until_ns - 1, rate_of)), None);
    let taken = take(queue.next(until_ns, rate_of)).unwrap();
    assert_eq!((taken.what, taken.throttled, taken.waited_ns), (2, true, 100_000_000));
    // A limit that is taken away counts within the time of a look.
    assert_eq!(take(queue.next(until_ns, rate_of)), None);
    assert_eq!(take(queue.next(until_ns + RECHECK_NS, unlimited)).unwrap().what, 3);
}

#[test]
fn a_lane_that_may_not_go_at_all_stands_until_it_may() {
    let mut queue = FairQueue::new(100, 1_000);
    queue.push(&tenant(0), 0, 0).unwrap();
    let none = |_: &TenantId| Some(Rate { per_s: 0, burst: 5 });
    for second in 0..10 {
        assert_eq!(take(queue.next(second * RECHECK_NS, none)), None);
    }
    assert_eq!(take(queue.next(10 * RECHECK_NS, unlimited)).unwrap().what, 0);
}

#[test]
fn a_lane_that_hangs_leaves_places_for_others() {
    let mut queue = FairQueue::new(8, 1_000);
    for n in 0..20 {
        queue.push(&tenant(0), n, 0).unwrap();
    }
    let hung = std::iter::from_fn(|| take(queue.next(0, unlimited))).count();
    assert_eq!(hung, 6, "three quarters");
    queue.push(&tenant(1), 100, 0).unwrap();
    assert_eq!(take(queue.next(0, unlimited)).unwrap().what, 100);
    queue.done(&tenant(1));
    queue.done(&tenant(0));
    assert_eq!(take(queue.next(0, unlimited)).unwrap().what, 6);
}

#[test]
fn one_place_is_enough() {
    let mut queue = FairQueue::new(1, 10);
    for n in 0..3 {
        queue.push(&tenant(n), n, 0).unwrap();
    }
    for n in 0..3 {
        assert_eq!(take(queue.next(0, unlimited)).unwrap().what, n);
        assert_eq!(take(queue.next(0, unlimited)), None, "the place is taken");
        queue.done(&tenant(n));
    }
}

#[test]
fn what_does_not_fit_is_left_behind_in_order_and_brought_later() {
    let mut queue = FairQueue::new(100, 8);
    let refused = (0..10).filter(|n| queue.push(&tenant(0), *n, 0).is_err()).count();
    assert_eq!(refused, 4, "three quarters of the room, and the rest is for others");
    queue.push(&tenant(1), 100, 0).unwrap();
    assert_eq!(queue.status(&tenant(0), None, 0).waiting, 10);
    assert_eq!(queue.to_refill(), None, "the lane is not dry");
    let first: Vec<_> = std::iter::from_fn(|| take(queue.next(0, unlimited)).map(|t| t.what)).collect();
    assert_eq!(first, [0, 100, 1, 2, 3, 4, 5]);
    assert_eq!(queue.push(&tenant(0), 10, 0), Err(10), "it must not overtake those left behind");
    assert_eq!(queue.to_refill(), Some((tenant(0), 4)));
    assert_eq!(queue.to_refill(), None, "once is enough");
    assert_eq!(queue.push(&tenant(0), 11, 0), Err(11), "nor those that are on their way");
    queue.refill(&tenant(0), [6, 7, 8, 9], 1, 0);
    let second: Vec<_> = std::iter::from_fn(|| take(queue.next(0, unlimited)).map(|t| t.what)).collect();
    assert_eq!(second, [6, 7, 8, 9]);
    queue.to_refill().unwrap();
    queue.refill(&tenant(0), [10, 11], 0, 0);
    queue.push(&tenant(0), 12, 0).unwrap();
    let third: Vec<_> = std::iter::from_fn(|| take(queue.next(0, unlimited)).map(|t| t.what)).collect();
    assert_eq!(third, [10, 11, 12]);
}

#[test]
fn idle_lanes_are_forgotten_and_their_tokens_are_not() {
    let rate_of = |_: &TenantId| Some(Rate { per_s: 1, burst: 1 });
    let mut queue = FairQueue::new(10, 100_000);
    queue.push(&tenant(0), 0, 0).unwrap();
    let first = take(queue.next(0, rate_of)).unwrap();
    queue.done(&first.tenant);
    queue.push(&tenant(0), 0, 0).unwrap();
    assert_eq!(take(queue.next(0, rate_of)), None, "the token was used");
    for n in 1..10_000 {
        // A new lane each millisecond; its token is there again a second later.
        let now_ns = n as u64 * 1_000_000;
        queue.push(&tenant(n), n, now_ns).unwrap();
        while let Some(taken) = take(queue.next(now_ns, rate_of)) {
            queue.done(&taken.tenant);
        }
    }
    assert!(queue.lanes() <= 4_096, "{}", queue.lanes());
}

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    Push(usize, u8),
    Work,
    End(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..4, 1u8..30).prop_map(|(lane, count)| Step::Push(lane, count)),
        4 => Just(Step::Work),
        3 => (0usize..64).prop_map(Step::End),
        2 => (1u64..2_000_000_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens: nothing is lost, nothing comes twice, each lane is in order, no lane is over its rate, never too
    /// many are queued or under way, and a lane that may go on is passed over at most once by each other lane.
    #[test]
    fn the_queue_keeps_its_promises(
        steps in steps(),
        running_max in 1usize..12,
        queued_max in 2usize..40,
        rates in proptest::collection::vec(proptest::option::of((1u32..50, 1u32..5)), 4),
    ) {
        let rate_of = |t: &TenantId| rates[number(t)].map(|(per_s, burst)| Rate { per_s, burst });
        let mut queue = FairQueue::new(running_max, queued_max);
        let mut now_ns = 1_000_000_000;
        let mut pushed = [0u64; 4];
        // What the log would have: everything that has not been taken, in order.
        let mut open: [VecDeque<u64>; 4] = Default::default();
        let mut queued: [VecDeque<u64>; 4] = Default::default();
        let mut running: Vec<TenantId> = Vec::new();
        let mut taken_at: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut passed_over = [0usize; 4];
        let end: Vec<Step> =
            (0..5_000).flat_map(|_| [Step::Work, Step::End(0), Step::Pass(100_000_000)]).collect();
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Push(lane, count) => {
                    for _ in 0..count {
                        let item = pushed[lane];
                        pushed[lane] += 1;
                        open[lane].push_back(item);
                        if queue.push(&tenant(lane), item, now_ns).is_ok() {
                            queued[lane].push_back(item);
                        }
                    }
                }
                Step::Work => {
                    while let Some((of, room)) = queue.to_refill() {
                        let lane = number(&of);
                        prop_assert!(queued[lane].is_empty());
                        let brought: Vec<_> = open[lane].iter().copied().take(room).collect();
                        let rest = (open[lane].len() - brought.len()) as u64;
                        queued[lane].extend(&brought);
                        queue.refill(&of, brought, rest, now_ns);
                    }
                    if let Next::Take(taken) = queue.next(now_ns, rate_of) {
                        let lane = number(&taken.tenant);
                        prop_assert_eq!(open[lane].pop_front(), Some(taken.what), "in order, and once");
                        prop_assert_eq!(queued[lane].pop_front(), Some(taken.what));
                        running.push(taken.tenant);
                        taken_at.entry(lane).or_default().push(now_ns);
                        passed_over[lane] = 0;
                        for other in (0..4).filter(|n| *n != lane && !queued[*n].is_empty()) {
                            let of = tenant(other);
                            let status = queue.status(&of, rate_of(&of), now_ns);
                            // Its share is smallest now; a lane below it was below it before.
                            let is_below = status.running < 3 * (running_max - running.len());
                            if rates[other].is_none() && is_below {
                                passed_over[other] += 1;
                                prop_assert!(passed_over[other] <= 8, "lane {} is starved", other);
                            }
                        }
                    }
                    prop_assert!(running.len() <= running_max);
                    prop_assert!(queue.queued() <= queued_max);
                    prop_assert_eq!(queue.queued(), queued.iter().map(VecDeque::len).sum::<usize>());
                }
                Step::End(which) if !running.is_empty() => {
                    queue.done(&running.swap_remove(which % running.len()));
                }
                Step::End(_) => {}
                Step::Pass(ns) => now_ns += ns,
            }
        }
        for lane in 0..4 {
            prop_assert!(open[lane].is_empty(), "lane {} has {} left", lane, open[lane].len());
            let Some((per_s, burst)) = rates[lane] else { continue };
            let at = taken_at.get(&lane).map_or(&[][..], Vec::as_slice);
            for (first, from) in at.iter().enumerate() {
                for (last, to) in at.iter().enumerate().skip(first) {
                    let most = u64::from(burst) + (to - from) * u64::from(per_s) / 1_000_000_000;
                    prop_assert!((last - first + 1) as u64 <= most, "lane {} was faster than its rate", lane);
                }
            }
        }
    }
}
