//! Static words for numbers: errors, statuses, sources, and the library's version.

use crate::error::ChronotickError as E;
use chronotick::{Source, Status};
use std::ffi::{CStr, c_char};

/// The word for an error number, the same in every language, such as "not_running"; "ok" for 0 and "unknown" for a number
/// that is not in the list. The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn chronotick_error_name(code: u32) -> *const c_char {
    error_name(code).as_ptr()
}

/// The word for a status, such as "synchronized"; "unknown" for a number that is not in the list. The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn chronotick_status_name(status: u32) -> *const c_char {
    status_name(status).as_ptr()
}

/// The word for a source, such as "ntp"; "unknown" for a number that is not in the list. The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn chronotick_source_name(source: u32) -> *const c_char {
    source_name(source).as_ptr()
}

/// The version of the library, such as "0.1.0". The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn chronotick_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Looks a number up in a list of a `repr(u32)` enum's values and words.
macro_rules! word {
    ($number:expr, $($value:path => $word:literal),* $(,)?) => {
        match $number {
            $(n if n == $value as u32 => $word,)*
            _ => c"unknown",
        }
    };
}

fn error_name(code: u32) -> &'static CStr {
    word!(code,
        E::Ok => c"ok",
        E::InvalidArgument => c"invalid_argument",
        E::NotRunning => c"not_running",
        E::BadName => c"bad_name",
        E::NotAFile => c"not_a_file",
        E::WrongSize => c"wrong_size",
        E::WrongOwner => c"wrong_owner",
        E::Io => c"io",
        E::PageCorrupt => c"page_corrupt",
        E::PageVersion => c"page_version",
        E::AnchorUnavailable => c"anchor_unavailable",
        E::WriterDied => c"writer_died",
        E::AlreadyPast => c"already_past",
        E::Untrusted => c"untrusted",
        E::Internal => c"internal",
    )
}

fn status_name(status: u32) -> &'static CStr {
    word!(status,
        Status::Synchronized => c"synchronized",
        Status::WarmingUp => c"warming_up",
        Status::Holdover => c"holdover",
        Status::Disrupted => c"disrupted",
        Status::Expired => c"expired",
        Status::Legacy => c"legacy",
        Status::NoData => c"no_data",
    )
}

fn source_name(source: u32) -> &'static CStr {
    word!(source,
        Source::NoData => c"no_data",
        Source::Ntp => c"ntp",
        Source::CpuModel => c"cpu_model",
        Source::GpuModel => c"gpu_model",
        Source::Fusion => c"fusion",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick::ErrorCode;

    #[test]
    fn words_are_those_of_the_other_languages() {
        let check = |got: &CStr, want: &str| assert_eq!(got.to_str(), Ok(want));
        for code in ErrorCode::ALL {
            check(error_name(code as u32), code.as_str());
        }
        for status in [
            Status::Synchronized,
            Status::WarmingUp,
            Status::Holdover,
            Status::Disrupted,
            Status::Expired,
            Status::Legacy,
            Status::NoData,
        ] {
            check(status_name(status as u32), status.as_str());
        }
        for source in (0..5).filter_map(Source::from_u32) {
            check(source_name(source as u32), source.as_str());
        }
        check(error_name(0), "ok");
        check(error_name(ErrorCode::ALL.len() as u32 + 1), "unknown");
        check(status_name(7), "unknown");
        check(source_name(5), "unknown");
    }

    #[test]
    fn the_version_is_the_crates() {
        // SAFETY: the string is static and ends with a NUL.
        let version = unsafe { CStr::from_ptr(chronotick_version()) };
        assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    }
}
