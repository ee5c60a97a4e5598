//! Fire receipts: what the service vouches for about one fire, signed.

use super::{Envelope, Kind, Signing};
use crate::render;
use minoots_kernel::{Fired, FiringId, TenantId};
use serde::Serialize;

#[derive(Serialize)]
struct ReceiptView<'a> {
    r#type: &'static str,
    timer_id: String,
    tenant: &'a str,
    firing_id: String,
    nominal_at_ns: String,
    due_at_ns: String,
    fired_at_ns: String,
    by_hand: bool,
    clock_source: &'static str,
    max_error_ns: Option<String>,
    log: PlaceView,
    key_id: &'a str,
}

/// Where in the event log the fire stands.
#[derive(Serialize)]
struct PlaceView {
    partition: u32,
    sequence: String,
}

/// The receipt of a fire that the ledger has.
pub fn sign(
    signing: &Signing,
    tenant: &TenantId,
    firing: FiringId,
    fired: &Fired,
    partition: u32,
) -> Envelope {
    // The key may be rotated between the two; the envelope's id is the one that counts, so they are made to agree.
    loop {
        let key_id = signing.key_id();
        let payload = render::to_text(&ReceiptView {
            r#type: "fire.receipt",
            timer_id: firing.timer.to_string(),
            tenant: tenant.as_str(),
            firing_id: firing.to_string(),
            nominal_at_ns: firing.nominal_ns.to_string(),
            due_at_ns: fired.due_ns.to_string(),
            fired_at_ns: fired.fired_ns.to_string(),
            by_hand: fired.is_extra,
            clock_source: fired.clock.as_str(),
            max_error_ns: fired.max_error_ns.map(|ns| ns.to_string()),
            log: PlaceView { partition, sequence: fired.sequence.to_string() },
            key_id: &key_id,
        });
        let envelope = signing.sign(Kind::Receipt, payload);
        if envelope.key_id == *key_id {
            return envelope;
        }
    }
}
