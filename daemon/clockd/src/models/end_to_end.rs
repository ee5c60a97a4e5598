//! The example in Python, the thread that asks it, the desk and the discipline, together.

use crate::models::desk::Desk;
use crate::models::history::Observation;
use crate::models::settings::{ModelSpec, Place};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Config, Discipline, Leap, Measurement};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example, listening at `socket`; `None` without Python.
fn example(socket: &Path) -> Option<Program> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/rate_model.py");
    let started = Command::new("python3").arg(script).arg(socket).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        println!("skipped: the example model in Python: no python3 here");
        return None;
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line:?}");
    Some(Program(child))
}

const TRUE_RATE: f64 = 20e-6;

/// What one good server says `s` seconds after the boot, of a clock that is slow by 20 ppm.
fn measurement(s: i64) -> Measurement {
    let at = MonoTime::from_ns(0) + Span::from_secs(s);
    Measurement {
        source: 0,
        at,
        theta: Span::from_ns(1_790_000_000_000_000_000 + (s as f64 * TRUE_RATE * 1e9) as i64),
        delay: Span::from_us(100 + s % 7),
        round_trip: Span::from_us(120),
        root_delay: Span::ZERO,
        root_dispersion: Span::from_us(10),
        precision: Span::from_us(1),
        stratum: 1,
        leap: Leap::None,
        poll_interval: Span::from_secs(8),
        authenticated: false,
    }
}

#[test]
fn the_example_in_python_forecasts_for_the_discipline_and_its_death_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("model.sock");
    let Some(program) = example(&socket) else { return };
    let specs = [ModelSpec { name: "example".into(), place: Place::Process(socket) }];
    let (mut desk, mut runners) = Desk::new(&specs, Span::from_secs(30));
    let mut discipline = Discipline::new(Config { external_models: 1, ..Config::default() }, 1);
    let mut runner = runners.remove(0);
    let mut step = |now: MonoTime, desk: &mut Desk, discipline: &mut Discipline| {
        runner.step(now);
        for (i, forecast) in desk.collect(now, 0) {
            discipline.forecast(i, forecast);
        }
        desk.status(now, |i| discipline.model_report(i)).remove(0)
    };
    let mut now = MonoTime::from_ns(0);
    for s in (1_000..2_000).step_by(8) {
        let m = measurement(s);
        now = m.at;
        discipline.measure(now, m);
        let Some(c) = discipline.correction(now).filter(|c| c.is_warm) else { continue };
        desk.note(Observation {
            at: now,
            rate: c.rate,
            sigma: c.rate_sigma,
            temperature_c: None,
            load: Some(0.1),
        });
        if s < 1_080 {
            // Too little to go by.
            assert_eq!(step(now, &mut desk, &mut discipline).state, "silent", "{s}");
        }
    }
    let status = step(now, &mut desk, &mut discipline);
    assert_eq!((status.state.as_str(), &status.last_error), ("active", &None));
    assert!((status.rate_ppb.unwrap() - TRUE_RATE * 1e9).abs() < 200.0, "{status:?}");
    assert!((20.0..500.0).contains(&status.sigma_ppb.unwrap()), "{status:?}");
    let with_model = discipline.correction(now + Span::from_secs(600)).unwrap();

    drop(program);
    let later = now + Span::from_secs(30);
    let status = step(later, &mut desk, &mut discipline);
    assert_eq!((status.state.as_str(), status.rate_ppb), ("failed", None));
    assert!(status.last_error.unwrap().contains("is it running?"));
    assert_eq!(discipline.model_report(0), None);
    let without = discipline.correction(now + Span::from_secs(600)).unwrap();
    assert!(with_model.max_error >= without.max_error);
}

/// The same way for the example in ONNX.
#[cfg(feature = "onnx")]
#[test]
fn the_example_in_onnx_forecasts_for_the_discipline() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/rate_mean.onnx");
    let specs = [ModelSpec { name: "example".into(), place: Place::Onnx(file) }];
    specs[0].check().unwrap();
    let (mut desk, mut runners) = Desk::new(&specs, Span::from_secs(30));
    let mut discipline = Discipline::new(Config { external_models: 1, ..Config::default() }, 1);
    let now = MonoTime::from_ns(2_000_000_000_000);
    for s in (0..1_000).step_by(10) {
        let at = MonoTime::from_ns(0) + Span::from_secs(s);
        desk.note(Observation { at, rate: TRUE_RATE, sigma: 1e-8, temperature_c: Some(40.0), load: None });
    }
    runners[0].step(now);
    for (i, forecast) in desk.collect(now, 0) {
        discipline.forecast(i, forecast);
    }
    let report = discipline.model_report(0).unwrap();
    assert!((report.claimed.rate - TRUE_RATE).abs() < 1e-12, "{report:?}");
    assert!((report.claimed.sigma - 20e-9).abs() < 1e-12, "{report:?}");
}
