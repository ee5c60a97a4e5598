//! A real shared-memory object for the tests of the page, and records of which every field follows from one number.
#![allow(dead_code, reason = "each test uses its own part")]

use chronotick::os_clock::realtime_boottime_pair;
use chronotick::{Flags, MonoTime, Reading, Record, Source, Status};
use chronotick_core::page::{AnchorClock, PAGE_SIZE, PageCell, Version, WORDS};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Records differ by their number modulo this: all that a reading shows follows from the remainder.
pub(crate) const KINDS: u32 = 997;

/// The moment that the records of one test are made around: a pair of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    /// A whole second of CLOCK_REALTIME some minutes ago.
    pub(crate) unix_s: i64,
    /// CLOCK_BOOTTIME at that second.
    pub(crate) boottime_ns: i64,
}

impl Epoch {
    pub(crate) fn now() -> Self {
        let (real, boot, _) = realtime_boottime_pair();
        // Half of the kinds have a prediction time in the past, the others in the future.
        let unix_s = real.as_ns().div_euclid(1_000_000_000) - i64::from(KINDS / 2);
        Self { unix_s, boottime_ns: boot.as_ns() - (real.as_ns() - unix_s * 1_000_000_000) }
    }

    /// Record number `n`. Any two words of two records of different kinds are different.
    pub(crate) fn record(self, n: u32) -> Record {
        let kind = n % KINDS;
        let k = f64::from(kind);
        let prediction_time = (self.unix_s + i64::from(kind)) as f64;
        Record {
            corrected_timestamp: prediction_time + 0.25,
            system_timestamp: prediction_time + 0.5,
            offset_correction: k * 1e-3,
            drift_rate: k * 1e-12,
            offset_uncertainty: k * 1e-6,
            // Zero would hide it in no mix, and readings keep sigma a function of the kind alone.
            drift_uncertainty: 0.0,
            prediction_time,
            valid_until: prediction_time + 100_000.0 + k,
            confidence: kind as f32 / 1024.0,
            sequence: 0,
            flags: Flags(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE)
                .with_disruption_count(kind as u8),
            source: [Source::Ntp, Source::CpuModel, Source::GpuModel, Source::Fusion][kind as usize % 4],
            measurement_count: n,
            version: Version::V2,
            anchor_clock: AnchorClock::Boottime,
            last_ntp_sync: prediction_time - 1.0,
            daemon_uptime: f64::from(n) + 0.5,
            total_corrections: n,
            // A multiple of a power of two, which an f32 holds exactly.
            max_error: (kind + 1) as f32 / 1024.0,
            average_latency_ms: k as f32,
            anchor_rate: kind,
            anchor: self.boottime_ns + i64::from(kind) * 1_000_000_000,
        }
    }

    /// Record number `n` as an old Python daemon would write it: without magic, anchor and bound.
    pub(crate) fn legacy(self, n: u32) -> Record {
        Record {
            version: Version::Legacy,
            sequence: n,
            anchor_clock: AnchorClock::None,
            max_error: 0.0,
            anchor_rate: 0,
            anchor: 0,
            ..self.record(n)
        }
    }

    /// Fails unless `record` is exactly one that a writer of ours wrote. Returns its number.
    pub(crate) fn check_record(self, record: &Record) -> u32 {
        let n = record.measurement_count;
        assert_eq!(*record, Record { sequence: record.sequence, ..self.record(n) }, "a torn record");
        assert!(record.sequence.is_multiple_of(2), "a record of an unfinished write: {record:?}");
        n
    }

    /// Fails unless `reading`, made between the two readings of CLOCK_BOOTTIME, follows from one record alone.
    pub(crate) fn check_reading(self, reading: &Reading, before: MonoTime, after: MonoTime) {
        // The arithmetic is the page's, worked out again; C and Python do the same with their readings.
        let system = reading.system.as_ns();
        let correction = reading.corrected.as_ns() - system;
        let kind = (correction + 500_000).div_euclid(1_000_000);
        let k = kind as f64;
        let elapsed = system - (self.unix_s + kind) * 1_000_000_000;
        let drift = (elapsed as f64 * (k * 1e-12)).round() as i64;
        let growth = (elapsed.abs() as f64 * 15e-6).ceil() as i64;
        let bound = ((k + 1.0) / 1024.0 * 1e9).ceil() as i64 + growth;
        let boottime = system - self.unix_s * 1_000_000_000 + self.boottime_ns;
        let whole = (0..i64::from(KINDS)).contains(&kind)
            && (correction - kind * 1_000_000 - drift).abs() <= 1
            && (reading.corrected.as_ns() - reading.bound.earliest().as_ns() - bound).abs() <= 1
            && (reading.bound.latest().as_ns() - reading.corrected.as_ns() - bound).abs() <= 1
            && (reading.sigma().as_ns() - kind * 1_000).abs() <= 1
            && reading.drift_rate == k * 1e-12
            && reading.confidence == kind as f32 / 1024.0
            && reading.source as i64 == 1 + kind % 4
            && reading.status == Status::Synchronized
            && before.as_ns() <= boottime
            && boottime <= after.as_ns();
        assert!(
            whole,
            "a torn reading: kind {kind}, elapsed {elapsed} ns, {reading:?}, {before:?} to {after:?}"
        );
    }
}

/// A page of 128 bytes in `/dev/shm`, mapped for writing; its name is removed at the end.
#[derive(Debug)]
pub(crate) struct SharedPage {
    path: PathBuf,
    address: *mut libc::c_void,
}

// SAFETY: the mapping is only used through atomics, and is never unmapped.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    pub(crate) fn create(first: &Record) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/chronotick_test_{}_{number}", std::process::id()));
        std::fs::write(&path, first.to_bytes()).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let address = map(&file);
        Self { path, address }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The page as its writer has it.
    pub(crate) fn cell(&self) -> &'static PageCell {
        // SAFETY: the mapping is page-aligned, 128 bytes long, never unmapped, and `PageCell` is nothing but atomics.
        unsafe { &*self.address.cast::<PageCell>() }
    }

    /// The page word by word, for writers that stop in the middle.
    pub(crate) fn words(&self) -> &'static [AtomicU64; WORDS] {
        // SAFETY: as above; `PageCell` is these sixteen atomics and nothing else.
        unsafe { &*self.address.cast::<[AtomicU64; WORDS]>() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn map(file: &File) -> *mut libc::c_void {
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
    let address = unsafe {
        mmap(std::ptr::null_mut(), PAGE_SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)
    };
    address.unwrap()
}

/// How a forked child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// With this exit status; 101 after a panic.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// A forked child. It must be waited for.
#[must_use]
#[derive(Debug)]
pub(crate) struct Forked(libc::pid_t);

impl Forked {
    /// Runs `child` in a copy of this process, which ends with it.
    pub(crate) fn start(child: impl FnOnce()) -> Self {
        // SAFETY: the child calls nothing but `child`, and leaves by `_exit`: it touches no lock that another thread of
        // this process may have held, but those of the allocator and of stdio, which the C library makes usable again.
        match unsafe { libc::fork() } {
            -1 => panic!("cannot fork: {}", std::io::Error::last_os_error()),
            0 => {
                let code = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)) {
                    Ok(()) => 0,
                    Err(_) => 101,
                };
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(code) }
            }
            child => Self(child),
        }
    }

    /// As [`start`](Self::start), but the child stands still before its first step. `None` where tracing is forbidden.
    pub(crate) fn traced(child: impl FnOnce()) -> Option<Self> {
        let child = Self::start(|| {
            // SAFETY: asks to be traced by the parent; the other arguments are not looked at.
            let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            if traced != 0 {
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(77) };
            }
            // SAFETY: stops this process, which its tracer lets go on.
            unsafe { libc::raise(libc::SIGSTOP) };
            child();
        });
        if child.stopped() { Some(child) } else { None }
    }

    /// Lets a traced child do one instruction; false when it has ended.
    pub(crate) fn step(&self) -> bool {
        // SAFETY: the child is traced by us and stopped; address and data are not looked at.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.0, 0, 0) };
        assert_eq!(stepped, 0, "ptrace: {}", std::io::Error::last_os_error());
        self.stopped()
    }

    fn stopped(&self) -> bool {
        let mut status = 0;
        // SAFETY: `status` is writable for the whole call.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert_eq!(waited, self.0, "waitpid: {}", std::io::Error::last_os_error());
        libc::WIFSTOPPED(status)
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self) {
        // SAFETY: the child was not waited for, so the number is still its own.
        let sent = unsafe { libc::kill(self.0, libc::SIGKILL) };
        assert_eq!(sent, 0);
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        let mut status = 0;
        // SAFETY: `status` is writable for the whole call.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert_eq!(waited, self.0, "waitpid: {}", std::io::Error::last_os_error());
        if libc::WIFSIGNALED(status) {
            Ended::Signalled(libc::WTERMSIG(status))
        } else {
            Ended::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// Numbers that look random, the same in every run.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `limit`.
    pub(crate) fn roll(&mut self, limit: u32) -> u32 {
        // The 64-bit linear congruential generator of Knuth's MMIX; its upper bits are good.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }
}
