//! Where measurements come from: what all sources have in common.

pub(crate) mod counters;
pub(crate) mod driver;
pub(crate) mod local;
pub(crate) mod ntp;
pub(crate) mod nts;
pub(crate) mod pace;
pub(crate) mod plan;

pub(crate) use counters::SourceCounters;

use crate::stop::Stop;
use chronotick_core::Span;
use chronotick_discipline::Measurement;

/// Something that can be asked for the time.
pub(crate) trait Source: Send {
    /// What people call it; never changes.
    fn name(&self) -> String;

    /// Where it was asked last; `None` before it is known.
    fn address(&self) -> Option<String>;

    /// Whether its answers are proven to be its own.
    fn is_authenticated(&self) -> bool;

    /// How NTP names it as a reference.
    fn reference_id(&self) -> [u8; 4];

    /// Asks once. Returns soon after the stop of `ask` is set.
    fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure>;

    /// Called after failures: look for another way to ask, such as another address. False when there is none and never
    /// will be.
    fn move_on(&mut self) -> bool {
        false
    }
}

/// What a source is given for one measurement.
pub(crate) struct Ask<'a> {
    /// Its place in the list.
    pub(crate) source: usize,
    /// The interval until it is asked again.
    pub(crate) poll_interval: Span,
    /// When to give up at once.
    pub(crate) stop: &'a Stop,
    /// Where it counts.
    pub(crate) counters: &'a mut SourceCounters,
}

/// Why there is no measurement; the texts are for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The daemon ends.
    Stopped,
    /// The server does not want us, ever.
    Denied(String),
    /// The server wants fewer requests.
    Rate(String),
    /// The request could not even leave this machine.
    NoRoute(String),
    /// Anything else.
    Other(String),
}

/// What the thread of a source tells.
#[derive(Debug)]
pub(crate) struct Report {
    /// Which source, by its place in the list.
    pub(crate) source: usize,
    /// Where it was asked; `None` when a name did not resolve.
    pub(crate) address: Option<String>,
    /// Its answers are proven to be its own.
    pub(crate) is_authenticated: bool,
    /// Another server answers than the last time: what was learned of the former one means nothing now.
    pub(crate) is_replaced: bool,
    /// The interval until the next request.
    pub(crate) poll_interval: Span,
    /// All that was counted since the start.
    pub(crate) counters: SourceCounters,
    /// What happened.
    pub(crate) outcome: Outcome,
}

/// What became of one exchange.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A measurement.
    Answer(Measurement),
    /// No usable answer; the text says why.
    Failure(String),
    /// The server refuses us for good; the text says how.
    Stopped(String),
}
