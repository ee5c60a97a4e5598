//! The quick way to read: a bare Node-API function without arguments and result, which writes into a frame of its own.
//!
//! A method of a class, as napi makes it, looks up its object and its arguments at each call, which costs several times as
//! much as the reading. This function finds its data in itself.
#![allow(unsafe_code)]

use crate::frame::{Frame, WORDS};
use chronotick::Client;
use napi::bindgen_prelude::{JsValue, Unknown};
use napi::{Env, check_status, sys};
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

/// What one such function owns: freed when JavaScript has forgotten the function.
struct Quick {
    client: Arc<Client>,
    /// The words of the frame, which `frame` keeps alive.
    words: NonNull<[i64; WORDS]>,
    frame: sys::napi_ref,
}

/// A function that writes a reading into this frame, a `BigInt64Array` of its own that is never handed to a worker. A
/// failure is written as well, as a status below 0.
pub(crate) fn reader<'env>(
    env: &'env Env,
    client: &Arc<Client>,
    frame: &Unknown<'env>,
) -> napi::Result<Unknown<'env>> {
    let raw = env.raw();
    let words = words_of(raw, frame.raw())?;
    let mut reference = null_mut();
    // SAFETY: both values belong to this environment, and we are on its thread.
    check_status!(unsafe { sys::napi_create_reference(raw, frame.raw(), 1, &mut reference) })?;
    let quick = Box::into_raw(Box::new(Quick { client: Arc::clone(client), words, frame: reference }));
    let mut function = null_mut();
    // SAFETY: `quick` lives until the finalizer below frees it, which is after the last call of the function.
    check_status!(unsafe {
        sys::napi_create_function(raw, c"read".as_ptr(), 4, Some(read), quick.cast(), &mut function)
    })?;
    // SAFETY: the function was made just now; it owns `quick`, and nobody else frees it.
    check_status!(unsafe {
        sys::napi_add_finalizer(raw, function, quick.cast(), Some(free), null_mut(), null_mut())
    })?;
    // SAFETY: the value is one of this environment.
    Ok(unsafe { Unknown::from_raw_unchecked(raw, function) })
}

/// Where the words of a frame are.
fn words_of(env: sys::napi_env, frame: sys::napi_value) -> napi::Result<NonNull<[i64; WORDS]>> {
    let (mut kind, mut length, mut data) = (0, 0, null_mut());
    // SAFETY: the value belongs to this environment; what it is, the call itself checks.
    check_status!(unsafe {
        sys::napi_get_typedarray_info(env, frame, &mut kind, &mut length, &mut data, null_mut(), null_mut())
    })?;
    match NonNull::new(data.cast()) {
        Some(words) if kind == sys::TypedarrayType::bigint64_array && length == WORDS => Ok(words),
        _ => Err(napi::Error::from_reason("the native module and its caller differ: reinstall minoots")),
    }
}

unsafe extern "C" fn read(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    let mut data: *mut c_void = null_mut();
    // SAFETY: the two handles are those of this call; what is not asked for may be NULL.
    unsafe { sys::napi_get_cb_info(env, info, null_mut(), null_mut(), null_mut(), &mut data) };
    // SAFETY: `data` is what the function was made with, and is freed only after the function.
    if let Some(quick) = unsafe { data.cast::<Quick>().as_ref() } {
        let words = match quick.client.now() {
            Ok(reading) => Frame::words(&reading, 0),
            Err(_) => Frame::FAILED,
        };
        // SAFETY: the reference keeps the frame alive, its memory stays where it is, and JavaScript, the only other that
        // looks at it, does not run during this call.
        unsafe { quick.words.write(words) };
    }
    // Nothing, which JavaScript sees as undefined.
    null_mut()
}

unsafe extern "C" fn free(env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: it came from `Box::into_raw` in `reader`, whose function is gone; the finalizer runs once.
    let quick = unsafe { Box::from_raw(data.cast::<Quick>()) };
    // SAFETY: the reference was made with `quick` and is deleted with it.
    unsafe { sys::napi_delete_reference(env, quick.frame) };
}
