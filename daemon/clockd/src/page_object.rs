//! The shared-memory object: made, locked, checked and mapped. The only unsafe code of this program.

use chronotick_core::page::{PAGE_SIZE, PageCell, Record};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why the page could not be taken over.
#[derive(Debug)]
pub(crate) enum PageObjectError {
    /// Another daemon holds the lock.
    Locked,
    /// There is something under this name that is no clock page; why is said.
    Foreign {
        /// Where.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// The operating system refused.
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl std::fmt::Display for PageObjectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked => f.write_str("another daemon holds the clock page"),
            Self::Foreign { path, why } => {
                write!(
                    f,
                    "{p} is no clock page: {why}; remove it (rm -f {p} {p}.keep) or choose another --shm",
                    p = path.display()
                )
            }
            Self::Io { path, what, source } => {
                write!(f, "cannot {what} {}: {source}; check its directory and owner", path.display())
            }
        }
    }
}

/// The locked and mapped page. The mapping lives as long as the process: readers of other processes and the thread
/// that poisons the page at the end must never find it gone.
#[derive(Debug)]
pub(crate) struct PageObject {
    /// Holds the lock, which the kernel lets go when the process ends, however it ends.
    file: File,
    /// The page.
    pub(crate) cell: &'static PageCell,
    /// True when it was there before.
    pub(crate) reused: bool,
    /// The disruption count of whoever wrote it before.
    pub(crate) disruptions: u8,
    /// Its two names.
    pub(crate) names: PageNames,
}

/// The name that readers know, and a second hard link that keeps the object when the first is removed: an old Python
/// client removes it whenever it exits.
#[derive(Clone, Debug)]
pub(crate) struct PageNames {
    path: PathBuf,
    keep: PathBuf,
}

impl PageNames {
    fn of(path: &Path) -> Self {
        let mut keep = path.as_os_str().to_owned();
        keep.push(".keep");
        Self { path: path.to_owned(), keep: keep.into() }
    }

    /// Gives the object its name back if that has vanished; true when it had. Attached readers notice nothing.
    pub(crate) fn restore(&self) -> io::Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            there => return there.map(|_| false),
        }
        std::fs::hard_link(&self.keep, &self.path).map(|()| true)
    }

    /// Makes the second link anew, to what has the first name now.
    fn link_keep(&self) -> io::Result<()> {
        let object = |path| std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()));
        // In a sticky directory only the owner could remove it.
        if object(&self.keep).is_some_and(|keep| Some(keep) == object(&self.path)) {
            return Ok(());
        }
        match std::fs::remove_file(&self.keep) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::fs::hard_link(&self.path, &self.keep)
    }
}

impl PageObject {
    /// Takes over the page at `path`, or makes it from `first`.
    pub(crate) fn open(path: &Path, first: &Record) -> Result<Self, PageObjectError> {
        // Another daemon may come or go between two steps; each turn starts from what is there then.
        let names = PageNames::of(path);
        for _ in 0..16 {
            // A page that lost its name is still the page: its daemon may be alive, its readers surely are.
            match names.restore() {
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
                Err(source) => {
                    return Err(PageObjectError::Io { path: path.to_owned(), what: "look at", source });
                }
            }
            if let Some(page) = Self::reuse(path)? {
                return Ok(page);
            }
            if let Some(page) = Self::create(path, first)? {
                return Ok(page);
            }
        }
        Err(PageObjectError::Locked)
    }

    /// `None` when there is nothing under this name, or no longer the same.
    fn reuse(path: &Path) -> Result<Option<Self>, PageObjectError> {
        let failed = |what| move |source| PageObjectError::Io { path: path.to_owned(), what, source };
        let foreign = |why: String| PageObjectError::Foreign { path: path.to_owned(), why };
        let found = match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(failed("look at"))?,
        };
        if !found.is_file() {
            return Err(foreign("it is not a regular file".to_owned()));
        }
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed("open"))?,
        };
        let meta = file.metadata().map_err(failed("look at"))?;
        let own = rustix::process::geteuid().as_raw();
        if meta.uid() != own && meta.uid() != 0 {
            return Err(foreign(format!("it belongs to user {}, not to you ({own})", meta.uid())));
        }
        if meta.len() != PAGE_SIZE as u64 {
            return Err(foreign(format!("it is {} bytes long, not {PAGE_SIZE}", meta.len())));
        }
        lock(&file, libc::F_WRLCK)
            .map_err(|e| if is_taken(&e) { PageObjectError::Locked } else { failed("lock")(e) })?;
        let now_there = std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()));
        if now_there != Some((meta.dev(), meta.ino())) {
            return Ok(None);
        }
        let mut bytes = [0; PAGE_SIZE];
        file.read_exact_at(&mut bytes, 0).map_err(failed("read"))?;
        check_content(&bytes).map_err(foreign)?;
        if meta.uid() == own {
            file.set_permissions(Permissions::from_mode(0o644)).map_err(failed("set the mode of"))?;
        } else if meta.mode() & 0o002 != 0 {
            return Err(foreign("everybody may write it".to_owned()));
        }
        let cell = map(&file).map_err(failed("map"))?;
        let names = PageNames::of(path);
        names.link_keep().map_err(failed("make a second link to"))?;
        // The third byte of the flags; it is right in a torn page too, since every page of one writer has it.
        let disruptions = if bytes[84..87] == *b"CT\x02" { bytes[74] } else { 0 };
        Ok(Some(Self { file, cell, reused: true, disruptions, names }))
    }

    /// Makes the object under a name of its own, fills and locks it, and only then gives it its name: nobody ever sees
    /// an empty page. `None` when somebody else was faster.
    fn create(path: &Path, first: &Record) -> Result<Option<Self>, PageObjectError> {
        let failed = |what| move |source| PageObjectError::Io { path: path.to_owned(), what, source };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = path.with_file_name(name);
        // A daemon with our process number that died here left it behind.
        let _ = std::fs::remove_file(&temporary);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&temporary)
            .map_err(failed("create"))?;
        let filled = file
            .write_all_at(&first.to_bytes(), 0)
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .and_then(|()| lock(&file, libc::F_WRLCK))
            .and_then(|()| map(&file))
            .and_then(|cell| std::fs::hard_link(&temporary, path).map(|()| cell));
        let _ = std::fs::remove_file(&temporary);
        match filled {
            Ok(cell) => {
                let names = PageNames::of(path);
                names.link_keep().map_err(failed("make a second link to"))?;
                Ok(Some(Self { file, cell, reused: false, disruptions: 0, names }))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(failed("create")(e)),
        }
    }
}

impl PageObject {
    /// Says who may read and write it.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))
    }
}

impl Drop for PageObject {
    fn drop(&mut self) {
        // The mapping keeps the open file, and so the lock, alive after the descriptor is closed. A failure is the
        // kernel's to mend at the end of the process.
        let _ = lock(&self.file, libc::F_UNLCK);
    }
}

/// True when some process holds the lock of the page: there is a live daemon, whatever its number.
pub(crate) fn is_locked(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) else {
        return false;
    };
    let mut ask = whole_file(libc::F_RDLCK);
    // SAFETY: the descriptor is open for the whole call, and `ask` is a valid `flock` that the call may write to.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut ask) };
    answer == 0 && ask.l_type != libc::F_UNLCK as libc::c_short
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // Required to be 0 for open file description locks.
        l_pid: 0,
    }
}

/// `kind`: F_WRLCK or F_UNLCK.
fn lock(file: &File, kind: libc::c_int) -> io::Result<()> {
    let wanted = whole_file(kind);
    // SAFETY: the descriptor is open for the whole call, and `wanted` is a valid `flock` that the call only reads.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const wanted) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_taken(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

/// A page may be torn (its writer died), empty (never published) or old; anything else is somebody else's file.
fn check_content(bytes: &[u8; PAGE_SIZE]) -> Result<(), String> {
    if bytes[84..87] == *b"CT\x02" || bytes.iter().all(|&b| b == 0) {
        return Ok(());
    }
    Record::from_bytes(bytes).map(|_| ()).map_err(|e| e.to_string())
}

fn map(file: &File) -> io::Result<&'static PageCell> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the address is chosen by the kernel, so no existing mapping is replaced; the file is 128 bytes long.
    let address = unsafe { mmap(std::ptr::null_mut(), PAGE_SIZE, protection, MapFlags::SHARED, file, 0) }?;
    // SAFETY: the mapping starts on a page boundary, which satisfies the alignment of 64, is PAGE_SIZE bytes long, which
    // is the size of PageCell, and is never unmapped. PageCell is made of atomics, so other processes may access it too.
    Ok(unsafe { &*address.cast::<PageCell>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::page::{PageWriter, Repair};

    fn record(n: u32) -> Record {
        Record { measurement_count: n, prediction_time: 1e9, ..Record::default() }
    }

    fn inode(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn a_new_page_is_filled_locked_and_readable_by_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        assert!(!is_locked(&path));
        let page = PageObject::open(&path, &record(7)).unwrap();
        assert!(!page.reused);
        let bytes: [u8; PAGE_SIZE] = std::fs::read(&path).unwrap().try_into().unwrap();
        assert_eq!(Record::from_bytes(&bytes).unwrap().measurement_count, 7);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert!(is_locked(&path));
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["page", "page.keep"], "the temporary name is gone");
    }

    #[test]
    fn the_second_is_refused_while_the_first_lives_and_then_reuses_the_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        let first = PageObject::open(&path, &record(1)).unwrap();
        let before = inode(&path);
        assert!(matches!(PageObject::open(&path, &record(2)), Err(PageObjectError::Locked)));
        drop(first);
        let second = PageObject::open(&path, &record(2)).unwrap();
        assert!(second.reused);
        assert_eq!(inode(&path), before);
    }

    #[test]
    fn what_the_writer_stores_is_in_the_file_and_a_torn_page_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        let page = PageObject::open(&path, &record(1)).unwrap();
        let (mut writer, repair) = PageWriter::new(page.cell);
        assert_eq!(repair, Repair::Clean);
        writer.publish(&record(5));
        let mut bytes: [u8; PAGE_SIZE] = std::fs::read(&path).unwrap().try_into().unwrap();
        assert_eq!(Record::from_bytes(&bytes).unwrap().measurement_count, 5);
        drop(page);
        bytes[68] |= 1;
        std::fs::write(&path, bytes).unwrap();
        let page = PageObject::open(&path, &record(1)).unwrap();
        assert!(matches!(PageWriter::new(page.cell).1, Repair::TornWrite { .. }));
    }

    #[test]
    fn a_removed_name_comes_back_with_the_same_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        let page = PageObject::open(&path, &record(1)).unwrap();
        let before = inode(&path);
        assert!(!page.names.restore().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(page.names.restore().unwrap());
        assert_eq!(inode(&path), before);
        // Also a second daemon must not take the free name for a free page.
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(PageObject::open(&path, &record(2)), Err(PageObjectError::Locked)));
        drop(page);
        std::fs::remove_file(&path).unwrap();
        assert!(PageObject::open(&path, &record(2)).unwrap().reused);
        assert_eq!(inode(&path), before);
    }

    #[test]
    fn foreign_objects_are_refused_untouched() {
        let check = |make: &dyn Fn(&Path), want: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("page");
            make(&path);
            let message = PageObject::open(&path, &record(1)).expect_err(want).to_string();
            assert!(message.contains(want) && message.contains("rm "), "{message}");
        };
        check(&|p| std::fs::write(p, [1; 100]).unwrap(), "100 bytes long");
        check(&|p| std::fs::write(p, []).unwrap(), "0 bytes long");
        check(&|p| std::fs::write(p, [0xff; PAGE_SIZE]).unwrap(), "no clock page");
        check(&|p| std::fs::create_dir(p).unwrap(), "not a regular file");
        check(&|p| std::os::unix::fs::symlink("/etc/passwd", p).unwrap(), "not a regular file");
    }
}
