//! Waiting for another process, where it sends no signal.

use chronotick::os_clock::boottime;
use chronotick_core::Span;
use std::sync::mpsc;
use std::time::Duration;

/// So long does a test wait before it calls something hung.
pub const HUNG: Span = Span::from_secs(60);

/// Lets `duration` pass.
pub fn pause(duration: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(duration);
}

/// Asks `probe` until it has an answer.
///
/// # Panics
/// After [`HUNG`], with `what` in the message.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let give_up = boottime() + HUNG;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(boottime() < give_up, "waited {HUNG} in vain for: {what}");
        pause(Duration::from_millis(20));
    }
}
