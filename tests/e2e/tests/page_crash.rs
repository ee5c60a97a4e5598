//! Writers of the page killed in the middle of a write: readers never see a mix, and the next writer mends it.
//!
//! Three ways to stop: dead at a chosen word of a write, killed at a random moment at full rate, and halted at every
//! single instruction of a publish, over a page of every kind that a daemon may find.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

mod page_support;

use chronotick::{Client, ErrorCode, Record};
use chronotick_core::page::{PageWriter, Repair, WORDS};
use page_support::{Dice, Ended, Epoch, Forked, SharedPage};
use std::sync::atomic::{AtomicBool, Ordering, fence};

const SEQUENCE_WORD: usize = 8;
const SEED: u64 = 0x0c10_c4ba_d5ee;

/// The stores of one write, in the writer's order: the odd sequence, the other words, the even sequence.
const STORES: u32 = WORDS as u32 + 1;

fn die() {
    // SAFETY: ends this process.
    unsafe { libc::raise(libc::SIGKILL) };
}

fn sequence(page: &SharedPage) -> u32 {
    (page.words()[SEQUENCE_WORD].load(Ordering::Relaxed) >> 32) as u32
}

/// Writes `record` as the writer does, and dies after `stores` of its stores.
fn write_and_die(page: &SharedPage, record: &Record, stores: u32) {
    let words = page.words();
    let odd = (sequence(page) & !1) + 1;
    let new = Record { sequence: odd + 1, ..*record }.to_words();
    let mut left = stores;
    let mut store = |word: usize, value: u64, ordering| {
        if left == 0 {
            die();
        }
        left -= 1;
        words[word].store(value, ordering);
    };
    store(SEQUENCE_WORD, u64::from(odd) << 32 | new[SEQUENCE_WORD] & 0xffff_ffff, Ordering::Relaxed);
    fence(Ordering::Release);
    for word in (0..WORDS).filter(|&w| w != SEQUENCE_WORD) {
        store(word, new[word], Ordering::Relaxed);
    }
    store(SEQUENCE_WORD, new[SEQUENCE_WORD], Ordering::Release);
    die();
}

/// The reading of a client that has just attached.
fn fresh(page: &SharedPage) -> Result<Record, ErrorCode> {
    let client = Client::attach_named(Some(page.name())).unwrap();
    client.now().and_then(|_| client.snapshot()).map_err(|e| e.code())
}

/// The next writer says whether it found a torn page, and mends it.
fn mend(page: &SharedPage, epoch: Epoch, n: u32, client: &Client) -> bool {
    let left_behind = sequence(page);
    let (mut writer, repair) = PageWriter::new(page.cell());
    let torn = left_behind % 2 == 1;
    let want = if torn { Repair::TornWrite { sequence: left_behind } } else { Repair::Clean };
    assert_eq!(repair, want);
    writer.publish(&epoch.record(n));
    assert_eq!(sequence(page), (left_behind & !1) + 2, "one publish is one step");
    for record in [client.snapshot().unwrap(), fresh(page).unwrap()] {
        assert_eq!(epoch.check_record(&record), n);
    }
    torn
}

#[test]
fn a_writer_that_dies_at_any_word_leaves_the_last_good_page() {
    let epoch = Epoch::now();
    let page = SharedPage::create(&Record { sequence: 2, ..epoch.record(1) });
    let attached = Client::attach_named(Some(page.name())).unwrap();
    attached.now().unwrap();
    let mut dice = Dice(SEED);
    let mut torn = 0;
    let mut n = 1;
    // Every place once, then places by chance.
    for turn in 0..1_200 {
        let stores = if turn <= STORES { turn } else { dice.roll(STORES + 1) };
        let child = Forked::start(|| write_and_die(&page, &epoch.record(n + 1), stores));
        assert_eq!(child.wait(), Ended::Signalled(libc::SIGKILL));

        let seen = epoch.check_record(&attached.snapshot().unwrap());
        attached.now().unwrap();
        let newcomer = fresh(&page).map(|r| epoch.check_record(&r));
        let (last_good, want) = match stores {
            0 => (n, Ok(n)),
            STORES => (n + 1, Ok(n + 1)),
            _ => (n, Err(ErrorCode::WriterDied)),
        };
        assert_eq!((seen, newcomer), (last_good, want), "died after {stores} stores");
        torn += u32::from(mend(&page, epoch, n + 2, &attached));
        n += 2;
    }
    println!("1,200 writers died at a chosen word, {torn} of them in the middle of a write");
    assert!(torn >= 1_000, "only {torn} of 1,200 died in the middle");
}

#[test]
fn a_writer_killed_at_full_rate_leaves_the_last_good_page() {
    const KILLS: u32 = 600;
    let epoch = Epoch::now();
    let page = SharedPage::create(&Record { sequence: 2, ..epoch.record(1) });
    let attached = Client::attach_named(Some(page.name())).unwrap();
    attached.now().unwrap();
    let done = AtomicBool::new(false);
    let (torn, read) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let client = Client::attach_named(Some(page.name())).unwrap();
            let mut read = 0u64;
            while !done.load(Ordering::Relaxed) {
                match client.snapshot() {
                    Ok(record) => {
                        epoch.check_record(&record);
                    }
                    // It may have attached to a torn page and seen nothing before.
                    Err(e) => assert_eq!((e.code(), read), (ErrorCode::WriterDied, 0)),
                }
                read += 1;
            }
            read
        });
        let mut dice = Dice(SEED);
        let mut torn = 0;
        let mut n = 1;
        for _ in 0..KILLS {
            let before = sequence(&page);
            let child = Forked::start(|| {
                let (mut writer, _) = PageWriter::new(page.cell());
                for m in n + 1.. {
                    writer.publish(&epoch.record(m));
                }
            });
            while sequence(&page).wrapping_sub(before) < 2 {
                std::hint::spin_loop();
            }
            for _ in 0..dice.roll(2_000) {
                std::hint::spin_loop();
            }
            child.kill();
            assert_eq!(child.wait(), Ended::Signalled(libc::SIGKILL));

            let seen = epoch.check_record(&attached.snapshot().unwrap());
            if let Err(code) = fresh(&page).map(|r| assert_eq!(epoch.check_record(&r), seen)) {
                assert_eq!((code, sequence(&page) % 2), (ErrorCode::WriterDied, 1));
            }
            n = seen + 10;
            torn += u32::from(mend(&page, epoch, n, &attached));
        }
        done.store(true, Ordering::Relaxed);
        (torn, reader.join().unwrap())
    });
    println!(
        "{KILLS} writers killed at full rate, {torn} in the middle of a write; {read} records read meanwhile"
    );
    assert!(torn > 0 && read > u64::from(KILLS), "{torn} torn, {read} read");
}

/// Steps through one publish over `first`, and looks at the page as a newcomer after every instruction that changed it.
/// Returns how many instructions and how many changes there were; `None` where stepping is forbidden.
fn step_through(first: [u64; WORDS], old: Option<Record>, epoch: Epoch) -> Option<(u32, u32)> {
    let page = SharedPage::create(&Record::default());
    let look = || page.words().each_ref().map(|w| w.load(Ordering::Acquire));
    for (word, value) in page.words().iter().zip(first) {
        word.store(value, Ordering::Release);
    }
    let attached = Client::attach_named(Some(page.name())).unwrap();
    let before = attached.now().is_ok();
    let new = epoch.record(42);
    let child = Forked::traced(|| PageWriter::new(page.cell()).0.publish(&new))?;
    let (mut steps, mut changes, mut last) = (0, 0, first);
    while child.step() {
        steps += 1;
        let now = look();
        if now == last {
            continue;
        }
        last = now;
        changes += 1;
        // The sequence alone may already be that of the write under way: it has no parity in an old page.
        let is = |want: Record, got: &Record| *got == Record { sequence: got.sequence, ..want };
        match fresh(&page) {
            Ok(record) => {
                assert!(
                    is(new, &record) || old.is_some_and(|o| is(o, &record)),
                    "change {changes}: torn: {record:?}"
                );
                assert!(!is(new, &record) || record.sequence % 2 == 0);
            }
            Err(code) => assert_eq!(code, ErrorCode::WriterDied, "change {changes}"),
        }
        if before {
            let record = attached.snapshot().unwrap();
            assert!(
                is(new, &record) || old.is_some_and(|o| is(o, &record)),
                "change {changes}: torn: {record:?}"
            );
        }
    }
    assert_eq!(attached.snapshot().unwrap(), Record { sequence: sequence(&page), ..new });
    Some((steps, changes))
}

#[test]
fn halted_at_any_instruction_a_publish_shows_the_old_page_or_the_new_one() {
    let epoch = Epoch::now();
    let v2 = Record { sequence: 6, ..epoch.record(41) };
    let mut torn = epoch.record(40).to_words();
    torn[0] = v2.to_words()[0];
    torn[SEQUENCE_WORD] = 7 << 32;
    let [even, odd] = [6, 7].map(|sequence| Record { sequence, ..epoch.legacy(41) });
    let never_measured =
        Record { sequence: 0, flags: Default::default(), daemon_uptime: 0.0, ..epoch.legacy(41) };
    let idle = Record { source: chronotick::Source::NoData, ..never_measured };
    for (what, first, old) in [
        ("a page of ours", v2.to_words(), Some(v2)),
        ("a page of ours that is torn", torn, None),
        ("an old page with an even sequence", even.to_words(), Some(even)),
        ("an old page with an odd sequence", odd.to_words(), Some(odd)),
        ("an old page of a daemon that measured nothing", idle.to_words(), Some(idle)),
        ("an empty page", [0; WORDS], None),
    ] {
        let Some((steps, changes)) = step_through(first, old, epoch) else {
            println!("skipped: a publish instruction by instruction: ptrace is forbidden here");
            return;
        };
        println!("over {what}: {steps} instructions, {changes} of them changed the page");
        assert!(changes >= WORDS as u32 / 2, "{changes} changes");
    }
}
