//! Errors on their way to JavaScript: the message, with the code word as the error's `code`.

use chronotick::{AttachError, ErrorCode, ReadError};
use napi_derive::napi;
use std::fmt::Display;

/// What every function here throws. (The macro of napi wants to see `Result` itself in a signature.)
pub(crate) type Fault = napi::Error<&'static str>;

/// An error with this code, to be thrown.
pub(crate) fn failure(code: ErrorCode, message: impl Display) -> Fault {
    napi::Error::new(code.as_str(), message.to_string())
}

pub(crate) fn attach_failure(error: &AttachError) -> Fault {
    failure(error.code(), error)
}

pub(crate) fn read_failure(error: &ReadError) -> Fault {
    failure(error.code(), error)
}

/// Why a wait failed: what a promise resolves to, since a rejection from another thread cannot carry a code.
#[napi(object)]
pub(crate) struct Failure {
    /// The code word.
    pub code: String,
    /// What happened, with what to do next.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Display) -> Self {
        Self { code: code.as_str().to_owned(), message: message.to_string() }
    }
}
