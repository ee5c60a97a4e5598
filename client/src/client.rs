//! The client: readings of the clock page, from any number of threads.

use crate::attach::{Identity, Mapping};
use crate::error::{AttachError, ReadError};
use crate::os_clock::OsClocks;
use chronotick_core::page::{Model, ModelCell, PageCell, Reading, Record, Status, WORDS};
use chronotick_core::{Span, TimeBound, Timestamp};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, TryLockError};

/// A page that was replaced is looked for at most this often.
const REATTACH_EVERY: Span = Span::from_ms(100);

/// How many turns a reader waits for another thread that maps a page anew: far more than the system call takes.
const REMAP_PATIENCE: u32 = 10_000;
/// ... and then so many turns of the scheduler, for the one thing that must be had: the last good snapshot.
const REMAP_TURNS: u32 = 1000;

/// Reads the clock page. Share one among all threads.
#[derive(Debug)]
pub struct Client {
    mapping: Mapping,
    /// The model of the page as it was decoded last. Written under the lock of `kept`.
    cache: ModelCell,
    kept: Mutex<Kept>,
    /// CLOCK_BOOTTIME ns of the last look for a replaced page.
    looked_ns: AtomicU64,
    /// Twice the number of times that another object was mapped, odd while that is under way. Changed under the lock of
    /// `kept`: a snapshot of an earlier object is not kept.
    remaps: AtomicU64,
}

/// What a reader keeps between readings.
#[derive(Debug)]
struct Kept {
    /// Which object is mapped.
    identity: Identity,
    /// The last whole snapshot, for when the writer dies in the middle of a write.
    last_good: Option<[u64; WORDS]>,
}

impl Client {
    /// Attaches the page named by `$CHRONOTICK_SHM`, or the default one.
    pub fn attach() -> Result<Self, AttachError> {
        Self::attach_named(None)
    }

    /// Attaches the page with this name or absolute path; `None` is [`attach`](Self::attach).
    pub fn attach_named(name: Option<&str>) -> Result<Self, AttachError> {
        let (mapping, identity) = Mapping::open(&crate::name::resolve(name)?)?;
        Ok(Self {
            mapping,
            cache: ModelCell::default(),
            kept: Mutex::new(Kept { identity, last_good: None }),
            looked_ns: AtomicU64::new(0),
            remaps: AtomicU64::new(0),
        })
    }

    /// The time now, with its bound, sigma and status.
    ///
    /// On a page that is anchored on the hardware counter the counter is read without a fence, so the processor may
    /// read it some tens of nanoseconds before the instructions ahead of the call are done; see
    /// [`now_fenced`](Self::now_fenced).
    // Always: handed over in memory, the reading would be copied by wider loads than it was stored with, which stall.
    #[inline(always)]
    pub fn now(&self) -> Result<Reading, ReadError> {
        // The warm path: the page has not changed since it was decoded, and nothing about it is special.
        if let Some(stamp) = self.mapping.cell().stamp()
            && let Some(reading) = self.cache.read(stamp, &OsClocks)
        {
            return Ok(reading);
        }
        self.cold_reading()
    }

    /// As [`now`](Self::now), and not before everything ahead of the call is done: for a time that is compared with
    /// one of another thread or machine. On a page anchored on CLOCK_BOOTTIME the two are the same.
    #[inline]
    pub fn now_fenced(&self) -> Result<Reading, ReadError> {
        crate::counter::wait_for_earlier();
        self.now()
    }

    /// The time now in Unix nanoseconds, alone; an error where the status is disrupted, expired or no_data, since a
    /// bare number cannot carry a status.
    #[inline]
    pub fn now_ns(&self) -> Result<i64, ReadError> {
        let reading = self.now()?;
        if reading.status.is_usable() {
            Ok(reading.corrected.as_ns())
        } else {
            Err(ReadError::Untrusted { status: reading.status })
        }
    }

    /// The time now, if its bound is no wider than `max_error` on each side.
    #[inline]
    pub fn now_within(&self, max_error: Span) -> Result<Reading, ReadError> {
        let reading = self.now()?;
        let error = reading.max_error();
        if error <= max_error { Ok(reading) } else { Err(ReadError::TooUncertain { error, max_error }) }
    }

    /// The reading that the page gives for the moment `from_now` away, past (negative) or future: its bound grows with
    /// the distance from the correction, and its status is the one that holds then if nothing is published until then.
    pub fn at(&self, from_now: Span) -> Result<Reading, ReadError> {
        let model = self.model()?;
        Ok(model.read_at(model.elapsed(&OsClocks)? + from_now))
    }

    /// The reading for the moment at which the system clock showed, or will show, `system`: what a timestamp of
    /// CLOCK_REALTIME, from a log for instance, is in corrected time. It holds where the system clock was not stepped
    /// between that moment and the page's prediction time.
    pub fn at_system_time(&self, system: Timestamp) -> Result<Reading, ReadError> {
        let model = self.model()?;
        Ok(model.read_at(model.elapsed_at_system(system)))
    }

    /// The interval that holds the true time now; unbounded where the status allows no bound.
    #[inline]
    pub fn bounds(&self) -> Result<TimeBound, ReadError> {
        self.now().map(|r| r.bound)
    }

    /// How far the clock can be trusted now.
    #[inline]
    pub fn status(&self) -> Result<Status, ReadError> {
        self.now().map(|r| r.status)
    }

    /// What the page says, whole and untorn.
    pub fn snapshot(&self) -> Result<Record, ReadError> {
        self.decode().map(|(record, _)| record)
    }

    /// Where the page is.
    pub fn path(&self) -> &Path {
        self.mapping.path()
    }

    #[cold]
    #[inline(never)]
    fn cold_reading(&self) -> Result<Reading, ReadError> {
        let read = || -> Result<Reading, ReadError> {
            let model = self.model()?;
            Ok(model.read_at(model.elapsed(&OsClocks)?))
        };
        let reading = read();
        // A page that cannot be read at all may have been replaced as well as one that cannot be trusted.
        let usable = reading.as_ref().is_ok_and(|r| r.status.is_usable());
        if !usable && self.reattach() { read() } else { reading }
    }

    fn model(&self) -> Result<Model, ReadError> {
        let warm = self.mapping.cell().stamp().and_then(|stamp| self.cache.get(stamp));
        match warm {
            Some(model) => Ok(model),
            None => self.decode().map(|(_, model)| model),
        }
    }

    /// A snapshot decoded anew and kept, or the last one where the writer died in the middle.
    fn decode(&self) -> Result<(Record, Model), ReadError> {
        let Some((words, remaps)) = self.snapshot_of_one_object() else {
            self.reattach();
            // The last good snapshot ages by itself: its status turns expired at its valid_until.
            let record = Record::from_words(&self.last_good().ok_or(ReadError::WriterDied)?)?;
            return Ok((record, record.model()));
        };
        let record = Record::from_words(&words)?;
        let model = record.model();
        // Whoever finds the lock taken need not wait: the other thread keeps as good a snapshot.
        if let Ok(mut kept) = self.kept.try_lock()
            && self.remaps.load(Ordering::Relaxed) == remaps
        {
            kept.last_good = Some(words);
            self.cache.put(&words, &record, model);
        }
        Ok((record, model))
    }

    /// A whole snapshot with the count of remaps it belongs to. One that straddles a remap could mix two objects whose
    /// sequences happen to be the same, so it is taken again.
    fn snapshot_of_one_object(&self) -> Option<([u64; WORDS], u64)> {
        for _ in 0..REMAP_PATIENCE {
            // Acquire: the snapshot that follows is of the object mapped at this count, or of a later one.
            let before = self.remaps.load(Ordering::Acquire);
            if before & 1 == 1 {
                std::hint::spin_loop();
                continue;
            }
            let words = self.mapping.cell().snapshot(PageCell::RETRY_BUDGET).ok()?;
            // Pairs with the AcqRel increment ahead of the remap: a word of the new object is seen only after it.
            fence(Ordering::Acquire);
            if self.remaps.load(Ordering::Relaxed) == before {
                return Some((words, before));
            }
        }
        None
    }

    /// The last good snapshot, if the lock on it can be had without waiting for long. Whoever holds it maps the page anew,
    /// and may have been interrupted in that: then the processor is left to it for some turns.
    fn last_good(&self) -> Option<[u64; WORDS]> {
        (0..REMAP_PATIENCE + REMAP_TURNS).find_map(|turn| match self.kept.try_lock() {
            Ok(kept) => Some(kept.last_good),
            Err(TryLockError::Poisoned(kept)) => Some(kept.into_inner().last_good),
            Err(TryLockError::WouldBlock) => {
                if turn < REMAP_PATIENCE {
                    std::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
                None
            }
        })?
    }

    /// Looks whether another object has the page's name, and maps it if so. True when it did.
    #[cold]
    fn reattach(&self) -> bool {
        let now_ns = crate::os_clock::boottime().as_ns().unsigned_abs();
        let looked_ns = self.looked_ns.load(Ordering::Relaxed);
        if looked_ns != 0 && now_ns.saturating_sub(looked_ns) < REATTACH_EVERY.as_ns().unsigned_abs() {
            return false;
        }
        let Ok(mut kept) = self.kept.try_lock() else { return false };
        self.looked_ns.store(now_ns, Ordering::Relaxed);
        let same = self.mapping.named_now().is_none_or(|named| named == kept.identity);
        if same && !self.mapping.is_lost() {
            return false;
        }
        // Before the new page can be seen: its stamp may be the one that the cache has from the old page.
        self.cache.clear();
        // Odd while it lasts: a snapshot that is under way meanwhile is taken again.
        self.remaps.fetch_add(1, Ordering::AcqRel);
        let remapped = self.mapping.remap();
        self.remaps.fetch_add(1, Ordering::Release);
        match remapped {
            Ok(new) => {
                kept.identity = new;
                true
            }
            // The old page stays mapped; its status already says that it cannot be trusted.
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::synchronized;
    use chronotick_core::page::{Flags, PageWriter};
    use std::os::unix::fs::PermissionsExt;

    fn page(dir: &Path, bytes: &[u8]) -> String {
        let path = dir.join("page");
        let staged = dir.join("staged");
        std::fs::write(&staged, bytes).unwrap();
        std::fs::rename(&staged, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn corrected_time_is_the_system_clock_plus_the_correction() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::attach_named(Some(&page(dir.path(), &synchronized(1.5).to_bytes()))).unwrap();
        let before = crate::os_clock::realtime();
        let reading = client.now().unwrap();
        let after = crate::os_clock::realtime();
        let shift = Span::from_ms(1_500);
        // The page was made a moment ago from one pair of readings, good to far less than this.
        let pairing = Span::from_us(100);
        assert!(
            reading.corrected >= before + shift - pairing && reading.corrected <= after + shift + pairing
        );
        assert_eq!(reading.status, Status::Synchronized);
        assert!(client.bounds().unwrap().contains(crate::os_clock::realtime() + shift));
    }

    #[test]
    fn a_page_on_the_counter_tells_the_same_time() {
        use crate::{counter, os_clock::boottime};
        use chronotick_core::page::AnchorClock;
        let (Some(first_ticks), first) = (counter::read(), boottime()) else {
            println!("skipped: no counter is known on this processor");
            return;
        };
        while boottime() - first < Span::from_ms(20) {}
        let (ticks, now) = (counter::read().unwrap(), boottime());
        let ns_per_tick = (now - first).as_ns() as f64 / (ticks - first_ticks) as f64;
        let shift = (0..16).find(|&shift| ns_per_tick < f64::from(1 << shift)).unwrap();
        let on_boottime = synchronized(0.25);
        let back = (now.as_ns() - on_boottime.anchor) as f64 / ns_per_tick;
        let on_counter = Record {
            anchor_clock: AnchorClock::Counter { shift },
            anchor_rate: (ns_per_tick * f64::from(1 << 16) * f64::from(1 << (16 - shift))) as u32,
            anchor: ticks - back as i64,
            ..on_boottime
        };
        let dir = tempfile::tempdir().unwrap();
        let client = Client::attach_named(Some(&page(dir.path(), &on_counter.to_bytes()))).unwrap();
        // The first reading decodes, the others are warm.
        for _ in 0..3 {
            let before = crate::os_clock::realtime();
            let reading = client.now_fenced().unwrap();
            let after = crate::os_clock::realtime();
            // The rate was measured over 20 ms, and may be wrong over a second by what a preemption costs.
            let room = Span::from_ms(500);
            let corrected = reading.corrected - Span::from_ms(250);
            assert!(corrected >= before - room && corrected <= after + room);
            assert_eq!(reading.status, Status::Synchronized);
        }
        assert!(client.now_ns().is_ok());
    }

    #[test]
    fn the_reading_that_a_caller_wants() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::attach_named(Some(&page(dir.path(), &synchronized(1.5).to_bytes()))).unwrap();
        let refused = client.now_within(Span::from_us(10)).unwrap_err();
        assert!(matches!(refused, ReadError::TooUncertain { .. }), "{refused}");
        assert!(refused.to_string().starts_with("the time is known to within 1"), "{refused}");
        assert!(client.now_within(Span::from_secs(1)).is_ok());
        let now = client.now().unwrap();
        let later = client.at(Span::from_secs(30)).unwrap();
        assert!(later.max_error() > now.max_error() && later.status == Status::Synchronized);
        assert_eq!((later.ordered(&now), later.after(now.corrected)), (chronotick_core::Order::After, true));
        assert!(client.at(Span::from_secs(-3_600)).unwrap().before(now.corrected));
        assert_eq!(client.at(Span::from_secs(3_600)).unwrap().status, Status::Expired);
        let logged = client.at_system_time(now.system).unwrap();
        assert_eq!((logged.corrected, logged.bound), (now.corrected, now.bound));
        let dir = tempfile::tempdir().unwrap();
        let stopped = Record { flags: Flags(0), ..synchronized(0.0) };
        let client = Client::attach_named(Some(&page(dir.path(), &stopped.to_bytes()))).unwrap();
        assert_eq!(client.now_ns(), Err(ReadError::Untrusted { status: Status::Expired }));
    }

    #[test]
    fn what_is_no_page_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let check = |path: &Path, want: &str| {
            let message = Client::attach_named(path.to_str()).expect_err(want).to_string();
            assert!(message.contains(want), "{message}");
        };
        check(
            &dir.path().join("absent"),
            "ChronoTick daemon not running. Start it with: chronotick-daemon run",
        );
        std::fs::write(dir.path().join("short"), [0; 100]).unwrap();
        check(&dir.path().join("short"), "is 100 bytes long, a clock page is 128");
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        check(&dir.path().join("dir"), "is a directory, not a clock page");
        std::os::unix::fs::symlink(dir.path().join("short"), dir.path().join("link")).unwrap();
        check(&dir.path().join("link"), "is a symbolic link, not a clock page");
        if rustix::process::geteuid().is_root() {
            let foreign = dir.path().join("foreign");
            std::fs::write(&foreign, synchronized(0.0).to_bytes()).unwrap();
            std::os::unix::fs::chown(&foreign, Some(12345), None).unwrap();
            check(&foreign, "belongs to user 12345");
        } else {
            let closed = dir.path().join("closed");
            std::fs::write(&closed, [0; 128]).unwrap();
            std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
            check(&closed, "cannot open the clock page");
        }
    }

    #[test]
    fn a_foreign_page_is_an_error_and_an_empty_one_too() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::attach_named(Some(&page(dir.path(), &[0xff; 128]))).unwrap();
        assert!(client.now().is_err());
        let dir = tempfile::tempdir().unwrap();
        let client = Client::attach_named(Some(&page(dir.path(), &[0; 128]))).unwrap();
        assert_eq!(client.now(), Err(ReadError::WriterDied));
    }

    #[test]
    fn a_replaced_page_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let stopped = Record { flags: Flags(0), ..synchronized(0.0) };
        let client = Client::attach_named(Some(&page(dir.path(), &stopped.to_bytes()))).unwrap();
        assert_eq!(client.status(), Ok(Status::Expired));
        page(dir.path(), &synchronized(0.25).to_bytes());
        client.looked_ns.store(0, Ordering::Relaxed);
        let reading = client.now().unwrap();
        assert_eq!(
            (reading.status, reading.corrected - reading.system),
            (Status::Synchronized, Span::from_ms(250))
        );
    }

    #[test]
    fn a_writer_that_dies_leaves_the_last_good_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let path = page(dir.path(), &synchronized(0.25).to_bytes());
        let client = Client::attach_named(Some(&path)).unwrap();
        client.now().unwrap();
        // The object itself, as a writer that died would leave it: an odd sequence.
        let mut half_written = std::fs::read(&path).unwrap();
        half_written[68] = 3;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &half_written, 0).unwrap();
        assert_eq!(client.now().unwrap().status, Status::Synchronized);
        let fresh = Client::attach_named(Some(&path)).unwrap();
        assert_eq!(fresh.now(), Err(ReadError::WriterDied));
        let cell =
            PageCell::from_words(chronotick_core::page::codec::words_of(&half_written.try_into().unwrap()));
        PageWriter::new(&cell).0.publish(&synchronized(0.5));
        assert!(cell.snapshot(1).is_ok());
    }
}
