//! The bytes of keys: docs/formats/index.md draws them.
//!
//! Numbers are big-endian, and signed ones have their sign bit flipped, so that bytes sort as the numbers do.

use minoots_kernel::{DueKey, TimerId, TimerState};

/// The length of an id.
pub(super) const ID_BYTES: usize = 16;
/// A key of `due`.
pub(super) type Due = [u8; 25];

// What the first byte of a key in `misc` says.
pub(super) const META: u8 = 1;
pub(super) const TENANT_NAME: u8 = 2;
pub(super) const TENANT: u8 = 3;
pub(super) const KEY: u8 = 4;
pub(super) const OPEN: u8 = 5;
pub(super) const RARE: u8 = 6;
pub(super) const ENDED: u8 = 7;
pub(super) const SETTLED: u8 = 8;

// The last byte of a key in `ledger`.
pub(super) const OUTCOME: u8 = 0;
pub(super) const DELIVERY: u8 = 1;

/// Puts parts of known lengths behind each other.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut at = 0;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, N);
    key
}

/// A time in the order of times.
pub(super) fn ordered(ns: i64) -> [u8; 8] {
    ((ns as u64) ^ (1 << 63)).to_be_bytes()
}

/// The time at a place; `None` where the key ends before.
fn ns_at(key: &[u8], at: usize) -> Option<i64> {
    let bytes: [u8; 8] = key.get(at..at + 8)?.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
}

/// The id at a place; `None` where the key ends before.
pub(super) fn id_at(key: &[u8], at: usize) -> Option<TimerId> {
    let bytes: [u8; ID_BYTES] = key.get(at..at + ID_BYTES)?.try_into().ok()?;
    Some(TimerId::from_u128(u128::from_be_bytes(bytes)))
}

/// The id that a key ends with.
pub(super) fn last_id(key: &[u8]) -> Option<TimerId> {
    id_at(key, key.len().checked_sub(ID_BYTES)?)
}

/// In `timer` and `state`.
pub(super) fn id(id: TimerId) -> [u8; ID_BYTES] {
    id.as_u128().to_be_bytes()
}

/// In `due`.
pub(super) fn due(key: DueKey) -> Due {
    join(&[&ordered(key.due_ns), &[key.rank], &id(key.id)])
}

/// In `label`: what the keys of all timers with a label begin with. The lengths keep one label's keys apart from those of
/// another, whatever bytes the texts hold.
pub(super) fn label(tenant: u32, name: &str, value: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + name.len() + value.len() + ID_BYTES);
    key.extend_from_slice(&tenant.to_be_bytes());
    for text in [name, value] {
        key.extend_from_slice(&(text.len() as u16).to_be_bytes());
        key.extend_from_slice(text.as_bytes());
    }
    key
}

/// In `ledger`: a part of a line.
pub(super) fn line(timer: TimerId, nominal_ns: i64, part: u8) -> [u8; 25] {
    join(&[&id(timer), &ordered(nominal_ns), &[part]])
}

/// The line's nominal time and the part.
pub(super) fn of_line(key: &[u8]) -> Option<(i64, u8)> {
    Some((ns_at(key, ID_BYTES)?, *key.get(ID_BYTES + 8)?))
}

/// In `misc`: the one row that says what the index holds.
pub(super) const META_KEY: [u8; 1] = [META];

/// In `misc`: the number of a tenant, under its name.
pub(super) fn tenant_name(name: &str) -> Vec<u8> {
    [&[TENANT_NAME], name.as_bytes()].concat()
}

/// In `misc`: a tenant's timer.
pub(super) fn tenant(number: u32, timer: TimerId) -> [u8; 21] {
    join(&[&[TENANT], &number.to_be_bytes(), &id(timer)])
}

/// In `misc`: an idempotency key.
pub(super) fn key(tenant: u32, key: &str) -> Vec<u8> {
    [&[KEY], &tenant.to_be_bytes()[..], key.as_bytes()].concat()
}

/// In `misc`: a timer with a fire under way.
pub(super) fn open(timer: TimerId) -> [u8; 17] {
    join(&[&[OPEN], &id(timer)])
}

/// In `misc`: a timer in one of the states that few timers are in.
pub(super) fn rare(state: TimerState, tenant: u32, timer: TimerId) -> [u8; 22] {
    join(&[&[RARE, state as u8], &tenant.to_be_bytes(), &id(timer)])
}

/// In `misc`: when a timer ended.
pub(super) fn ended(ended_ns: i64, timer: TimerId) -> [u8; 25] {
    join(&[&[ENDED], &ordered(ended_ns), &id(timer)])
}

/// In `misc`: when a line of a recurring timer's ledger was settled.
pub(super) fn settled(at_ns: i64, timer: TimerId, nominal_ns: i64) -> [u8; 33] {
    join(&[&[SETTLED], &ordered(at_ns), &id(timer), &ordered(nominal_ns)])
}

/// When, which timer: of a key of `ended` or `settled`.
pub(super) fn of_ended(key: &[u8]) -> Option<(i64, TimerId)> {
    Some((ns_at(key, 1)?, id_at(key, 9)?))
}

/// The nominal time in a key of `settled`.
pub(super) fn of_settled(key: &[u8]) -> Option<i64> {
    ns_at(key, 9 + ID_BYTES)
}

/// What the keys of a time on begin with, in `ended` or `settled`.
pub(super) fn from_time(tag: u8, ns: i64) -> [u8; 9] {
    join(&[&[tag], &ordered(ns)])
}

/// The first key after all that begin with `prefix`; `None` when there is nothing after them.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|b| *b != u8::MAX)? + 1;
    let mut end = prefix[..kept].to_vec();
    end[kept - 1] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_what_they_name_and_read_back() {
        let timer = |n: u128| TimerId::from_u128(n);
        let mut keys = Vec::new();
        for due_ns in [i64::MIN, -1, 0, 1, i64::MAX] {
            for (priority, n) in [(127, 9), (0, 1), (0, 2), (-128, 0)] {
                keys.push(DueKey::new(due_ns, priority, timer(n)));
            }
        }
        assert!(keys.is_sorted());
        assert!(keys.iter().map(|k| due(*k)).is_sorted());
        assert_eq!(of_ended(&ended(-5, timer(7))), Some((-5, timer(7))));
        assert_eq!(of_ended(&settled(-5, timer(7), 3)), Some((-5, timer(7))));
        assert_eq!(of_settled(&settled(-5, timer(7), 3)), Some(3));
        assert_eq!(of_line(&line(timer(1), -9, DELIVERY)), Some((-9, DELIVERY)));
        assert_eq!((of_ended(b"\x07short"), last_id(b"short")), (None, None));
    }

    #[test]
    fn no_label_begins_as_another() {
        let labels =
            [("a", "b"), ("a", ""), ("", "a"), ("a\0", "b"), ("a", "\0b"), ("ab", ""), ("", "ab"), ("", "")];
        for one in labels {
            for other in labels {
                let (a, b) = (label(1, one.0, one.1), label(1, other.0, other.1));
                assert_eq!(a.starts_with(&b), one == other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
    }
}
