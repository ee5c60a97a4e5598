//! What is computed without a client or a clock: the bytes of a page, a reading's sigma, the order of two readings.

use crate::client::not_null;
use crate::error::{ChronotickError, Failure, guard};
use crate::types::{ChronotickClocks, ChronotickOrder, ChronotickReading};
use chronotick::{ReadError, Span, TimeBound, Timestamp};
use chronotick_core::page::{PAGE_SIZE, Sigma};

/// Computes the reading that a client would make of a page with these bytes at these clock readings. Reads no clock.
///
/// # Safety
/// `page` is NULL or points to `length` readable bytes; `clocks` is NULL or readable; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_evaluate(
    page: *const u8,
    length: usize,
    clocks: *const ChronotickClocks,
    out: *mut ChronotickReading,
) -> ChronotickError {
    guard(|| {
        // First, since languages pass an empty array as NULL and 0.
        if length != PAGE_SIZE {
            return Err(ReadError::WrongLength { length }.into());
        }
        not_null(page, "page")?;
        not_null(clocks, "clocks")?;
        not_null(out, "out")?;
        // SAFETY: not NULL, and by the caller's promise `length` bytes are readable; `length` is 128.
        let page = unsafe { page.cast::<[u8; PAGE_SIZE]>().read_unaligned() };
        // SAFETY: not NULL, so by the caller's promise it is readable.
        let clocks = unsafe { clocks.read() };
        let reading = chronotick::evaluate(&page, &clocks.into())?.into();
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(reading) };
        Ok(())
    })
}

/// One standard deviation of a reading, ns; -1 when `reading` is NULL. Worked out here and not with every reading, since
/// its square root takes as long as reading a clock.
///
/// # Safety
/// `reading` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_sigma_ns(reading: *const ChronotickReading) -> i64 {
    if reading.is_null() {
        return -1;
    }
    // SAFETY: not NULL, so by the caller's promise it is readable.
    let ChronotickReading { age_ns, offset_uncertainty, drift_uncertainty, .. } = unsafe { reading.read() };
    Sigma { offset_uncertainty, drift_uncertainty, elapsed: Span::from_ns(age_ns) }.span().as_ns()
}

/// Tells which of two readings was certainly taken first, if that is certain: their bounds must not touch.
///
/// # Safety
/// `first` and `second` are NULL or readable; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_compare(
    first: *const ChronotickReading,
    second: *const ChronotickReading,
    out: *mut ChronotickOrder,
) -> ChronotickError {
    guard(|| {
        not_null(first, "first")?;
        not_null(second, "second")?;
        not_null(out, "out")?;
        // SAFETY: not NULL, so by the caller's promise it is readable.
        let first = bound_of(&unsafe { first.read() })?;
        // SAFETY: as above.
        let second = bound_of(&unsafe { second.read() })?;
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(first.order(second).into()) };
        Ok(())
    })
}

fn bound_of(reading: &ChronotickReading) -> Result<TimeBound, Failure> {
    let edges = [reading.earliest_ns, reading.latest_ns].map(Timestamp::from_ns);
    TimeBound::new(edges[0], edges[1]).ok_or_else(|| {
        Failure::invalid_argument(
            "earliest_ns is after latest_ns: give a reading that a function of this library wrote",
        )
    })
}
