//! Checks a signature of the timer service.

use std::panic::catch_unwind;

/// Tells whether an ed25519 key made this signature over these bytes: 1 when it did, 0 when it did not, -1 when a pointer
/// is NULL. `key` has 32 bytes, `signature` 64. docs/signing.md says which bytes are signed.
///
/// # Safety
/// `key` is NULL or has 32 readable bytes, `signature` is NULL or has 64; `message` has `length` of them, or is NULL with
/// a `length` of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronotick_verify_signature(
    key: *const u8,
    message: *const u8,
    length: usize,
    signature: *const u8,
) -> i32 {
    if key.is_null() || signature.is_null() || (message.is_null() && length > 0) {
        return -1;
    }
    // SAFETY: not NULL, so by the caller's promise 32 bytes are readable.
    let key = unsafe { key.cast::<[u8; 32]>().read_unaligned() };
    // SAFETY: not NULL, so by the caller's promise 64 bytes are readable.
    let signature = unsafe { signature.cast::<[u8; 64]>().read_unaligned() };
    let message = if length == 0 {
        &[]
    } else {
        // SAFETY: not NULL, and by the caller's promise `length` bytes are readable.
        unsafe { std::slice::from_raw_parts(message, length) }
    };
    let fits = catch_unwind(|| chronotick::verify::verify_signature(&key, message, &signature));
    i32::from(fits.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn bytes(hex: &Value) -> Vec<u8> {
        let text = hex.as_str().unwrap();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_shared_vectors_pass() {
        let list: Value = serde_json::from_str(include_str!("../../tests/vectors/signatures.json")).unwrap();
        let cases = list["cases"].as_array().unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let raw = &case["raw"];
            let (key, message, signature) =
                (bytes(&raw["public_key"]), bytes(&raw["message"]), bytes(&raw["signature"]));
            assert_eq!((key.len(), signature.len()), (32, 64));
            // SAFETY: the lengths are as promised.
            let fits = unsafe {
                chronotick_verify_signature(key.as_ptr(), message.as_ptr(), message.len(), signature.as_ptr())
            };
            assert_eq!(fits, i32::from(raw["fits"].as_bool().unwrap()), "{}", case["name"]);
        }
        let (zeros, none) = ([0_u8; 64], std::ptr::null());
        let some = zeros.as_ptr();
        for (key, message, signature) in [(none, some, some), (some, none, some), (some, some, none)] {
            // SAFETY: NULL is allowed, and nothing is read then.
            let answer = unsafe { chronotick_verify_signature(key, message, 1, signature) };
            assert_eq!(answer, -1);
        }
    }
}
