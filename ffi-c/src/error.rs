//! The result of every C function: its number, the message kept for the thread, and the guard that makes both.

use chronotick::{AttachError, ErrorCode, ReadError, WaitError};
use std::cell::RefCell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function returns. Numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ChronotickError {
    /// It worked, and the outputs are written.
    Ok = 0,
    /// An argument is not allowed, such as a NULL pointer.
    InvalidArgument = 1,
    /// There is no clock page: the daemon does not run.
    NotRunning = 2,
    /// The page's name is neither one path component nor an absolute path.
    BadName = 3,
    /// The object is not a regular file.
    NotAFile = 4,
    /// The object, or the bytes given, are not 128 bytes long.
    WrongSize = 5,
    /// The object belongs to neither root nor this user.
    WrongOwner = 6,
    /// The operating system refused.
    Io = 7,
    /// The page holds something that is no clock page.
    PageCorrupt = 8,
    /// The page is newer than this library.
    PageVersion = 9,
    /// The page's anchor clock cannot be read here.
    AnchorUnavailable = 10,
    /// The page is half written and nobody finishes it.
    WriterDied = 11,
    /// The target of a wait has passed.
    AlreadyPast = 12,
    /// The clock is not to be trusted now.
    Untrusted = 13,
    /// A defect of this library.
    Internal = 14,
}

impl ChronotickError {
    /// The number of a client's error. The match is exhaustive, so a new code cannot be forgotten here.
    pub const fn from_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidArgument => Self::InvalidArgument,
            ErrorCode::NotRunning => Self::NotRunning,
            ErrorCode::BadName => Self::BadName,
            ErrorCode::NotAFile => Self::NotAFile,
            ErrorCode::WrongSize => Self::WrongSize,
            ErrorCode::WrongOwner => Self::WrongOwner,
            ErrorCode::Io => Self::Io,
            ErrorCode::PageCorrupt => Self::PageCorrupt,
            ErrorCode::PageVersion => Self::PageVersion,
            ErrorCode::AnchorUnavailable => Self::AnchorUnavailable,
            ErrorCode::WriterDied => Self::WriterDied,
            ErrorCode::AlreadyPast => Self::AlreadyPast,
            ErrorCode::Untrusted => Self::Untrusted,
            ErrorCode::Internal => Self::Internal,
        }
    }
}

// The numbers in C are those of every other language.
const _: () = {
    let mut i = 0;
    while i < ErrorCode::ALL.len() {
        assert!(ChronotickError::from_code(ErrorCode::ALL[i]) as u32 == ErrorCode::ALL[i] as u32);
        i += 1;
    }
};

/// Why a call failed.
pub(crate) struct Failure {
    code: ErrorCode,
    message: String,
}

impl Failure {
    /// An argument that the contract forbids.
    pub(crate) fn invalid_argument(message: &str) -> Self {
        Self { code: ErrorCode::InvalidArgument, message: message.to_owned() }
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(e: $error) -> Self {
                Self { code: e.code(), message: e.to_string() }
            }
        })*
    };
}

failure_from!(AttachError, ReadError, WaitError);

thread_local! {
    static LAST_MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn remember(message: String) {
    // A thread that is being torn down has nobody left to ask for the message.
    let _gone = LAST_MESSAGE.try_with(|last| last.replace(message));
}

/// Runs the body of a C function: keeps the message of a failure, and lets no panic into C.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> ChronotickError {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => ChronotickError::Ok,
        Ok(Err(failure)) => {
            remember(failure.message);
            ChronotickError::from_code(failure.code)
        }
        Err(payload) => {
            let what = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            remember(format!("defect in the chronotick library, please report it: {what}"));
            // Dropping a payload may panic again; a defect may cost a few bytes.
            std::mem::forget(payload);
            ChronotickError::Internal
        }
    }
}

/// Copies the message of this thread's last failed call into `buffer`, cut off to `length` bytes with the final NUL, and
/// returns the whole message's length without the NUL, as snprintf does. With a NULL buffer or a length of 0 only the
/// length is returned. The message says what happened and what to do; it is empty before the first failure.
///
/// # Safety
/// `buffer` is NULL or points to `length` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_last_error_message(buffer: *mut c_char, length: usize) -> usize {
    let copy = |last: &RefCell<String>| {
        let message = last.borrow();
        if !buffer.is_null() && length > 0 {
            let copied = message.floor_char_boundary(length - 1);
            // SAFETY: the caller gives `length` writable bytes, more than `copied`, and lends them for this call.
            let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), copied + 1) };
            buffer[..copied].copy_from_slice(&message.as_bytes()[..copied]);
            buffer[copied] = 0;
        }
        message.len()
    };
    catch_unwind(AssertUnwindSafe(|| LAST_MESSAGE.try_with(copy))).map_or(0, |done| done.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn message(length: usize) -> (usize, String) {
        let mut buffer = vec![0x7f as c_char; length.max(1)];
        // SAFETY: the buffer has `length` bytes.
        let whole = unsafe { chronotick_last_error_message(buffer.as_mut_ptr(), length) };
        // SAFETY: with a length above 0 the function ends what it writes with a NUL.
        let text = if length == 0 { c"" } else { unsafe { CStr::from_ptr(buffer.as_ptr()) } };
        (whole, text.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_panic_becomes_internal() {
        assert_eq!(guard(|| panic!("number {}", 7)), ChronotickError::Internal);
        assert!(message(200).1.ends_with("please report it: number 7"));
        assert_eq!(guard(|| std::panic::panic_any(7)), ChronotickError::Internal);
        assert!(message(200).1.ends_with("no message"));
    }

    #[test]
    fn a_message_is_cut_to_the_buffer_and_kept_for_the_thread() {
        assert_eq!(message(10), (0, String::new()));
        let failed = guard(|| Err(Failure::invalid_argument("größe")));
        assert_eq!(failed, ChronotickError::InvalidArgument);
        let check = |length, want: &str| assert_eq!(message(length), ("größe".len(), want.to_owned()));
        check(8, "größe");
        check(7, "größ");
        check(4, "gr");
        check(1, "");
        check(0, "");
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { chronotick_last_error_message(std::ptr::null_mut(), 9) }, 7);
        let elsewhere = std::thread::spawn(|| message(8)).join().unwrap();
        assert_eq!(elsewhere, (0, String::new()), "another thread's message is its own");
        assert_eq!(guard(|| Ok(())), ChronotickError::Ok);
        check(8, "größe");
    }
}
