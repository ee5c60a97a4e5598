//! The client as a C handle.

use crate::error::{ChronotickError, Failure, guard};
use crate::types::{ChronotickReading, ChronotickWaited};
use chronotick::{AttachError, Client, Span, Status, Timestamp};
use std::ffi::{CStr, c_char, c_void};

/// An attached clock page. One client may be used by any number of threads at once.
#[derive(Debug)]
pub struct ChronotickClient(Client);

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<ChronotickClient>();
};

/// Attaches the clock page with this name or absolute path. NULL means $CHRONOTICK_SHM, or chronotick_shm without it.
/// The client in *out must be given to chronotick_client_close.
///
/// # Safety
/// `name_or_null` is NULL or a string that ends with a NUL; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_client_open(
    name_or_null: *const c_char,
    out: *mut *mut ChronotickClient,
) -> ChronotickError {
    guard(|| {
        not_null(out, "out")?;
        let name = if name_or_null.is_null() {
            None
        } else {
            // SAFETY: the caller gives a string that ends with a NUL.
            Some(unsafe { CStr::from_ptr(name_or_null) })
        };
        let name = name
            .map(|n| n.to_str().map_err(|_| AttachError::BadName { name: n.to_string_lossy().into_owned() }))
            .transpose()?;
        let client = Box::new(ChronotickClient(Client::attach_named(name)?));
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(Box::into_raw(client)) };
        Ok(())
    })
}

/// Detaches the page and frees the client. No other thread may use the client any more. NULL is allowed and does
/// nothing.
///
/// # Safety
/// `client` is NULL or came from chronotick_client_open and was not closed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_client_close(client: *mut ChronotickClient) -> ChronotickError {
    guard(|| {
        if !client.is_null() {
            // SAFETY: it came from `Box::into_raw` in `chronotick_client_open`, and is closed once.
            drop(unsafe { Box::from_raw(client) });
        }
        Ok(())
    })
}

/// Reads the time now, with its bound, sigma and status. Waits for no lock, and makes no system call
/// while the clock is trusted.
///
/// # Safety
/// `client` is NULL or an open client; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_now(
    client: *const ChronotickClient,
    out: *mut ChronotickReading,
) -> ChronotickError {
    // The everyday case without the guard, whose bookkeeping costs as much as the reading: nothing in it can panic.
    if !client.is_null()
        && !out.is_null()
        // SAFETY: not NULL, so by the caller's promise it is an open client.
        && let Ok(reading) = unsafe { &(*client).0 }.now()
    {
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(reading.into()) };
        return ChronotickError::Ok;
    }
    guarded_now(client, out)
}

/// The reading that is special, and every refusal.
#[cold]
fn guarded_now(client: *const ChronotickClient, out: *mut ChronotickReading) -> ChronotickError {
    guard(|| {
        // SAFETY: the one caller has the same contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        let reading = client.now()?.into();
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(reading) };
        Ok(())
    })
}

/// Reads the time now as Unix ns alone. Returns CHRONOTICK_ERROR_UNTRUSTED where the status is disrupted, expired or
/// no_data, since a bare number cannot carry a status.
///
/// # Safety
/// `client` is NULL or an open client; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_now_ns(
    client: *const ChronotickClient,
    out: *mut i64,
) -> ChronotickError {
    if !client.is_null()
        && !out.is_null()
        // SAFETY: not NULL, so by the caller's promise it is an open client.
        && let Ok(now_ns) = unsafe { &(*client).0 }.now_ns()
    {
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(now_ns) };
        return ChronotickError::Ok;
    }
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        let now_ns = client.now_ns()?;
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(now_ns) };
        Ok(())
    })
}

/// Reads the time now if it is known to within max_error_ns on each side, else returns CHRONOTICK_ERROR_UNTRUSTED.
///
/// # Safety
/// `client` is NULL or an open client; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_now_within(
    client: *const ChronotickClient,
    max_error_ns: i64,
    out: *mut ChronotickReading,
) -> ChronotickError {
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        if max_error_ns < 0 {
            return Err(Failure::invalid_argument(
                "max_error_ns is negative: give how far off the time may be, in nanoseconds",
            ));
        }
        let reading = client.now_within(Span::from_ns(max_error_ns))?.into();
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(reading) };
        Ok(())
    })
}

/// The reading for the moment from_now_ns away, past (negative) or future. Its bound grows with the distance from the
/// correction; its status is the one that holds then if nothing is published until then.
///
/// # Safety
/// `client` is NULL or an open client; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_at(
    client: *const ChronotickClient,
    from_now_ns: i64,
    out: *mut ChronotickReading,
) -> ChronotickError {
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        let reading = client.at(Span::from_ns(from_now_ns))?.into();
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(reading) };
        Ok(())
    })
}

/// The reading for the moment at which the system clock showed, or will show, system_unix_ns. It holds where the system
/// clock was not stepped between that moment and the page's prediction_time.
///
/// # Safety
/// `client` is NULL or an open client; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_at_system_time(
    client: *const ChronotickClient,
    system_unix_ns: i64,
    out: *mut ChronotickReading,
) -> ChronotickError {
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        let reading = client.at_system_time(Timestamp::from_ns(system_unix_ns))?.into();
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(reading) };
        Ok(())
    })
}

/// Reads how far the clock can be trusted now.
///
/// # Safety
/// `client` is NULL or an open client; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_client_status(
    client: *const ChronotickClient,
    out: *mut Status,
) -> ChronotickError {
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        let status = client.status()?;
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(status) };
        Ok(())
    })
}

/// Blocks the calling thread until corrected time reaches target_unix_ns. With a tolerance below a millisecond the last
/// 200 us are spun, otherwise they are slept. Returns CHRONOTICK_ERROR_ALREADY_PAST when the target has passed before
/// the call, and CHRONOTICK_ERROR_UNTRUSTED when the clock can no longer be trusted; a wait survives holdover.
///
/// # Safety
/// `client` is NULL or a client that stays open during the call; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_wait_until(
    client: *const ChronotickClient,
    target_unix_ns: i64,
    tolerance_ns: i64,
    out: *mut ChronotickWaited,
) -> ChronotickError {
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        let tolerance = tolerance(tolerance_ns)?;
        let target = Timestamp::from_ns(target_unix_ns);
        let waited = client.wait_until(target, tolerance)?.into();
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(waited) };
        Ok(())
    })
}

/// As chronotick_wait_until, and asks cancelled(context) at the start and every 50 ms or sooner, on the calling thread.
/// When it returns not 0, the wait ends with CHRONOTICK_OK, *reached is 0 and *out is not written; when the target is
/// reached, *reached is 1.
///
/// # Safety
/// `client` is NULL or a client that stays open during the call; `cancelled` is NULL or may be called with `context`, and
/// returns normally; `out` and `reached` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_wait_until_or(
    client: *const ChronotickClient,
    target_unix_ns: i64,
    tolerance_ns: i64,
    cancelled: Option<unsafe extern "C" fn(context: *mut c_void) -> i32>,
    context: *mut c_void,
    out: *mut ChronotickWaited,
    reached: *mut u32,
) -> ChronotickError {
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        let cancelled =
            cancelled.ok_or_else(|| Failure::invalid_argument("cancelled is NULL: pass a function"))?;
        not_null(out, "out")?;
        not_null(reached, "reached")?;
        let tolerance = tolerance(tolerance_ns)?;
        let target = Timestamp::from_ns(target_unix_ns);
        // SAFETY: the caller promises that it may be called with this context.
        let waited = client.wait_until_or(target, tolerance, || unsafe { cancelled(context) } != 0)?;
        if let Some(waited) = waited {
            // SAFETY: the caller gives a writable pointer, which is not NULL.
            unsafe { out.write(waited.into()) };
        }
        // SAFETY: as above.
        unsafe { reached.write(u32::from(waited.is_some())) };
        Ok(())
    })
}

/// Blocks until the clock is synchronized or in holdover, and writes the first such reading. Returns
/// CHRONOTICK_ERROR_UNTRUSTED when there is none within timeout_ns.
///
/// # Safety
/// `client` is NULL or a client that stays open during the call; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_wait_synchronized(
    client: *const ChronotickClient,
    timeout_ns: i64,
    out: *mut ChronotickReading,
) -> ChronotickError {
    guard(|| {
        // SAFETY: as this function's own contract.
        let client = unsafe { open_client(client) }?;
        not_null(out, "out")?;
        if timeout_ns < 0 {
            return Err(Failure::invalid_argument("timeout_ns is negative: give how long to wait, or 0"));
        }
        let reading = client.wait_synchronized(Span::from_ns(timeout_ns))?.into();
        // SAFETY: the caller gives a writable pointer, which is not NULL.
        unsafe { out.write(reading) };
        Ok(())
    })
}

fn tolerance(tolerance_ns: i64) -> Result<Span, Failure> {
    if tolerance_ns < 0 {
        return Err(Failure::invalid_argument(
            "tolerance_ns is negative: give the lateness in nanoseconds that is acceptable, or 0",
        ));
    }
    Ok(Span::from_ns(tolerance_ns))
}

/// # Safety
/// `client` is NULL or an open client, and stays open for as long as the result is used.
unsafe fn open_client<'a>(client: *const ChronotickClient) -> Result<&'a Client, Failure> {
    not_null(client, "client")?;
    // SAFETY: not NULL, so by the caller's promise it is an open client.
    Ok(unsafe { &(*client).0 })
}

/// Refuses a NULL pointer by the name of its argument.
pub(crate) fn not_null<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::invalid_argument(&format!("{name} is NULL: pass a valid pointer")));
    }
    Ok(())
}
