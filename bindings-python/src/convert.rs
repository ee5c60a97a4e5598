//! What crosses the boundary besides readings: integers in, exceptions out.

use chronotick::{AttachError, ErrorCode, ReadError, WaitError};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use std::fmt::Display;

/// The exception of `chronotick.errors` with this class name, code and message.
fn exception(py: Python<'_>, class: &'static str, code: ErrorCode, message: impl Display) -> PyErr {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = ERRORS.get_or_try_init(py, || PyModule::import(py, "chronotick.errors").map(Bound::unbind));
    let made = module
        .and_then(|m| m.bind(py).getattr(class))
        .and_then(|class| class.cast_into::<PyType>().map_err(PyErr::from))
        .and_then(|class| class.call1((message.to_string(), code.as_str())));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        // The package is broken; the error of the import says how.
        Err(broken) => broken,
    }
}

/// A bad argument.
pub(crate) fn invalid_argument(py: Python<'_>, message: impl Display) -> PyErr {
    exception(py, "InvalidArgumentError", ErrorCode::InvalidArgument, message)
}

/// Why the page could not be attached.
pub(crate) fn attach_error(py: Python<'_>, error: &AttachError) -> PyErr {
    let class = match error {
        AttachError::NotRunning { .. } => "DaemonNotRunningError",
        AttachError::BadName { .. } => "InvalidArgumentError",
        _ => "ChronoTickError",
    };
    exception(py, class, error.code(), error)
}

/// Why there is no reading.
pub(crate) fn read_error(py: Python<'_>, error: &ReadError) -> PyErr {
    let class = match error {
        // Only bytes handed over by the caller can have another length.
        ReadError::WrongLength { .. } => "InvalidArgumentError",
        _ => "ChronoTickError",
    };
    exception(py, class, error.code(), error)
}

/// Why a wait did not reach its target.
pub(crate) fn wait_error(py: Python<'_>, error: &WaitError) -> PyErr {
    match error {
        WaitError::AlreadyPast { .. } => exception(py, "TargetPastError", error.code(), error),
        WaitError::Untrusted { .. } | WaitError::StillUntrusted { .. } => {
            exception(py, "ChronoTickError", error.code(), error)
        }
        WaitError::Read(e) => read_error(py, e),
    }
}

/// An integer argument in 64 bits; the message names the argument that does not fit.
pub(crate) fn int64(value: &Bound<'_, PyAny>, name: &str) -> PyResult<i64> {
    value.extract().map_err(|e: PyErr| {
        if e.is_instance_of::<PyOverflowError>(value.py()) {
            invalid_argument(value.py(), format_args!("{name} does not fit in 64 bits: give nanoseconds"))
        } else {
            e
        }
    })
}
