//! The result of every C function: its number, the message kept for the thread, and the guard that makes both.

use chronotick::{AttachError, ErrorCode, ReadError, WaitError};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
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
    static LAST_MESSAGE: RefCell<CString> = RefCell::new(CString::default());
}

fn remember(message: String) {
    // A message may quote a name, and a name given as bytes may hold a NUL, where C's string would end.
    let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
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

/// The message of this thread's last failed call: what happened and what to do. Empty before the first failure. The
/// string belongs to the library and is valid until this thread calls a function of the library again, or ends.
#[unsafe(no_mangle)]
pub extern "C" fn chronotick_last_error_message() -> *const c_char {
    const NONE: &CStr = c"";
    let kept = catch_unwind(|| LAST_MESSAGE.try_with(|last| last.borrow().as_ptr()));
    kept.map_or(NONE.as_ptr(), |pointer| pointer.unwrap_or(NONE.as_ptr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: the string is valid until the next call, and ends with a NUL.
        unsafe { CStr::from_ptr(chronotick_last_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_internal() {
        assert_eq!(guard(|| panic!("number {}", 7)), ChronotickError::Internal);
        assert!(message().ends_with("please report it: number 7"));
        assert_eq!(guard(|| std::panic::panic_any(7)), ChronotickError::Internal);
        assert!(message().ends_with("no message"));
    }

    #[test]
    fn a_message_is_kept_for_the_thread_until_the_next_failure() {
        assert_eq!(message(), "");
        assert_eq!(guard(|| Err(Failure::invalid_argument("größe\0"))), ChronotickError::InvalidArgument);
        assert_eq!(message(), "größe\\0");
        assert_eq!(std::thread::spawn(message).join().unwrap(), "", "another thread's message is its own");
        assert_eq!(guard(|| Ok(())), ChronotickError::Ok);
        assert_eq!(message(), "größe\\0");
    }
}
