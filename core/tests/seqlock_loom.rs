//! Model checking of the seqlock with loom: one writer and two readers, every interleaving the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p chronotick-core --features writer --release --test seqlock_loom`.
//! The second test removes the two fences from a copy of the protocol: a torn read must then turn up, which shows
//! that the model can fail.
#![cfg(loom)]
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick_core::page::seqlock::{load_once, store_once};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};

/// A page of three words, the middle one with the sequence: every relaxed load doubles what loom must explore.
const WORDS: usize = 3;
const SEQUENCE: usize = 1;

#[test]
fn two_readers_never_see_a_torn_page() {
    let mut model = loom::model::Builder::new();
    // Unbounded, two readers take hours. Three forced switches are enough for every torn read that we know of.
    model.preemption_bound = Some(3);
    model.check(|| {
        let page = Arc::new([AtomicU64::new(1), AtomicU64::new(2 << 32), AtomicU64::new(1)]);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let page = Arc::clone(&page);
                loom::thread::spawn(move || {
                    if let Ok(words) = load_once::<WORDS, SEQUENCE>(&page) {
                        assert_eq!(words[0], words[2], "torn snapshot");
                        // The snapshot belongs to the write that its sequence names.
                        assert_eq!(words[0], words[SEQUENCE] >> 33, "snapshot of another write");
                    }
                })
            })
            .collect();
        store_once::<WORDS, SEQUENCE>(&page, 3, &[2, 4 << 32, 2]);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
#[should_panic(expected = "torn snapshot")]
fn without_the_fences_the_model_finds_a_torn_read() {
    loom::model(|| {
        let sequence = Arc::new(AtomicU64::new(0));
        let words = Arc::new([AtomicU64::new(1), AtomicU64::new(1)]);
        let (s, w) = (Arc::clone(&sequence), Arc::clone(&words));
        let reader = loom::thread::spawn(move || {
            let before = s.load(Ordering::Acquire);
            let (a, b) = (w[0].load(Ordering::Relaxed), w[1].load(Ordering::Relaxed));
            let after = s.load(Ordering::Relaxed);
            assert!(before % 2 == 1 || before != after || a == b, "torn snapshot");
        });
        sequence.store(1, Ordering::Relaxed);
        words[0].store(2, Ordering::Relaxed);
        words[1].store(2, Ordering::Relaxed);
        sequence.store(2, Ordering::Release);
        reader.join().unwrap();
    });
}
