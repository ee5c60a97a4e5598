//! The verbs `sources` and `tracking`: the status in the terms, and with the signs, of chronyc.

use crate::cli::{SourcesArgs, StatusArgs};
use crate::status::{Answer, ask};
use crate::status_file::ServerStatus;
use crate::tracking::Tracking;
use crate::utc::rfc3339;
use chronotick_core::{Span, Timestamp};
use serde::Serialize;
use std::fmt::Write as _;

/// Prints the sources; true when a daemon runs. The error is for the user.
pub(crate) fn sources(args: &SourcesArgs) -> Result<bool, String> {
    let answer = ask(args.status.shm.as_deref())?;
    print(&args.status, &answer.servers, || sources_table(&answer.servers, args.verbose))?;
    Ok(answer.running)
}

/// Prints how corrected time follows them; true when a daemon runs. The error is for the user.
pub(crate) fn tracking(args: &StatusArgs) -> Result<bool, String> {
    let answer = ask(args.shm.as_deref())?;
    print(args, &TrackingAnswer::of(&answer), || tracking_table(&answer))?;
    Ok(answer.running)
}

fn print(args: &StatusArgs, json: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), String> {
    let text =
        if args.json { serde_json::to_string_pretty(json).map_err(|e| e.to_string())? } else { table() };
    println!("{}", text.trim_end());
    Ok(())
}

/// `tracking --json`. Names are only ever added.
#[derive(Serialize)]
struct TrackingAnswer<'a> {
    status: &'static str,
    running: bool,
    offset_seconds: Option<f64>,
    sigma_seconds: Option<f64>,
    max_error_seconds: Option<f64>,
    confidence: f32,
    model: &'static str,
    authenticated: bool,
    disruption_count: u8,
    stepped: bool,
    #[serde(flatten)]
    tracking: Option<&'a Tracking>,
}

impl<'a> TrackingAnswer<'a> {
    fn of(answer: &'a Answer) -> Self {
        Self {
            status: answer.status,
            running: answer.running,
            offset_seconds: answer.offset_seconds,
            sigma_seconds: answer.sigma_seconds,
            max_error_seconds: answer.max_error_seconds,
            confidence: answer.confidence,
            model: answer.model,
            authenticated: answer.authenticated,
            disruption_count: answer.disruption_count,
            stepped: answer.stepped,
            tracking: answer.tracking.as_ref(),
        }
    }
}

fn sources_table(servers: &[ServerStatus], is_verbose: bool) -> String {
    let mut out = String::from(
        "MS Name/IP address          Stratum Poll Reach LastRx   Last sample\n\
         ===================================================================================\n",
    );
    for s in servers {
        let mode = match s.mode.as_str() {
            "kernel" | "phc" | "chrony" => '#',
            _ => '^',
        };
        let sample = match (s.last_sample_offset_seconds, s.last_sample_error_seconds) {
            (Some(offset), Some(error)) => {
                let adjusted = s.last_sample_residual_seconds.unwrap_or(offset);
                // As chronyc has it, an offset is of our clock from the server's: more than zero is ahead.
                format!("{:>8}[{:>8}] +/- {}", signed(-adjusted), signed(-offset), span(error))
            }
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            out,
            "{mode}{} {:<25} {:>6} {:>4} {:>5o} {:>6}   {sample}",
            s.mark,
            s.address,
            s.stratum.map_or("-".to_owned(), |n| n.to_string()),
            (s.poll_interval_seconds.max(0.001).log2().round()) as i64,
            s.reach,
            s.last_sample_seconds_ago.map_or("-".to_owned(), age),
        );
        if let Some(e) = &s.last_error {
            let _ = writeln!(out, "   {e}");
        }
        if is_verbose {
            let _ = writeln!(out, "   {}", details(s));
        }
    }
    out
}

/// The line under a source: counters that are zero are left out, but for the first three.
fn details(s: &ServerStatus) -> String {
    let mut out = s.mode.clone();
    if let Some(address) = s.resolved.as_ref().filter(|r| **r != s.address) {
        let _ = write!(out, " at {address}");
    }
    if s.authenticated {
        out += ", authenticated";
    }
    let counted = s.counters.each().into_iter().enumerate().filter(|&(i, (_, count))| i < 3 || count > 0);
    for (i, (what, count)) in counted {
        let _ = write!(out, "{} {} {count}", if i == 0 { ':' } else { ',' }, what.replace('_', " "));
    }
    out
}

fn tracking_table(answer: &Answer) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<16}: {value}");
    };
    let unknown = Tracking::default();
    let t = answer.tracking.as_ref().unwrap_or(&unknown);
    let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |s| format!("{s:.9} seconds"));
    let signed_seconds = |value: Option<f64>| value.map_or("-".to_owned(), |s| format!("{s:+.9} seconds"));
    line("Reference ID", t.reference.clone().unwrap_or_else(|| "-".to_owned()));
    line("Stratum", t.stratum.map_or("-".to_owned(), |n| n.to_string()));
    line(
        "Ref time (UTC)",
        t.last_update_unix_seconds
            .map_or("-".to_owned(), |s| rfc3339(Timestamp::EPOCH + Span::from_secs_f64(s))),
    );
    line(
        "System time",
        answer.offset_seconds.map_or("-".to_owned(), |s| {
            format!("{:.9} seconds {} of corrected time", s.abs(), if s < 0.0 { "fast" } else { "slow" })
        }),
    );
    line("Last offset", signed_seconds(t.last_offset_seconds));
    line("RMS offset", seconds(t.rms_offset_seconds));
    line(
        "Frequency",
        t.frequency_ppm.map_or("-".to_owned(), |f| {
            format!("{:.3} ppm {}", f.abs(), if f < 0.0 { "fast" } else { "slow" })
        }),
    );
    let ppm = |value: Option<f64>| value.map_or("-".to_owned(), |f| format!("{f:+.3} ppm"));
    line("Residual freq", ppm(t.residual_frequency_ppm));
    line("Skew", t.skew_ppm.map_or("-".to_owned(), |f| format!("{f:.3} ppm")));
    line("Root delay", seconds(t.root_delay_seconds));
    line("Root dispersion", seconds(t.root_dispersion_seconds));
    line("Update interval", t.update_interval_seconds.map_or("-".to_owned(), |s| format!("{s:.1} seconds")));
    line(
        "Leap status",
        match t.leap.as_str() {
            "normal" => "Normal",
            "insert" => "Insert second",
            "delete" => "Delete second",
            _ => "Not synchronised",
        }
        .to_owned(),
    );
    line("State", answer.status.to_owned());
    line("Bound", seconds(answer.max_error_seconds));
    line("Sigma", seconds(answer.sigma_seconds));
    line("Confidence", format!("{:.2}", answer.confidence));
    line("Model", answer.model.to_owned());
    line("Authenticated", if answer.authenticated { "yes" } else { "no" }.to_owned());
    line("Disruptions", answer.disruption_count.to_string());
    out
}

/// `+123us`, as chronyc abbreviates it.
fn signed(seconds: f64) -> String {
    format!("{}{}", if seconds < 0.0 { '-' } else { '+' }, span(seconds.abs()))
}

fn span(seconds: f64) -> String {
    let ns = seconds.abs() * 1e9;
    let (value, unit) = match ns {
        n if n < 9_999.5 => (n, "ns"),
        n if n < 9_999.5e3 => (n / 1e3, "us"),
        n if n < 9_999.5e6 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    format!("{value:.0}{unit}")
}

/// Seconds, then minutes, hours and days.
fn age(seconds: f64) -> String {
    match seconds {
        s if s < 1000.0 => format!("{s:.0}"),
        s if s < 60_000.0 => format!("{:.0}m", s / 60.0),
        s if s < 3_600_000.0 => format!("{:.0}h", s / 3_600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SourceCounters;

    #[test]
    fn a_source_is_one_line_in_the_terms_of_chronyc() {
        let server = ServerStatus {
            address: "time.example.org".into(),
            stratum: Some(2),
            reach: 0b1111_1111,
            poll_interval_seconds: 64.0,
            mode: "server".into(),
            mark: "*".into(),
            last_sample_seconds_ago: Some(31.4),
            last_sample_offset_seconds: Some(0.0261),
            last_sample_residual_seconds: Some(-12.4e-6),
            last_sample_error_seconds: Some(0.000_85),
            ..ServerStatus::default()
        };
        let dead = ServerStatus {
            address: "b".into(),
            poll_interval_seconds: 4.0,
            mark: "?".into(),
            last_error: Some("b: no answer".into()),
            ..ServerStatus::default()
        };
        let local = ServerStatus {
            address: "kernel".into(),
            mode: "kernel".into(),
            mark: "-".into(),
            ..dead.clone()
        };
        let table = sources_table(&[server, dead, local], false);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines[0],
            "^* time.example.org               2    6   377     31      +12us[   -26ms] +/- 850us"
        );
        assert_eq!(lines[1], "^? b                              -    2     0      -   -");
        assert_eq!(lines[2], "   b: no answer");
        assert!(lines[3].starts_with("#- kernel "), "{table}");
    }

    #[test]
    fn details_tell_what_became_of_the_packets() {
        let counters = SourceCounters {
            sent: 9,
            received: 11,
            accepted: 8,
            bogus_origin: 2,
            bogus_unique_id: 1,
            key_exchanges: 1,
            ..SourceCounters::default()
        };
        let server = ServerStatus {
            address: "a".into(),
            resolved: Some("192.0.2.1:123".into()),
            mode: "nts".into(),
            authenticated: true,
            counters,
            ..ServerStatus::default()
        };
        assert_eq!(
            sources_table(&[server], true).lines().nth(3),
            Some(
                "   nts at 192.0.2.1:123, authenticated: sent 9, received 11, accepted 8, \
                 bogus origin 2, bogus unique id 1, key exchanges 1"
            )
        );
    }

    #[test]
    fn times_are_abbreviated() {
        let check = |s: f64, want: &str| assert_eq!(signed(s), want);
        check(1e-9, "+1ns");
        check(-9_999.4e-9, "-9999ns");
        check(10e-6, "+10us");
        check(0.5, "+500ms");
        check(-86_400.0, "-86400s");
        assert_eq!([age(999.0), age(1200.0), age(86_400.0), age(1e7)], ["999", "20m", "24h", "116d"]);
    }
}
