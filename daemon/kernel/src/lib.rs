//! The timer kernel: a pure state machine. Commands and a time go in, events come out.
//!
//! A *command* is asked, an *event* has happened. The event log is the truth and the state is a fold of it, so
//! replaying the same events gives the same state. This crate knows no file, socket, thread, clock or random source:
//! ids and `now` are arguments, and the shell around it (the service's engine) makes events durable before anybody is
//! told of them.
#![forbid(unsafe_code)]

pub mod clock;
pub mod command;
pub mod definition;
pub mod event;
mod fire;
mod handle;
pub mod id;
pub mod instance;
pub mod kernel;
pub mod ledger;
mod memory;
pub mod recurrence;
mod validate;
pub mod view;

pub use clock::{ClockSource, ClockStamp};
pub use command::{Change, Command, CommandError, NewDue, Outcome};
pub use definition::{
    ActionSpec, MisfirePolicy, Need, OverlapPolicy, ScheduleSpec, StartAfter, TimerDefinition, Upstream,
    UpstreamOn,
};
pub use event::{ActionResult, Event, EventRecord, Occurrence, SkipReason, UpstreamSeen};
pub use id::{FiringId, TenantId, TimerId};
pub use instance::{DueKey, Flight, LastFire, Resolution, TimerInstance, TimerState, TimerStatus};
pub use kernel::{Changed, Committed, Kernel, ReplayError};
pub use ledger::{Delivery, DeliveryEnd, Fired, LedgerChange, LedgerEntry, LedgerOutcome, Skipped};
pub use view::{ColdError, ColdState, NothingCold};
