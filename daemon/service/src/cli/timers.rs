//! Verbs for timers, over gRPC by the Rust client.

use super::when::{When, parse_when};
use super::{Failure, Remote, admin, output};
use chronotick::Timestamp;
use chronotick::timers::{
    Filter, From, HistoryOutcome, Reschedule, State, Timer, TimerClient, TimerEvent, TimerInfo, Until,
    WatchItem, WatchQuery, rfc3339,
};
use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;

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
        /// Only this agent's
        #[arg(long)]
        agent: Option<String>,
        /// Only this team's
        #[arg(long)]
        team: Option<String>,
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
        #[arg(required = true)]
        when: Vec<String>,
        /// The zone of local times; UTC without
        #[arg(long, env = "TZ", default_value = "UTC")]
        zone: String,
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
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Print the signed receipt of a fire, for `minoots verify receipt`.
    Receipt {
        /// The timer's id.
        id: String,
        /// The fire's id.
        firing_id: String,
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
    #[arg(required_unless_present = "from_file", conflicts_with = "from_file")]
    when: Vec<String>,
    /// Create the timers of a file of JSON lines or of one JSON array; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from_file: Option<std::path::PathBuf>,
    /// A name for people; the words of the time without
    #[arg(long)]
    name: Option<String>,
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

/// A name for a timer that was given none: the words of its time.
pub(super) fn name_of(words: &str) -> String {
    words.chars().take(128).collect()
}

pub(super) fn client(remote: &Remote) -> Result<TimerClient, Failure> {
    let mut builder = TimerClient::builder();
    if let Some(key) = remote.api_key()? {
        builder = builder.api_key(&key);
    }
    if let Some(pem) = remote.ca_pem()? {
        builder = builder.ca_pem(pem);
    }
    if let Some(tenant) = &remote.tenant {
        builder = builder.tenant(tenant);
    }
    Ok(builder.connect(&remote.url)?)
}

pub(super) fn now() -> jiff::Timestamp {
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

pub(super) fn timestamp(t: jiff::Timestamp) -> Result<Timestamp, Failure> {
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
        .name(self.name.clone().unwrap_or_else(|| name_of(&self.when.join(" "))));
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
    let lateness = event.lateness_ns.map_or(String::new(), |ns| format!(" {}", output::lateness(ns)));
    let reason = event.reason.as_deref().map_or(String::new(), |r| format!(" ({r})"));
    output::line(&format!("{} {} {}{lateness}{reason}", time(event.at), event.kind, event.timer_id))
}

fn show_lag(behind: u64) {
    eprintln!("minoots: {behind} events behind; nothing is lost");
}

pub(super) async fn run(verb: TimersVerb, remote: &Remote) -> Result<(), Failure> {
    let client = client(remote)?;
    let timer = match verb {
        TimersVerb::Create(CreateArgs { from_file: Some(path), zone, .. }) => {
            let file = super::bulk::File::read(&path, &zone)?;
            return super::bulk::create(&client, file, remote).await;
        }
        TimersVerb::Create(args) if args.count != 1 => {
            let count = usize::try_from(args.count).map_err(Failure::usage)?;
            let timers = super::bulk::File::repeated(&args.draft()?, count);
            return super::bulk::create(&client, timers, remote).await;
        }
        TimersVerb::Create(args) => client.create(args.draft()?).await?,
        TimersVerb::List { state, mut label, tag, agent, team, limit } => {
            label.extend(agent.map(|agent| ("agent".into(), agent)));
            label.extend(team.map(|team| ("team".into(), team)));
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
        TimersVerb::Reschedule { id, when: words, zone, version_is } => {
            let to = match when(&words, &zone)? {
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
        TimersVerb::Receipt { id, firing_id } => {
            let path = format!("/v1/timers/{}/receipts/{}", admin::part(&id), admin::part(&firing_id));
            return output::json(&admin::Rest::new(remote)?.get(&path).await?);
        }
        TimersVerb::History { id, limit } => return history(&client, &id, limit, remote).await,
        TimersVerb::Ack { firing_id, by, note } => {
            client.acknowledge(&firing_id, by.as_deref(), note.as_deref()).await?
        }
    };
    show(&[timer], remote)
}

/// How long the last event of a timer that has ended is waited for.
const LAST_EVENT_WAIT: Duration = Duration::from_secs(2);

async fn watch_timer(client: &TimerClient, id: &str, remote: &Remote) -> Result<(), Failure> {
    let mut timer = client.get(id).await?;
    if !timer.state.is_end() {
        let query = WatchQuery { from: From::Now, timer_ids: vec![id.into()], ..Default::default() };
        let mut watch = client.watch(query).await?;
        let mut shown_until = None;
        loop {
            timer = client.get(id).await?;
            // The event of the end carries the time of the end; one before it may be what woke this.
            let item = match timer.state.is_end() {
                true if shown_until >= timer.ended_at => break,
                true => match tokio::time::timeout(LAST_EVENT_WAIT, watch.next()).await {
                    Ok(item) => item?,
                    // It ended before the watch began.
                    Err(_) => break,
                },
                false => watch.next().await?,
            };
            match item {
                WatchItem::Event(event) => {
                    shown_until = event.at;
                    show_event(&event, remote)?;
                }
                WatchItem::Lag { behind } => show_lag(behind),
                _ => {}
            }
        }
    }
    // As JSON each line is an event, of which the last tells the end.
    if remote.json { Ok(()) } else { show(&[timer], remote) }
}

async fn history(client: &TimerClient, id: &str, limit: usize, remote: &Remote) -> Result<(), Failure> {
    let (mut entries, mut after) = (Vec::new(), None);
    while entries.len() < limit {
        let size = (limit - entries.len()).min(1_000) as u32;
        let page = client.history(id, size, after).await?;
        entries.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if remote.json {
        return entries.iter().try_for_each(output::json);
    }
    let rows = entries.iter().map(|e| {
        let (what, how) = match &e.outcome {
            HistoryOutcome::Fired { by_hand: true, .. } => ("fired", "by hand".into()),
            HistoryOutcome::Fired { lateness_ns, .. } => ("fired", output::lateness(*lateness_ns)),
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
