//! Hostile objects under the page's name, before and after a client attached: a clear error or recovery, never a crash.
//!
//! What may crash runs in a forked child, so that a signal shows as the failure of the case.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

mod page_support;

use chronotick::{Client, ErrorCode, Flags, Status};
use chronotick_core::page::{PageWriter, Record};
use e2e::eventually;
use page_support::{Ended, Epoch, Forked, SharedPage};
use rustix::fs::{Mode, chown, mkfifoat};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const STRANGER: u32 = 12_345;

/// A page as a daemon that runs now has it.
fn good() -> Record {
    Record { sequence: 2, ..Epoch::now().record(7) }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn fifo(path: &Path) {
    mkfifoat(rustix::fs::CWD, path, Mode::from_raw_mode(0o644)).unwrap();
}

fn give_away(path: &Path) {
    chown(path, Some(rustix::fs::Uid::from_raw(STRANGER)), None).unwrap();
}

fn truncate(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Puts a whole page under the name in one step, whatever stands there.
fn put_page(path: &Path, record: &Record) {
    if path.is_dir() {
        std::fs::remove_dir(path).unwrap();
    }
    let new = path.with_extension("new");
    std::fs::write(&new, record.to_bytes()).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Attaching what `make` puts under the name fails with `want`, and the message says what to do.
fn check_attach(what: &str, make: impl FnOnce(&Path), want: ErrorCode) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("page");
    make(&path);
    match Client::attach_named(path.to_str()) {
        Ok(_) => panic!("{what} was attached"),
        Err(e) => {
            assert_eq!(e.code(), want, "{what}: {e}");
            assert!(e.to_string().contains(path.to_str().unwrap()), "{what}: {e}");
        }
    }
}

/// What `content` holds can be attached, and gives this error and no reading.
fn check_content(what: &str, content: &[u8], want: ErrorCode) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("page");
    std::fs::write(&path, content).unwrap();
    let client = Client::attach_named(path.to_str()).unwrap();
    assert_eq!(client.now().map_err(|e| e.code()).map(|r| r.status), Err(want), "{what}");
}

#[test]
fn what_is_no_page_is_not_attached() {
    check_attach("nothing", |_| {}, ErrorCode::NotRunning);
    for length in [0, 1, 64, 127, 129, 4_096] {
        let make = |p: &Path| std::fs::write(p, vec![0; length]).unwrap();
        check_attach(&format!("a file of {length} bytes"), make, ErrorCode::WrongSize);
    }
    let link_to_page = |p: &Path| {
        std::fs::write(p.with_extension("other"), good().to_bytes()).unwrap();
        symlink(p.with_extension("other"), p).unwrap();
    };
    check_attach("a symbolic link to a page", link_to_page, ErrorCode::NotAFile);
    check_attach("a symbolic link to nothing", |p| symlink("absent", p).unwrap(), ErrorCode::NotAFile);
    check_attach("a directory", |p| std::fs::create_dir(p).unwrap(), ErrorCode::NotAFile);
    check_attach("a named pipe", fifo, ErrorCode::NotAFile);
    let socket = |p: &Path| drop(std::os::unix::net::UnixListener::bind(p).unwrap());
    check_attach("a socket", socket, ErrorCode::Io);
    let device = Client::attach_named(Some("/dev/zero")).unwrap_err();
    assert_eq!(device.code(), ErrorCode::NotAFile, "{device}");
    let below_a_file = Client::attach_named(Some("/dev/zero/page")).unwrap_err();
    assert_eq!(below_a_file.code(), ErrorCode::Io, "{below_a_file}");
}

#[test]
fn what_holds_no_page_gives_no_reading() {
    let check = check_content;
    check("zeros", &[0; 128], ErrorCode::WriterDied);
    // The magic is not ours, so the words count as an old page's, and they are no times.
    check("ones", &[0xff; 128], ErrorCode::PageCorrupt);
    check("text", &"clock ".repeat(22).as_bytes()[..128], ErrorCode::PageCorrupt);
    let mut newer = good().to_bytes();
    newer[86] = 3;
    check("a later version", &newer, ErrorCode::PageVersion);
    let mut torn = good().to_bytes();
    torn[68] |= 1;
    check("an unfinished write", &torn, ErrorCode::WriterDied);
}

#[test]
fn other_users_pages_and_unreadable_ones_are_not_attached() {
    if !is_root() {
        println!("skipped: pages of other users: only root can make them");
        return;
    }
    let page = |p: &Path| std::fs::write(p, good().to_bytes()).unwrap();
    let foreign = |p: &Path| {
        page(p);
        give_away(p);
    };
    check_attach("another user's page", foreign, ErrorCode::WrongOwner);
    let unreadable = SharedPage::create(&good());
    std::fs::set_permissions(unreadable.path(), Permissions::from_mode(0o600)).unwrap();
    let child = Forked::start(|| {
        // SAFETY: changes the user of this forked child only.
        assert_eq!(unsafe { libc::seteuid(STRANGER) }, 0);
        let refused = Client::attach_named(Some(unreadable.name())).unwrap_err();
        assert!(
            refused.code() == ErrorCode::Io && refused.to_string().contains("ermission denied"),
            "{refused}"
        );
    });
    assert_eq!(child.wait(), Ended::Exited(0));
}

/// A client in a child process, attached to a page that a daemon publishes.
struct Attached {
    page: SharedPage,
    client: Client,
}

impl Attached {
    fn new() -> Self {
        let page = SharedPage::create(&good());
        let client = Client::attach_named(Some(page.name())).unwrap();
        Self { page, client }
    }

    /// A daemon that was started anew has made a page under the name: the client finds it by itself.
    fn expect_recovery(&self) {
        put_page(self.page.path(), &Record { offset_correction: 5.0, ..good() });
        eventually("the new page", || {
            let reading = self.client.now().ok()?;
            let correction = reading.corrected - reading.system;
            (correction.as_secs_f64() > 4.9 && reading.status == Status::Synchronized).then_some(())
        });
    }
}

/// The name is taken away or given to something else, and the object stays: attached readers go on with it until its
/// daemon withdraws it, never take the new thing, and find the page of the next daemon.
fn check_renamed(what: &str, harm: impl Fn(&Path)) {
    let child = Forked::start(|| {
        let a = Attached::new();
        std::fs::remove_file(a.page.path()).unwrap();
        harm(a.page.path());
        for _ in 0..1_000 {
            assert_eq!(a.client.now().unwrap().status, Status::Synchronized);
        }
        PageWriter::new(a.page.cell()).0.publish(&Record { flags: Flags(0), ..good() });
        for _ in 0..1_000 {
            assert_eq!(a.client.now().unwrap().status, Status::Expired);
        }
        a.expect_recovery();
    });
    assert_eq!(child.wait(), Ended::Exited(0), "{what}");
}

#[test]
fn a_name_that_is_taken_away_or_misused_disturbs_no_attached_reader() {
    check_renamed("unlinked", |_| {});
    check_renamed("a symbolic link", |p| symlink("/etc/passwd", p).unwrap());
    check_renamed("a directory", |p| std::fs::create_dir(p).unwrap());
    check_renamed("a named pipe", fifo);
    check_renamed("an empty file", |p| std::fs::write(p, []).unwrap());
    check_renamed("a file of 4096 bytes", |p| std::fs::write(p, [1; 4_096]).unwrap());
    if is_root() {
        check_renamed("another user's page", |p| {
            std::fs::write(p, good().to_bytes()).unwrap();
            give_away(p);
        });
    } else {
        println!("skipped: the name given to another user's page: only root can make one");
    }
}

/// The object itself is damaged: readers get the last good page or a clear error, no signal, and find the page of the
/// next daemon. `has_read`: the client has a last good page.
fn check_damaged(what: &str, has_read: bool, harm: impl Fn(&Path)) {
    let child = Forked::start(|| {
        let a = Attached::new();
        if has_read {
            assert_eq!(a.client.now().unwrap().status, Status::Synchronized);
        }
        harm(a.page.path());
        for _ in 0..1_000 {
            match a.client.now() {
                Ok(r) if r.status == Status::Synchronized => {
                    assert!(has_read && (r.corrected - r.system).as_secs_f64() < 0.1, "{r:?}");
                }
                // A page cut to half has lost its magic and its flags: it looks like an old one without data.
                Ok(r) => assert_eq!(r.status, Status::NoData),
                Err(e) => assert!(matches!(e.code(), ErrorCode::WriterDied | ErrorCode::PageCorrupt), "{e}"),
            }
        }
        a.expect_recovery();
    });
    assert_eq!(child.wait(), Ended::Exited(0), "{what}, read before: {has_read}");
}

#[test]
fn a_truncated_or_overwritten_page_gives_an_error_and_no_signal() {
    for has_read in [true, false] {
        let check = |what: &str, harm: &dyn Fn(&Path)| check_damaged(what, has_read, harm);
        check("cut to nothing", &|p| truncate(p, 0));
        check("cut to one byte", &|p| truncate(p, 1));
        check("cut to half", &|p| truncate(p, 64));
        check("cut to nothing and grown again", &|p| {
            truncate(p, 0);
            truncate(p, 128);
        });
        check("overwritten with ones", &|p| std::fs::write(p, [0xff; 128]).unwrap());
        check("made longer and filled with zeros", &|p| std::fs::write(p, [0; 4_096]).unwrap());
    }
}

#[test]
fn two_attached_pages_of_one_process_are_told_apart_when_one_is_cut() {
    let child = Forked::start(|| {
        let (cut, whole) = (Attached::new(), Attached::new());
        let readings = |a: &Attached| a.client.now().map(|r| r.status).map_err(|e| e.code());
        assert_eq!((readings(&cut), readings(&whole)), (Ok(Status::Synchronized), Ok(Status::Synchronized)));
        truncate(cut.page.path(), 0);
        for _ in 0..100 {
            let _ = readings(&cut);
            assert_eq!(readings(&whole), Ok(Status::Synchronized));
        }
        cut.expect_recovery();
        assert_eq!(readings(&whole), Ok(Status::Synchronized));
    });
    assert_eq!(child.wait(), Ended::Exited(0));
}

#[test]
fn a_bus_error_of_the_programs_own_still_ends_it() {
    let child = Forked::start(|| {
        let a = Attached::new();
        a.client.now().unwrap();
        let mine = SharedPage::create(&good());
        truncate(mine.path(), 0);
        // What the child leaves behind when it dies.
        [&a.page, &mine].into_iter().for_each(|p| std::fs::remove_file(p.path()).unwrap());
        // Not a mapping of the client: nobody may hide this fault.
        mine.words()[0].load(std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(child.wait(), Ended::Signalled(libc::SIGBUS));
}
