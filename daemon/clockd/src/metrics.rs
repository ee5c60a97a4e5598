//! The status in the text format of Prometheus. Units are seconds; rates are seconds per second.

use crate::models::desk::{ModelStatus, STATES as MODEL_STATES};
use crate::status::Answer;
use std::fmt::Write as _;

/// Statuses of a reading, each a series.
const STATUSES: [&str; 7] =
    ["synchronized", "warming_up", "holdover", "disrupted", "expired", "legacy", "no_data"];
/// States of a source, each a series.
const SOURCE_STATES: [&str; 6] =
    ["selected", "candidate", "falseticker", "unreachable", "no_answer", "stopped"];

/// The whole page of metrics.
pub(crate) fn text(answer: &Answer) -> String {
    let mut out = Exposition::default();
    let info = [("version", env!("CARGO_PKG_VERSION")), ("anchor", answer.anchor), ("model", answer.model)];
    out.gauge("info", "What the daemon is and what it publishes from; always 1.").with(&info, Some(1.0));
    {
        let mut status = out.gauge("status", "1 for the status that readers get, else 0.");
        for word in STATUSES {
            status.with(&[("status", word)], Some(f64::from(answer.status == word)));
        }
    }
    let simple: [(&str, &str, Option<f64>); 21] = [
        ("offset_seconds", "Corrected time minus the system clock.", answer.offset_seconds),
        ("max_error_seconds", "Hard bound on the error of corrected time.", answer.max_error_seconds),
        ("sigma_seconds", "One standard deviation of corrected time.", answer.sigma_seconds),
        (
            "rate_ratio",
            "Rate of corrected time against the local clock, minus one.",
            answer.rate_ppm.map(|r| r * 1e-6),
        ),
        ("rate_sigma_ratio", "One standard deviation of the rate.", answer.rate_sigma_ppm.map(|r| r * 1e-6)),
        ("confidence_ratio", "0 to 1.", Some(f64::from(answer.confidence))),
        (
            "last_sync_timestamp_seconds",
            "When the correction was updated last, in corrected time.",
            answer.last_sync_unix_seconds,
        ),
        ("uptime_seconds", "Since the daemon started.", Some(answer.daemon_uptime_seconds)),
        (
            "publish_latency_seconds",
            "Mean time from due to published.",
            Some(f64::from(answer.average_latency_ms) / 1e3),
        ),
        (
            "authenticated",
            "1 when every source in use is authenticated.",
            Some(f64::from(answer.authenticated)),
        ),
        ("models_ready", "1 when the models of the clock are in use.", Some(f64::from(answer.models_ready))),
        (
            "system_clock_stepped",
            "1 for a second after a step of the system clock.",
            Some(f64::from(answer.stepped)),
        ),
        (
            "last_offset_seconds",
            "How far the last update moved corrected time.",
            answer.tracking.as_ref().and_then(|t| t.last_offset_seconds),
        ),
        (
            "rms_offset_seconds",
            "The same over the last updates, root of the mean square.",
            answer.tracking.as_ref().and_then(|t| t.rms_offset_seconds),
        ),
        (
            "root_delay_seconds",
            "Round trip to the reference clock.",
            answer.tracking.as_ref().and_then(|t| t.root_delay_seconds),
        ),
        (
            "root_dispersion_seconds",
            "The bound without half of that round trip.",
            answer.tracking.as_ref().and_then(|t| t.root_dispersion_seconds),
        ),
        (
            "update_interval_seconds",
            "Between the last two updates.",
            answer.tracking.as_ref().and_then(|t| t.update_interval_seconds),
        ),
        (
            "stratum",
            "Steps from the reference clock.",
            answer.tracking.as_ref().and_then(|t| t.stratum).map(f64::from),
        ),
        (
            "publish_rate_hertz",
            "Pages published in a second, as configured.",
            answer.publish_rate_hz.map(f64::from),
        ),
        (
            "temperature_celsius",
            "The hottest thermometer of the machine.",
            answer.environment.and_then(|e| e.temperature_celsius),
        ),
        (
            "load",
            "Mean number of runnable tasks over the last minute.",
            answer.environment.and_then(|e| e.load),
        ),
    ];
    for (name, help, value) in simple {
        out.gauge(name, help).with(&[], value);
    }
    let counters: [(&str, &str, Option<u32>); 4] = [
        ("measurements_total", "Accepted measurements of all sources.", Some(answer.measurement_count)),
        ("pages_published_total", "Pages with a correction.", Some(answer.pages_published)),
        (
            "disruptions_total",
            "Disruptions of the local clock, as on the page: wraps at 256.",
            Some(answer.disruption_count.into()),
        ),
        ("system_clock_steps_total", "Steps of the system clock.", answer.step_count),
    ];
    for (name, help, value) in counters {
        out.family(name, "counter", help).with(&[], value.map(f64::from));
    }
    sources(&mut out, answer);
    models(&mut out, answer);
    out.text
}

fn models(out: &mut Exposition, answer: &Answer) {
    {
        let mut state = out.gauge("model_state", "1 for the state of the model, else 0.");
        for m in &answer.models {
            for word in MODEL_STATES {
                state.with(&[("model", &m.name), ("state", word)], Some(f64::from(m.state == word)));
            }
        }
    }
    type Value = fn(&ModelStatus) -> Option<f64>;
    let families: [(&str, &str, &str, Value); 5] = [
        ("model_rate_ratio", "gauge", "The rate that it forecasts.", |m| m.rate_ppb.map(|r| r * 1e-9)),
        ("model_sigma_ratio", "gauge", "One standard deviation of that, as it claims.", |m| {
            m.sigma_ppb.map(|s| s * 1e-9)
        }),
        ("model_calibrated_sigma_ratio", "gauge", "The same after what it has been off until now.", |m| {
            m.calibrated_sigma_ppb.map(|s| s * 1e-9)
        }),
        ("model_answers_total", "counter", "Answers of the model.", |m| Some(m.answers as f64)),
        ("model_failures_total", "counter", "Times that it failed, answered nonsense or was late.", |m| {
            Some(m.failures as f64)
        }),
    ];
    for (name, kind, help, value) in families {
        let mut family = out.family(name, kind, help);
        for m in &answer.models {
            family.with(&[("model", &m.name)], value(m));
        }
    }
}

fn sources(out: &mut Exposition, answer: &Answer) {
    {
        let mut state = out.gauge("source_state", "1 for the state of the source, else 0.");
        for s in &answer.servers {
            for word in SOURCE_STATES {
                state.with(&[("source", &s.address), ("state", word)], Some(f64::from(s.state == word)));
            }
        }
    }
    type Value = fn(&crate::status_file::ServerStatus) -> Option<f64>;
    let families: [(&str, &str, Value); 10] = [
        ("source_offset_seconds", "The source's time minus the system clock.", |s| s.offset_seconds),
        ("source_residual_seconds", "The newest sample minus corrected time.", |s| {
            s.last_sample_residual_seconds
        }),
        ("source_delay_seconds", "Round trip of the newest sample.", |s| s.delay_seconds),
        ("source_root_distance_seconds", "How far the source's time may be wrong.", |s| {
            s.root_distance_seconds
        }),
        ("source_stratum", "Steps from the reference clock.", |s| s.stratum.map(f64::from)),
        ("source_reach_ratio", "Answered of the last eight requests.", |s| {
            Some(f64::from(s.reach.count_ones()) / 8.0)
        }),
        ("source_poll_interval_seconds", "To the next request.", |s| Some(s.poll_interval_seconds)),
        ("source_last_sample_age_seconds", "Since the newest sample.", |s| s.last_sample_seconds_ago),
        ("source_samples", "Samples in the fit.", |s| Some(s.samples as f64)),
        ("source_authenticated", "1 when its answers are proven to be its own, as under NTS.", |s| {
            Some(f64::from(s.authenticated))
        }),
    ];
    for (name, help, value) in families {
        let mut family = out.gauge(name, help);
        for s in &answer.servers {
            family.with(&[("source", &s.address)], value(s));
        }
    }
    let help = "Requests, answers, and packets that were ignored, by what became of them.";
    let mut events = out.family("source_events_total", "counter", help);
    for s in &answer.servers {
        for (event, count) in s.counters.each() {
            events.with(&[("source", &s.address), ("event", event)], Some(count as f64));
        }
    }
}

#[derive(Default)]
struct Exposition {
    text: String,
}

/// One metric; its head is written with its first value.
struct Family<'a> {
    text: &'a mut String,
    head: Option<String>,
    name: String,
}

impl Exposition {
    fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        let name = format!("chronotick_{name}");
        let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.text, head: Some(head), name }
    }
}

impl Family<'_> {
    /// A value that is not known has no line.
    fn with(&mut self, labels: &[(&str, &str)], value: Option<f64>) {
        let Some(value) = value else { return };
        if let Some(head) = self.head.take() {
            self.text.push_str(&head);
        }
        self.text.push_str(&self.name);
        for (i, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::status_file::{ServerStatus, StatusFile};
    use crate::tracking::Tracking;
    use chronotick_core::page::Record;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    /// Series with their values. Panics where the text is not what `promtool check metrics` accepts: each family has
    /// its HELP and TYPE once and its lines together, names and labels have the right letters, no series is twice,
    /// counters end in `_total`, and names carry no unit that is no base unit.
    pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
        let mut series = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut current = (String::new(), String::new());
        assert!(text.ends_with('\n'));
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty() && families.insert(name.to_owned()), "{line}");
                let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
                assert!(matches!(kind, "gauge" | "counter"), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(name.chars().all(is_name), "{name}");
                for unit in ["_ms", "_us", "_ns", "_ppm", "milliseconds", "percent"] {
                    assert!(!name.ends_with(unit), "{name}");
                }
                assert!(lines.peek().is_some_and(|l| l.starts_with(name)), "{name} has no value");
                current = (name.to_owned(), kind.to_owned());
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match key.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (key, ""),
            };
            assert_eq!(name, current.0, "a line outside its family");
            check_labels(labels);
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite(), "{line}");
            assert!(series.insert(key.to_owned(), value).is_none(), "twice: {key}");
        }
        series
    }

    fn check_labels(mut labels: &str) {
        while !labels.is_empty() {
            let (name, rest) = labels.split_once("=\"").unwrap();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            let mut end = None;
            let mut escaped = false;
            for (i, c) in rest.char_indices() {
                match c {
                    _ if escaped => {
                        assert!(matches!(c, '\\' | '"' | 'n'));
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = Some(i);
                        break;
                    }
                    _ => {}
                }
            }
            labels = &rest[end.unwrap() + 1..];
            labels = labels.strip_prefix(',').unwrap_or(labels);
        }
    }

    #[test]
    fn the_page_and_its_sources_become_series() {
        let source = |name: &str, state: &str| ServerStatus {
            address: name.into(),
            state: state.into(),
            offset_seconds: Some(0.02),
            stratum: Some(2),
            reach: 0b1011_0000,
            poll_interval_seconds: 8.0,
            ..ServerStatus::default()
        };
        let mut first = source("a:123", "selected");
        first.counters.bogus_origin = 7;
        first.authenticated = true;
        let file = StatusFile {
            servers: vec![first, source("[::1]:123", "no_answer")],
            tracking: Tracking { stratum: Some(3), ..Tracking::default() },
            steps: 4,
            environment: Environment { temperature_celsius: Some(41.5), load: None },
            models: vec![ModelStatus {
                name: "m".into(),
                state: "active".into(),
                rate_ppb: Some(500.0),
                failures: 3,
                ..ModelStatus::default()
            }],
            ..StatusFile::default()
        };
        let record = Record { sequence: 2, confidence: 0.25, measurement_count: 12, ..Record::default() };
        let reading = record.read_at(chronotick_core::Span::ZERO);
        let answer = Answer::new(Path::new("/p"), &record, &reading, Some(file), true);
        let series = parse(&text(&answer));
        for (key, value) in [
            ("chronotick_status{status=\"no_data\"}", 1.0),
            ("chronotick_status{status=\"synchronized\"}", 0.0),
            ("chronotick_confidence_ratio", 0.25),
            ("chronotick_measurements_total", 12.0),
            ("chronotick_system_clock_steps_total", 4.0),
            ("chronotick_stratum", 3.0),
            ("chronotick_source_reach_ratio{source=\"a:123\"}", 0.375),
            ("chronotick_source_state{source=\"a:123\",state=\"selected\"}", 1.0),
            ("chronotick_source_state{source=\"[::1]:123\",state=\"selected\"}", 0.0),
            ("chronotick_source_offset_seconds{source=\"[::1]:123\"}", 0.02),
            ("chronotick_source_authenticated{source=\"a:123\"}", 1.0),
            ("chronotick_source_authenticated{source=\"[::1]:123\"}", 0.0),
            ("chronotick_temperature_celsius", 41.5),
            ("chronotick_model_state{model=\"m\",state=\"active\"}", 1.0),
            ("chronotick_model_state{model=\"m\",state=\"late\"}", 0.0),
            ("chronotick_model_rate_ratio{model=\"m\"}", 500.0 * 1e-9),
            ("chronotick_model_failures_total{model=\"m\"}", 3.0),
            ("chronotick_source_events_total{source=\"a:123\",event=\"bogus_origin\"}", 7.0),
            ("chronotick_source_events_total{source=\"[::1]:123\",event=\"sent\"}", 0.0),
        ] {
            assert_eq!(series.get(key), Some(&value), "{key}");
        }
        // Without a correction these would be lies.
        assert!(!series.contains_key("chronotick_max_error_seconds"));
        assert!(!series.contains_key("chronotick_offset_seconds"));
        assert!(!series.contains_key("chronotick_load"));
    }

    #[test]
    fn labels_are_escaped_and_unknown_values_left_out() {
        let mut out = Exposition::default();
        let mut family = out.gauge("odd", "Odd labels.");
        family.with(&[("source", "a\"b\\c\nd"), ("state", "")], Some(1.5));
        family.with(&[("source", "e")], None);
        out.gauge("nothing", "Has no value.").with(&[], None);
        let series = parse(&out.text);
        assert_eq!(
            series.into_iter().collect::<Vec<_>>(),
            [("chronotick_odd{source=\"a\\\"b\\\\c\\nd\",state=\"\"}".to_owned(), 1.5)]
        );
    }
}
