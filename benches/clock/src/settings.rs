//! The networks that both daemons measure through.

use chronotick::Span;
use e2e::RelayConfig;
use e2e::relay::{Detour, Way};

/// Both daemons see a server that is off by this much: so it has to be learned, and who learns nothing is not right by
/// accident.
pub(crate) const SHIFT: Span = Span::from_ms(3);

/// One network.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    out: Way,
    back: Way,
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Setting> {
    let us = Span::from_us;
    let both = |name, what, way| Setting { name, what, out: way, back: way };
    vec![
        both("loopback", "no delay", Way::default()),
        both("lan", "1 ms + exp 0.1 ms each way", lan()),
        both("wan", "20 ms + exp 5 ms each way", Way::new(us(20_000), us(5_000))),
        Setting {
            name: "asymmetric",
            what: "10 ms out, 14 ms back, + exp 1 ms",
            out: Way::new(us(10_000), us(1_000)),
            back: Way::new(us(14_000), us(1_000)),
        },
        Setting {
            name: "two-path",
            what: "0.5 ms each way, 90 % of the packets + 2 ms out",
            out: Way {
                detour: Some(Detour { part: 0.9, extra: us(2_000) }),
                ..Way::new(us(500), Span::ZERO)
            },
            back: Way::new(us(500), Span::ZERO),
        },
    ]
}

fn lan() -> Way {
    Way::new(Span::from_us(1_000), Span::from_us(100))
}

/// The network of the daemons whose processor time is measured.
pub(crate) fn quiet() -> RelayConfig {
    RelayConfig { out: lan(), back: lan(), shift: SHIFT, seed: 0 }
}

impl Setting {
    /// The error of whoever takes the two ways for equally long, when both are at their shortest: half their difference.
    pub(crate) fn floor_ns(&self) -> i64 {
        (self.out.base - self.back.base).as_ns() / 2
    }

    pub(crate) fn relay(&self, seed: u64) -> RelayConfig {
        RelayConfig { out: self.out, back: self.back, shift: SHIFT, seed }
    }
}
