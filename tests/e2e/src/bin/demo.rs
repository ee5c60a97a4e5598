//! `make demo`: the whole thread on this machine, told line by line.
//!
//! An NTP server of ours that lies by a known offset and rate, the corrected time converging on the lie, a timer, `kill
//! -9`, a restart, and the webhook on time, once. Ends with 1 when any step is not as said.
#![forbid(unsafe_code)]

use chronotick::os_clock::{boottime, realtime};
use chronotick::{Client, Span, Status, Timestamp};
use e2e::http::unix_ns;
use e2e::{ClockDaemon, Http, LiarConfig, NtpLiar, TimerService, WebhookSink, pause};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const LIE_MS: i64 = 250;
const LIE_PPM: i64 = 40;
/// The bound at which the demo calls the clock good enough to go on.
const GOOD_BOUND: Span = Span::from_ms(5);
/// So long may the clock take for that.
const CONVERGE_WITHIN: Span = Span::from_secs(25);
const TIMER_AFTER: &str = "6s";
/// How late the webhook may be, in a demo on a busy machine.
const ON_TIME: Span = Span::from_secs(1);

/// Why the demo is not as said.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let outcome = tempfile::tempdir().map_err(Failure::from).and_then(|dir| demo(dir.path()));
    match outcome {
        Ok(()) => {
            println!("\nDemo: all as said. Everything is stopped and removed.");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("\nDemo: NOT as said: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn demo(directory: &Path) -> Result<(), Failure> {
    step(
        1,
        &format!("An NTP server of ours, whose clock is {LIE_MS} ms ahead and gains {LIE_PPM} ppm more."),
    );
    let liar = NtpLiar::start(LiarConfig {
        offset_ns: LIE_MS * 1_000_000,
        rate_ppb: LIE_PPM * 1_000,
        ..LiarConfig::default()
    })?;
    println!("   It listens on {}. To a clock daemon, its time is the true time.", liar.address());

    step(2, "The clock daemon, which asks it once a second and never touches the system clock.");
    let daemon = ClockDaemon::start(directory, &[liar.address()], "");
    println!("   {}", daemon.ready_line.trim_end());
    let client = daemon.client();
    converge(&client, &liar)?;

    step(3, "The timer service, on that clock page.");
    let data = directory.join("data");
    let service = TimerService::start(&data, daemon.page());
    println!("   {}", service.ready_line.trim_end());
    let clock = service.http().get("/v1/status").body["clock"].clone();
    expect(clock["source"] == "page", || format!("the timer service does not use the page: {clock}"))?;

    step(4, &format!("A timer {TIMER_AFTER} ahead, with a webhook to a receiver of ours."));
    let sink = WebhookSink::start()?;
    let created = service.http().create(&json!({
        "name": "tea",
        "after": TIMER_AFTER,
        "actions": [{"id": "call", "kind": "webhook", "parameters": {"url": sink.url()}}],
    }));
    expect(created.status == 201, || format!("the create was answered {created:?}"))?;
    let (id, due_ns) = (created.text("id"), unix_ns(&created.body["due_at"]));
    println!("   Acknowledged, so it is on disk: timer {id}, due at {}.", created.text("due_at"));

    step(5, "kill -9 of the timer service, and two seconds of nothing.");
    let pid = service.pid();
    println!("   Process {pid}: {}.", service.kill());
    pause(Duration::from_secs(2));
    expect(sink.deliveries().is_empty(), || "the webhook came before its time".to_owned())?;

    step(6, "The timer service again, on the same data.");
    let service = TimerService::start(&data, daemon.page());
    println!("   Process {}: {}", service.pid(), service.ready_line.trim_end());
    let left = Span::from_ns(due_ns) - Span::from_ns(client.now()?.corrected.as_ns());
    println!("   The timer is due in {}.", ms(left));

    step(7, "The webhook.");
    let deliveries = sink.wait_for(1);
    let delivery = deliveries.first().ok_or("the webhook did not arrive within a minute")?;
    println!("   Arrived, idempotency key {}.", delivery.key);
    report_lateness(&client, &liar, delivery.arrived, due_ns)?;
    expect(delivery.key == format!("{id}:{due_ns}/call"), || format!("its key is {}", delivery.key))?;
    // Long enough for a second one, were there any: the first retry would come after half a second.
    pause(Duration::from_millis(1500));
    let count = sink.deliveries().len();
    println!("   Deliveries: {count}.");
    expect(count == 1, || format!("the webhook came {count} times"))?;

    step(8, "What the event log says of it.");
    show_events(&service.http(), id)
}

/// Prints how the correction nears the lie, until its bound is small.
fn converge(client: &Client, liar: &NtpLiar) -> Result<(), Failure> {
    println!("   corrected minus system      the lie itself      error         bound         status");
    let give_up = boottime() + CONVERGE_WITHIN;
    loop {
        let reading = client.now()?;
        let system = realtime();
        let lie = liar.true_time(system) - system;
        let found = reading.corrected - reading.system;
        let error = (found - lie).abs();
        if reading.bound.is_unbounded() {
            println!(
                "   {:>22}      {:>12}      {:>8}      {:>8}      {}",
                "-",
                ms(lie),
                "-",
                "-",
                reading.status
            );
        } else {
            let bound = reading.max_error();
            println!(
                "   {:>22}      {:>12}      {:>8}      {:>8}      {}",
                ms(found),
                ms(lie),
                ms(error),
                ms(bound),
                reading.status
            );
            // The two clock readings above are a moment apart; the bound is of the reading, not of that.
            expect(error <= bound + Span::from_ms(1), || {
                format!("off by {}, beyond its bound {}", ms(error), ms(bound))
            })?;
            if reading.status == Status::Synchronized && bound < GOOD_BOUND {
                return Ok(());
            }
        }
        expect(boottime() < give_up, || {
            format!("no bound under {} within {CONVERGE_WITHIN}", ms(GOOD_BOUND))
        })?;
        pause(Duration::from_millis(1000));
    }
}

/// How late the webhook came, on corrected time and by the clock of the lying server.
fn report_lateness(client: &Client, liar: &NtpLiar, arrived: Timestamp, due_ns: i64) -> Result<(), Failure> {
    let reading = client.now()?;
    let due = Timestamp::from_ns(due_ns);
    let corrected = arrived + (reading.corrected - reading.system) - due;
    let by_the_lie = liar.true_time(arrived) - due;
    println!(
        "   On corrected time it came {} after it was due (bound of the clock: {}),",
        ms(corrected),
        ms(reading.max_error())
    );
    println!(
        "   by the clock of the NTP server {} after. The system clock is {} behind.",
        ms(by_the_lie),
        ms(reading.corrected - reading.system)
    );
    let early = Span::ZERO - reading.max_error();
    expect((early..ON_TIME).contains(&corrected), || {
        format!("that is not on time (from {} to {})", ms(early), ms(ON_TIME))
    })
}

/// The log holds the timer's schedule, one fire, and one end.
fn show_events(http: &Http, id: &str) -> Result<(), Failure> {
    let last =
        http.get("/v1/status").body["last_sequence"].as_u64().ok_or("the status has no last_sequence")?;
    let events: Vec<Value> = http.events(last).into_iter().filter(|e| e["timer_id"] == id).collect();
    for event in &events {
        println!("   {event}");
    }
    let kinds: Vec<&str> = events.iter().filter_map(|e| e["type"].as_str()).collect();
    let wanted = ["timer.scheduled", "timer.fired", "timer.completed"];
    expect(kinds == wanted, || format!("the log should say {wanted:?}"))?;
    println!("   Fired once, though the process that accepted the timer was killed.");
    Ok(())
}

fn step(number: u32, what: &str) {
    println!("\n{number}. {what}");
}

fn expect(held: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if held { Ok(()) } else { Err(otherwise().into()) }
}

fn ms(span: Span) -> String {
    format!("{:.3} ms", span.as_secs_f64() * 1e3)
}
