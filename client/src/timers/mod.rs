//! A typed client of the timer service over gRPC (feature `timers`).
//!
//! ```no_run
//! # async fn run() -> Result<(), chronotick::timers::TimersError> {
//! use chronotick::timers::{Timer, TimerClient, Until};
//! use std::time::Duration;
//!
//! let client = TimerClient::connect("http://127.0.0.1:7878")?;
//! let timer = client.create(Timer::after(Duration::from_secs(1)).name("tea")).await?;
//! let fired = client.wait(&timer.id, Until::Fired).await?;
//! println!("{} fired {} times", fired.name, fired.fires);
//! # Ok(())
//! # }
//! ```
//!
//! The client reads no clock: what is due when is the service's business. Calls that may be repeated are repeated when
//! the service does not answer; a create carries an idempotency key for that.

mod client;
mod connect;
mod draft;
mod error;
mod times;
mod view;
mod watch;

pub use client::{Change, Filter, Page, Refused, Reschedule, TimerClient, Transport, Until};
pub use connect::{ClientBuilder, Retry};
pub use draft::Timer;
pub use error::TimersError;
pub use minoots_proto::v2 as wire;
pub use times::rfc3339;
pub use view::{ActionResult, Fire, HistoryEntry, HistoryOutcome, Schedule, State, TimerEvent, TimerInfo};
pub use watch::{From, Watch, WatchItem, WatchQuery};

/// The samples of the guide.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/timers-rust.md")]
pub struct Guide;
