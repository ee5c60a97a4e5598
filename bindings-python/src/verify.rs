//! Signatures of the timer service, checked natively.

use chronotick::verify::{Keys, Kind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The payload of a signed envelope, once its signature has been checked.
#[pyfunction]
pub(crate) fn verify_envelope(jwks: &str, kind: &str, envelope: &str) -> PyResult<String> {
    let kind = match kind {
        "event" => Kind::Event,
        "receipt" => Kind::Receipt,
        "checkpoint" => Kind::Checkpoint,
        other => {
            return Err(PyValueError::new_err(format!(
                "kind is {other:?}: use \"event\", \"receipt\" or \"checkpoint\""
            )));
        }
    };
    let keys = Keys::from_jwks(jwks).map_err(|e| PyValueError::new_err(e.to_string()))?;
    keys.open(kind, envelope).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// Checks a webhook's signature.
#[pyfunction]
pub(crate) fn verify_webhook(
    jwks: &str,
    id: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
) -> PyResult<()> {
    Keys::from_jwks(jwks)
        .and_then(|keys| keys.check_webhook(id, timestamp, signature, body))
        .map_err(|e| PyValueError::new_err(e.to_string()))
}
