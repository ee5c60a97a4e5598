//! Evaluating the bytes of a page from C: the pure path that the conformance list runs through.

use crate::client::not_null;
use crate::error::{ChronotickError, guard};
use crate::types::{ChronotickClocks, ChronotickReading};
use chronotick::ReadError;
use chronotick_core::page::PAGE_SIZE;

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
