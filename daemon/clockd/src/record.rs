//! What a page says of a correction: every field and every flag derived from it.

use chronotick_core::page::{AnchorClock, Flags, Record, Source};
use chronotick_core::time::NS_PER_SEC;
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Correction, Leap, Model, State};

/// The offset uncertainty of a page that was withdrawn: the one signal an old reader sees.
pub(crate) const WITHDRAWN_S: f64 = chronotick_core::page::layout::WITHDRAWN_UNCERTAINTY_S;
/// Rounding on the way through the page: of its fields here, and of its formulas in a reader.
const ROUNDING_S: f64 = 5e-9;

/// When a page is written, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// CLOCK_REALTIME.
    pub(crate) system: Timestamp,
    /// CLOCK_BOOTTIME at the same moment.
    pub(crate) boottime: MonoTime,
}

impl Moment {
    /// The last whole second of the system clock, and CLOCK_BOOTTIME at it: what a page is anchored on.
    pub(crate) fn whole_second(self) -> Self {
        let back = Span::from_ns(self.system.as_ns().rem_euclid(NS_PER_SEC));
        Self { system: self.system - back, boottime: self.boottime - back }
    }

    /// The last whole second of the system clock that was not after `limit`, of those before this moment.
    pub(crate) fn whole_second_before(self, limit: MonoTime) -> Self {
        let mut second = self.whole_second();
        let ahead_ns = (second.boottime - limit).as_ns();
        if ahead_ns > 0 {
            let back = Span::from_secs(1 + (ahead_ns - 1) / NS_PER_SEC);
            second = Self { system: second.system - back, boottime: second.boottime - back };
        }
        second
    }
}

/// What the publisher knows besides the correction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// Since the daemon started.
    pub(crate) uptime: Span,
    /// Pages with a correction, this one included.
    pub(crate) published: u32,
    /// Mean time from due to published.
    pub(crate) latency_ms: f32,
    /// How long a page is valid.
    pub(crate) validity: Span,
}

/// The record for `correction`, which must be the one at `anchor`, a whole second; without one, a page that says that
/// nothing is known.
pub(crate) fn record(
    moment: Moment,
    anchor: Moment,
    correction: Option<&Correction>,
    counters: &Counters,
) -> Record {
    let valid_until = moment.system + counters.validity;
    let mut record = Record {
        corrected_timestamp: moment.system.as_secs_f64(),
        system_timestamp: moment.system.as_secs_f64(),
        prediction_time: anchor.system.as_secs_f64(),
        valid_until: valid_until.as_secs_f64(),
        anchor_clock: AnchorClock::Boottime,
        anchor: anchor.boottime.as_ns(),
        daemon_uptime: counters.uptime.as_secs_f64(),
        total_corrections: counters.published,
        average_latency_ms: counters.latency_ms,
        ..Record::default()
    };
    if let Some(c) = correction {
        let since_anchor = moment.boottime - anchor.boottime;
        let drift = Span::from_secs_f64(since_anchor.as_secs_f64() * c.rate);
        let horizon = moment.system + (c.valid_until - moment.boottime);
        record.corrected_timestamp = (c.corrected + since_anchor + drift).as_secs_f64();
        record.offset_correction = (c.corrected - anchor.system).as_secs_f64();
        record.drift_rate = c.rate;
        record.offset_uncertainty = c.offset_sigma;
        record.drift_uncertainty = c.rate_sigma;
        record.valid_until = valid_until.min(horizon).as_secs_f64();
        record.confidence = c.confidence;
        record.flags = flags(c);
        record.source = source_of(c.model);
        record.measurement_count = c.measurement_count;
        record.last_ntp_sync = c.last_sync.as_secs_f64();
        record.max_error = Record::max_error_from_f64(c.max_error.as_secs_f64() + ROUNDING_S);
    }
    record
}

/// The same page, withdrawn: nobody may use its correction any more.
pub(crate) fn withdrawn(mut record: Record) -> Record {
    record.flags = Flags(record.flags.0 & !Flags::VALID);
    record.offset_uncertainty = WITHDRAWN_S;
    record
}

/// The same page, withdrawn because the clock was disrupted.
pub(crate) fn disrupted(record: Record) -> Record {
    let mut record = withdrawn(record);
    record.flags.0 |= Flags::DISRUPTED;
    record
}

/// The model as the page has it.
pub(crate) fn source_of(model: Model) -> Source {
    match model {
        Model::Ntp => Source::Ntp,
        Model::CpuModel => Source::CpuModel,
        Model::GpuModel => Source::GpuModel,
        Model::Fusion => Source::Fusion,
    }
}

fn flags(c: &Correction) -> Flags {
    let mut bits = Flags::VALID | Flags::NTP_READY;
    if c.is_warm {
        bits |= Flags::WARMUP_COMPLETE;
    }
    if c.state == State::Holdover {
        bits |= Flags::HOLDOVER;
    }
    if c.models_ready {
        bits |= Flags::MODELS_READY;
    }
    if c.authenticated {
        bits |= Flags::AUTHENTICATED;
    }
    bits |= match c.leap {
        Leap::None => 0,
        Leap::Insert => Flags::LEAP_INSERT,
        Leap::Delete => Flags::LEAP_DELETE,
    };
    Flags(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::page::Status;

    const MOMENT: Moment = Moment {
        system: Timestamp::from_ns(1_790_000_000_250_000_000),
        boottime: MonoTime::from_ns(50_250_000_000),
    };
    const COUNTERS: Counters = Counters {
        uptime: Span::from_secs(9),
        published: 3,
        latency_ms: 0.25,
        validity: Span::from_secs(10),
    };

    fn correction() -> Correction {
        Correction {
            at: MonoTime::from_ns(50_000_000_000),
            corrected: Timestamp::from_ns(1_790_000_000_001_500_000),
            rate: 20e-6,
            offset_sigma: 1e-5,
            rate_sigma: 1e-7,
            max_error: Span::from_us(300),
            confidence: 0.5,
            measurement_count: 12,
            last_sync: Timestamp::from_secs(1_789_999_999),
            source: 0,
            valid_until: MonoTime::from_ns(3_000_000_000_000),
            leap: Leap::None,
            state: State::Synchronized,
            is_warm: true,
            model: Model::Ntp,
            models_ready: false,
            authenticated: false,
        }
    }

    #[test]
    fn a_reader_gets_the_correction_back() {
        let mut r = record(MOMENT, MOMENT.whole_second(), Some(&correction()), &COUNTERS);
        r.sequence = 2;
        assert_eq!((r.prediction_time, r.anchor), (1_790_000_000.0, 50_000_000_000));
        assert_eq!((r.total_corrections, r.measurement_count, r.daemon_uptime), (3, 12, 9.0));
        let reading = r.read_at(Span::from_ms(250));
        // Offset at the whole second, plus a quarter of a second at 20 ppm.
        assert_eq!(reading.corrected.as_ns(), 1_790_000_000_251_505_000);
        assert_eq!(reading.status, Status::Synchronized);
        let error = reading.max_error();
        assert!(error >= Span::from_ns(300_000 + 3_825) && error < Span::from_ns(300_000 + 3_900), "{error}");
        assert_eq!(r.read_at(Span::from_ms(10_250)).status, Status::Synchronized);
        assert_eq!(r.read_at(Span::from_ms(10_251)).status, Status::Expired);
        assert_eq!(Record::from_bytes(&r.to_bytes()), Ok(r));
    }

    #[test]
    fn flags_follow_the_state() {
        let check = |change: fn(&mut Correction), status: Status, set: u32, clear: u32| {
            let mut c = correction();
            change(&mut c);
            let mut r = record(MOMENT, MOMENT.whole_second(), Some(&c), &COUNTERS);
            r.sequence = 2;
            assert_eq!(r.read_at(Span::ZERO).status, status, "{c:?}");
            assert!(r.flags.has(set), "{c:?}");
            assert_eq!(r.flags.0 & clear, 0, "{c:?}");
        };
        let (valid, warm, hold) = (Flags::VALID | Flags::NTP_READY, Flags::WARMUP_COMPLETE, Flags::HOLDOVER);
        check(|_| {}, Status::Synchronized, valid | warm, hold | Flags::DISRUPTED | Flags::LEAP_INSERT);
        check(|c| c.is_warm = false, Status::WarmingUp, valid, warm | hold);
        check(|c| c.state = State::Holdover, Status::Holdover, valid | warm | hold, 0);
        check(|c| c.models_ready = true, Status::Synchronized, Flags::MODELS_READY, Flags::AUTHENTICATED);
        check(|c| c.authenticated = true, Status::Synchronized, Flags::AUTHENTICATED, Flags::MODELS_READY);
        check(|c| c.leap = Leap::Insert, Status::Synchronized, Flags::LEAP_INSERT, Flags::LEAP_DELETE);
        check(|c| c.leap = Leap::Delete, Status::Synchronized, Flags::LEAP_DELETE, Flags::LEAP_INSERT);
    }

    #[test]
    fn validity_ends_at_the_horizon() {
        let near = Correction { valid_until: MOMENT.boottime + Span::from_secs(2), ..correction() };
        assert_eq!(
            record(MOMENT, MOMENT.whole_second(), Some(&near), &COUNTERS).valid_until,
            1_790_000_002.25
        );
    }

    #[test]
    fn without_a_correction_the_page_is_whole_and_says_so() {
        let mut r = record(MOMENT, MOMENT.whole_second(), None, &COUNTERS);
        r.sequence = 2;
        assert_eq!(r.read_at(Span::ZERO).status, Status::NoData);
        assert_eq!((r.flags.0, r.offset_uncertainty), (0, WITHDRAWN_S));
        assert!(r.read_at(Span::ZERO).bound.is_unbounded());
    }

    #[test]
    fn the_whole_second_before_a_step_is_found() {
        let check = |limit_ns: i64, back_s: i64| {
            let limit = MOMENT.boottime - Span::from_ns(limit_ns);
            let anchor = MOMENT.whole_second_before(limit);
            assert_eq!(anchor.system, MOMENT.whole_second().system - Span::from_secs(back_s), "{limit_ns}");
            assert_eq!(MOMENT.system - anchor.system, MOMENT.boottime - anchor.boottime);
            assert!(anchor.boottime <= limit, "{limit_ns}");
        };
        check(0, 0);
        check(249_999_999, 0);
        check(250_000_000, 0);
        check(250_000_001, 1);
        check(999_000_000, 1);
        check(1_250_000_001, 2);
    }

    #[test]
    fn a_withdrawn_page_is_expired_for_all() {
        let mut r = withdrawn(record(MOMENT, MOMENT.whole_second(), Some(&correction()), &COUNTERS));
        r.sequence = 2;
        assert_eq!(r.read_at(Span::ZERO).status, Status::Expired);
        assert_eq!(r.offset_uncertainty, WITHDRAWN_S);
    }
}
