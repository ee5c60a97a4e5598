//! What the kernel says of its clock, read with adjtimex. Nothing is ever set.

use crate::sources::Failure;
use chronotick_core::Span;
use chronotick_discipline::Leap;
use std::io;
use std::mem::MaybeUninit;

/// How the kernel's clock stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct KernelClock {
    /// Somebody disciplines it, and said that it succeeds.
    pub(crate) is_synchronized: bool,
    /// What the kernel still has to add to the system clock.
    pub(crate) remaining: Span,
    /// How far the system clock may be wrong.
    pub(crate) max_error: Span,
    /// TAI minus UTC in seconds; zero where nobody told the kernel.
    pub(crate) tai_minus_utc_s: i64,
    /// Leap second warning.
    pub(crate) leap: Leap,
}

impl KernelClock {
    fn from_raw(status: i32, state: i32, offset: i64, max_error_us: i64, tai_s: i32) -> Self {
        let is = |bit: i32| status & bit != 0;
        Self {
            is_synchronized: !is(libc::STA_UNSYNC) && state != libc::TIME_ERROR,
            remaining: if is(libc::STA_NANO) { Span::from_ns(offset) } else { Span::from_us(offset) },
            max_error: Span::from_us(max_error_us.max(0)),
            tai_minus_utc_s: i64::from(tai_s),
            leap: match (is(libc::STA_INS), is(libc::STA_DEL)) {
                (true, _) => Leap::Insert,
                (_, true) => Leap::Delete,
                _ => Leap::None,
            },
        }
    }
}

/// Reads it; the error is for the user.
pub(crate) fn read() -> Result<KernelClock, Failure> {
    adjtimex().map_err(|e| {
        let hint = match e.kind() {
            // Reading needs no privilege, but sandboxes forbid the whole call.
            io::ErrorKind::PermissionDenied => {
                "; a sandbox forbids it (systemd: ProtectClock=no and SystemCallFilter=adjtimex allow it)"
            }
            _ => "",
        };
        Failure::Other(format!("cannot ask the kernel about its clock (adjtimex): {e}{hint}"))
    })
}

fn adjtimex() -> io::Result<KernelClock> {
    // SAFETY: timex is made of integers only, for which all zeros is a value.
    let mut t: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    // `modes` is zero: nothing is set, and no privilege is needed.
    // SAFETY: the pointer is that of a live, exclusively borrowed timex.
    let state = unsafe { libc::adjtimex(&raw mut t) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(KernelClock::from_raw(t.status, state, t.offset, t.maxerror, t.tai))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_the_kernel() {
        let nano = libc::STA_NANO;
        let c = KernelClock::from_raw(nano | libc::STA_INS, libc::TIME_INS, -1500, 2000, 37);
        assert_eq!(
            (c.is_synchronized, c.remaining, c.max_error),
            (true, Span::from_ns(-1500), Span::from_ms(2))
        );
        assert_eq!((c.tai_minus_utc_s, c.leap), (37, Leap::Insert));
        let c = KernelClock::from_raw(libc::STA_DEL, libc::TIME_OK, 1500, 2000, 0);
        assert_eq!((c.remaining, c.leap), (Span::from_us(1500), Leap::Delete));
        for (status, state) in [(libc::STA_UNSYNC, libc::TIME_OK), (0, libc::TIME_ERROR)] {
            assert!(!KernelClock::from_raw(status, state, 0, 0, 0).is_synchronized);
        }
    }
}
