//! Reserving space behind the writer's back, so that a batch seldom waits for the file system to find room.

use super::disk::DiskFile;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// A range that is to be reserved.
struct Piece {
    file: Arc<dyn DiskFile>,
    from: u64,
    length: u64,
    /// Where the file's reserved part ends; moved on when the range is reserved.
    reserved: Arc<AtomicU64>,
}

/// The thread that reserves.
#[derive(Debug)]
pub(super) struct Ahead {
    pieces: SyncSender<Piece>,
}

impl Ahead {
    /// Starts the thread; it ends when this is dropped. `None` where there is no thread to be had: the writer then
    /// reserves by itself.
    pub(super) fn start() -> Option<Self> {
        let (pieces, todo) = sync_channel::<Piece>(1);
        let work = move || {
            for piece in todo {
                // What fails here is tried again, and reported, by the writer when it needs the room.
                if piece.file.reserve(piece.from, piece.length).is_ok() {
                    // Relaxed: the number says only how much need not be asked for again.
                    let end = piece.from + piece.length;
                    let _ = piece.reserved.compare_exchange(
                        piece.from,
                        end,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
            }
        };
        std::thread::Builder::new().name("minoots-reserve".to_string()).spawn(work).ok()?;
        Some(Self { pieces })
    }

    /// Asks for the range after the reserved part; does nothing while an earlier request waits.
    pub(super) fn ask(&self, file: &Arc<dyn DiskFile>, reserved: &Arc<AtomicU64>, length: u64) {
        let from = reserved.load(Ordering::Relaxed);
        let piece = Piece { file: file.clone(), from, length, reserved: reserved.clone() };
        if let Err(TrySendError::Disconnected(_)) = self.pieces.try_send(piece) {
            tracing::debug!("the thread that reserves space has ended");
        }
    }
}
