//! One run: a machine with the program on it, users who ask things of it, and misfortune; all from one seed.

use crate::check::Checker;
use crate::clock::SimClock;
use crate::disk::{Sabotage, SimDisk};
use chronotick_core::{Span, Timestamp};
use crossbeam_channel::{Receiver, Sender, unbounded};
use minoots::engine::{
    Answer, FireOrder, Indexer, Job, Outputs, Partition, Progress, Recovered, Request, Retention, recover,
};
use minoots::store::{
    EventLog, LogOptions, LogReader, MemoryIndex, Recovery, SegmentLog, Snapshots, StoreError,
};
use minoots_kernel::recurrence::{Bounds, CronSpec, IntervalMode, IntervalSpec};
use minoots_kernel::{
    ActionResult, Change, ClockSource, Command, EventRecord, FiringId, MisfirePolicy, Need, NewDue,
    OverlapPolicy, ScheduleSpec, StartAfter, TenantId, TimerDefinition, TimerId, Upstream, UpstreamOn,
    UpstreamSeen,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

/// Small, so that a run crosses many segments.
const LOG: LogOptions = LogOptions { segment_bytes: 6000, reserve_bytes: 1500 };
/// How long history is kept.
const KEEP: Span = Span::from_secs(1800);
/// Any day of this century.
const START: Timestamp = Timestamp::from_secs(1_800_000_000);
/// All the room that the disk ever has.
const ROOM: u64 = 4 << 20;
/// Steps of one run.
const STEPS: usize = 120;

/// What a run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Events in the log.
    pub events: u64,
    /// Crashes and restarts.
    pub restarts: u64,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Fires that were handed over.
    pub fires: u64,
    /// A number that depends on every event and every answer.
    pub digest: u64,
}

/// Runs one seed. An error says what did not hold.
pub fn run(seed: u64, sabotage: Sabotage) -> Result<Report, String> {
    let mut world = World::new(seed, sabotage);
    for step in 0..STEPS {
        world.step().map_err(|why| format!("seed {seed}, step {step}: {why}"))?;
    }
    world.finish().map_err(|why| format!("seed {seed}, at the end: {why}"))?;
    Ok(world.report)
}

struct World {
    random: fastrand::Rng,
    clock: SimClock,
    disk: SimDisk,
    index: MemoryIndex,
    checker: Checker,
    program: Option<Program>,
    /// Fires that were handed over and whose end was not told.
    open: BTreeSet<FiringId>,
    ids: Vec<TimerId>,
    /// The latest moment at which old history was dropped.
    latest: Timestamp,
    sabotage: Sabotage,
    report: Report,
}

/// The program while it runs.
struct Program {
    partition: Partition,
    indexer: Indexer,
    reader: Arc<dyn LogReader>,
    jobs: Receiver<Job>,
    progress: Receiver<Progress>,
    fires: UnboundedReceiver<Vec<FireOrder>>,
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let clock = SimClock::new(START);
        Self {
            random: fastrand::Rng::with_seed(seed),
            disk: SimDisk::new(ROOM, clock.clone(), sabotage),
            clock,
            index: MemoryIndex::new(),
            checker: Checker::new(),
            program: None,
            open: BTreeSet::new(),
            ids: Vec::new(),
            latest: START,
            sabotage,
            report: Report::default(),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        if self.program.is_none() {
            self.start()?;
        }
        match self.random.u32(0..100) {
            0..35 => self.ask()?,
            35..60 => self.pass()?,
            60..75 => self.work_on_index(),
            75..79 => {
                let seconds = self.random.i64(-400..400);
                self.clock.step(Span::from_secs(seconds));
            }
            79..81 => {
                let sources = [ClockSource::Os, ClockSource::Page, ClockSource::PageHoldover];
                self.clock.set_source(sources[self.random.usize(0..3)]);
            }
            81..84 => {
                // Full, or soon so; or there is room again.
                let room =
                    if self.random.bool() { ROOM } else { self.disk.used() + self.random.u64(0..2000) };
                self.disk.set_capacity(room);
            }
            84..85 => self.disk.set_broken(true),
            85..87 => self.disk.set_sync_takes(Span::from_ms(self.random.i64(0..3000))),
            87..91 => self.disk.stop_after(self.random.u64(1..20)),
            91..95 => return self.crash(),
            95..97 => return self.stop(),
            _ => self.maintain(),
        }
        if self.disk.has_stopped() {
            return self.crash();
        }
        self.look()
    }

    /// Starts the program on what is there; again, if the machine stops meanwhile.
    fn start(&mut self) -> Result<(), String> {
        match self.start_once() {
            Err(_) if self.disk.has_stopped() => self.crash(),
            outcome => outcome,
        }
    }

    fn start_once(&mut self) -> Result<(), String> {
        let disk = Arc::new(self.disk.clone());
        let data = Path::new("/data");
        let log = SegmentLog::open_on(disk.clone(), data, 0, LOG).map_err(|e| e.to_string())?;
        let snapshots = Snapshots::new(disk.clone(), data, 0, log.trimmer()).with_trim_bytes_min(8000);
        let mut log: Box<dyn EventLog> = Box::new(log);
        if self.sabotage == Sabotage::EarlyAnswer {
            log = Box::new(EarlyLog { log, late: Vec::new() });
        }
        let now = self.clock.now();
        let Recovered { kernel, recovery, .. } =
            recover(&mut *log, &self.index, Some(&snapshots), now).map_err(|e| e.to_string())?;
        let reader = log.reader();
        let oldest = reader.oldest_sequence().unwrap_or(1);
        let found = reader.read(oldest, usize::MAX).map_err(|e| e.to_string())?;
        self.checker.compare(&found, oldest)?;
        let (fire_sender, fires) = unbounded_channel();
        let (job_sender, jobs): (Sender<Job>, _) = unbounded();
        let (progress_sender, progress) = unbounded();
        let index = Arc::new(self.index.clone());
        let retention = Retention { keep: KEEP };
        let (indexer, _) = Indexer::new(index.clone(), progress_sender, Some(snapshots), retention);
        let outputs = Outputs::unheard(fire_sender, job_sender, &*log, recovery.last_sequence);
        let clock = Box::new(self.clock.clone());
        let partition = Partition::new(kernel, log, index, "simulation".to_string(), clock, outputs);
        partition.hand_over_unfinished();
        let mut program = Program { partition, indexer, reader, jobs, progress, fires };
        // Whatever was under way is handed over again.
        self.open.clear();
        program.take_fires(&mut self.open, &mut self.report);
        let under_way: BTreeSet<_> = self.open.iter().map(|f| (f.timer, f.nominal_ns)).collect();
        if under_way != self.checker.flights() {
            return Err(format!("after the start {under_way:?} was handed over"));
        }
        self.program = Some(program);
        self.look()?;
        self.compare_state()
    }

    /// The power goes.
    fn crash(&mut self) -> Result<(), String> {
        self.program = None;
        self.disk.crash(&mut self.random);
        if self.random.bool() {
            self.index.crash();
        } else if self.random.u8(0..4) == 0 {
            // The index is lost altogether.
            self.index = MemoryIndex::new();
        }
        self.report.restarts += 1;
        self.clock.pass(Span::from_secs(self.random.i64(0..600)));
        self.start()
    }

    /// The program is stopped and started in order.
    fn stop(&mut self) -> Result<(), String> {
        self.program = None;
        self.disk.set_broken(false);
        self.report.restarts += 1;
        self.start()
    }

    /// Users ask for something; the program answers in one round.
    fn ask(&mut self) -> Result<(), String> {
        let count = self.random.usize(1..5);
        let mut taken = Vec::new();
        let mut replies = Vec::new();
        for _ in 0..count {
            let commands = (0..self.random.usize(1..4)).filter_map(|_| self.command()).collect();
            let (reply, answer) = oneshot::channel();
            taken.push(Request::Commands(commands, reply));
            replies.push(answer);
        }
        let Some(program) = &mut self.program else { return Ok(()) };
        program.partition.round(&mut taken);
        if self.disk.has_stopped() {
            // Nobody got an answer any more.
            return Ok(());
        }
        self.look()?;
        for mut answer in replies {
            for answer in answer.try_recv().map_err(|e| e.to_string())? {
                self.note_answer(&answer)?;
            }
        }
        Ok(())
    }

    fn note_answer(&mut self, answer: &Answer) -> Result<(), String> {
        match answer {
            Ok(outcome) => {
                self.checker.acknowledge(&outcome.timer);
                self.report.acknowledged += 1;
                self.mix(outcome.timer.status.version ^ outcome.timer.id.as_u128() as u64);
            }
            Err(error) => self.mix(error.to_string().len() as u64),
        }
        Ok(())
    }

    /// Time passes, and what is due is decided.
    fn pass(&mut self) -> Result<(), String> {
        let ms = match self.random.u32(0..10) {
            0 => self.random.i64(0..600_000),
            1..4 => self.random.i64(0..30_000),
            _ => self.random.i64(0..2_000),
        };
        self.clock.pass(Span::from_ms(ms));
        let Some(program) = &mut self.program else { return Ok(()) };
        for _ in 0..self.random.usize(1..6) {
            program.partition.look_ahead();
            program.partition.round(&mut Vec::new());
        }
        Ok(())
    }

    fn work_on_index(&mut self) {
        let Some(program) = &mut self.program else { return };
        for _ in 0..self.random.usize(0..12) {
            program.work_once();
        }
        if self.random.u8(0..3) == 0 {
            program.partition.look_ahead();
        }
    }

    /// The index is made durable, old history goes, the log is trimmed.
    fn maintain(&mut self) {
        let now = self.clock.now();
        self.latest = self.latest.max(now);
        if let Some(program) = &mut self.program {
            program.indexer.maintain(now);
        }
    }

    /// Looks at what the program shows, and checks it.
    fn look(&mut self) -> Result<(), String> {
        let Some(program) = &mut self.program else { return Ok(()) };
        program.take_fires(&mut self.open, &mut self.report);
        let records = program.reader.read(self.checker.last_sequence() + 1, usize::MAX);
        for record in records.map_err(|e| e.to_string())? {
            self.report.events += 1;
            self.mix(record.sequence ^ (record.at_ns as u64).rotate_left(17));
            self.checker.note(record)?;
        }
        Ok(())
    }

    fn compare_state(&self) -> Result<(), String> {
        let Some(program) = &self.program else { return Ok(()) };
        let kept_from_ns = self.latest.as_ns() - KEEP.as_ns();
        self.checker.compare_state(program.partition.kernel(), &self.index, kept_from_ns)
    }

    /// Everything comes to rest, and is compared.
    fn finish(&mut self) -> Result<(), String> {
        self.disk.set_capacity(ROOM);
        self.disk.set_sync_takes(Span::ZERO);
        self.crash()?;
        for _ in 0..2000 {
            let Some(program) = &mut self.program else { break };
            program.partition.look_ahead();
            while program.work_once() {}
            program.partition.round(&mut Vec::new());
            self.look()?;
            let Some(program) = &mut self.program else { break };
            let is_quiet = program.jobs.is_empty() && program.partition.time_to_wait() > Span::ZERO;
            if is_quiet && program.is_loaded(self.clock.now()) {
                self.checker.nothing_is_overdue(self.clock.now())?;
                self.compare_state()?;
                let handed: BTreeSet<_> = self.open.iter().map(|f| (f.timer, f.nominal_ns)).collect();
                let lost: Vec<_> = self.checker.flights().difference(&handed).copied().collect();
                return if lost.is_empty() { Ok(()) } else { Err(format!("never handed over: {lost:?}")) };
            }
        }
        Err("it does not come to rest".to_string())
    }

    fn mix(&mut self, number: u64) {
        self.report.digest = (self.report.digest.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn some_id(&mut self) -> Option<TimerId> {
        (!self.ids.is_empty()).then(|| self.ids[self.random.usize(0..self.ids.len())])
    }

    fn command(&mut self) -> Option<Command> {
        let tenant = TenantId::default();
        let kind = self.random.u32(0..100);
        if kind < 40 || self.ids.is_empty() {
            let id = TimerId::from_u128(u128::from(self.random.u64(..)) << 64 | self.ids.len() as u128);
            let definition = Arc::new(self.definition());
            self.ids.push(id);
            return Some(Command::Create { id, definition });
        }
        if kind < 65
            && let Some(&firing) = self.open.iter().nth(self.random.usize(0..self.open.len().max(1)))
        {
            let ok = self.random.u8(0..4) != 0;
            let result = ActionResult { action: "a".into(), ok, attempts: 1, detail: String::new() };
            if self.random.bool() {
                self.open.remove(&firing);
            }
            return Some(Command::Finish { tenant, firing, results: vec![result] });
        }
        let id = self.some_id()?;
        if kind < 75 {
            let upstream = self.some_id()?;
            let seen = UpstreamSeen {
                fired: self.random.bool(),
                completed: self.random.bool(),
                failed: self.random.bool(),
                ended: self.random.bool(),
            };
            return Some(Command::Resolve { tenant, id, upstream, seen });
        }
        let seconds = self.random.i64(-60..3600);
        let change = match self.random.u32(0..12) {
            0 | 1 => Change::Cancel { reason: None },
            2 | 3 => Change::Pause { reason: None },
            4..7 => Change::Resume,
            7 | 8 => Change::FireNow,
            9 => Change::Reschedule(NewDue::AfterNs(Span::from_secs(seconds).as_ns())),
            10 => Change::Reschedule(NewDue::LaterByNs(Span::from_secs(seconds).as_ns())),
            _ => Change::Reschedule(NewDue::AtNs((self.clock.now() + Span::from_secs(seconds)).as_ns())),
        };
        let expected_version = (self.random.u8(0..6) == 0).then(|| self.random.u64(1..4));
        Some(Command::Change { tenant, id, expected_version, change })
    }

    fn definition(&mut self) -> TimerDefinition {
        let random = &mut self.random;
        let seconds = |random: &mut fastrand::Rng, max| Span::from_secs(random.i64(0..max)).as_ns();
        let schedule = match random.u32(0..8) {
            0..3 => ScheduleSpec::AfterNs(seconds(random, 900)),
            3 => ScheduleSpec::AtNs((self.clock.now() + Span::from_secs(random.i64(0..5000))).as_ns()),
            4 | 5 => ScheduleSpec::Interval(IntervalSpec {
                every_ns: Span::from_ms(random.i64(500..120_000)).as_ns(),
                mode: if random.bool() { IntervalMode::FixedRate } else { IntervalMode::FixedDelay },
                anchor_ns: None,
            }),
            _ => ScheduleSpec::Cron(CronSpec {
                expression: ["*/20 * * * * *", "*/7 * * * *", "0 3 * * *"][random.usize(0..3)].to_string(),
                zone: ["UTC", "Europe/Paris", "Asia/Kathmandu"][random.usize(0..3)].to_string(),
                gap: None,
                overlap: None,
                exclude_dates: Vec::new(),
            }),
        };
        let is_recurring = schedule.is_recurring();
        let upstream =
            (random.u8(0..6) == 0 && !self.ids.is_empty()).then(|| self.ids[random.usize(0..self.ids.len())]);
        let on = [UpstreamOn::Fired, UpstreamOn::Completed, UpstreamOn::Failed, UpstreamOn::Ended];
        let misfire = [
            None,
            Some(MisfirePolicy::FireNow),
            Some(MisfirePolicy::Skip),
            Some(MisfirePolicy::FireOnce),
            Some(MisfirePolicy::CatchUp { max: 3, within_ns: Span::from_secs(200).as_ns() }),
        ];
        let overlap = [
            OverlapPolicy::Allow,
            OverlapPolicy::Skip,
            OverlapPolicy::BufferOne,
            OverlapPolicy::CancelPrevious,
        ];
        TimerDefinition {
            name: "simulated".to_string(),
            schedule,
            idempotency_key: (random.u8(0..8) == 0).then(|| random.u8(0..20).to_string()),
            bounds: Bounds {
                count: (is_recurring && random.bool()).then(|| random.u64(1..30)),
                ..Bounds::default()
            },
            jitter_ns: if random.u8(0..4) == 0 { seconds(random, 20) } else { 0 },
            misfire: misfire[random.usize(0..misfire.len())],
            grace_ns: random.bool().then(|| seconds(random, 30)),
            overlap: overlap[random.usize(0..overlap.len())],
            priority: random.i8(..),
            expire_after_ns: (random.u8(0..5) == 0).then(|| seconds(random, 60) + 1),
            start_after: upstream.map(|timer| StartAfter {
                upstreams: vec![Upstream { timer, on: on[random.usize(0..on.len())] }],
                need: Need::All,
            }),
            ..TimerDefinition::default()
        }
    }
}

impl Program {
    /// Does one job of the index, and tells the partition; false when there is none.
    fn work_once(&mut self) -> bool {
        let Ok(job) = self.jobs.try_recv() else { return false };
        self.indexer.work(job);
        for message in self.progress.try_iter() {
            self.partition.note_progress(message);
        }
        true
    }

    /// Every timer that is due now has been brought into memory.
    fn is_loaded(&self, now: Timestamp) -> bool {
        self.partition.kernel().horizon().due_ns > now.as_ns()
    }

    fn take_fires(&mut self, open: &mut BTreeSet<FiringId>, report: &mut Report) {
        while let Ok(orders) = self.fires.try_recv() {
            for order in orders {
                open.insert(order.firing);
                report.fires += 1;
            }
        }
    }
}

/// A log that is wrong on purpose: it answers before it has written, and writes with the next batch.
struct EarlyLog {
    log: Box<dyn EventLog>,
    late: Vec<EventRecord>,
}

impl EventLog for EarlyLog {
    fn recover(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<Recovery, StoreError> {
        self.log.recover(after, each)
    }

    fn append(&mut self, records: &[EventRecord]) -> Result<(), StoreError> {
        let late = std::mem::replace(&mut self.late, records.to_vec());
        self.log.append(&late)
    }

    fn check_room(&mut self) -> Result<(), StoreError> {
        self.log.check_room()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.log.reader()
    }
}
