//! The worlds that are simulated, by name.

use crate::client::Pace;
use crate::network::{Leg, Server};
use crate::oscillator::Oscillator;
use crate::world::World;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scenario {
    /// A server in the same building.
    Lan,
    /// A server on another continent.
    Wan,
    /// The same with a worse oscillator.
    WanWander,
}

/// A world and how it is judged.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The world.
    pub world: World,
    /// The first seconds are left out of the mean error; bounds hold from the start.
    pub skip_s: u32,
}

/// All of them.
pub const ALL: &[Scenario] = &[Scenario::Lan, Scenario::Wan, Scenario::WanWander];

impl Scenario {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::WanWander => "wan-wander",
        }
    }

    /// The scenario with that name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().copied().find(|s| s.name() == name)
    }

    /// Mean absolute error of chronyd 4.3 in [`reference`](Self::reference), milliseconds: the median of 7 runs in a
    /// simulator of clock and network.
    pub fn chrony_mae_ms(self) -> Option<f64> {
        match self {
            Self::Lan => Some(0.0197),
            Self::Wan => Some(0.420),
            Self::WanWander => Some(0.460),
        }
    }

    /// The world that chronyd was measured in: one perfect server of stratum 1 that is asked every 64 s without a
    /// burst, and a clock that begins 10 ms off with the right frequency, which then walks.
    pub fn reference(self, _seed: u64) -> Plan {
        let (base_ns, jitter_ns, walk) = match self {
            Self::Lan => (1e6, 1e5, 1e-9),
            Self::Wan => (20e6, 5e6, 1e-9),
            Self::WanWander => (20e6, 5e6, 1e-8),
        };
        let leg = || Leg::exponential(base_ns, jitter_ns);
        let world = World {
            seconds: 40_000,
            oscillator: Oscillator { walk, ..Oscillator::default() },
            disruptions: Vec::new(),
            offset_ns: 10_000_000,
            steps: Vec::new(),
            servers: vec![Server::perfect(leg(), leg())],
            pace: Pace::Fixed { poll_s: 64 },
            outages: Vec::new(),
        };
        Plan { world, skip_s: 4_000 }
    }
}
