//! Extension fields of an NTP packet (RFC 7822).
//!
//! ```text
//!  0  type      2  length of the whole field, a multiple of 4, at least 16      4  body, padded with zeros
//! ```

/// NTS: ties an answer to its request.
pub const UNIQUE_IDENTIFIER: u16 = 0x0104;
/// NTS: what the server needs to find its keys again.
pub const COOKIE: u16 = 0x0204;
/// NTS: room for one more cookie in the answer.
pub const COOKIE_PLACEHOLDER: u16 = 0x0304;
/// NTS: authenticates all before it, and holds encrypted fields.
pub const AUTHENTICATOR: u16 = 0x0404;
/// The shortest field.
const MIN_FIELD: usize = 16;

/// One field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// What it is.
    pub kind: u16,
    /// Its content with the padding.
    pub body: &'a [u8],
}

impl<'a> Field<'a> {
    /// The first field of `bytes` and what follows it; `None` when there is no whole, well-formed one. `min` is the
    /// shortest that is allowed: 16 in a packet; within the encrypted part a header alone would do.
    pub fn split(bytes: &'a [u8], min: usize) -> Option<(Self, &'a [u8])> {
        let &[k0, k1, l0, l1] = bytes.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if length < min.max(4) || !length.is_multiple_of(4) {
            return None;
        }
        let (field, rest) = bytes.split_at_checked(length)?;
        Some((Self { kind: u16::from_be_bytes([k0, k1]), body: &field[4..] }, rest))
    }
}

/// The fields of a packet, as bytes after its header. Ends at the first that is malformed.
pub fn fields(bytes: &[u8], min: usize) -> impl Iterator<Item = Field<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (field, after) = Field::split(rest, min)?;
        rest = after;
        Some(field)
    })
}

/// Appends a field, padded; a body that does not fit into 65535 bytes is cut.
pub fn write(out: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let body = &body[..body.len().min(65_528)];
    let length = (4 + body.len()).next_multiple_of(4).max(MIN_FIELD);
    out.extend(kind.to_be_bytes());
    out.extend((length as u16).to_be_bytes());
    out.extend(body);
    out.extend(std::iter::repeat_n(0, length - 4 - body.len()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_fields() {
        let check = |bytes: &[u8], min: usize, want: bool| {
            assert_eq!(Field::split(bytes, min).is_some(), want, "{bytes:?} {min}");
        };
        let mut whole = vec![1, 4, 0, 16];
        whole.resize(16, 9);
        check(&whole, 16, true);
        check(&whole[..15], 16, false);
        check(&[], 16, false);
        check(&[1, 4, 0], 4, false);
        check(&[1, 4, 0, 0], 0, false);
        check(&[1, 4, 0, 4], 4, true);
        check(&[1, 4, 0, 4], 16, false);
        check(&[1, 4, 0, 5, 0, 0, 0, 0], 4, false);
    }

    proptest! {
        #[test]
        fn fields_read_back(list in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6)) {
            let mut bytes = Vec::new();
            list.iter().for_each(|(kind, body)| write(&mut bytes, *kind, body));
            let read: Vec<Field<'_>> = fields(&bytes, 16).collect();
            prop_assert_eq!(read.len(), list.len());
            for (field, (kind, body)) in read.iter().zip(&list) {
                prop_assert_eq!(field.kind, *kind);
                prop_assert!(field.body.starts_with(body) && field.body[body.len()..].iter().all(|&b| b == 0));
            }
        }
    }
}
