//! A disk that is really full: changes are refused, nothing acknowledged is lost, and work resumes when there is room.
//!
//! Needs the right to mount a small tmpfs; without it the test says so and is skipped.

mod common;

use chronotick_core::Span;
use minoots::clock::OsClock;
use minoots::engine::{EngineError, Started};
use minoots::store::LogOptions;
use minoots_kernel::{TenantId, TimerDefinition, TimerId};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few megabytes, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let size = format!("size={mebibytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|o| o.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut bytes = 16 << 20;
        let mut ballast = Vec::new();
        while bytes > 0 {
            ballast.resize(ballast.len() + bytes, 0x55);
            if std::fs::write(&path, &ballast).is_err() {
                ballast.truncate(ballast.len() - bytes);
                bytes /= 2;
            }
        }
        // Deliberately without a check: what fits is what counts.
        let _ = std::fs::write(&path, &ballast);
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn start(disk: &Path, process: u64) -> Started {
    common::start_in(&disk.join("data"), 1, LogOptions::default(), OsClock, process)
}

fn definition(after: Span) -> TimerDefinition {
    TimerDefinition { metadata_json: Some("x".repeat(20_000)), ..common::definition("n", after) }
}

/// Creates timers until one is refused; returns the acknowledged ones and the refusal.
async fn create_until_refused(engine: &Started, after: Span) -> (Vec<TimerId>, EngineError) {
    let mut acknowledged = Vec::new();
    loop {
        match engine.handle.create(definition(after)).await {
            Ok(created) => acknowledged.push(created.timer.id),
            Err(error) => return (acknowledged, error),
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_room_resumes() {
    let Some(disk) = SmallDisk::mount(8) else {
        println!("skipped: this user may not mount a tmpfs");
        return;
    };
    let engine = start(disk.path(), 1);
    let ballast = disk.fill();
    let far = Span::from_secs(86_400);
    let (mut acknowledged, refusal) = create_until_refused(&engine, far).await;
    assert!(matches!(refusal, EngineError::StoreFull { .. }), "{refusal:?}");
    let data = disk.path().join("data").display().to_string();
    assert!(refusal.to_string().contains(&data), "{refusal}");
    assert!(!engine.handle.status().await.unwrap().accepts_changes());

    // Even a restart works on the full disk, and finds exactly what was acknowledged.
    common::stop(engine);
    let mut engine = start(disk.path(), 2);
    assert_eq!(engine.recoveries[0].last_sequence, acknowledged.len() as u64);
    assert_eq!(engine.recoveries[0].cut, None);
    let (more, refusal) = create_until_refused(&engine, far).await;
    assert!(matches!(refusal, EngineError::StoreFull { .. }), "{refusal:?}");
    acknowledged.extend(more);

    std::fs::remove_file(ballast).unwrap();
    // The engine looks for room by itself; until it has, it refuses.
    let due = loop {
        match engine.handle.create(definition(Span::ZERO)).await {
            Ok(created) => break created.timer.id,
            Err(EngineError::StoreFull { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(engine.fires.recv().await.unwrap()[0].timer.id, due);
    for id in acknowledged {
        engine.handle.get(TenantId::default(), id).await.expect("an acknowledged timer is there");
    }
    engine.handle.shutdown();
    engine.threads.join().unwrap();
}
