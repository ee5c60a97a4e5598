//! The worlds that are simulated, by name.
//!
//! All stay within what the hard bound assumes: an honest server is as right as it says, fewer than half of the servers
//! lie, and the frequency of the clock changes by less than PHI (RFC 5905) between two polls, but for what the daemon
//! is told of: a suspend and a migration.

use crate::client::Pace;
use crate::network::{Episode, Leg, Queue, Server};
use crate::oscillator::{Climate, Disruption, Oscillator};
use crate::random::Random;
use crate::world::World;
use chronotick_core::Span;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scenario {
    /// A server in the same building.
    Lan,
    /// A server on another continent.
    Wan,
    /// The same with a worse oscillator.
    WanWander,
    /// One way is longer than the other.
    Asymmetric,
    /// Some packets wait very long.
    HeavyTail,
    /// For minutes, the queue of one way grows.
    Congestion,
    /// Packets return on either of two paths; each is asymmetric in its own way.
    TwoPath,
    /// The base of a way changes for good.
    RouteChange,
    /// Day and night, and load that comes and goes.
    Temperature,
    /// The frequency has no mean.
    Flicker,
    /// One of three servers is wrong and sure of itself.
    LiarOfThree,
    /// Two of five are wrong in the same way.
    TwoLiarsOfFive,
    /// One of three goes away slowly.
    DriftingLiar,
    /// One of three is a little off, and may answer first after an outage.
    LiarAfterOutage,
    /// Somebody sets the system clock.
    Step1s,
    /// No network for two hours.
    Outage2h,
    /// The machine sleeps.
    Suspend,
    /// The virtual machine moves to another host.
    Migration,
    /// Anything of the above at once, except that the machine neither sleeps nor moves.
    Mixed,
}

/// All of them.
pub const ALL: [Scenario; 19] = [
    Scenario::Lan,
    Scenario::Wan,
    Scenario::WanWander,
    Scenario::Asymmetric,
    Scenario::HeavyTail,
    Scenario::Congestion,
    Scenario::TwoPath,
    Scenario::RouteChange,
    Scenario::Temperature,
    Scenario::Flicker,
    Scenario::LiarOfThree,
    Scenario::TwoLiarsOfFive,
    Scenario::DriftingLiar,
    Scenario::LiarAfterOutage,
    Scenario::Step1s,
    Scenario::Outage2h,
    Scenario::Suspend,
    Scenario::Migration,
    Scenario::Mixed,
];

/// A world and how it is judged.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The world.
    pub world: World,
    /// The first seconds are left out of the mean error; bounds hold from the start.
    pub skip_s: u32,
    /// The sources that lie, each with the second from which on the lie is too large to hide.
    pub liars: Vec<(usize, u32)>,
}

/// How long most of the drawn worlds last.
const SECONDS: u32 = 20_000;
const MS: f64 = 1e6;

impl Scenario {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::WanWander => "wan-wander",
            Self::Asymmetric => "asymmetric",
            Self::HeavyTail => "heavy-tail",
            Self::Congestion => "congestion",
            Self::TwoPath => "two-path",
            Self::RouteChange => "route-change",
            Self::Temperature => "temperature",
            Self::Flicker => "flicker",
            Self::LiarOfThree => "liar-of-three",
            Self::TwoLiarsOfFive => "two-liars-of-five",
            Self::DriftingLiar => "drifting-liar",
            Self::LiarAfterOutage => "liar-after-outage",
            Self::Step1s => "step-1s",
            Self::Outage2h => "outage-2h",
            Self::Suspend => "suspend",
            Self::Migration => "migration",
            Self::Mixed => "mixed",
        }
    }

    /// The scenario with that name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|s| s.name() == name)
    }

    /// Mean absolute error of chronyd 4.3 in [`reference`](Self::reference), milliseconds: the median of 7 runs in a
    /// simulator of clock and network.
    pub fn chrony_mae_ms(self) -> Option<f64> {
        match self {
            Self::Lan => Some(0.0197),
            Self::Wan => Some(0.420),
            Self::WanWander => Some(0.460),
            _ => None,
        }
    }

    /// Base and mean queue of each way, and the walk of the frequency, as chronyd was measured with.
    fn measured(self) -> Option<(f64, f64, f64)> {
        match self {
            Self::Lan => Some((MS, 0.1 * MS, 1e-9)),
            Self::Wan => Some((20.0 * MS, 5.0 * MS, 1e-9)),
            Self::WanWander => Some((20.0 * MS, 5.0 * MS, 1e-8)),
            _ => None,
        }
    }

    /// The world that chronyd was measured in: one perfect server of stratum 1 that is asked every 64 s without a
    /// burst, and a clock that begins 10 ms off with the right frequency, which then walks. A scenario that chronyd was
    /// not measured in is drawn from the seed.
    pub fn reference(self, seed: u64) -> Plan {
        let Some((base_ns, queue_ns, walk)) = self.measured() else { return self.draw(seed) };
        let leg = || Leg::exponential(base_ns, queue_ns);
        let world = World {
            seconds: 40_000,
            oscillator: Oscillator { walk, ..Oscillator::default() },
            disruptions: Vec::new(),
            offset_ns: 10_000_000,
            steps: Vec::new(),
            servers: vec![Server::perfect(leg(), leg())],
            pace: Pace::Fixed { poll_s: 64 },
            outages: Vec::new(),
        };
        Plan { world, skip_s: 4_000, liars: Vec::new() }
    }

    /// A world of this kind with what may vary drawn from the seed.
    pub fn draw(self, seed: u64) -> Plan {
        let r = &mut Random::new(seed).fork(20);
        let mut plan = ordinary(r);
        let world = &mut plan.world;
        let second = |r: &mut Random, from: f64, to: f64| r.between(from, to) as u32;
        match self {
            Self::Lan | Self::Wan | Self::WanWander => {
                let (base_ns, queue_ns, walk) = self.measured().unwrap_or((MS, MS, 0.0));
                let scale = r.octaves(0.5, 2.0);
                let leg = || Leg::exponential(base_ns * scale, queue_ns * scale);
                world.servers = vec![Server::perfect(leg(), leg())];
                world.oscillator.walk = walk * r.octaves(0.5, 2.0);
                self_disciplined(r, world);
            }
            Self::Asymmetric => {
                let (trip_ns, share) = (r.octaves(4.0 * MS, 120.0 * MS), r.between(0.02, 0.98));
                let queue_ns = trip_ns * r.octaves(0.005, 0.1);
                let leg = |part: f64| Leg::exponential(trip_ns * part, queue_ns);
                world.servers = vec![Server::perfect(leg(share), leg(1.0 - share))];
            }
            Self::HeavyTail => {
                let base_ns = r.octaves(2.0 * MS, 40.0 * MS);
                let queue =
                    Queue::Pareto { scale_ns: base_ns * r.octaves(0.03, 0.3), shape: r.between(1.1, 2.0) };
                let leg = || Leg { queue, ..Leg::exponential(base_ns, 0.0) };
                world.servers = vec![Server::perfect(leg(), leg())];
            }
            Self::Congestion => {
                let mut server = symmetric(r);
                (0..second(r, 3.0, 9.0)).for_each(|_| congest(r, &mut server));
                world.servers = vec![server];
            }
            Self::TwoPath => {
                let (base_ns, queue_ns) = (r.octaves(5.0 * MS, 40.0 * MS), r.octaves(0.05 * MS, 0.5 * MS));
                // Both paths back are one millisecond from the way there, or what the seed says.
                let apart_ns = 2.0 * MS * r.octaves(0.5, 2.0);
                let out = Leg::exponential(base_ns + r.between(0.0, 1.0) * apart_ns, queue_ns);
                let detour = Some((r.between(0.3, 0.7), apart_ns));
                let back = Leg { detour, ..Leg::exponential(base_ns, queue_ns) };
                world.servers = vec![Server::perfect(out, back)];
            }
            Self::RouteChange => {
                let mut server = symmetric(r);
                (0..second(r, 1.0, 5.0)).for_each(|_| change_route(r, &mut server));
                world.servers = vec![server];
            }
            Self::Temperature => {
                world.seconds = 100_000;
                warm_up(r, &mut world.oscillator);
                self_disciplined(r, world);
            }
            Self::Flicker => {
                world.oscillator.flicker = r.octaves(1e-9, 5e-8);
                self_disciplined(r, world);
            }
            Self::LiarOfThree => {
                world.servers = (0..3).map(|_| honest(r)).collect();
                plan.liars = vec![(second(r, 0.0, 3.0) as usize, 0)];
                let lie_ns = r.octaves(300.0 * MS, 10_000.0 * MS);
                lie(r, &mut plan, lie_ns);
            }
            Self::TwoLiarsOfFive => {
                world.servers = (0..5).map(|_| honest(r)).collect();
                let first = second(r, 0.0, 5.0) as usize;
                plan.liars = vec![(first, 0), ((first + second(r, 1.0, 5.0) as usize) % 5, 0)];
                let lie_ns = r.octaves(300.0 * MS, 10_000.0 * MS);
                lie(r, &mut plan, lie_ns);
            }
            Self::DriftingLiar => {
                world.servers = (0..3).map(|_| honest(r)).collect();
                let (liar, rate) = (second(r, 0.0, 3.0) as usize, r.octaves(30e-6, 300e-6));
                world.servers[liar].error_rate = r.either(rate);
                plan.liars = vec![(liar, (0.4 / rate) as u32)];
            }
            Self::LiarAfterOutage => {
                world.servers = (0..3).map(|_| honest(r)).collect();
                let (liar, rate) = (second(r, 0.0, 3.0) as usize, r.octaves(1e-6, 40e-6));
                plan.liars = vec![(liar, u32::MAX)];
                lie(r, &mut plan, 0.0);
                let world = &mut plan.world;
                world.servers[liar].error_rate = r.either(rate);
                // All are silent, so whoever answers first afterwards is alone, and the bound has room for a lie.
                let from = second(r, 600.0, 15_000.0);
                world.outages = vec![(from, from + r.octaves(600.0, 3_000.0) as u32)];
                world.pace = Pace::Daemon { max_poll_s: 64 };
            }
            Self::Step1s => {
                let (at, step) = (second(r, 600.0, 19_000.0), r.either(1e9) as i64);
                world.steps = vec![(at, step)];
                self_disciplined(r, world);
            }
            Self::Outage2h => {
                world.pace = Pace::Daemon { max_poll_s: 64 };
                let from = second(r, 2_000.0, 8_000.0);
                world.outages = vec![(from, from + 7_200)];
            }
            Self::Suspend => {
                world.pace = Pace::Daemon { max_poll_s: 64 };
                let (at, seconds) = (second(r, 2_000.0, 9_000.0), r.octaves(300.0, 7_200.0) as u32);
                let jump_ns = if r.chance(0.5) { r.between(-0.5e9, 0.5e9) } else { 0.0 };
                let rate = r.between(-60e-6, 60e-6);
                world.disruptions = vec![(at, Disruption::Suspend { seconds, rate, jump_ns })];
            }
            Self::Migration => {
                world.pace = Pace::Daemon { max_poll_s: 64 };
                let (at, pause_s) = (second(r, 2_000.0, 15_000.0), second(r, 1.0, 10.0));
                let jump_ns = r.between(-f64::from(pause_s), 5.0) * 1e9;
                let rate_change = r.between(-30e-6, 30e-6);
                world.disruptions = vec![(at, Disruption::Migration { pause_s, jump_ns, rate_change })];
            }
            Self::Mixed => mix(r, &mut plan),
        }
        if matches!(self, Self::Outage2h | Self::Suspend | Self::Migration) {
            // Eight lost answers in a row are silence; here silence has to have the one reason.
            plan.world.servers.iter_mut().for_each(|s| s.loss = s.loss.min(0.03));
        }
        if let Pace::Fixed { .. } = plan.world.pace {
            plan.skip_s = 4_000;
        }
        plan
    }
}

/// A usual machine with one good server.
fn ordinary(r: &mut Random) -> Plan {
    let oscillator = Oscillator {
        frequency: r.between(-100e-6, 100e-6),
        white: r.octaves(1e-10, 3e-9),
        flicker: r.octaves(1e-10, 3e-9),
        walk: r.octaves(3e-11, 3e-9),
        ..Oscillator::default()
    };
    let offset_ns = r.between(-1e9, 1e9) as i64;
    let pace = if r.chance(0.25) { Pace::Fixed { poll_s: 64 } } else { Pace::Daemon { max_poll_s: 64 } };
    let world = World {
        seconds: SECONDS,
        oscillator,
        disruptions: Vec::new(),
        offset_ns,
        steps: Vec::new(),
        servers: vec![symmetric(r)],
        pace,
        outages: Vec::new(),
    };
    Plan { world, skip_s: 300, liars: Vec::new() }
}

/// In some worlds the system clock was right at the start, and its frequency nearly so: the hardest to be better than.
/// Not where the network is biased: no client can see that, so a clock that was right would always win.
fn self_disciplined(r: &mut Random, world: &mut World) {
    if r.chance(0.3) {
        world.offset_ns = 0;
        world.oscillator.frequency = r.between(-1e-8, 1e-8);
    }
}

/// A perfect server behind a symmetric path that loses a little.
fn symmetric(r: &mut Random) -> Server {
    let base_ns = r.octaves(0.2 * MS, 40.0 * MS);
    let queue_ns = base_ns * r.octaves(0.01, 0.3);
    let leg = || Leg::exponential(base_ns, queue_ns);
    let loss = if r.chance(0.5) { r.between(0.0, 0.2) } else { 0.0 };
    Server { loss, ..Server::perfect(leg(), leg()) }
}

/// A server of stratum 2 that is wrong by less than it states.
fn honest(r: &mut Random) -> Server {
    let (trip_ns, share) = (r.octaves(2.0 * MS, 80.0 * MS), r.between(0.4, 0.6));
    let queue_ns = trip_ns * r.octaves(0.005, 0.1);
    let (delay_ns, dispersion_ns) = (r.between(0.0, 30.0 * MS), r.between(0.0, 10.0 * MS));
    let most_ns = delay_ns / 2.0 + dispersion_ns;
    Server {
        loss: if r.chance(0.5) { r.between(0.0, 0.1) } else { 0.0 },
        error_ns: r.between(-0.75, 0.75) * most_ns,
        error_wander_ns: r.between(0.0, 0.25) * most_ns,
        error_period_s: r.between(20_000.0, 80_000.0),
        root_delay: Span::from_ns(delay_ns as i64),
        root_dispersion: Span::from_ns(dispersion_ns as i64),
        stratum: 2,
        ..Server::perfect(
            Leg::exponential(trip_ns * share, queue_ns),
            Leg::exponential(trip_ns * (1.0 - share), queue_ns),
        )
    }
}

/// The queue of one way grows for some minutes.
fn congest(r: &mut Random, server: &mut Server) {
    let from_s = r.between(200.0, f64::from(SECONDS) - 1000.0);
    let to_s = from_s + r.octaves(120.0, 900.0);
    let episode = Episode { from_s, to_s, peak_ns: r.octaves(5.0 * MS, 200.0 * MS) };
    either_leg(r, server).episodes.push(episode);
}

/// The base of one way changes by milliseconds.
fn change_route(r: &mut Random, server: &mut Server) {
    let (at_s, size_ns) = (r.between(1_000.0, f64::from(SECONDS)), r.octaves(MS, 20.0 * MS));
    let change_ns = r.either(size_ns);
    let leg = either_leg(r, server);
    // Shortest if all that shorten it came first.
    let shortest_ns = leg.base_ns + leg.route_changes.iter().map(|c| c.1.min(0.0)).sum::<f64>();
    leg.route_changes.push((at_s, change_ns.max(-0.8 * shortest_ns)));
}

fn either_leg<'a>(r: &mut Random, server: &'a mut Server) -> &'a mut Leg {
    if r.chance(0.5) { &mut server.out } else { &mut server.back }
}

/// Day and night, load, and age.
fn warm_up(r: &mut Random, oscillator: &mut Oscillator) {
    let per_degree = r.octaves(2e-8, 3e-7);
    oscillator.per_degree = r.either(per_degree);
    oscillator.ageing_per_day = r.between(-1e-8, 1e-8);
    oscillator.climate = Climate {
        daily_amplitude_c: r.between(1.0, 10.0),
        load_rise_c: r.between(5.0, 20.0),
        load_period_s: r.octaves(1_000.0, 8_000.0),
        thermal_s: r.octaves(60.0, 600.0),
    };
}

/// One to six servers, each with its own troubles; fewer than half of them lie, each in its own way.
fn mix(r: &mut Random, plan: &mut Plan) {
    let world = &mut plan.world;
    let count = r.between(1.0, 7.0) as usize;
    world.servers = (0..count).map(|_| honest(r)).collect();
    for server in &mut world.servers {
        if r.chance(0.3) {
            let queue = Queue::Pareto { scale_ns: r.octaves(0.1 * MS, 5.0 * MS), shape: r.between(1.1, 2.0) };
            (server.out.queue, server.back.queue) = (queue, queue);
        }
        if r.chance(0.3) {
            (0..4).for_each(|_| congest(r, server));
        }
        if r.chance(0.2) {
            server.back.detour = Some((r.between(0.1, 0.9), r.octaves(0.5 * MS, 20.0 * MS)));
        }
        if r.chance(0.3) {
            (0..2).for_each(|_| change_route(r, server));
        }
        if r.chance(0.3) {
            let from = r.between(0.0, 16_000.0) as u32;
            server.outages = vec![(from, from + r.octaves(60.0, 4_000.0) as u32)];
        }
    }
    let liars = (r.between(0.0, 1.0) * count.div_ceil(2) as f64) as usize;
    for liar in 0..liars {
        let server = &mut world.servers[liar];
        let (lie_ns, rate) = (r.octaves(5.0 * MS, 10_000.0 * MS), r.octaves(1e-6, 300e-6));
        (server.error_ns, server.error_rate) =
            if r.chance(0.5) { (r.either(lie_ns), 0.0) } else { (0.0, r.either(rate)) };
        (server.root_delay, server.root_dispersion) = (Span::ZERO, Span::from_us(50));
        // Too small a lie is no contradiction, so nobody has to be named.
        plan.liars.push((liar, u32::MAX));
    }
    if r.chance(0.5) {
        warm_up(r, &mut world.oscillator);
    }
    if r.chance(0.3) {
        world.oscillator.flicker = r.octaves(1e-9, 5e-8);
    }
    if r.chance(0.3) {
        let from = r.between(600.0, 15_000.0) as u32;
        world.outages = vec![(from, from + r.octaves(60.0, 3_000.0) as u32)];
        world.pace = Pace::Daemon { max_poll_s: 64 };
    }
    if r.chance(0.3) {
        world.steps = vec![(r.between(600.0, 19_000.0) as u32, r.either(1e9) as i64)];
    }
}

/// Makes liars of the servers that are to lie: all the same lie, told with much confidence.
fn lie(r: &mut Random, plan: &mut Plan, lie_ns: f64) {
    let lie_ns = r.either(lie_ns);
    for &(liar, _) in &plan.liars {
        let server = &mut plan.world.servers[liar];
        (server.error_ns, server.error_wander_ns) = (lie_ns, 0.0);
        (server.root_delay, server.root_dispersion) = (Span::ZERO, Span::from_us(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_and_differ() {
        for s in ALL {
            assert_eq!(Scenario::named(s.name()), Some(s));
        }
        assert_eq!(Scenario::named("nowhere"), None);
    }

    #[test]
    fn every_draw_is_within_the_assumptions() {
        for (scenario, seed) in ALL.into_iter().flat_map(|s| (0..200).map(move |seed| (s, seed))) {
            let Plan { world, liars, .. } = scenario.draw(seed);
            assert!(liars.len() * 2 < world.servers.len().max(1), "{scenario:?} {seed}");
            for (i, s) in world.servers.iter().enumerate() {
                let is_liar = liars.iter().any(|l| l.0 == i);
                let most_ns = s.root_delay.as_ns() as f64 / 2.0 + s.root_dispersion.as_ns() as f64;
                let error_ns = s.error_ns.abs() + s.error_wander_ns;
                assert!(is_liar || (error_ns <= most_ns && s.error_rate == 0.0), "{scenario:?} {seed} {s:?}");
                for leg in [&s.out, &s.back] {
                    let mut base_ns = leg.base_ns;
                    let mut changes = leg.route_changes.clone();
                    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
                    for change in changes {
                        base_ns += change.1;
                        assert!(base_ns > 0.0, "{scenario:?} {seed} {leg:?}");
                    }
                }
            }
            let o = world.oscillator;
            let warm = o.per_degree.abs() * (o.climate.load_rise_c + o.climate.daily_amplitude_c);
            assert!(o.frequency.abs() <= 100e-6 && warm < 15e-6, "{scenario:?} {seed} {o:?}");
        }
    }
}
