//! The clock page as the kernel's clock, with the operating system's clock where the page cannot be trusted.

use super::KernelClock;
use chronotick::os_clock::{boottime, realtime};
use chronotick::{Client, Status};
use chronotick_core::{MonoTime, Span};
use minoots_kernel::{ClockSource, ClockStamp};

/// A page that is not there is looked for at most this often.
const ATTACH_EVERY: Span = Span::from_secs(1);

/// Takes the time from the page while it is synchronized or in holdover, else from the operating system, and says in
/// the log whenever that changes.
#[derive(Debug)]
pub struct PageClock {
    name: Option<String>,
    client: Option<Client>,
    attach_at: MonoTime,
    /// The source of the last stamp; `None` before the first.
    source: Option<ClockSource>,
    /// Why the source is what it is.
    detail: Detail,
}

/// Kept apart from its text, which is only made when somebody asks: a stamp must not allocate.
#[derive(Debug)]
enum Detail {
    NotAsked,
    Status(Status),
    Error(String),
}

impl PageClock {
    /// Over the page with this name or absolute path; `None` is the default one. The page may come and go later.
    pub fn new(name: Option<&str>) -> Self {
        Self {
            name: name.map(str::to_string),
            client: None,
            attach_at: MonoTime::MIN,
            source: None,
            detail: Detail::NotAsked,
        }
    }

    fn attach(&mut self) {
        let now = boottime();
        if self.client.is_some() || now < self.attach_at {
            return;
        }
        self.attach_at = now + ATTACH_EVERY;
        match Client::attach_named(self.name.as_deref()) {
            Ok(client) => self.client = Some(client),
            Err(error) => self.detail = Detail::Error(error.to_string()),
        }
    }

    fn read(&mut self) -> Option<ClockStamp> {
        self.attach();
        let reading = match self.client.as_ref()?.now() {
            Ok(reading) => reading,
            Err(error) => {
                // Perhaps the daemon is being replaced: attach anew, in a second.
                self.client = None;
                self.attach_at = boottime() + ATTACH_EVERY;
                self.detail = Detail::Error(error.to_string());
                return None;
            }
        };
        self.detail = Detail::Status(reading.status);
        let source = match reading.status {
            Status::Synchronized => ClockSource::Page,
            Status::Holdover => ClockSource::PageHoldover,
            _ => return None,
        };
        Some(ClockStamp { now: reading.corrected, bound: reading.bound, source })
    }
}

impl KernelClock for PageClock {
    fn stamp(&mut self) -> ClockStamp {
        let stamp = self.read().unwrap_or_else(|| ClockStamp::os(realtime()));
        if self.source.replace(stamp.source) != Some(stamp.source) {
            let detail = self.detail();
            tracing::info!(source = stamp.source.as_str(), detail, "the kernel's clock is now this one");
        }
        stamp
    }

    fn detail(&self) -> String {
        match &self.detail {
            Detail::NotAsked => "not read yet".to_string(),
            Detail::Status(status) => format!("the clock page is {status}"),
            Detail::Error(error) => error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::page::{AnchorClock, Flags, Record, Source};
    use std::path::Path;

    /// A page written just now by a daemon that knows the clock to be 100 s slow.
    fn synchronized() -> Record {
        let (real, boot, _) = chronotick::os_clock::realtime_boottime_pair();
        let second = real.as_ns().div_euclid(1_000_000_000);
        Record {
            offset_correction: 100.0,
            offset_uncertainty: 1e-5,
            prediction_time: second as f64,
            valid_until: second as f64 + 60.0,
            sequence: 2,
            flags: Flags(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE),
            source: Source::Ntp,
            anchor_clock: AnchorClock::Boottime,
            anchor: boot.as_ns() - real.as_ns().rem_euclid(1_000_000_000),
            max_error: 0.001,
            ..Record::default()
        }
    }

    fn stamp_of(page: impl FnOnce(&Path)) -> (ClockStamp, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        page(&path);
        let mut clock = PageClock::new(path.to_str());
        let stamp = clock.stamp();
        (stamp, clock.detail())
    }

    #[test]
    fn the_page_is_used_only_while_it_can_be_trusted() {
        /// `change` makes the page from a synchronized one; `want` is the source and a part of the detail.
        fn check(change: impl FnOnce(&mut Record), want: (ClockSource, &str)) {
            let (stamp, detail) = stamp_of(|path| {
                let mut record = synchronized();
                change(&mut record);
                std::fs::write(path, record.to_bytes()).unwrap();
            });
            assert_eq!(stamp.source, want.0, "{detail}");
            assert!(detail.contains(want.1), "{detail}");
            let ahead = stamp.now - realtime();
            let corrected = ahead > Span::from_secs(50);
            assert_eq!(corrected, want.0 != ClockSource::Os, "{ahead}");
            assert_eq!(stamp.max_error_ns().is_some(), corrected);
        }
        check(|_| {}, (ClockSource::Page, "synchronized"));
        check(|r| r.flags.0 |= Flags::HOLDOVER, (ClockSource::PageHoldover, "holdover"));
        check(|r| r.flags.0 |= Flags::DISRUPTED, (ClockSource::Os, "disrupted"));
        check(|r| r.valid_until = r.prediction_time - 60.0, (ClockSource::Os, "expired"));
    }

    #[test]
    fn without_a_page_the_reason_is_told() {
        let (stamp, detail) = stamp_of(|_| {});
        assert_eq!((stamp.source, stamp.max_error_ns()), (ClockSource::Os, None));
        assert!(detail.contains("page"), "{detail}");
        let (stamp, detail) = stamp_of(|path| std::fs::write(path, b"short").unwrap());
        assert_eq!(stamp.source, ClockSource::Os);
        assert!(!detail.is_empty());
    }
}
