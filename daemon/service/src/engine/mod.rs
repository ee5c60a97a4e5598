//! The kernel's shell: one thread that owns the state, makes events durable, and fires timers on time.

pub mod handle;

pub use handle::{Created, EngineError, EngineHandle, EngineStatus, FireOrder, ListQuery, TimerPage};
