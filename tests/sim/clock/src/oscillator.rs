//! The local clock: an oscillator with noise, temperature and age, and what else happens to the clock that it drives.
//!
//! The noise is that of IEEE 1139: white, flicker and random-walk frequency modulation, each stated by its Allan
//! deviation. The frequency is constant within a second; the phase is its exact sum, kept in nanoseconds relative to
//! true time (64-bit floats hold 40 s of phase to 10 femtoseconds), and whole epochs are integers.

use crate::random::Random;
use chronotick_core::MonoTime;
use chronotick_core::time::NS_PER_SEC;

/// Seconds in a day.
const DAY_S: f64 = 86_400.0;
/// Time constants of the processes that make flicker noise are this far apart.
const FLICKER_RATIO: f64 = 4.0;
/// From 1 s to three days.
const FLICKER_PROCESSES: i32 = 10;

/// What the temperature of the machine does.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Climate {
    /// Half the difference between day and night.
    pub daily_amplitude_c: f64,
    /// How much warmer the machine is under load.
    pub load_rise_c: f64,
    /// Mean time between changes of the load; 0: none.
    pub load_period_s: f64,
    /// Time constant with which the machine warms up and cools down.
    pub thermal_s: f64,
}

/// An oscillator. All frequencies are relative (1e-6 is 1 ppm); more than zero is a clock that runs fast.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Oscillator {
    /// Constant frequency error.
    pub frequency: f64,
    /// White FM: Allan deviation at 1 s; it falls with the square root of the time.
    pub white: f64,
    /// Flicker FM: Allan deviation, the same from seconds to a day.
    pub flicker: f64,
    /// Random-walk FM: the frequency takes a normal step of this size each second.
    pub walk: f64,
    /// Frequency by temperature, per degree.
    pub per_degree: f64,
    /// The temperature.
    pub climate: Climate,
    /// Change of the frequency in a day.
    pub ageing_per_day: f64,
}

/// What happens to the local clock at a second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Disruption {
    /// The machine sleeps for `seconds`; CLOCK_BOOTTIME counts on with another error of its rate, and is off by a
    /// further `jump_ns` on waking (a real-time clock counts in whole seconds).
    Suspend {
        /// How long.
        seconds: u32,
        /// Error of the rate while it sleeps.
        rate: f64,
        /// Error on waking.
        jump_ns: f64,
    },
    /// The machine moves to another host. It stands still for `pause_s`; after that its clock is `jump_ns` ahead of
    /// where it would have been, and another crystal drives it. A clock never goes back: `jump_ns >= -pause_s`.
    Migration {
        /// How long nobody here runs.
        pause_s: u32,
        /// How much the clock jumps.
        jump_ns: f64,
        /// How much the rate changes.
        rate_change: f64,
    },
}

impl Disruption {
    /// For how many seconds nothing runs.
    pub fn pause_s(&self) -> u32 {
        match *self {
            Self::Suspend { seconds, .. } => seconds,
            Self::Migration { pause_s, .. } => pause_s,
        }
    }
}

/// The local clock through a whole run.
#[derive(Clone, Debug)]
pub struct Clock {
    start: MonoTime,
    /// Local minus true time since the start, at each second.
    phase_ns: Vec<f64>,
    /// Temperature and load at each second; empty where they do not change.
    climate: Vec<(f32, bool)>,
}

impl Clock {
    /// Runs the oscillator for `seconds`. The clock reads `start` at first.
    pub fn run(
        oscillator: &Oscillator,
        disruptions: &[(u32, Disruption)],
        start: MonoTime,
        seconds: u32,
        random: &Random,
    ) -> Self {
        let mut noise = Noise::new(oscillator, random);
        let mut weather = Weather::new(oscillator.climate, random);
        let mut phase_ns = Vec::with_capacity(seconds as usize + 1);
        let mut climate = Vec::new();
        let (mut phase, mut offset) = (0.0, 0.0);
        for second in 0..=seconds {
            phase_ns.push(phase);
            let degrees = weather.step(second);
            if oscillator.climate != Climate::default() {
                climate.push((degrees as f32, weather.loaded));
            }
            let mut frequency = oscillator.frequency
                + offset
                + noise.step()
                + oscillator.per_degree * degrees
                + oscillator.ageing_per_day * f64::from(second) / DAY_S;
            for &(at, disruption) in disruptions {
                let last = at + disruption.pause_s().max(1) - 1;
                match disruption {
                    Disruption::Suspend { rate, jump_ns, .. } if (at..=last).contains(&second) => {
                        frequency = rate;
                        phase += if second == last { jump_ns } else { 0.0 };
                    }
                    Disruption::Migration { jump_ns, rate_change, .. } if second == last => {
                        phase += jump_ns;
                        offset += rate_change;
                    }
                    _ => (),
                }
            }
            phase += frequency * 1e9;
        }
        Self { start, phase_ns, climate }
    }

    /// What the clock reads when `true_ns` have passed since the start.
    pub fn read(&self, true_ns: i64) -> MonoTime {
        let second = (true_ns / NS_PER_SEC).clamp(0, self.phase_ns.len() as i64 - 2) as usize;
        let part = (true_ns - second as i64 * NS_PER_SEC) as f64 / 1e9;
        let (from, to) = (self.phase_ns[second], self.phase_ns[second + 1]);
        MonoTime::from_ns(self.start.as_ns() + true_ns + (from + (to - from) * part).round() as i64)
    }

    /// Degrees above the mean, and whether the machine is under load; `None` where the temperature is constant.
    pub fn climate(&self, second: u32) -> Option<(f64, bool)> {
        self.climate.get(second as usize).map(|&(degrees, loaded)| (f64::from(degrees), loaded))
    }
}

/// The noise of the frequency, second by second.
struct Noise {
    random: Random,
    white: f64,
    flicker: f64,
    walk: f64,
    walked: f64,
    /// Value, and how much of it is left after a second.
    processes: Vec<(f64, f64)>,
}

impl Noise {
    fn new(oscillator: &Oscillator, random: &Random) -> Self {
        let mut random = random.fork(1);
        // Each process of first order is white noise below the corner of its time constant. Sums of them, evenly spaced
        // in the logarithm, have a spectrum of 1 / f: h = variance / ln(ratio), and the Allan variance is 2 ln 2 h.
        let sigma = oscillator.flicker * (FLICKER_RATIO.ln() / (2.0 * std::f64::consts::LN_2)).sqrt();
        let processes = if oscillator.flicker > 0.0 {
            (0..FLICKER_PROCESSES).map(|i| (random.normal(sigma), (-FLICKER_RATIO.powi(-i)).exp())).collect()
        } else {
            Vec::new()
        };
        let Oscillator { white, walk, .. } = *oscillator;
        Self { random, white, flicker: sigma, walk, walked: 0.0, processes }
    }

    fn step(&mut self) -> f64 {
        let mut y = self.walked;
        if self.walk > 0.0 {
            self.walked += self.random.normal(self.walk);
        }
        if self.white > 0.0 {
            y += self.random.normal(self.white);
        }
        for (value, left) in &mut self.processes {
            y += *value;
            *value = *value * *left + self.random.normal(self.flicker * (1.0 - *left * *left).sqrt());
        }
        y
    }
}

/// The temperature, second by second.
struct Weather {
    random: Random,
    climate: Climate,
    phase: f64,
    loaded: bool,
    warmth_c: f64,
    next_change_s: f64,
}

impl Weather {
    fn new(climate: Climate, random: &Random) -> Self {
        let mut random = random.fork(2);
        let phase = random.between(0.0, std::f64::consts::TAU);
        let next_change_s = if climate.load_period_s > 0.0 {
            random.exponential(climate.load_period_s)
        } else {
            f64::INFINITY
        };
        Self { random, climate, phase, loaded: false, warmth_c: 0.0, next_change_s }
    }

    /// Degrees above the mean.
    fn step(&mut self, second: u32) -> f64 {
        let now_s = f64::from(second);
        if now_s >= self.next_change_s {
            self.loaded = !self.loaded;
            self.next_change_s = now_s + self.random.exponential(self.climate.load_period_s).max(1.0);
        }
        let target = if self.loaded { self.climate.load_rise_c } else { 0.0 };
        self.warmth_c += (target - self.warmth_c) / self.climate.thermal_s.max(1.0);
        let daily = (now_s / DAY_S * std::f64::consts::TAU + self.phase).sin();
        self.warmth_c + self.climate.daily_amplitude_c * daily
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: u32 = 2_000_000;

    fn clock(oscillator: Oscillator, seconds: u32, seed: u64) -> Clock {
        Clock::run(&oscillator, &[], MonoTime::from_ns(0), seconds, &Random::new(seed))
    }

    /// The Allan deviation of the clock over `m` seconds, overlapping (IEEE 1139).
    fn allan(clock: &Clock, m: usize) -> f64 {
        let x = &clock.phase_ns;
        let n = x.len() - 2 * m;
        let sum: f64 = (0..n).map(|i| (x[i + 2 * m] - 2.0 * x[i + m] + x[i]).powi(2)).sum();
        (sum / (2.0 * n as f64)).sqrt() / (m as f64 * 1e9)
    }

    /// Compares Allan deviations from `from_s` on with `theory`, which has the noise of 3e-9.
    fn check(name: &str, oscillator: Oscillator, from_s: usize, tolerance: f64, theory: fn(f64) -> f64) {
        let clock = clock(oscillator, SECONDS, 5);
        for m in [1usize, 4, 16, 64, 256, 1024, 4096].into_iter().filter(|&m| m >= from_s) {
            let (got, want) = (allan(&clock, m), theory(m as f64));
            assert!((got / want - 1.0).abs() < tolerance, "{name} over {m} s: {got:.3e}, not {want:.3e}");
        }
    }

    #[test]
    fn allan_deviations_are_those_of_theory() {
        let none = Oscillator::default();
        check("white", Oscillator { white: 3e-9, ..none }, 1, 0.08, |t| 3e-9 / t.sqrt());
        // The variance of a walk in steps, averaged over t of them: q^2 (2 t^2 + 1) / (6 t).
        check("walk", Oscillator { walk: 3e-9, ..none }, 1, 0.10, |t| {
            3e-9 * ((2.0 * t * t + 1.0) / (6.0 * t)).sqrt()
        });
        // The spectrum of flicker noise ends at the fastest process.
        check("flicker", Oscillator { flicker: 3e-9, ..none }, 4, 0.20, |_| 3e-9);
    }

    #[test]
    fn a_constant_error_and_ageing_add_up_exactly() {
        let oscillator = Oscillator { frequency: 20e-6, ageing_per_day: 1e-7, ..Oscillator::default() };
        let clock = clock(oscillator, 86_400, 1);
        // 20 ppm for a day, and half of a day's ageing.
        let want = 20e-6 * 86_400e9 + 0.5e-7 * 86_400e9;
        let got = clock.read(86_400 * NS_PER_SEC).as_ns() - 86_400 * NS_PER_SEC;
        assert!((got as f64 - want).abs() < 1e4 * 1e-7 * 86_400.0, "{got} {want}");
        assert_eq!(clock.read(1_500_000_000).as_ns(), 1_500_030_000);
    }

    #[test]
    fn temperature_moves_the_frequency() {
        let climate =
            Climate { daily_amplitude_c: 0.0, load_rise_c: 10.0, load_period_s: 2_000.0, thermal_s: 100.0 };
        let clock = clock(Oscillator { per_degree: 1e-7, climate, ..Oscillator::default() }, 20_000, 3);
        let degrees = |s| clock.climate(s).unwrap().0;
        let rate = |s: u32| (clock.phase_ns[s as usize + 1] - clock.phase_ns[s as usize]) / 1e9;
        assert!((0..20_000).any(|s| degrees(s) > 9.0) && (0..20_000).any(|s| degrees(s) < 1.0));
        assert!((0..20_000).all(|s| (rate(s) - 1e-7 * degrees(s)).abs() < 1e-12));
    }

    #[test]
    fn disruptions_shift_the_clock_and_never_turn_it_back() {
        let events = [
            (10, Disruption::Suspend { seconds: 100, rate: 50e-6, jump_ns: 2e8 }),
            (200, Disruption::Migration { pause_s: 3, jump_ns: -2.5e9, rate_change: 4e-6 }),
        ];
        let start = MonoTime::from_ns(77);
        let clock = Clock::run(&Oscillator::default(), &events, start, 300, &Random::new(1));
        let off = |s: i64| clock.read(s * NS_PER_SEC).as_ns() - s * NS_PER_SEC - 77;
        assert_eq!((off(0), off(10), off(110), off(200)), (0, 0, 205_000_000, 205_000_000));
        assert_eq!((off(203), off(253)), (205_000_000 - 2_500_000_000, 205_200_000 - 2_500_000_000));
        assert!(clock.read(203 * NS_PER_SEC) > clock.read(200 * NS_PER_SEC));
    }
}
