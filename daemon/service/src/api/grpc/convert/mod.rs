//! Between the wire types and the kernel's.

mod definition;
mod event;
mod history;
mod request;
mod time;
mod timer;
mod word;

pub(super) use definition::definition;
pub(super) use event::{ended, event_filter, told};
pub(super) use history::entry as history_entry;
pub(super) use request::{Which, change, firing, ledger_query, list_query, new_due, timer_id, which};
pub(super) use time::timestamp;
pub(super) use timer::timer;
