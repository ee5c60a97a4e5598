//! Survives a clock page that somebody truncates while it is mapped: the SIGBUS of the next read.
//!
//! The kernel answers a read past the end of a mapped file with SIGBUS, which ends the process. The daemon never
//! truncates its page, but any program that may write it can, and a clock must not take its readers down. There is no
//! way round the signal: a size check races with the truncation, `pread` is a system call for each reading, and a named
//! object cannot be sealed against old writers. So the first attach installs a handler for the whole process. For an
//! address inside a page of ours it maps zeroes over it and returns: the read goes on, finds no page, and the client
//! attaches again. Any other SIGBUS goes to the handler that was there before, or ends the process as it would have.
//!
//! The handler uses atomics and `mmap`, both allowed in a signal handler, runs on the alternate stack where there is one
//! (Go wants that) and leaves `errno` as it was. A program that installs its own handler later should call ours for what
//! it does not know, or lives without the protection. [`opt_out`] leaves the signal alone.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

static OPTED_OUT: AtomicBool = AtomicBool::new(false);
static INSTALL: Once = Once::new();
/// What was there before us.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
/// Every slot there is. They are never freed, since a handler may be looking at them; a dropped mapping's is used again.
static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());

/// No handler for SIGBUS is installed by attaches after this call. For a program that wants the signal for itself, and
/// in which a truncated clock page may then end the process. Has no effect after the first attach.
pub fn opt_out() {
    OPTED_OUT.store(true, Ordering::Relaxed);
}

/// One guarded mapping.
#[derive(Debug)]
struct Slot {
    /// Its first byte; 0 when the slot is free.
    start: AtomicUsize,
    length: AtomicUsize,
    /// Zeroes were mapped over it.
    lost: AtomicBool,
    next: AtomicPtr<Slot>,
}

/// Guards a mapping until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(&'static Slot);

impl Guard {
    /// Guards the `length` bytes at `start`, which must be a whole mapping.
    pub(crate) fn new<T>(start: NonNull<T>, length: usize) -> Self {
        INSTALL.call_once(install);
        let slot = free_slot().unwrap_or_else(new_slot);
        slot.length.store(length, Ordering::Relaxed);
        slot.lost.store(false, Ordering::Relaxed);
        // Release: a handler that sees the address sees its length.
        slot.start.store(start.as_ptr().expose_provenance(), Ordering::Release);
        Self(slot)
    }

    /// True when the object shrank away under the mapping, which holds zeroes since then.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }

    /// An object is about to be mapped there again, by `map`. Whatever is lost meanwhile is noted.
    pub(crate) fn renew<T, E>(&self, map: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let was_lost = self.0.lost.swap(false, Ordering::AcqRel);
        let mapped = map();
        if mapped.is_err() && was_lost {
            self.0.lost.store(true, Ordering::Release);
        }
        mapped
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
    }
}

/// 1 is no address of a page: a slot that is being filled.
const TAKEN: usize = 1;

fn slots() -> impl Iterator<Item = &'static Slot> {
    let mut at = SLOTS.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: a pointer in the list is null or from `new_slot`, which leaks what it points to.
        let slot: &'static Slot = unsafe { at.as_ref() }?;
        at = slot.next.load(Ordering::Acquire);
        Some(slot)
    })
}

fn free_slot() -> Option<&'static Slot> {
    slots().find(|s| s.start.compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok())
}

fn new_slot() -> &'static Slot {
    let slot: &'static mut Slot = Box::leak(Box::new(Slot {
        start: AtomicUsize::new(TAKEN),
        length: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        next: AtomicPtr::new(std::ptr::null_mut()),
    }));
    let pointer: *mut Slot = slot;
    // SAFETY: leaked just now, so it lives for ever, and from here on it is only shared.
    let slot: &'static Slot = unsafe { &*pointer };
    let mut head = SLOTS.load(Ordering::Relaxed);
    loop {
        slot.next.store(head, Ordering::Relaxed);
        // Release: whoever finds the slot finds it filled.
        match SLOTS.compare_exchange_weak(head, pointer, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return slot,
            Err(now) => head = now,
        }
    }
}

fn install() {
    if OPTED_OUT.load(Ordering::Relaxed) || cfg!(miri) {
        return;
    }
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer asks for the present action, which is written to `previous`, large enough for it.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), previous.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: zeroes are a valid `sigaction`, and the call above filled it.
    let previous = unsafe { previous.assume_init() };
    // Kept before the handler can run.
    let _ = PREVIOUS.set(previous);
    let mut action = previous;
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `sa_mask` is a signal set that the call may write.
    unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
    // SAFETY: the handler does only what a signal handler may, and has the signature that SA_SIGINFO asks for.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `siginfo_t`.
    let what = unsafe { &*info };
    let code = what.si_code;
    // A positive code is a fault of this thread; anybody can send the signal with another.
    if code > 0 {
        // SAFETY: for a fault the address is there.
        let address = unsafe { what.si_addr() }.addr();
        if slots().any(|slot| cover(slot, address)) {
            return;
        }
    }
    pass_on(signal, code, info, context);
}

/// Maps zeroes over the slot's pages if `address` is in them.
fn cover(slot: &Slot, address: usize) -> bool {
    let start = slot.start.load(Ordering::Acquire);
    let length = slot.length.load(Ordering::Relaxed);
    if start <= TAKEN || !(start..start + length).contains(&address) {
        return false;
    }
    // SAFETY: the address of this thread's `errno` is valid as long as the thread lives.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let errno_before = unsafe { *errno };
    // Before the zeroes can be seen: who sees them finds out why.
    slot.lost.store(true, Ordering::Release);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the range is a whole mapping of ours, which the thread that faulted is reading right now, so that it is not
    // being unmapped. It is only read, by atomic loads, for which zeroes are as good as any content.
    let mapped = unsafe {
        libc::mmap(std::ptr::with_exposed_provenance_mut(start), length, libc::PROT_READ, flags, -1, 0)
    };
    // Once more: another thread may have mapped the object anew since the first, and these zeroes are over it now.
    slot.lost.store(true, Ordering::Release);
    // SAFETY: as above.
    unsafe { *errno = errno_before };
    mapped != libc::MAP_FAILED
}

/// Does what would have been done without us.
fn pass_on(signal: libc::c_int, code: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().map_or(libc::SIG_DFL, |p| p.sa_sigaction);
    let sent = code <= 0;
    match previous {
        // A fault cannot be ignored; a signal that was sent can.
        libc::SIG_IGN if sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the default action may be set from a handler. The instruction that faulted runs again, and ends
            // the process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            if sent {
                // SAFETY: may be called in a handler; the signal is delivered when the handler returns.
                unsafe { libc::raise(signal) };
            }
        }
        handler if PREVIOUS.get().is_some_and(|p| p.sa_flags & libc::SA_SIGINFO != 0) => {
            // SAFETY: the kernel has this as the address of a handler with three arguments.
            let handler = unsafe {
                std::mem::transmute::<
                    libc::sighandler_t,
                    extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
                >(handler)
            };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: the kernel has this as the address of a handler with one argument.
            let handler =
                unsafe { std::mem::transmute::<libc::sighandler_t, extern "C" fn(libc::c_int)>(handler) };
            handler(signal);
        }
    }
}
