//! The hard bound through a network that favours one direction: the error of an asymmetric path cannot be measured, so
//! the bound has to cover it.

use chronotick::os_clock::{boottime, realtime};
use chronotick::{Span, Status};
use e2e::relay::{Detour, Way};
use e2e::{ClockDaemon, LiarConfig, NtpLiar, Relay, RelayConfig, eventually, pause, random};
use std::time::Duration;

#[test]
fn the_bound_holds_at_each_sample_through_an_asymmetric_path() {
    let dir = tempfile::tempdir().unwrap();
    let liar = NtpLiar::start(LiarConfig { offset_ns: 250_000_000, ..LiarConfig::default() }).unwrap();
    let ms = Span::from_ms;
    let config = RelayConfig {
        out: Way { loss: 0.1, ..Way::new(ms(2), Span::from_us(500)) },
        back: Way { detour: Some(Detour { part: 0.3, extra: ms(5) }), ..Way::new(ms(10), ms(1)) },
        seed: random::seed(),
        ..RelayConfig::default()
    };
    let relay = Relay::start(liar.address().parse().unwrap(), config).unwrap();
    let daemon = ClockDaemon::start(dir.path(), &[relay.address().to_string()], "");
    let client = daemon.client();
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
    let end = boottime() + Span::from_secs(8);
    let (mut samples, mut worst) = (0, Span::ZERO);
    while boottime() < end {
        let before = liar.true_time(realtime());
        let reading = client.now().unwrap();
        let after = liar.true_time(realtime());
        assert!(
            reading.bound.earliest() <= after && before <= reading.bound.latest(),
            "sample {samples}: the truth is from {before:?} to {after:?}, the reading {reading:?}"
        );
        worst = worst.max((reading.corrected - before).abs());
        samples += 1;
        pause(Duration::from_millis(20));
    }
    println!("{samples} samples, worst error {worst}, {} packets lost", relay.lost());
}
