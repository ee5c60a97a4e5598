//! Measures our reading against `now()` of the crate `clock-bound`: both from the hardware counter, each from its own page.
//!
//! Its writer is private to its daemon, so its page is laid out here as its source describes it (layout 3), without the
//! support for disruptions that would cost it a second page. Its client must call it synchronized, or nothing is measured.
//! It reads the counter behind a barrier; ours is measured without one, as `now()` is, and with one.
#![allow(clippy::unwrap_used, reason = "a benchmark ends where something is amiss")]

#[path = "../../../client/examples/harness/mod.rs"]
mod harness;

use chronotick::{counter, os_clock};
use clock_bound::{Client, ClockStatus};
use harness::{attach, compare, consume, on_the_counter, pin, record, ticks_per_second};

const THEIRS: &str = "clock_bound::Client::now()";

/// Its page, for a counter of this frequency, from now.
fn their_page(ticks_per_second: f64) -> Vec<u8> {
    let now = os_clock::realtime().as_ns();
    let ticks = counter::read().unwrap();
    // A fraction of 2^(64 + shift), so that the period of some tenths of a nanosecond keeps its digits.
    let shift = 63 - (ticks_per_second as u64).leading_zeros() as u8;
    let period = (f64::powi(2.0, 64 + i32::from(shift)) / ticks_per_second) as u64;
    let mut page = Vec::new();
    let mut put = |bytes: &[u8]| page.extend_from_slice(bytes);
    put(&0x414d_5a4e_u32.to_ne_bytes());
    put(&0x4342_0200_u32.to_ne_bytes());
    put(&104_u32.to_ne_bytes());
    // Layout 3, readable by readers of layout 3; an even generation.
    put(&0x0303_u16.to_ne_bytes());
    put(&2_u16.to_ne_bytes());
    put(&ticks.to_ne_bytes());
    for seconds in [0, 3_600] {
        put(&(now / 1_000_000_000 + seconds).to_ne_bytes());
        put(&(now % 1_000_000_000).to_ne_bytes());
    }
    put(&period.to_ne_bytes());
    // No error of the period, a bound of a millisecond, no disruption.
    put(&0_u64.to_ne_bytes());
    put(&1_000_000_i64.to_ne_bytes());
    put(&0_u64.to_ne_bytes());
    put(&15_000_u32.to_ne_bytes());
    put(&(ClockStatus::Synchronized as i32).to_ne_bytes());
    put(&[0, shift, 0, 0, 0, 0, 0, 0]);
    page
}

fn main() {
    pin();
    let Some(ours) = on_the_counter(record()) else {
        eprintln!("read.clock_bound: skipped, there is no counter above 1 GHz here");
        return;
    };
    let ours = attach(&ours);
    let path = std::env::temp_dir().join(format!("clock_bound_bench_{}", std::process::id()));
    std::fs::write(&path, their_page(ticks_per_second().unwrap())).unwrap();
    let theirs = Client::new_with_path(path.to_str().unwrap());
    std::fs::remove_file(&path).unwrap();
    let mut theirs = theirs.unwrap();
    let window = theirs.now().unwrap();
    assert_eq!(window.clock_status, ClockStatus::Synchronized);
    let apart =
        os_clock::realtime().as_ns() - (window.earliest.tv_sec() * 1_000_000_000 + window.earliest.tv_nsec());
    assert!(apart.abs() < 1_000_000_000, "its clock is {apart} ns off");

    compare("read.clock_bound", THEIRS, || consume(ours.now()), || consume(theirs.now()));
    compare("read.clock_bound_fenced", THEIRS, || consume(ours.now_fenced()), || consume(theirs.now()));
    let vdso = attach(&record());
    compare("read.clock_bound_vdso", THEIRS, || consume(vdso.now()), || consume(theirs.now()));
}
