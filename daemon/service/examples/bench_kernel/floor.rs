//! The floor: the same bytes written and synced, with nothing around.

use std::os::unix::fs::FileExt;
use std::path::Path;

const FILE_BYTES: u64 = 256 << 20;

/// Writes to a file with reserved space, each with its own sync.
pub(super) struct Floor {
    file: std::fs::File,
    at: u64,
}

impl Floor {
    pub(super) fn new(dir: &Path) -> Self {
        let file = std::fs::File::create(dir.join("floor")).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES).unwrap();
        Self { file, at: 0 }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).unwrap();
        self.at += bytes.len() as u64;
        self.file.sync_data().unwrap();
    }
}
