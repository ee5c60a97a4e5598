//! Simulated worlds: the hard bound contains the truth at every step, and the estimate converges on it.

mod common;

use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{
    Agreement, Config, Correction, Discipline, Disruption, Forecast, State, Verdict,
};
use common::{Oscillator, Random, Server};

/// Several servers, one local clock, and the discipline between them.
struct World {
    clock: Oscillator,
    servers: Vec<Server>,
    discipline: Discipline,
    random: Random,
    start: MonoTime,
    now: MonoTime,
    /// For each server: when it is asked next, and how often it was asked.
    next: Vec<(MonoTime, u32)>,
    checks: u32,
    invalid: u32,
    seed: u64,
}

impl World {
    fn new(seed: u64, clock: Oscillator, servers: Vec<Server>) -> Self {
        let mut random = Random::new(seed);
        let start = MonoTime::from_ns((random.between(1.0, 1e6) * 1e9) as i64);
        let next = servers
            .iter()
            .map(|_| (start + Span::from_ns((random.between(0.0, 0.3) * 1e9) as i64), 0))
            .collect();
        let discipline = Discipline::new(Config { external_models: 2, ..Config::default() }, servers.len());
        Self { clock, servers, discipline, random, start, now: start, next, checks: 0, invalid: 0, seed }
    }

    /// Asks the servers until `seconds` have passed since the start, and checks the bound between all exchanges.
    fn run(&mut self, seconds: i64) {
        let end = self.start + Span::from_secs(seconds);
        let mut now = self.now;
        loop {
            let (i, (at, asked)) =
                self.next.iter().copied().enumerate().min_by_key(|(_, n)| n.0).expect("a server");
            if at > end {
                break;
            }
            for _ in 0..3 {
                let quiet_ns = (at - now).as_ns() as f64;
                let moment = now + Span::from_ns(self.random.between(0.0, quiet_ns.max(1.0)) as i64);
                self.check_bound(moment);
            }
            let (gap, poll) = (question_gap(asked), steady_poll_interval(asked));
            let answer = self.servers[i].exchange(&self.clock, self.start, at, poll, &mut self.random);
            now = at;
            if let Some((received, mut m)) = answer {
                m.source = i;
                self.discipline.measure(received, m);
                self.check_bound(received);
                now = now.max(received);
            }
            // A client asks again after the answer, never with two questions in flight.
            self.next[i] = ((at + gap).max(now), asked + 1);
        }
        self.check_bound(end);
        self.now = end;
    }

    fn check_bound(&mut self, now: MonoTime) {
        let Some(c) = self.discipline.correction(now) else {
            self.invalid += 1;
            return;
        };
        self.checks += 1;
        let error = (c.corrected - self.clock.truth(now)).abs();
        assert!(
            error <= c.max_error,
            "seed {}: {} s after the start the error {error} is over the bound {} ({c:?}; {:?}; {:?})",
            self.seed,
            (now - self.start).as_secs_f64(),
            c.max_error,
            self.clock,
            self.servers,
        );
        assert!(c.offset_sigma > 0.0 && c.rate_sigma > 0.0 && c.max_error > Span::ZERO, "{c:?}");
        assert!((0.0..=1.0).contains(&c.confidence), "{c:?}");
    }

    fn finish(&self) -> (Correction, f64) {
        let now = self.next.iter().map(|n| n.0).min().expect("a server");
        let c = self.discipline.correction(now).expect("a correction at the end");
        (c, (c.corrected - self.clock.truth(now)).as_secs_f64())
    }
}

/// A burst of eight, then the steady interval.
fn question_gap(asked: u32) -> Span {
    if asked < 8 { Span::from_ms(250) } else { steady_poll_interval(asked) }
}

/// From 4 s slowly to 64 s.
fn steady_poll_interval(asked: u32) -> Span {
    Span::from_secs(4 << (asked.saturating_sub(8) / 8).min(4))
}

fn any_clock(random: &mut Random) -> Oscillator {
    Oscillator {
        theta_ns: 1_790_000_000_000_000_000 + (random.between(-1e9, 1e9)) as i64,
        rate: random.between(-60e-6, 60e-6),
        wander: random.between(0.0, 2e-6),
        period_s: random.between(1_500.0, 20_000.0),
    }
}

/// A server that is right within what it says of itself, on any path.
fn any_honest(random: &mut Random) -> Server {
    let (out_ns, back_ns) = (random.between(2e4, 4e7), random.between(2e4, 4e7));
    let root_delay_ns = random.between(0.0, 3e7);
    let root_dispersion_ns = random.between(0.0, 1e7);
    let limit = root_delay_ns / 2.0 + root_dispersion_ns;
    Server {
        out_ns,
        back_ns,
        jitter_ns: random.between(1e3, 1e7),
        spike: random.between(0.0, 0.05),
        loss: random.between(0.0, 0.3),
        error_ns: random.between(-limit, limit),
        error_rate: 0.0,
        root_delay: Span::from_ns(root_delay_ns as i64),
        root_dispersion: Span::from_ns(root_dispersion_ns as i64),
    }
}

fn any_falseticker(random: &mut Random) -> Server {
    let mut server = any_honest(random);
    let size = 10f64.powf(random.between(5.0, 10.0));
    server.error_ns = if random.chance(0.5) { size } else { -size };
    server.error_rate = random.between(-100e-6, 100e-6);
    server
}

#[test]
fn one_honest_server_on_any_path_never_breaks_the_bound() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let clock = any_clock(&mut random);
        let servers = vec![any_honest(&mut random)];
        let mut world = World::new(seed, clock, servers);
        world.run(3_600);
        assert!(world.checks > 100, "seed {seed}: only {} checks", world.checks);
    }
}

#[test]
fn a_falseticker_among_three_never_breaks_the_bound() {
    for seed in 10_000..12_000 {
        let mut random = Random::new(seed);
        let clock = any_clock(&mut random);
        let mut servers = vec![any_honest(&mut random), any_honest(&mut random)];
        let place = (random.next() % 3) as usize;
        servers.insert(place, any_falseticker(&mut random));
        // The startup rule needs a second answer within eight seconds.
        servers.iter_mut().for_each(|s| s.loss = s.loss.min(0.15));
        let mut world = World::new(seed, clock, servers);
        world.run(3_600);
        assert!(world.checks > 300, "seed {seed}: only {} checks", world.checks);
    }
}

#[test]
fn two_falsetickers_among_five_never_break_the_bound() {
    for seed in 20_000..21_000 {
        let mut random = Random::new(seed);
        let clock = any_clock(&mut random);
        let mut servers: Vec<Server> = (0..3).map(|_| any_honest(&mut random)).collect();
        servers.insert(0, any_falseticker(&mut random));
        servers.push(any_falseticker(&mut random));
        servers.iter_mut().for_each(|s| s.loss = 0.02);
        World::new(seed, clock, servers).run(1_800);
    }
}

#[test]
fn a_symmetric_path_converges_on_offset_and_rate() {
    for seed in 30_000..30_500 {
        let mut random = Random::new(seed);
        let clock = Oscillator { wander: 0.0, ..any_clock(&mut random) };
        let jitter_ns = random.between(5e3, 2e6);
        let server = Server { loss: 0.1, ..Server::honest(random.between(5e4, 2e7), jitter_ns) };
        let mut world = World::new(seed, clock.clone(), vec![server]);
        world.run(3_600);
        let (c, error_s) = world.finish();
        assert_eq!(c.state, State::Synchronized, "seed {seed}");
        assert!(error_s.abs() < 6.0 * c.offset_sigma, "seed {seed}: error {error_s} {c:?}");
        assert!(error_s.abs() < 1e-6 + jitter_ns / 1e9, "seed {seed}: error {error_s} jitter {jitter_ns} ns");
        let rate_error = c.rate - clock.rate;
        assert!(rate_error.abs() < 6.0 * c.rate_sigma, "seed {seed}: rate error {rate_error} {c:?}");
        assert!(rate_error.abs() < 1e-6, "seed {seed}: rate error {rate_error}");
    }
}

#[test]
fn a_far_falseticker_is_named() {
    let clock = any_clock(&mut Random::new(7));
    let mut liar = Server::honest(1e5, 1e4);
    liar.error_ns = 5e7;
    let mut world = World::new(7, clock, vec![Server::honest(1e5, 1e4), liar, Server::honest(2e6, 1e5)]);
    world.run(120);
    let now = world.start + Span::from_secs(120);
    let named: Vec<bool> =
        (0..3).map(|i| world.discipline.report(i, now).expect("a source").is_falseticker).collect();
    assert_eq!(named, [false, true, false]);
    assert_eq!(world.discipline.agreement(), Agreement::Majority);
}

#[test]
fn without_a_majority_there_is_no_correction() {
    let clock = any_clock(&mut Random::new(8));
    let mut liar = Server::honest(1e5, 1e4);
    liar.error_ns = 5e7;
    let mut world = World::new(8, clock, vec![Server::honest(1e5, 1e4), liar]);
    world.run(120);
    assert_eq!(world.discipline.agreement(), Agreement::NoMajority);
    assert_eq!(world.checks, 0);
    assert!(world.invalid > 0);
    assert_eq!(world.discipline.state(world.start + Span::from_secs(120)), State::NoData);
}

#[test]
fn a_liar_left_alone_does_not_take_over() {
    for seed in 50_000..50_050 {
        let mut random = Random::new(seed);
        let clock = any_clock(&mut random);
        let mut liar = Server::honest(1e5, 1e4);
        liar.error_ns = 5e8;
        let mut world =
            World::new(seed, clock, vec![Server::honest(1e5, 1e4), liar, Server::honest(2e6, 1e5)]);
        world.run(120);
        // Those who were right fall silent. What they agreed on still stands, with a growing bound.
        world.servers[0].loss = 1.0;
        world.servers[2].loss = 1.0;
        world.run(1_800);
        assert_eq!(world.discipline.agreement(), Agreement::ContradictsBound, "seed {seed}");
        assert_eq!(world.discipline.state(world.now), State::Holdover, "seed {seed}");
    }
}

#[test]
fn silence_leads_to_holdover_and_then_to_no_data() {
    for seed in 40_000..40_050 {
        let mut random = Random::new(seed);
        let clock = any_clock(&mut random);
        let mut world = World::new(seed, clock, vec![Server::honest(1e6, 1e5)]);
        world.run(600);
        let (last, _) = world.finish();
        let end = world.start + Span::from_secs(600);
        let after = |s: i64| end + Span::from_secs(s);
        assert_eq!(last.state, State::Synchronized);
        world.check_bound(after(600));
        let coasting = world.discipline.correction(after(600)).expect("holdover");
        assert_eq!(coasting.state, State::Holdover);
        assert!(coasting.max_error > last.max_error && coasting.confidence < last.confidence);
        for s in (600..3_500).step_by(100) {
            world.check_bound(after(s));
        }
        assert_eq!(world.discipline.state(after(3_700)), State::NoData);
    }
}

#[test]
fn states_come_in_order() {
    let clock = any_clock(&mut Random::new(9));
    let server = Server::honest(1e5, 1e4);
    let start = MonoTime::from_ns(5_000_000_000);
    let mut discipline = Discipline::new(Config::default(), 1);
    let mut random = Random::new(9);
    let mut states = vec![discipline.state(start)];
    for i in 0..8 {
        let sent = start + Span::from_ms(250 * i);
        let (received, m) =
            server.exchange(&clock, start, sent, Span::from_secs(4), &mut random).expect("no loss");
        assert_eq!(discipline.measure(received, m), Verdict::Accepted);
        states.push(discipline.state(received));
    }
    let mut want = vec![State::NoData];
    want.extend([State::WarmingUp; 7]);
    want.push(State::Synchronized);
    assert_eq!(states, want);
}

#[test]
fn a_server_that_steps_is_suspect_first_and_believed_when_it_insists() {
    let clock = any_clock(&mut Random::new(10));
    let mut server = Server::honest(1e5, 1e4);
    let start = MonoTime::from_ns(5_000_000_000);
    let mut discipline = Discipline::new(Config::default(), 1);
    let mut random = Random::new(10);
    let mut verdicts = Vec::new();
    for i in 0..12 {
        if i == 8 {
            server.error_ns = 1e9;
        }
        let sent = start + Span::from_secs(4 * i);
        let (received, m) =
            server.exchange(&clock, start, sent, Span::from_secs(4), &mut random).expect("no loss");
        verdicts.push(discipline.measure(received, m));
    }
    use Verdict::{Accepted, Restarted, Suspect};
    assert_eq!(verdicts[7..], [Accepted, Suspect, Suspect, Restarted, Accepted]);
    let now = start + Span::from_secs(45);
    let error = discipline.correction(now).expect("a correction").corrected - clock.truth(now);
    assert!((error - Span::from_secs(1)).abs() < Span::from_ms(1), "{error}");
}

#[test]
fn stale_and_impossible_measurements_are_refused() {
    let clock = any_clock(&mut Random::new(11));
    let start = MonoTime::from_ns(5_000_000_000);
    let mut random = Random::new(11);
    let (received, good) = Server::honest(1e5, 1e4)
        .exchange(&clock, start, start, Span::from_secs(4), &mut random)
        .expect("no loss");
    let mut discipline = Discipline::new(Config::default(), 1);
    assert_eq!(discipline.measure(received, good), Verdict::Accepted);
    assert_eq!(discipline.measure(received, good), Verdict::Refused);
    let later = chronotick_discipline::Measurement { at: good.at + Span::from_secs(1), ..good };
    let negative = chronotick_discipline::Measurement { delay: Span::from_ns(-1), ..later };
    assert_eq!(discipline.measure(received, negative), Verdict::Refused);
    let foreign = chronotick_discipline::Measurement { source: 1, ..later };
    assert_eq!(discipline.measure(received, foreign), Verdict::Refused);
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = || {
        let mut random = Random::new(77);
        let clock = any_clock(&mut random);
        let servers = vec![any_honest(&mut random), any_falseticker(&mut random), any_honest(&mut random)];
        let mut world = World::new(77, clock, servers);
        world.run(600);
        world.finish().0
    };
    assert_eq!(run(), run());
}

#[test]
fn a_restart_goes_on_in_holdover_with_a_true_bound() {
    for seed in 60_000..60_020 {
        let mut random = Random::new(seed);
        let clock = any_clock(&mut random);
        let mut world = World::new(seed, clock, vec![any_honest(&mut random)]);
        world.run(1_800);
        let saved = world.discipline.saved(world.now).expect("a correction to save");
        let mut later = world.now + Span::from_secs(120);
        world.discipline = Discipline::new(Config::default(), 1);
        assert!(world.discipline.restore(later, &saved));
        assert_eq!(world.discipline.state(later), State::Holdover);
        for _ in 0..60 {
            world.check_bound(later);
            later += Span::from_secs(30);
        }
        // Values from the future or from long ago are not taken.
        let mut fresh = Discipline::new(Config::default(), 1);
        assert!(!fresh.restore(world.start, &saved));
        assert!(!fresh.restore(world.now + Span::from_secs(40_000), &saved));
        assert_eq!(fresh.state(later), State::NoData);
    }
}

#[test]
fn after_a_disruption_nothing_is_claimed_until_new_measurements() {
    let mut random = Random::new(61);
    let clock = any_clock(&mut random);
    let mut world = World::new(61, clock.clone(), vec![Server::honest(1e6, 1e5)]);
    world.run(1_800);
    world.discipline.disrupt(Disruption::ClockJump);
    assert_eq!(world.discipline.state(world.now), State::NoData);
    // The local clock jumped by ten seconds.
    world.clock.theta_ns -= 10_000_000_000;
    world.run(2_400);
    assert_eq!(world.discipline.state(world.now), State::Synchronized);
}

#[test]
fn authenticated_sources_outrank_a_majority_without() {
    let mut random = Random::new(62);
    let clock = any_clock(&mut random);
    let start = MonoTime::from_ns(5_000_000_000);
    let mut discipline = Discipline::new(Config::default(), 4);
    let mut liar = Server::honest(1e5, 1e4);
    liar.error_ns = 3e8;
    let honest = Server::honest(5e6, 1e5);
    for i in 0..40 {
        for source in 0..4 {
            let sent = start + Span::from_ms(500 * i + 20 * source as i64);
            let server = if source == 3 { &honest } else { &liar };
            let Some((received, mut m)) =
                server.exchange(&clock, start, sent, Span::from_secs(4), &mut random)
            else {
                continue;
            };
            m.source = source;
            m.authenticated = source == 3;
            discipline.measure(received, m);
        }
    }
    let now = start + Span::from_secs(21);
    let c = discipline.correction(now).expect("a correction");
    assert!(c.authenticated);
    assert!((c.corrected - clock.truth(now)).abs() <= c.max_error, "{c:?}");
    let named: Vec<bool> =
        (0..4).map(|i| discipline.report(i, now).expect("a source").is_falseticker).collect();
    assert_eq!(named, [true, true, true, false]);
}

#[test]
fn unauthenticated_sources_may_narrow_the_bound_and_not_move_it() {
    let bound_with = |others: usize| {
        let mut random = Random::new(63);
        let clock = any_clock(&mut random);
        let start = MonoTime::from_ns(5_000_000_000);
        let mut discipline = Discipline::new(Config::default(), 1 + others);
        for i in 0..40 {
            for source in 0..=others {
                let server = if source == 0 { Server::honest(2e7, 1e5) } else { Server::honest(1e5, 1e4) };
                let sent = start + Span::from_ms(500 * i + 50 * source as i64);
                let (received, mut m) =
                    server.exchange(&clock, start, sent, Span::from_secs(4), &mut random).expect("no loss");
                m.source = source;
                m.authenticated = source == 0;
                discipline.measure(received, m);
            }
        }
        let now = start + Span::from_secs(21);
        let c = discipline.correction(now).expect("a correction");
        assert!(c.authenticated && (c.corrected - clock.truth(now)).abs() <= c.max_error, "{c:?}");
        c.max_error
    };
    assert!(bound_with(2) < bound_with(0));
}

#[test]
fn a_model_that_lies_moves_corrected_time_within_the_clip_and_never_narrows_the_bound() {
    for seed in 70_000..70_020 {
        let mut random = Random::new(seed);
        let (clock, server) = (any_clock(&mut random), any_honest(&mut random));
        let mut honest = World::new(seed, clock.clone(), vec![server.clone()]);
        let mut lied = World::new(seed, clock, vec![server]);
        let sign = if seed % 2 == 0 { 1.0 } else { -1.0 };
        lied.discipline.forecast(0, Some(Forecast { rate: sign * 1e-3, sigma: 1e-15 }));
        lied.discipline.forecast(1, Some(Forecast { rate: f64::NAN, sigma: 1.0 }));
        // A model that does not exist.
        lied.discipline.forecast(7, Some(Forecast { rate: 0.0, sigma: 1e-9 }));
        // Every step of the way is checked against the truth in `run`. Not long enough for the model of our own.
        honest.run(1_800);
        lied.run(1_800);
        assert!(lied.discipline.model_report(0).is_some_and(|m| m.claimed.sigma == 1e-15));
        assert_eq!((lied.discipline.model_report(1), honest.discipline.model_report(0)), (None, None));
        for after_s in [0, 1, 10, 60, 600, 1_800] {
            let at = lied.now + Span::from_secs(after_s);
            lied.check_bound(at);
            let (Some(h), Some(l)) = (honest.discipline.correction(at), lied.discipline.correction(at))
            else {
                assert_eq!(honest.discipline.state(at), lied.discipline.state(at));
                continue;
            };
            assert!(
                l.max_error >= h.max_error,
                "seed {seed}, {after_s} s: {} < {}",
                l.max_error,
                h.max_error
            );
            // Time in corrected time, near enough.
            let age_s = (h.corrected - h.last_sync).as_secs_f64();
            let moved = (l.corrected - h.corrected).abs().as_secs_f64();
            assert!(moved <= 3.0 * h.rate_sigma * age_s * 1.01 + 1e-9, "seed {seed}, {after_s} s: {moved}");
            assert!(l.offset_sigma >= h.offset_sigma * 0.999, "seed {seed}, {after_s} s: {l:?}");
        }
    }
}

#[test]
fn a_model_that_was_wrong_is_widened() {
    let mut random = Random::new(71);
    let mut world = World::new(71, any_clock(&mut random), vec![Server::honest(1e6, 1e5)]);
    world.discipline.forecast(0, Some(Forecast { rate: 1e-3, sigma: 1e-9 }));
    world.run(10_800);
    let report = world.discipline.model_report(0).expect("it stands");
    assert!(report.sigma > 50.0 * report.claimed.sigma, "{report:?}");
}

#[test]
fn sources_that_agree_on_a_jump_of_the_local_clock_are_followed_also_where_few_of_them_vote() {
    let mut random = Random::new(64);
    let mut clock = any_clock(&mut random);
    let start = MonoTime::from_ns(5_000_000_000);
    let mut discipline = Discipline::new(Config::default(), 4);
    let server = Server::honest(1e6, 1e5);
    for i in 0..60 {
        // Nobody has noticed that the local clock stood still for ten seconds.
        if i == 30 {
            clock.theta_ns += 10_000_000_000;
        }
        for source in 0..4 {
            let sent = start + Span::from_secs(4 * i) + Span::from_ms(50 * source as i64);
            let (received, mut m) =
                server.exchange(&clock, start, sent, Span::from_secs(4), &mut random).expect("no loss");
            m.source = source;
            m.authenticated = source < 2;
            discipline.measure(received, m);
        }
    }
    let now = start + Span::from_secs(240);
    let c = discipline.correction(now).expect("a correction");
    assert_eq!(discipline.agreement(), Agreement::Majority);
    assert!((c.corrected - clock.truth(now)).abs() <= c.max_error, "{c:?}");
}
