//! What can go wrong, one enum per operation. Each message says what to do next.

use chronotick_core::page::{PageError, Status, reading::AnchorUnavailable};
use chronotick_core::{Span, Timestamp};
use std::path::PathBuf;

/// The errors as numbers and words: the same in every language. Numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ErrorCode {
    /// An argument is not allowed.
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

impl ErrorCode {
    /// All codes, for bindings that make one exception of each.
    pub const ALL: [Self; 14] = [
        Self::InvalidArgument,
        Self::NotRunning,
        Self::BadName,
        Self::NotAFile,
        Self::WrongSize,
        Self::WrongOwner,
        Self::Io,
        Self::PageCorrupt,
        Self::PageVersion,
        Self::AnchorUnavailable,
        Self::WriterDied,
        Self::AlreadyPast,
        Self::Untrusted,
        Self::Internal,
    ];

    /// The word used in every language.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotRunning => "not_running",
            Self::BadName => "bad_name",
            Self::NotAFile => "not_a_file",
            Self::WrongSize => "wrong_size",
            Self::WrongOwner => "wrong_owner",
            Self::Io => "io",
            Self::PageCorrupt => "page_corrupt",
            Self::PageVersion => "page_version",
            Self::AnchorUnavailable => "anchor_unavailable",
            Self::WriterDied => "writer_died",
            Self::AlreadyPast => "already_past",
            Self::Untrusted => "untrusted",
            Self::Internal => "internal",
        }
    }
}

impl AttachError {
    /// Its stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotRunning { .. } => ErrorCode::NotRunning,
            Self::BadName { .. } => ErrorCode::BadName,
            Self::NotAFile { .. } => ErrorCode::NotAFile,
            Self::WrongSize { .. } => ErrorCode::WrongSize,
            Self::WrongOwner { .. } => ErrorCode::WrongOwner,
            Self::Io { .. } => ErrorCode::Io,
        }
    }
}

impl ReadError {
    /// Its stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Page(PageError::UnknownVersion(_) | PageError::UnknownAnchor(_)) => ErrorCode::PageVersion,
            Self::Page(_) => ErrorCode::PageCorrupt,
            Self::Anchor(_) => ErrorCode::AnchorUnavailable,
            Self::WrongLength { .. } => ErrorCode::WrongSize,
            Self::WriterDied => ErrorCode::WriterDied,
            Self::Untrusted { .. } | Self::TooUncertain { .. } => ErrorCode::Untrusted,
        }
    }
}

impl WaitError {
    /// Its stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::AlreadyPast { .. } => ErrorCode::AlreadyPast,
            Self::Untrusted { .. } | Self::StillUntrusted { .. } => ErrorCode::Untrusted,
            Self::Read(e) => e.code(),
        }
    }
}

/// Why the clock page could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no page.
    #[error("ChronoTick daemon not running. Start it with: chronotick-daemon run (no clock page at {})", path.display())]
    NotRunning {
        /// Where the page was looked for.
        path: PathBuf,
    },
    /// The name is neither one path component nor an absolute path.
    #[error("bad clock page name {name:?}: give a name such as chronotick_shm, or an absolute path")]
    BadName {
        /// The name as given.
        name: String,
    },
    /// The object is not a regular file.
    #[error("{} is a {what}, not a clock page: remove it, then start chronotick-daemon", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// The object has another size.
    #[error("{} is {size} bytes long, a clock page is 128: it was truncated or is not a clock page; remove it, then start chronotick-daemon", path.display())]
    WrongSize {
        /// Where.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The object belongs to neither root nor this user.
    #[error("{} belongs to user {owner}, who is neither root nor you: it is not trusted as a clock page", path.display())]
    WrongOwner {
        /// Where.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// The operating system refused.
    #[error("cannot open the clock page {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Why there is no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The page holds something that is no clock page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The page's anchor clock cannot be read here.
    #[error(transparent)]
    Anchor(#[from] AnchorUnavailable),
    /// The bytes handed over are not those of a page.
    #[error("a clock page is 128 bytes long, not {length}")]
    WrongLength {
        /// How many there were.
        length: usize,
    },
    /// A write is under way for too long and no earlier snapshot is still valid: the daemon died in the middle.
    #[error("the clock page is half written and its daemon seems dead: restart chronotick-daemon")]
    WriterDied,
    /// The clock is not to be trusted now, and only a bare number was asked for.
    #[error("the clock is {status}: wait until `chronotick-daemon status` says synchronized")]
    Untrusted {
        /// Its status.
        status: Status,
    },
    /// The bound is wider than the caller allows.
    #[error("the time is known {}, and {max_error} was asked for: {TOO_UNCERTAIN}", Within(*error))]
    TooUncertain {
        /// The bound's half width; [`Span::MAX`] without a bound.
        error: Span,
        /// What the caller allows.
        max_error: Span,
    },
}

const TOO_UNCERTAIN: &str =
    "allow more, or let the daemon measure longer, against nearer servers (`chronotick-daemon status`)";

/// How well a time is known, in words.
struct Within(Span);

impl std::fmt::Display for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Span::MAX => f.write_str("without any bound"),
            error => write!(f, "to within {error}"),
        }
    }
}

/// Why a wait ended without reaching its target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The target had passed before the wait began.
    #[error("the target time passed {late_by} ago: choose a time that is still to come")]
    AlreadyPast {
        /// Corrected time at the call.
        now: Timestamp,
        /// How far the target lies behind it.
        late_by: Span,
    },
    /// The clock cannot be trusted (any more).
    #[error(
        "cannot wait on a clock that is {status}: wait until `chronotick-daemon status` says synchronized"
    )]
    Untrusted {
        /// Its status.
        status: Status,
    },
    /// The clock did not become one to be trusted in time.
    #[error("the clock is still {status} after {waited}: see `chronotick-daemon status`, or wait longer")]
    StillUntrusted {
        /// Its status at the end.
        status: Status,
        /// The timeout.
        waited: Span,
    },
    /// The clock could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
