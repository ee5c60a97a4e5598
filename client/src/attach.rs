//! Attaching the clock page: opening the object read-only, checking it, mapping it. The client's only `unsafe`.
#![allow(unsafe_code)]

use crate::error::AttachError;
use crate::sigbus::Guard;
use chronotick_core::page::{PAGE_SIZE, PageCell};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// A read-only mapping of a page, at an address that stays the same when another object is mapped over it.
#[derive(Debug)]
pub(crate) struct Mapping {
    path: PathBuf,
    address: NonNull<PageCell>,
    length: usize,
    /// Until just before the unmapping.
    guard: Option<Guard>,
}

// SAFETY: the mapping is only ever read, through atomics, and lives until the `Mapping` is dropped.
unsafe impl Send for Mapping {}
// SAFETY: as above; `remap` replaces the pages under the same address in one system call.
unsafe impl Sync for Mapping {}

/// What names an object: a page that was unlinked and made anew has another identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Mapping {
    /// Opens, checks and maps the page at `path`.
    pub(crate) fn open(path: &Path) -> Result<(Self, Identity), AttachError> {
        let (fd, identity) = open_checked(path)?;
        let length = rustix::param::page_size();
        let io = |e: Errno| AttachError::Io { path: path.to_owned(), source: e.into() };
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let address = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &fd, 0)
        }
        .map_err(io)?;
        let address = NonNull::new(address.cast::<PageCell>()).ok_or_else(|| io(Errno::INVAL))?;
        let guard = Some(Guard::new(address, length));
        Ok((Self { path: path.to_owned(), address, length, guard }, identity))
    }

    /// Maps whatever object has the name now over the same address. Readers in other threads see either the old page
    /// or the new one. Returns its identity.
    pub(crate) fn remap(&self) -> Result<Identity, AttachError> {
        let (fd, identity) = open_checked(&self.path)?;
        let map = || {
            // SAFETY: the range is our own mapping, of the same length, and stays mapped and readable throughout; the
            // cell is only accessed by atomic loads, for which any content is valid.
            unsafe {
                rustix::mm::mmap(
                    self.address.as_ptr().cast(),
                    self.length,
                    ProtFlags::READ,
                    MapFlags::SHARED | MapFlags::FIXED,
                    &fd,
                    0,
                )
            }
        };
        let mapped = match &self.guard {
            Some(guard) => guard.renew(map),
            None => map(),
        };
        mapped.map_err(|e| AttachError::Io { path: self.path.clone(), source: e.into() })?;
        Ok(identity)
    }

    /// True when the object shrank under the mapping, so that even the same one must be mapped again.
    pub(crate) fn is_lost(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_lost)
    }

    /// The identity of the object that has the name now, if there is one.
    pub(crate) fn named_now(&self) -> Option<Identity> {
        rustix::fs::lstat(&self.path).ok().map(|s| identity_of(&s))
    }

    /// The page.
    pub(crate) fn cell(&self) -> &PageCell {
        // SAFETY: the mapping is at least 128 bytes long (the object's size was checked), page-aligned, readable
        // until drop, and `PageCell` is nothing but atomics.
        unsafe { self.address.as_ref() }
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // First: the next mapping at this address may be somebody else's.
        self.guard = None;
        // SAFETY: `address` and `length` are those of our own mapping, which nobody can reach after this.
        let unmapped = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

#[expect(clippy::unnecessary_cast, reason = "the types of these fields differ between targets")]
fn identity_of(stat: &Stat) -> Identity {
    Identity { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
}

fn open_checked(path: &Path) -> Result<(OwnedFd, Identity), AttachError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e {
        Errno::NOENT => AttachError::NotRunning { path: path.to_owned() },
        Errno::LOOP => AttachError::NotAFile { path: path.to_owned(), what: "symbolic link" },
        e => AttachError::Io { path: path.to_owned(), source: e.into() },
    })?;
    let stat =
        rustix::fs::fstat(&fd).map_err(|e| AttachError::Io { path: path.to_owned(), source: e.into() })?;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("directory"),
        FileType::Fifo => Some("named pipe"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("device"),
        _ => Some("special file"),
    };
    if let Some(what) = what {
        return Err(AttachError::NotAFile { path: path.to_owned(), what });
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(AttachError::WrongOwner { path: path.to_owned(), owner: stat.st_uid });
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size != PAGE_SIZE as u64 {
        return Err(AttachError::WrongSize { path: path.to_owned(), size });
    }
    Ok((fd, identity_of(&stat)))
}
