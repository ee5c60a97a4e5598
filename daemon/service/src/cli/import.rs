//! `minoots import`: takes over the folder of an older timer system into a running service.

use super::{Failure, Remote, output, timers};
use crate::import::{ClientSink, DrySink, Options, Report, TimerSink, folder};
use chronotick::timers::Filter;
use clap::{Args, ValueEnum};
use minoots_kernel::MisfirePolicy;
use serde_json::json;
use std::io::IsTerminal;
use std::path::PathBuf;

/// `minoots import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The folder, `active_timers`: one `<id>.json` for each timer.
    dir: PathBuf,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// What becomes of running timers whose end has passed
    #[arg(long, value_enum, default_value = "fire")]
    late: Late,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Late {
    /// They fire at once.
    Fire,
    /// They become history.
    Skip,
}

pub(super) async fn run(args: ImportArgs, remote: &Remote) -> Result<(), Failure> {
    let client = timers::client(remote)?;
    if !args.dir.is_dir() {
        let dir = args.dir.display();
        return Err(Failure::failed(format!("{dir} is no folder: give the old service's active_timers")));
    }
    // One answer for a service that is not there, rather than one for each file.
    client.list(&Filter::default(), 1, None).await?;
    let sink: Box<dyn TimerSink> = match args.dry_run {
        true => Box::new(DrySink::new(client)),
        false => Box::new(ClientSink::new(client)),
    };
    let misfire = match args.late {
        Late::Fire => MisfirePolicy::FireNow,
        Late::Skip => MisfirePolicy::Skip,
    };
    // What has passed is judged here, by the machine's clock; the service has the last word on each time.
    let options = Options { misfire, ..Options::at(chronotick::os_clock::realtime().as_ns()) };
    let bar = match std::io::stderr().is_terminal() {
        true => indicatif::ProgressBar::new(0),
        false => indicatif::ProgressBar::hidden(),
    };
    let progress = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let report = folder(&args.dir, sink.as_ref(), options, &progress).await?;
    bar.finish_and_clear();
    show(&report, &args, remote)?;
    match report.refused.len() {
        0 => Ok(()),
        n => {
            let others = if args.dry_run { "would be taken over" } else { "are taken over" };
            Err(Failure::failed(format!(
                "{n} files were refused; the others {others}. An import may be repeated"
            )))
        }
    }
}

fn show(report: &Report, args: &ImportArgs, remote: &Remote) -> Result<(), Failure> {
    if remote.json {
        let without: Vec<_> =
            report.without.iter().map(|(id, action)| json!({"id": id, "action": action})).collect();
        let refused: Vec<_> =
            report.refused.iter().map(|(file, why)| json!({"file": file, "why": why})).collect();
        return output::json(&json!({
            "dry_run": args.dry_run,
            "scheduled": report.scheduled,
            "history": report.history,
            "already_there": report.already_there,
            "without": without,
            "refused": refused,
        }));
    }
    let row = |id: &str, what: &str, why: &str| vec![id.to_string(), what.to_string(), why.to_string()];
    let mut rows = Vec::new();
    for (ids, what) in [
        (&report.scheduled, "scheduled"),
        (&report.history, "history"),
        (&report.already_there, "already there"),
    ] {
        for id in ids {
            let without = report.without.iter().filter(|(of, _)| of == id);
            let without: Vec<_> =
                without.map(|(_, action)| format!("without its {action}: use a webhook")).collect();
            rows.push(row(id, what, &without.join(", ")));
        }
    }
    for (file, why) in &report.refused {
        rows.push(row(&file.file_name().unwrap_or_default().to_string_lossy(), "refused", why));
    }
    if !rows.is_empty() {
        output::table(&["TIMER", "OUTCOME", "NOTE"], rows)?;
    }
    let (scheduled, history, there, refused) =
        (report.scheduled.len(), report.history.len(), report.already_there.len(), report.refused.len());
    let dry = if args.dry_run { "nothing was changed: this would be " } else { "" };
    output::line(&format!(
        "{dry}{scheduled} scheduled, {history} as history, {there} there already, {refused} refused"
    ))
}
