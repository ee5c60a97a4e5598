//! The processor time of a process, from /proc.

use std::fs;
use std::path::PathBuf;

/// Nanoseconds that all threads of the process have run so far; nothing when it is gone.
///
/// The scheduler's own count, in nanoseconds. utime and stime come in ticks of 10 ms, of which chronyd uses few in two
/// minutes.
pub(crate) fn used_ns(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    // A thread that ended meanwhile has no file; neither daemon starts and ends threads while it runs.
    let of = |task: PathBuf| -> Option<u64> {
        fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    let all: Vec<u64> = tasks.flatten().filter_map(|t| of(t.path())).collect();
    (!all.is_empty()).then(|| all.iter().sum())
}

/// The load average over one minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
