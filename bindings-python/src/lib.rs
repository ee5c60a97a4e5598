//! The native module `chronotick._native`: the client of the clock page, as Python sees it.
#![deny(unsafe_code)]

mod alarm;
mod convert;
mod corrected;
mod page;
mod reading;
mod verify;

use chronotick::ErrorCode;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The clock page, natively. The public names are in `chronotick`. Free-threaded interpreters load no module of the stable ABI
/// that this one is built for; should they, this one has the GIL turned on.
#[pymodule(gil_used = true)]
mod _native {
    use super::{Bound, ErrorCode, PyModule, PyModuleMethods, PyResult, PyTuple};

    #[pymodule_export]
    use crate::alarm::Alarm;
    #[pymodule_export]
    use crate::page::ClockPage;
    #[pymodule_export]
    use crate::reading::{Reading, evaluate};

    #[pymodule_export]
    use crate::verify::{verify_envelope, verify_webhook};

    /// The code words of `chronotick::ErrorCode`, which every language shares.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let words = PyTuple::new(module.py(), ErrorCode::ALL.map(ErrorCode::as_str))?;
        module.add("ERROR_CODES", words)
    }

    /// The version of the distribution.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
