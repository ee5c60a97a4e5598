//! Measures a reading against the plain clock call of the operating system; `cargo xtask bench read` shows the figures.
#![allow(missing_docs, clippy::unwrap_used)]

mod harness;

use chronotick::counter;
use chronotick_core::page::{PageCell, PageWriter};
use harness::{attach, compare, consume, on_the_counter, pin, record};
use std::hint::black_box;

fn main() {
    pin();
    let record = record();
    let vdso = attach(&record);
    compare("read.rust.vdso", REALTIME, || consume(vdso.now()), realtime);
    compare("read.rust.vdso_sigma", REALTIME, || consume(vdso.now().map(|r| (r, r.sigma()))), realtime);
    if let Some(record) = on_the_counter(record) {
        let client = attach(&record);
        compare("read.rust.counter", REALTIME, || consume(client.now()), realtime);
        compare("read.rust.counter_fenced", REALTIME, || consume(client.now_fenced()), realtime);
        compare("read.rust.counter_ns", REALTIME, || consume(client.now_ns()), realtime);
        let tick = || {
            black_box(counter::read());
        };
        compare("read.rust.counter_floor", REALTIME, tick, realtime);
    } else {
        eprintln!("read.rust.counter: skipped, there is no counter above 1 GHz here");
    }
    compare("read.rust.snapshot", REALTIME, || consume(vdso.snapshot()), realtime);
    let cell = PageCell::default();
    let (mut writer, _) = PageWriter::new(&cell);
    compare("write.rust", REALTIME, || writer.publish(black_box(&record)), realtime);
}

const REALTIME: &str = "clock_gettime(CLOCK_REALTIME)";

/// The baseline: the bare call. Its two numbers are taken one by one: as a pair they would be copied by a load wider
/// than the stores before it, which stalls and would flatter every ratio.
fn realtime() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    black_box(now.tv_sec);
    black_box(now.tv_nsec);
}
