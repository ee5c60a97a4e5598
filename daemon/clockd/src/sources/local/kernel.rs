//! The system clock as a source, when the kernel says that somebody (chronyd with `rtcsync`, ntpd, a cloud's agent)
//! keeps it synchronized.

use super::timex::{self, KernelClock};
use super::{Ask, Failure, Reading};
use crate::sources::Source;
use chronotick::os_clock::realtime_boottime_pair;
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::Measurement;

/// The kernel does not know the stratum of whoever disciplines it: a modest guess, for those whom we serve.
const STRATUM: u8 = 10;

/// See the module.
pub(crate) struct KernelSource;

/// From the kernel's words and a pair of both clocks to a reading.
///
/// The kernel's bound holds for the system clock as it is. It is used with what the kernel still has to add, which may be
/// wrong itself, so that amount is in the bound as well.
fn reading(
    clock: &KernelClock,
    (system, at, error): (Timestamp, MonoTime, Span),
) -> Result<Reading, Failure> {
    if !clock.is_synchronized {
        return Err(Failure::Other(
            "the kernel says that nobody keeps the system clock synchronized (STA_UNSYNC); chronyd needs `rtcsync` to \
             say otherwise"
                .to_owned(),
        ));
    }
    Ok(Reading {
        at,
        theta: Span::from_ns(system.as_ns().saturating_sub(at.as_ns())) + clock.remaining,
        width: error + error,
        root_delay: Span::ZERO,
        root_dispersion: clock.max_error + clock.remaining.abs(),
        stratum: STRATUM,
        leap: clock.leap,
    })
}

impl Source for KernelSource {
    fn name(&self) -> String {
        "kernel".to_owned()
    }

    fn address(&self) -> Option<String> {
        None
    }

    fn is_authenticated(&self) -> bool {
        false
    }

    fn reference_id(&self) -> [u8; 4] {
        *b"KERN"
    }

    fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
        ask.counters.sent += 1;
        let clock = timex::read()?;
        reading(&clock, realtime_boottime_pair())?.measurement(ask, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SourceCounters;
    use crate::stop::Stop;
    use chronotick::os_clock::{boottime, realtime};
    use chronotick_discipline::Leap;

    const CLOCK: KernelClock = KernelClock {
        is_synchronized: true,
        remaining: Span::from_us(-300),
        max_error: Span::from_ms(5),
        tai_minus_utc_s: 37,
        leap: Leap::None,
    };

    #[test]
    fn the_rest_is_added_and_is_in_the_bound() {
        let pair = (Timestamp::from_secs(1_800_000_000), MonoTime::from_ns(7), Span::from_ns(40));
        let r = reading(&CLOCK, pair).unwrap();
        assert_eq!(r.theta.as_ns(), 1_800_000_000_000_000_000 - 7 - 300_000);
        assert_eq!((r.root_dispersion, r.width), (Span::from_us(5300), Span::from_ns(80)));
        let unsynchronized = KernelClock { is_synchronized: false, ..CLOCK };
        assert!(
            matches!(reading(&unsynchronized, pair), Err(Failure::Other(text)) if text.contains("STA_UNSYNC"))
        );
    }

    #[test]
    fn the_real_kernel_answers() {
        let (stop, mut counters) = (Stop::default(), SourceCounters::default());
        let mut ask =
            Ask { source: 0, poll_interval: Span::from_secs(4), stop: &stop, counters: &mut counters };
        match KernelSource.measure(&mut ask) {
            Ok(m) => {
                let theta = Span::from_ns(realtime().as_ns() - boottime().as_ns());
                assert!((m.theta - theta).abs() < Span::from_secs(1), "{m:?}");
            }
            Err(Failure::Other(text)) => println!("no measurement here: {text}"),
            Err(other) => panic!("{other:?}"),
        }
    }
}
