//! What must hold for any text taken as a duration.

use chronotick_core::time::{format_span, parse_span};

/// `data`: the text; bytes that are no UTF-8 are replaced.
pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match parse_span(&text) {
        Ok(span) => {
            let printed = format_span(span);
            assert_eq!(parse_span(&printed), Ok(span), "{text:?} is {span:?}, printed as {printed:?}");
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}
