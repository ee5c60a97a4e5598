//! The real `chronyd` as the server: its clock is this machine's, so the truth is the system clock.

use chronotick::os_clock::{boottime, realtime};
use chronotick::{Span, Status};
use e2e::{Chronyd, ClockDaemon, eventually, pause};
use std::time::Duration;

/// Seconds to sample; the documented run takes 60.
const SECONDS_ENV: &str = "CHRONOTICK_CHRONY_SECONDS";

#[test]
fn corrected_time_agrees_with_the_system_clock_within_a_bound_under_a_millisecond() {
    let seconds = std::env::var(SECONDS_ENV).ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let dir = tempfile::tempdir().unwrap();
    let Some(chronyd) = Chronyd::serve(dir.path(), "") else { return };
    let server = format!("127.0.0.1:{}", chronyd.port());
    // The daemon's own pace, not the fast one of the other tests.
    let daemon = ClockDaemon::start(dir.path(), &[server], "min_poll_s = 4\nmax_poll_s = 64");
    let client = daemon.client();
    daemon.wait_for_line("-> synchronized");
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));

    let end = boottime() + Span::from_secs(seconds);
    let (mut samples, mut worst_error, mut worst_bound) = (0, Span::ZERO, Span::ZERO);
    while boottime() < end {
        let before = realtime();
        let reading = client.now().unwrap();
        let after = realtime();
        assert_eq!(reading.status, Status::Synchronized, "sample {samples}: {reading:?}");
        assert!(
            reading.bound.earliest() <= after && before <= reading.bound.latest(),
            "sample {samples}: the system clock is from {before:?} to {after:?}, the reading {reading:?}"
        );
        let bound = reading.max_error();
        assert!(bound < Span::from_ms(1), "sample {samples}: the bound is {bound}");
        let middle = before + Span::from_ns((after - before).as_ns() / 2);
        worst_error = worst_error.max((reading.corrected - middle).abs());
        worst_bound = worst_bound.max(bound);
        samples += 1;
        pause(Duration::from_millis(100));
    }
    assert!(samples > 0);
    println!("{samples} samples in {seconds} s: worst error {worst_error}, worst bound {worst_bound}");
}
