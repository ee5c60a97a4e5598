//! Model checking of the seqlock with loom: one writer, one or two readers, every interleaving of the memory model.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p chronotick-core --features writer --release --test seqlock_loom`.
//! The first tests check the protocol that the page uses, over fewer words. The others check a copy of it with exactly
//! one of its four orderings taken away: each copy must fail, which shows that the model can find what it looks for.
#![cfg(loom)]
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick_core::page::seqlock::{load_once, store_once};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// A page of three words, the middle one with the sequence: every relaxed load doubles what loom must explore.
const WORDS: usize = 3;
const SEQUENCE: usize = 1;
/// What every failure here says: words that were never together in one write, or under another sequence.
const NO_SUCH_WRITE: &str = "a snapshot that no write made";

type Page = [AtomicU64; WORDS];

/// The words of the write that ends with `sequence`: all of them follow from it, so that any mix shows.
fn written(sequence: u32) -> [u64; WORDS] {
    let n = u64::from(sequence);
    [n + 1, n << 32, n + 2]
}

fn page(words: [u64; WORDS]) -> Arc<Page> {
    Arc::new(words.map(AtomicU64::new))
}

fn assert_some_write_made(words: [u64; WORDS]) {
    let sequence = (words[SEQUENCE] >> 32) as u32;
    assert!(sequence % 2 == 0 && words == written(sequence), "{NO_SUCH_WRITE}: {words:?}");
}

/// Explores `writer` against `readers` threads that each make one attempt.
fn explore(
    preemptions: Option<usize>,
    readers: usize,
    first: [u64; WORDS],
    writer: impl Fn(&Page) + Sync + Send + 'static,
    reader: impl Fn(&Page) -> Option<[u64; WORDS]> + Copy + Sync + Send + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        let page = page(first);
        let threads: Vec<_> = (0..readers)
            .map(|_| {
                let page = Arc::clone(&page);
                loom::thread::spawn(move || {
                    if let Some(words) = reader(&page) {
                        assert_some_write_made(words);
                    }
                })
            })
            .collect();
        writer(&page);
        for thread in threads {
            thread.join().unwrap();
        }
        let last = load_once::<WORDS, SEQUENCE>(&page).expect("nobody writes any more");
        assert_some_write_made(last);
    });
}

fn real_reader(page: &Page) -> Option<[u64; WORDS]> {
    load_once::<WORDS, SEQUENCE>(page).ok()
}

fn real_write(page: &Page, odd: u32, even: u32) {
    store_once::<WORDS, SEQUENCE>(page, odd, &written(even));
}

#[test]
fn two_readers_never_see_a_torn_page() {
    // Unbounded, two readers take hours. Three forced switches are enough for every torn read that we know of.
    explore(Some(3), 2, written(2), |page| real_write(page, 3, 4), real_reader);
}

#[test]
fn a_reader_of_one_write_never_sees_a_torn_page_however_threads_are_switched() {
    explore(None, 1, written(2), |page| real_write(page, 3, 4), real_reader);
}

#[test]
fn a_reader_across_two_writes_never_sees_a_torn_page() {
    let two_writes = |page: &Page| {
        real_write(page, 3, 4);
        real_write(page, 5, 6);
    };
    explore(None, 1, written(2), two_writes, real_reader);
}

#[test]
fn two_readers_across_two_writes_never_see_a_torn_page() {
    let two_writes = |page: &Page| {
        real_write(page, 3, 4);
        real_write(page, 5, 6);
    };
    explore(Some(2), 2, written(2), two_writes, real_reader);
}

#[test]
fn a_reader_across_the_wrap_of_the_sequence_never_sees_a_torn_page() {
    // As the writer counts: after the greatest odd number comes 2, since 0 means never published.
    let two_writes = |page: &Page| {
        real_write(page, u32::MAX, 2);
        real_write(page, 3, 4);
    };
    explore(None, 1, written(u32::MAX - 1), two_writes, real_reader);
}

#[test]
fn a_reader_never_sees_what_a_dead_writer_left_while_the_next_one_mends_it() {
    // The dead writer had begun number 5 and stored one word of it.
    let torn = [written(6)[0], 5 << 32, written(4)[2]];
    explore(None, 1, torn, |page| real_write(page, 5, 6), real_reader);
}

/// The protocol again, with each of its orderings to choose.
#[derive(Clone, Copy)]
struct Copied {
    release_fence: bool,
    acquire_fence: bool,
    last_store: Ordering,
    first_load: Ordering,
}

/// The copy as the page has it.
const WHOLE: Copied = Copied {
    release_fence: true,
    acquire_fence: true,
    last_store: Ordering::Release,
    first_load: Ordering::Acquire,
};

impl Copied {
    fn store(self, page: &Page, odd: u32, new: [u64; WORDS]) {
        page[SEQUENCE].store(u64::from(odd) << 32, Ordering::Relaxed);
        if self.release_fence {
            fence(Ordering::Release);
        }
        page[0].store(new[0], Ordering::Relaxed);
        page[2].store(new[2], Ordering::Relaxed);
        page[SEQUENCE].store(new[SEQUENCE], self.last_store);
    }

    fn load(self, page: &Page) -> Option<[u64; WORDS]> {
        let before = page[SEQUENCE].load(self.first_load);
        if (before >> 32) % 2 == 1 {
            return None;
        }
        let (a, b) = (page[0].load(Ordering::Relaxed), page[2].load(Ordering::Relaxed));
        if self.acquire_fence {
            fence(Ordering::Acquire);
        }
        (page[SEQUENCE].load(Ordering::Relaxed) == before).then_some([a, before, b])
    }

    fn check(self) {
        let writer = move |page: &Page| self.store(page, 3, written(4));
        explore(None, 1, written(2), writer, move |page| self.load(page));
    }
}

#[test]
fn the_copy_with_all_its_orderings_passes() {
    WHOLE.check();
}

#[test]
#[should_panic(expected = "a snapshot that no write made")]
fn without_the_release_fence_it_fails() {
    Copied { release_fence: false, ..WHOLE }.check();
}

#[test]
#[should_panic(expected = "a snapshot that no write made")]
fn without_the_acquire_fence_it_fails() {
    Copied { acquire_fence: false, ..WHOLE }.check();
}

#[test]
#[should_panic(expected = "a snapshot that no write made")]
fn without_release_on_the_last_store_it_fails() {
    // The release fence stands before the words, so reading this store tells nothing of them.
    Copied { last_store: Ordering::Relaxed, ..WHOLE }.check();
}

#[test]
#[should_panic(expected = "a snapshot that no write made")]
fn without_acquire_on_the_first_load_it_fails() {
    // The acquire fence stands after the words, so it cannot make them as new as the sequence.
    Copied { first_load: Ordering::Relaxed, ..WHOLE }.check();
}
