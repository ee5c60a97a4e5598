//! A PTP hardware clock, `/dev/ptpN`: that of a network card, or the one that a hypervisor gives to its guests.

use super::{Ask, Failure, Reading, timex};
use crate::sources::Source;
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Leap, Measurement};
use rustix::time::{DynamicClockId, clock_gettime_dynamic};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Readings for one measurement, of which the tightest counts.
const READINGS: usize = 8;

/// What the user says of a hardware clock.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct PhcSettings {
    /// The device.
    pub(crate) path: PathBuf,
    /// How far it may be wrong. The device itself does not say, so that somebody has to.
    pub(crate) error_bound: Span,
    /// How far it is ahead of UTC: 37 where it holds TAI, 0 where it holds UTC. `None`: what the kernel knows of TAI.
    pub(crate) tai_offset_s: Option<i64>,
}

/// See the module.
pub(crate) struct Phc {
    settings: PhcSettings,
    device: Option<File>,
}

impl Phc {
    /// Opened when it is first asked, so that a device may come later.
    pub(crate) fn new(settings: PhcSettings) -> Self {
        Self { settings, device: None }
    }
}

/// One reading: the local clock, the device in nanoseconds, the local clock.
type Sandwich = (MonoTime, i64, MonoTime);

/// The tightest of several readings.
fn tightest(mut read: impl FnMut() -> Result<Sandwich, Failure>) -> Result<Sandwich, Failure> {
    let mut best = read()?;
    for _ in 1..READINGS {
        let next = read()?;
        if next.2 - next.0 < best.2 - best.0 {
            best = next;
        }
    }
    Ok(best)
}

/// From a reading to what is measured.
fn reading((before, device_ns, after): Sandwich, tai_offset_s: i64, error_bound: Span) -> Reading {
    let width = after - before;
    let at = before + Span::from_ns(width.as_ns() / 2);
    let utc_ns = device_ns.saturating_sub(tai_offset_s.saturating_mul(1_000_000_000));
    Reading {
        at,
        theta: Span::from_ns(utc_ns.saturating_sub(at.as_ns())),
        width,
        root_delay: Span::ZERO,
        root_dispersion: error_bound,
        stratum: 1,
        leap: Leap::None,
    }
}

impl Source for Phc {
    fn name(&self) -> String {
        self.settings.path.display().to_string()
    }

    fn address(&self) -> Option<String> {
        None
    }

    fn is_authenticated(&self) -> bool {
        true
    }

    fn reference_id(&self) -> [u8; 4] {
        *b"PHC\0"
    }

    fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
        ask.counters.sent += 1;
        let path = self.settings.path.display();
        let tai_offset_s = match self.settings.tai_offset_s {
            Some(seconds) => seconds,
            None => match timex::read()?.tai_minus_utc_s {
                0 => {
                    return Err(Failure::Other(format!(
                        "nobody told the kernel how far TAI is ahead of UTC, so {path} cannot be read: set \
                         `phc_tai_offset_s` (0 if the device holds UTC, 37 if it holds TAI)"
                    )));
                }
                seconds => seconds,
            },
        };
        let device = match self.device.take() {
            Some(device) => device,
            None => File::open(&self.settings.path).map_err(|e| {
                Failure::Other(format!("cannot open {path}: {e}; check `phc` and who may read it"))
            })?,
        };
        let clock = DynamicClockId::Dynamic(device.as_fd());
        let sandwich = tightest(|| {
            let before = boottime();
            let t = clock_gettime_dynamic(clock)
                .map_err(|e| Failure::Other(format!("cannot read the clock of {path}: {e}")))?;
            let after = boottime();
            Ok((before, t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec), after))
        })?;
        self.device = Some(device);
        reading(sandwich, tai_offset_s, self.settings.error_bound).measurement(ask, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SourceCounters;
    use crate::stop::Stop;

    fn ask_once(phc: &mut Phc) -> Result<Measurement, Failure> {
        let (stop, mut counters) = (Stop::default(), SourceCounters::default());
        phc.measure(&mut Ask {
            source: 0,
            poll_interval: Span::from_secs(4),
            stop: &stop,
            counters: &mut counters,
        })
    }

    fn settings(path: &str) -> PhcSettings {
        PhcSettings { path: path.into(), error_bound: Span::from_us(50), tai_offset_s: Some(37) }
    }

    #[test]
    fn the_tightest_reading_counts() {
        let readings = [(0, 500, 90), (100, 600, 180), (200, 700, 220), (300, 800, 390)];
        let mut turn = 0;
        let best = tightest(|| {
            let (before, device, after) = readings[turn % readings.len()];
            turn += 1;
            Ok((MonoTime::from_ns(before), device, MonoTime::from_ns(after)))
        });
        assert_eq!(best.unwrap().1, 700);
        assert_eq!(turn, READINGS);
    }

    #[test]
    fn tai_becomes_utc() {
        let sandwich = (MonoTime::from_ns(1_000), 1_800_000_037_000_000_000, MonoTime::from_ns(3_000));
        let r = reading(sandwich, 37, Span::from_us(50));
        assert_eq!((r.at.as_ns(), r.theta.as_ns()), (2_000, 1_800_000_000_000_000_000 - 2_000));
        assert_eq!((r.width, r.root_dispersion, r.stratum), (Span::from_us(2), Span::from_us(50), 1));
        // Whatever the device says, nothing overflows.
        reading((MonoTime::MIN, i64::MIN, MonoTime::MAX), i64::MAX, Span::MAX);
    }

    #[test]
    fn what_is_no_device_says_what_to_do() {
        let check = |path: &str, want: &str| {
            let failure = ask_once(&mut Phc::new(settings(path))).unwrap_err();
            assert!(matches!(&failure, Failure::Other(text) if text.contains(want)), "{failure:?}");
        };
        check("/dev/there_is_no_such_clock", "check `phc`");
        check("/dev/null", "cannot read the clock");
    }

    #[test]
    fn the_real_device_where_there_is_one() {
        if File::open("/dev/ptp0").is_err() {
            println!("skipped: there is no /dev/ptp0 that we may read");
            return;
        }
        let m = ask_once(&mut Phc::new(settings("/dev/ptp0"))).unwrap();
        assert!(m.delay < Span::from_ms(10), "{m:?}");
    }
}
