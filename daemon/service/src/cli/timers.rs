//! Verbs for timers, over gRPC by the Rust client.

use super::when::{When, parse_when};
use super::{Failure, Remote, output};
use chronotick::Timestamp;
use chronotick::timers::{
    Filter, From, HistoryOutcome, Reschedule, State, Timer, TimerClient, TimerEvent, TimerInfo, Until,
    WatchItem, WatchQuery, rfc3339,
};
use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt};
use std::io::IsTerminal;

/// `minoots timers`.
#[derive(Debug, Subcommand)]
pub enum TimersVerb {
    /// Create a timer, or many of the same.
    Create(CreateArgs),
    /// Show timers in order of creation.
    List {
        /// Only in this state; may be repeated
        #[arg(long)]
        state: Vec<State>,
        /// Only with this label, as KEY=VALUE; may be repeated
        #[arg(long, value_parser = label)]
        label: Vec<(String, String)>,
        /// Only with this tag; may be repeated
        #[arg(long)]
        tag: Vec<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one timer.
    Get {
        /// Its id.
        id: String,
    },
    /// Show what happens to a timer until it ends.
    Watch {
        /// Its id.
        id: String,
        /// Until it fires, without the events
        #[arg(long)]
        until_fired: bool,
    },
    /// Let nothing more of a timer fire.
    Cancel(ChangeArgs),
    /// Stop a timer from firing until it is resumed.
    Pause(ChangeArgs),
    /// Let a paused timer go on.
    Resume(ChangeArgs),
    /// Move the next occurrence of a timer.
    Reschedule {
        /// Its id.
        id: String,
        /// To when, as "in 20m" or "tomorrow 9:00 Europe/Paris".
        when: Vec<String>,
        /// Only if the timer still has this version
        #[arg(long)]
        version_is: Option<u64>,
    },
    /// Fire a timer now.
    Fire(ChangeArgs),
    /// Show what became of each occurrence.
    History {
        /// Its id.
        id: String,
        /// At most so many, 1 to 1000
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Record that whoever a fire woke has answered.
    Ack {
        /// The fire's id.
        firing_id: String,
        /// Who answered
        #[arg(long)]
        by: Option<String>,
        /// In their words
        #[arg(long)]
        note: Option<String>,
    },
}

/// `minoots timers create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// When, as "in 20m", "tomorrow 9:00 Europe/Paris", "every 5m" or a cron rule.
    #[arg(required = true)]
    when: Vec<String>,
    /// A name for people
    #[arg(long, default_value = "")]
    name: String,
    /// A label as KEY=VALUE; may be repeated
    #[arg(long, value_parser = label)]
    label: Vec<(String, String)>,
    /// A tag; may be repeated
    #[arg(long)]
    tag: Vec<String>,
    /// Call this address; may be repeated
    #[arg(long, value_name = "URL")]
    webhook: Vec<String>,
    /// JSON that is given back as it is
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// A repeated create with this key makes no second timer
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Make so many of them
    #[arg(long, default_value_t = 1, conflicts_with = "idempotency_key")]
    count: u64,
    /// The zone of local times; UTC without
    #[arg(long, env = "TZ", default_value = "UTC")]
    zone: String,
}

/// What a change needs.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Its id.
    id: String,
    /// Why, for the record (cancel and pause)
    #[arg(long)]
    reason: Option<String>,
    /// Only if the timer still has this version
    #[arg(long)]
    version_is: Option<u64>,
}

/// `minoots events`.
#[derive(Debug, Subcommand)]
pub enum EventsVerb {
    /// Show events as they happen, until interrupted.
    Tail {
        /// From the beginning of the log
        #[arg(long, conflicts_with = "cursor")]
        from_start: bool,
        /// After this place
        #[arg(long)]
        cursor: Option<String>,
        /// End after so many
        #[arg(long)]
        limit: Option<u64>,
    },
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

pub(super) fn client(remote: &Remote) -> Result<TimerClient, Failure> {
    let mut builder = TimerClient::builder();
    if let Some(key) = remote.api_key()? {
        builder = builder.api_key(&key);
    }
    if let Some(tenant) = &remote.tenant {
        builder = builder.tenant(tenant);
    }
    Ok(builder.connect(&remote.url)?)
}

fn now() -> jiff::Timestamp {
    // The machine's own clock: good enough for what "tomorrow" means; the service judges the time.
    let ns = chronotick::os_clock::realtime().as_ns();
    jiff::Timestamp::from_nanosecond(ns.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn when(words: &[String], zone: &str) -> Result<When, Failure> {
    let zone = jiff::tz::TimeZone::get(zone)
        .map_err(|_| Failure::usage(format!("{zone:?} is no time zone: write --zone Europe/Paris")))?;
    let when = parse_when(&words.join(" "), now(), &zone).map_err(Failure::usage)?;
    if let When::At(_, Some(note)) = &when {
        eprintln!("minoots: {note}");
    }
    Ok(when)
}

fn timestamp(t: jiff::Timestamp) -> Result<Timestamp, Failure> {
    let ns = i64::try_from(t.as_nanosecond());
    ns.map(Timestamp::from_ns).map_err(|_| Failure::usage("the time lies outside the years 1678 to 2261"))
}

impl CreateArgs {
    fn draft(&self) -> Result<Timer, Failure> {
        let mut timer = match when(&self.when, &self.zone)? {
            When::After(d) => Timer::after(d),
            When::At(t, _) => Timer::at(timestamp(t)?),
            When::Every(d) => Timer::every(d),
            When::Cron { expression, zone } => Timer::cron(expression, zone),
        }
        .name(&self.name);
        for (key, value) in &self.label {
            timer = timer.label(key, value);
        }
        for tag in &self.tag {
            timer = timer.tag(tag);
        }
        for url in &self.webhook {
            timer = timer.webhook(url);
        }
        if let Some(text) = &self.metadata {
            let metadata = serde_json::from_str(text);
            timer = timer
                .metadata(&metadata.map_err(|e| Failure::usage(format!("--metadata is not JSON: {e}")))?);
        }
        if let Some(key) = &self.idempotency_key {
            timer = timer.idempotency_key(key);
        }
        Ok(timer)
    }
}

fn time(t: Option<Timestamp>) -> String {
    t.map_or_else(|| "-".into(), rfc3339)
}

fn show(timers: &[TimerInfo], remote: &Remote) -> Result<(), Failure> {
    if remote.json {
        return timers.iter().try_for_each(output::json);
    }
    let row = |t: &TimerInfo| {
        vec![
            t.id.clone(),
            t.state.to_string(),
            time(t.due_at),
            t.fires.to_string(),
            t.version.to_string(),
            t.name.clone(),
        ]
    };
    output::table(&["ID", "STATE", "DUE", "FIRES", "VERSION", "NAME"], timers.iter().map(row))
}

fn show_event(event: &TimerEvent, remote: &Remote) -> Result<(), Failure> {
    if remote.json {
        return output::json(event);
    }
    let lateness = event.lateness_ns.map_or(String::new(), |ns| format!(" {ns} ns late"));
    let reason = event.reason.as_deref().map_or(String::new(), |r| format!(" ({r})"));
    output::line(&format!("{} {} {}{lateness}{reason}", time(event.at), event.kind, event.timer_id))
}

fn show_lag(behind: u64) {
    eprintln!("minoots: {behind} events behind; nothing is lost");
}

async fn create_many(client: &TimerClient, args: &CreateArgs, remote: &Remote) -> Result<(), Failure> {
    let draft = args.draft()?;
    let drafts = futures::stream::iter(0..args.count).map(move |_| draft.clone());
    let outcomes = client.create_many(drafts).await?;
    let bar = match std::io::stderr().is_terminal() {
        true => indicatif::ProgressBar::new(args.count),
        false => indicatif::ProgressBar::hidden(),
    };
    futures::pin_mut!(outcomes);
    let mut refused = 0;
    while let Some(outcome) = outcomes.try_next().await? {
        bar.inc(1);
        match outcome {
            Ok(timer) if remote.json => output::json(&timer)?,
            Ok(timer) => output::line(&timer.id)?,
            Err(e) => {
                refused += 1;
                eprintln!("minoots: {}", e.detail);
            }
        }
    }
    bar.finish_and_clear();
    match refused {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} of {} timers were refused; the others are made", args.count))),
    }
}

pub(super) async fn run(verb: TimersVerb, remote: &Remote) -> Result<(), Failure> {
    let client = client(remote)?;
    let timer = match verb {
        TimersVerb::Create(args) if args.count != 1 => return create_many(&client, &args, remote).await,
        TimersVerb::Create(args) => client.create(args.draft()?).await?,
        TimersVerb::List { state, label, tag, limit } => {
            let filter = Filter {
                states: state,
                labels: label.into_iter().collect(),
                tags: tag,
                ..Default::default()
            };
            let timers: Vec<_> = client.list_all(filter).take(limit).try_collect().await?;
            return show(&timers, remote);
        }
        TimersVerb::Get { id } => client.get(&id).await?,
        TimersVerb::Watch { id, until_fired: true } => client.wait(&id, Until::Fired).await?,
        TimersVerb::Watch { id, .. } => return watch_timer(&client, &id, remote).await,
        TimersVerb::Cancel(c) => client.cancel(&c.id, c.reason.as_deref(), c.version_is).await?,
        TimersVerb::Pause(c) => client.pause(&c.id, c.reason.as_deref(), c.version_is).await?,
        TimersVerb::Resume(c) => client.resume(&c.id, c.version_is).await?,
        TimersVerb::Fire(c) => client.fire(&c.id, c.version_is).await?,
        TimersVerb::Reschedule { id, when: words, version_is } => {
            let to = match when(&words, "UTC")? {
                When::After(d) => Reschedule::After(d),
                When::At(t, _) => Reschedule::At(timestamp(t)?),
                _ => {
                    return Err(Failure::usage(
                        "a timer is moved to one time: leave `every` and cron rules out",
                    ));
                }
            };
            client.reschedule(&id, to, version_is).await?
        }
        TimersVerb::History { id, limit } => return history(&client, &id, limit, remote).await,
        TimersVerb::Ack { firing_id, by, note } => {
            client.acknowledge(&firing_id, by.as_deref(), note.as_deref()).await?
        }
    };
    show(&[timer], remote)
}

async fn watch_timer(client: &TimerClient, id: &str, remote: &Remote) -> Result<(), Failure> {
    let query = WatchQuery { from: From::Now, timer_ids: vec![id.into()], ..Default::default() };
    let mut watch = client.watch(query).await?;
    // After each event the timer is looked at: it says whether there is more to come.
    while !client.get(id).await?.state.is_end() {
        match watch.next().await? {
            WatchItem::Event(event) => show_event(&event, remote)?,
            WatchItem::Lag { behind } => show_lag(behind),
            _ => {}
        }
    }
    show(&[client.get(id).await?], remote)
}

async fn history(client: &TimerClient, id: &str, limit: u32, remote: &Remote) -> Result<(), Failure> {
    let page = client.history(id, limit, None).await?;
    if remote.json {
        return page.items.iter().try_for_each(output::json);
    }
    let rows = page.items.iter().map(|e| {
        let (what, how) = match &e.outcome {
            HistoryOutcome::Fired { lateness_ns, .. } => ("fired", format!("{lateness_ns} ns late")),
            HistoryOutcome::Skipped { count, reason } => ("skipped", format!("{count} for {reason}")),
            _ => ("waiting", String::new()),
        };
        let end = e.end.clone().unwrap_or_else(|| "-".into());
        vec![time(e.nominal_at), what.into(), how, end, e.firing_id.clone()]
    });
    output::table(&["NOMINAL", "OUTCOME", "HOW", "END", "FIRE"], rows)
}

pub(super) async fn events(verb: EventsVerb, remote: &Remote) -> Result<(), Failure> {
    let EventsVerb::Tail { from_start, cursor, limit } = verb;
    let from = match cursor {
        Some(cursor) => From::Cursor(cursor),
        None if from_start => From::Beginning,
        None => From::Now,
    };
    let mut watch = client(remote)?.watch(WatchQuery { from, ..Default::default() }).await?;
    let mut left = limit;
    while left != Some(0) {
        match watch.next().await? {
            WatchItem::Event(event) => {
                show_event(&event, remote)?;
                left = left.map(|n| n - 1);
            }
            WatchItem::Lag { behind } => show_lag(behind),
            _ => {}
        }
    }
    Ok(())
}
