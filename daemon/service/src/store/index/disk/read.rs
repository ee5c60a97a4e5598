//! Reads: each from a view of one moment.

use super::super::super::StoreError;
use super::super::{EachTimer, IndexPage, LIST_SCAN_MAX, TimerQuery};
use super::database::{Row, Space, View};
use super::keys::Due;
use super::meta::Meta;
use super::rows::{Tenants, is_rare};
use super::{keys, values};
use fjall::Slice;
use minoots_kernel::{LedgerEntry, TenantId, TimerId, TimerInstance, TimerState};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

/// What the index says that it holds.
pub(super) fn meta(view: &View<'_>) -> Result<Meta, StoreError> {
    let row =
        view.get(Space::Misc, &keys::META_KEY)?.ok_or_else(|| view.damaged("it says nothing of itself"))?;
    Meta::decode(&row).map_err(|e| view.damaged(format!("what it says of itself cannot be read: {e:?}")))
}

/// The numbers of tenants.
pub(super) fn tenants(view: &View<'_>) -> Result<Tenants, StoreError> {
    let to = keys::after_prefix(&[keys::TENANT_NAME]);
    let rows = view.range(Space::Misc, Bound::Included(&[keys::TENANT_NAME]), to.as_deref());
    rows.map(|row| {
        let (key, value) = row?;
        let name = key.get(1..).and_then(|name| std::str::from_utf8(name).ok());
        let number = <[u8; 4]>::try_from(&value[..]).ok().map(u32::from_be_bytes);
        let (name, number) = name.zip(number).ok_or_else(|| view.damaged("a tenant's number"))?;
        Ok((TenantId::new(name), number))
    })
    .collect()
}

/// One timer, whoever owns it.
pub(super) fn timer(view: &View<'_>, id: TimerId) -> Result<Option<Arc<TimerInstance>>, StoreError> {
    let key = keys::id(id);
    let Some(creation) = view.get(Space::Timer, &key)? else { return Ok(None) };
    let state = view.get(Space::State, &key)?;
    instance(view, id, &creation, state.as_deref()).map(Some)
}

/// One timer that another row names.
fn named(view: &View<'_>, id: TimerId) -> Result<Arc<TimerInstance>, StoreError> {
    timer(view, id)?.ok_or_else(|| view.damaged(format!("timer {id} is named and not there")))
}

fn instance(
    view: &View<'_>,
    id: TimerId,
    creation: &[u8],
    state: Option<&[u8]>,
) -> Result<Arc<TimerInstance>, StoreError> {
    let timer = values::timer(id, creation, state);
    timer.map(Arc::new).map_err(|why| view.damaged(format!("timer {id}: {why}")))
}

/// The first key of `due` at or after another.
pub(super) fn first_due(view: &View<'_>, from: &Due) -> Result<Option<Due>, StoreError> {
    let Some(row) = view.range(Space::Due, Bound::Included(from), None).next() else { return Ok(None) };
    let first = Due::try_from(&*row?.0).map_err(|_| view.damaged("a key of due timers"))?;
    Ok(Some(first))
}

/// At most `limit` timers from a place in the order of due times on.
pub(super) fn due(view: &View<'_>, from: &Due, limit: usize) -> Result<Vec<Arc<TimerInstance>>, StoreError> {
    let from = *from.max(&meta(view)?.due_floor);
    let mut timers = Vec::new();
    for row in view.range(Space::Due, Bound::Included(&from), None).take(limit) {
        let id = keys::last_id(&row?.0).ok_or_else(|| view.damaged("a key of due timers"))?;
        timers.push(named(view, id)?);
    }
    Ok(timers)
}

/// The timers with a fire under way.
pub(super) fn with_flights(view: &View<'_>) -> Result<Vec<Arc<TimerInstance>>, StoreError> {
    let mut timers = Vec::new();
    for id in ids(view, Space::Misc, &[keys::OPEN], None) {
        let timer = named(view, id?)?;
        if !timer.status.flights.is_empty() {
            timers.push(timer);
        }
    }
    Ok(timers)
}

/// The ids at the end of all keys that begin with `prefix`, those after one of them.
fn ids<'v>(
    view: &'v View<'v>,
    space: Space,
    prefix: &[u8],
    after: Option<TimerId>,
) -> impl Iterator<Item = Result<TimerId, StoreError>> + use<'v> {
    let from = after.map(|id| [prefix, &keys::id(id)].concat());
    let from = from.as_deref().map_or(Bound::Included(prefix), Bound::Excluded);
    let to = keys::after_prefix(prefix);
    view.range(space, from, to.as_deref())
        .map(|row| keys::last_id(&row?.0).ok_or_else(|| view.damaged("a key that ends with a timer's id")))
}

/// A timer that a listing looks at, with its rows where they have been read already.
type Candidate = (TimerId, Option<(Slice, Option<Slice>)>);

/// All timers after one of them, in order of id, with their rows.
fn walk<'v>(
    view: &'v View<'v>,
    after: Option<TimerId>,
) -> impl Iterator<Item = Result<Candidate, StoreError>> + use<'v> {
    let after = after.map(keys::id);
    let from = after.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id[..]));
    let mut states = view.range(Space::State, from, None).peekable();
    view.range(Space::Timer, from, None).map(move |row| {
        let (key, creation) = row?;
        let id = keys::last_id(&key).ok_or_else(|| view.damaged("a key of a timer"))?;
        let is_before = |row: &Result<Row, StoreError>| row.as_ref().is_ok_and(|(k, _)| *k < key);
        while states.next_if(is_before).is_some() {}
        let is_its_own = |row: &Result<Row, StoreError>| row.as_ref().map_or(true, |(k, _)| *k == key);
        let state = states.next_if(is_its_own).transpose()?;
        Ok((id, Some((creation, state.map(|(_, value)| value)))))
    })
}

/// One page of the timers of a tenant with this number.
pub(super) fn list(view: &View<'_>, query: &TimerQuery, tenant: u32) -> Result<IndexPage, StoreError> {
    let after = query.after;
    let bare = |id: Result<TimerId, StoreError>| id.map(|id| (id, None));
    // The rows that promise to be the fewest.
    let candidates: Box<dyn Iterator<Item = Result<Candidate, StoreError>>> =
        match (query.state, &query.labels[..]) {
            (Some(state), _) if is_rare(state) => {
                let prefix = [&[keys::RARE, state as u8], &tenant.to_be_bytes()[..]].concat();
                Box::new(ids(view, Space::Misc, &prefix, after).map(bare))
            }
            (Some(TimerState::Firing), _) => Box::new(ids(view, Space::Misc, &[keys::OPEN], after).map(bare)),
            (_, [(name, value), ..]) => {
                // No timer has a longer text, and none would be found under its key.
                if name.len().max(value.len()) > usize::from(u16::MAX) {
                    return Ok(IndexPage::default());
                }
                Box::new(ids(view, Space::Label, &keys::label(tenant, name, value), after).map(bare))
            }
            _ if tenant != 0 => {
                let prefix = [&[keys::TENANT], &tenant.to_be_bytes()[..]].concat();
                Box::new(ids(view, Space::Misc, &prefix, after).map(bare))
            }
            _ => Box::new(walk(view, after)),
        };
    let mut page = IndexPage::default();
    let mut seen = None;
    for (looked_at, candidate) in candidates.enumerate() {
        if page.timers.len() == query.limit.max(1) || looked_at == LIST_SCAN_MAX {
            page.next = seen;
            return Ok(page);
        }
        let (id, rows) = candidate?;
        seen = Some(id);
        let timer = match rows {
            Some((creation, _)) if values::tenant_of(&creation) != Some(tenant) => continue,
            Some((creation, state)) => instance(view, id, &creation, state.as_deref())?,
            None => named(view, id)?,
        };
        if query.matches(&timer) {
            page.timers.push(timer);
        }
    }
    Ok(page)
}

/// At most `limit` lines of a timer's ledger after a nominal time.
pub(super) fn lines(
    view: &View<'_>,
    id: TimerId,
    after_ns: Option<i64>,
    limit: usize,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let after = after_ns.map(|ns| keys::line(id, ns, u8::MAX));
    let prefix = keys::id(id);
    let from = after.as_ref().map_or(Bound::Included(&prefix[..]), |key| Bound::Excluded(&key[..]));
    let to = keys::after_prefix(&prefix);
    take_lines(view, &mut view.range(Space::Ledger, from, to.as_deref()).peekable(), id, limit)
}

/// One line of a timer's ledger.
pub(super) fn line(view: &View<'_>, id: TimerId, nominal_ns: i64) -> Result<Option<LedgerEntry>, StoreError> {
    let first = keys::line(id, nominal_ns, keys::OUTCOME);
    let end = keys::line(id, nominal_ns, u8::MAX);
    let rows = view.range(Space::Ledger, Bound::Included(&first), Some(&end));
    Ok(take_lines(view, &mut rows.peekable(), id, 1)?.pop())
}

/// Takes the lines of a timer from rows in order, and what is before them.
fn take_lines(
    view: &View<'_>,
    rows: &mut Peekable<impl Iterator<Item = Result<Row, StoreError>>>,
    id: TimerId,
    limit: usize,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let id = keys::id(id);
    let mut lines: Vec<LedgerEntry> = Vec::new();
    let mut last_sequence = 0;
    let is_not_after =
        |row: &Result<Row, StoreError>| row.as_ref().map_or(true, |(key, _)| key[..].iter().take(16).le(&id));
    while let Some(row) = rows.next_if(is_not_after) {
        let (key, value) = row?;
        if !key.starts_with(&id) {
            continue;
        }
        let (nominal_ns, part) = keys::of_line(&key).ok_or_else(|| view.damaged("a key of a ledger"))?;
        let unreadable = |why| view.damaged(format!("a line of a ledger: {why}"));
        if part == keys::OUTCOME {
            if lines.len() == limit {
                break;
            }
            let (sequence, outcome) = values::outcome(&value).map_err(unreadable)?;
            last_sequence = sequence;
            lines.push(LedgerEntry { nominal_ns, outcome, delivery: None });
        } else if let Some(line) = lines.last_mut().filter(|l| l.nominal_ns == nominal_ns) {
            let (sequence, delivery) = values::delivery(&value).map_err(unreadable)?;
            // One that is older is of what stood in the line before.
            if sequence > last_sequence {
                line.delivery = Some(delivery);
            }
        }
    }
    Ok(lines)
}

/// Hands out every timer with its ledger; returns the last event that they know of.
pub(super) fn dump(view: &View<'_>, each: &mut EachTimer<'_>) -> Result<u64, StoreError> {
    let applied = meta(view)?.applied;
    let mut rows = view.range(Space::Ledger, Bound::Unbounded, None).peekable();
    for candidate in walk(view, None) {
        let (id, found) = candidate?;
        let timer = match found {
            Some((creation, state)) => instance(view, id, &creation, state.as_deref())?,
            None => named(view, id)?,
        };
        let lines = take_lines(view, &mut rows, id, usize::MAX)?;
        each(applied, &timer, &lines)?;
    }
    Ok(applied)
}
