//! One simulated machine: its clock, the servers, and the exchanges between them, second by second.

use crate::client::{Client, Pace};
use crate::network::Server;
use crate::oscillator::{Clock, Disruption, Oscillator};
use crate::random::Random;
use chronotick_core::time::NS_PER_SEC;
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Leap, Measurement};

/// True time at the start, nanoseconds since 1970.
const EPOCH_NS: i64 = 1_790_000_000 * NS_PER_SEC;
/// A request that was not answered by then is lost.
const ANSWER_TIMEOUT_NS: i64 = 1_500_000_000;
/// How long a server takes.
const IN_SERVER_NS: i64 = 20_000;
/// Reading precision of both clocks.
const PRECISION: Span = Span::from_ns(100);
/// The thermometer is read so often.
const CLIMATE_PERIOD_S: u32 = 10;

/// Everything about a run but its randomness.
#[derive(Clone, Debug)]
pub struct World {
    /// How long it lasts.
    pub seconds: u32,
    /// The local clock.
    pub oscillator: Oscillator,
    /// What happens to it, and when.
    pub disruptions: Vec<(u32, Disruption)>,
    /// How far the system clock is ahead at the start.
    pub offset_ns: i64,
    /// Somebody sets the system clock forward by so many nanoseconds at these seconds.
    pub steps: Vec<(u32, i64)>,
    /// The servers.
    pub servers: Vec<Server>,
    /// How often they are asked.
    pub pace: Pace,
    /// No packet gets through from the first to the second of these seconds.
    pub outages: Vec<(u32, u32)>,
}

/// What is true at a second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moment {
    /// Seconds of true time since the start.
    pub second: u32,
    /// The local clock, `CLOCK_BOOTTIME`.
    pub now: MonoTime,
    /// True time minus the local clock.
    pub truth: Span,
    /// The system clock, which nobody corrects, minus the local clock.
    pub system: Span,
}

/// Whoever lives on the machine.
pub trait Inhabitant {
    /// A server answered.
    fn measure(&mut self, now: MonoTime, measurement: &Measurement);
    /// Temperature in degrees, and load from 0 to 1.
    fn observe(&mut self, now: MonoTime, temperature_c: f64, load: f64);
    /// The machine slept or moved; that is seen in the second in which it runs again.
    fn disrupt(&mut self, what: &Disruption);
    /// Each second in which the machine runs.
    fn moment(&mut self, moment: &Moment);
}

impl World {
    /// Runs it with the randomness of `seed`.
    pub fn run(&self, seed: u64, inhabitant: &mut dyn Inhabitant) {
        let random = Random::new(seed);
        let start = MonoTime::from_ns((random.fork(10).between(1.0, 1e6) * 1e9) as i64);
        let clock = Clock::run(&self.oscillator, &self.disruptions, start, self.seconds, &random);
        let mut network = random.fork(11);
        let mut clients: Vec<Client> =
            (0..self.servers.len()).map(|_| Client::new(self.pace, random_start(&mut network))).collect();
        for second in 0..=self.seconds {
            let true_ns = i64::from(second) * NS_PER_SEC;
            if self.pauses().any(|(from, to)| from < second && second < to) {
                continue;
            }
            let woken_by = self.disruptions.iter().find(|d| d.0 + d.1.pause_s().max(1) == second);
            if let Some((_, disruption)) = woken_by {
                // Nothing that was under way survives, and the daemon begins anew.
                clients.iter_mut().for_each(|c| c.restart(true_ns));
                inhabitant.disrupt(disruption);
            } else {
                self.exchange(&clock, true_ns, &mut clients, &mut network, inhabitant);
            }
            let now = clock.read(true_ns);
            if let Some((degrees, loaded)) = clock.climate(second)
                && second.is_multiple_of(CLIMATE_PERIOD_S)
            {
                inhabitant.observe(now, 45.0 + degrees, f64::from(u8::from(loaded)));
            }
            let theta = |ahead_ns: i64| Span::from_ns(EPOCH_NS + true_ns - now.as_ns() + ahead_ns);
            let stepped: i64 = self.steps.iter().filter(|s| s.0 <= second).map(|s| s.1).sum();
            // The system clock counts as the local clock does, from where it was at the start.
            let system = Span::from_ns(EPOCH_NS - start.as_ns() + self.offset_ns + stepped);
            inhabitant.moment(&Moment { second, now, truth: theta(0), system });
        }
    }

    /// From when to when nothing runs; the second in which it runs again is not in it.
    fn pauses(&self) -> impl Iterator<Item = (u32, u32)> {
        self.disruptions.iter().map(|&(at, d)| (at, at + d.pause_s().max(1)))
    }

    /// All requests and answers up to `until_ns`, in the order of their times.
    fn exchange(
        &self,
        clock: &Clock,
        until_ns: i64,
        clients: &mut [Client],
        random: &mut Random,
        inhabitant: &mut dyn Inhabitant,
    ) {
        while let Some((i, client)) = clients
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, c)| c.next_ns())
            .filter(|(_, c)| c.next_ns() < until_ns)
        {
            let at_ns = client.next_ns();
            match client.take_answer() {
                Some(measurement) => {
                    client.ended(at_ns, measurement.is_some());
                    if let Some(m) = measurement {
                        inhabitant.measure(clock.read(at_ns), &m);
                    }
                }
                None => {
                    let answer = self.answer(i, clock, at_ns, client.poll(), random);
                    let (received_ns, m) =
                        answer.map_or((at_ns + ANSWER_TIMEOUT_NS, None), |(received, m)| (received, Some(m)));
                    client.asked(received_ns, m);
                }
            }
        }
    }

    /// One exchange; `None` when there is no answer in time.
    fn answer(
        &self,
        source: usize,
        clock: &Clock,
        sent_ns: i64,
        poll_interval: Span,
        random: &mut Random,
    ) -> Option<(i64, Measurement)> {
        let server = &self.servers[source];
        let arrived_ns = sent_ns + server.out.delay_ns(sent_ns, random);
        let left_ns = arrived_ns + IN_SERVER_NS;
        let received_ns = left_ns + server.back.delay_ns(left_ns, random);
        let lost = random.chance(server.loss);
        let second = sent_ns / NS_PER_SEC;
        let cut = self.outages.iter().any(|&(from, to)| (i64::from(from)..i64::from(to)).contains(&second));
        if lost || cut || !server.is_up(arrived_ns) || received_ns - sent_ns > ANSWER_TIMEOUT_NS {
            return None;
        }
        let (sent, received) = (clock.read(sent_ns), clock.read(received_ns));
        let (t2_ns, t3_ns) = (arrived_ns + server.error_ns(arrived_ns), left_ns + server.error_ns(left_ns));
        let round_trip = received - sent;
        let at = sent + Span::from_ns(round_trip.as_ns() / 2);
        let in_server_ns = t3_ns - t2_ns;
        let delay = Span::from_ns(round_trip.as_ns() - in_server_ns);
        let measurement = Measurement {
            source,
            at,
            theta: Span::from_ns(EPOCH_NS + t2_ns + in_server_ns / 2 - at.as_ns()),
            delay,
            round_trip,
            root_delay: server.root_delay,
            root_dispersion: server.root_dispersion,
            precision: PRECISION,
            stratum: server.stratum,
            leap: Leap::None,
            poll_interval,
            authenticated: false,
        };
        (!delay.is_negative()).then_some((received_ns, measurement))
    }
}

/// The first request of each client comes within a third of a second.
fn random_start(random: &mut Random) -> i64 {
    (random.between(0.0, 0.3) * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Leg;

    /// Checks each measurement and each moment against the other.
    #[derive(Default)]
    struct Witness {
        measurements: Vec<Measurement>,
        moments: Vec<Moment>,
        disruptions: usize,
    }

    impl Inhabitant for Witness {
        fn measure(&mut self, now: MonoTime, m: &Measurement) {
            assert!(m.at <= now && self.measurements.last().is_none_or(|last| last.at < m.at));
            self.measurements.push(*m);
        }
        fn observe(&mut self, _: MonoTime, _: f64, _: f64) {}
        fn disrupt(&mut self, _: &Disruption) {
            self.disruptions += 1;
        }
        fn moment(&mut self, moment: &Moment) {
            assert!(self.moments.last().is_none_or(|last| last.now < moment.now));
            self.moments.push(*moment);
        }
    }

    fn world() -> World {
        let leg = || Leg::exponential(1e6, 1e5);
        World {
            seconds: 2_000,
            oscillator: Oscillator { frequency: 10e-6, ..Oscillator::default() },
            disruptions: Vec::new(),
            offset_ns: 10_000_000,
            steps: Vec::new(),
            servers: vec![Server::perfect(leg(), leg())],
            pace: Pace::Fixed { poll_s: 64 },
            outages: Vec::new(),
        }
    }

    fn witness(world: &World) -> Witness {
        let mut witness = Witness::default();
        world.run(3, &mut witness);
        witness
    }

    #[test]
    fn measurements_are_within_their_distance_of_the_truth() {
        let w = witness(&world());
        assert_eq!((w.measurements.len(), w.moments.len()), (32, 2001));
        let first = w.moments[0];
        assert_eq!((first.system - first.truth).as_ns(), 10_000_000);
        let last = w.moments[2000];
        assert_eq!((last.system - last.truth).as_ns(), 10_000_000 + 20_000_000);
        for m in &w.measurements {
            let age_ns = (m.at - first.now).as_ns() as f64;
            // The clock gains 10 ppm of true time, so the truth falls behind it a hair slower than by its own count.
            let truth_ns = first.truth.as_ns() - (age_ns * 10e-6 / (1.0 + 10e-6)) as i64;
            let error_ns = (m.theta.as_ns() - truth_ns).abs();
            assert!((error_ns as f64) < m.root_distance_ns(), "{error_ns} {m:?}");
            assert!((2_000_000..4_000_000).contains(&m.delay.as_ns()), "{m:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_world() {
        let (a, b) = (witness(&world()), witness(&world()));
        assert_eq!((a.measurements, a.moments), (b.measurements, b.moments));
    }

    #[test]
    fn steps_outages_and_pauses_come_when_told() {
        let mut w = world();
        w.steps = vec![(100, 1_000_000_000)];
        w.outages = vec![(200, 1_000)];
        let pause = Disruption::Migration { pause_s: 5, jump_ns: -4e9, rate_change: 0.0 };
        w.disruptions = vec![(1_500, pause)];
        let got = witness(&w);
        assert_eq!(got.disruptions, 1);
        assert_eq!(got.moments.len(), 2001 - 4);
        let ahead = |second: u32| {
            let m = got.moments.iter().find(|m| m.second == second).unwrap();
            (m.system - m.truth).as_ns()
        };
        assert_eq!((ahead(99), ahead(100)), (10_990_000, 1_011_000_000));
        assert_eq!(ahead(1_506) - ahead(1_500), -4_000_000_000 + 60_000);
        let quiet = got.measurements.windows(2).map(|m| (m[1].at - m[0].at).as_ms()).max();
        assert!((800_000..900_000).contains(&quiet.unwrap()), "{quiet:?}");
    }
}
