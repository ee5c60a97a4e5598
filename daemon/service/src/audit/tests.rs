//! Properties of the audit: whatever is done to its files, it is found.

use super::*;
use crate::clock::ManualClock;
use crate::store::MemoryControl;
use proptest::prelude::*;
use std::fs;

fn open(directory: &Path) -> Audit {
    let control: Arc<dyn ControlStore> = Arc::new(MemoryControl::default());
    let signing = Arc::new(Signing::open(control.clone(), None, 1).unwrap());
    Audit::open(directory, signing, control, Box::new(ManualClock::default())).unwrap()
}

fn written(lines: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    for n in 0..lines {
        audit.note(&Caller::local(None), Verb::CreateTimer, &format!("timer {n}"), Ok(()));
    }
    audit.close();
    let segment = dir.path().join("audit-00000000000000000001.jsonl");
    (dir, segment)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_is_done_to_the_lines_is_found(at in 0usize..1000, kind in 0u8..4, bit in 0u8..8) {
        let (dir, segment) = written(8);
        prop_assert!(verify(dir.path()).unwrap().is_whole());
        let bytes = fs::read(&segment).unwrap();
        let mut lines: Vec<_> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        match kind {
            0 => {
                let line = at % 8;
                let place = (at * 7) % lines[line].len();
                lines[line][place] ^= 1 << bit;
            }
            1 => { lines.remove(at % 8); }
            2 => lines.swap(at % 8, (at + 1 + at / 8 % 7) % 8),
            _ => lines.truncate(at % 8),
        }
        let altered = lines.concat();
        prop_assume!(altered != bytes);
        fs::write(&segment, altered).unwrap();
        let report = verify(dir.path()).unwrap();
        prop_assert!(!report.is_whole(), "kind {} at {} was not found", kind, at);
    }
}

#[test]
fn a_forged_checkpoint_and_a_missing_file_are_found() {
    let (dir, segment) = written(3);
    let checkpoints = dir.path().join("checkpoints.jsonl");
    let signed = fs::read_to_string(&checkpoints).unwrap();
    fs::write(&checkpoints, signed.replace("\\\"seq\\\":3", "\\\"seq\\\":2")).unwrap();
    assert!(!verify(dir.path()).unwrap().is_whole());
    fs::write(&checkpoints, signed).unwrap();
    assert!(verify(dir.path()).unwrap().is_whole());
    fs::remove_file(segment).unwrap();
    assert!(!verify(dir.path()).unwrap().is_whole());
}

#[test]
fn a_torn_last_line_is_cut_and_the_chain_goes_on() {
    let (dir, segment) = written(3);
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(b"{\"seq\":4,\"pre");
    fs::write(&segment, bytes).unwrap();
    assert!(!verify(dir.path()).unwrap().is_whole());
    let audit = open(dir.path());
    audit.note(&Caller::local(None), Verb::CreateTimer, "after", Ok(()));
    audit.flush();
    let lines = fs::read_to_string(&segment).unwrap();
    // The first line of the new run is preceded by one that says how the last one ended.
    assert_eq!(lines.lines().count(), 5, "{lines}");
    assert!(lines.lines().nth(3).unwrap().contains("audit.cut_off"), "{lines}");
    assert!(lines.lines().last().unwrap().contains("\"seq\":5"));
}
