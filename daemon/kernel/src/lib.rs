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
pub mod id;
pub mod instance;
pub mod kernel;
mod query;
pub mod recurrence;
mod validate;

pub use clock::{ClockSource, ClockStamp};
pub use command::{Command, CommandError};
pub use definition::{ActionSpec, ScheduleSpec, TimerDefinition};
pub use event::{ActionResult, Event, EventRecord};
pub use id::{FiringId, TenantId, TimerId};
pub use instance::{TimerInstance, TimerState};
pub use kernel::{Kernel, Outcome, ReplayError};
pub use query::{LIST_SCAN_MAX, Listing, Selection};
