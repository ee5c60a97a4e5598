//! The old client's tuple, `chronotick.CorrectedTime`, made natively.
#![allow(unsafe_code)]

use crate::reading::source_word;
use chronotick::{Reading, Span};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

/// The class and `tuple.__new__`, which makes an instance of it in one step: calling the class would first run the
/// Python function that a named tuple has for its keywords.
struct Maker {
    class: Py<PyType>,
    new: ffi::newfunc,
}

static MAKER: PyOnceLock<Maker> = PyOnceLock::new();

fn maker(py: Python<'_>) -> PyResult<&'static Maker> {
    MAKER.get_or_try_init(py, || {
        let class =
            PyModule::import(py, "chronotick.client")?.getattr("CorrectedTime")?.cast_into::<PyType>()?;
        if !class.is_subclass_of::<PyTuple>()? {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "chronotick.client.CorrectedTime is no tuple",
            ));
        }
        let tuple = py.get_type::<PyTuple>();
        // SAFETY: the type is a valid one, and Py_tp_new a slot that the limited API names.
        let slot = unsafe { ffi::PyType_GetSlot(tuple.as_type_ptr(), ffi::Py_tp_new) };
        if slot.is_null() {
            return Err(pyo3::exceptions::PyTypeError::new_err("tuple has no __new__"));
        }
        // SAFETY: what the slot Py_tp_new holds is a `newfunc`, and it is not NULL.
        let new = unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::newfunc>(slot) };
        Ok(Maker { class: class.unbind(), new })
    })
}

/// A reading as the old client gives it. A float of Unix seconds has a step of 238 ns.
pub(crate) fn corrected_time<'py>(py: Python<'py>, reading: &Reading) -> PyResult<Bound<'py, PyAny>> {
    let maker = maker(py)?;
    let fields = (
        reading.corrected.as_secs_f64(),
        reading.system.as_secs_f64(),
        reading.sigma().as_ns() as f64 / 1e9,
        f64::from(reading.confidence),
        source_word(py, reading.source),
        offset_correction_s(reading),
        reading.drift_rate,
    )
        .into_pyobject(py)?;
    let arguments = (fields,).into_pyobject(py)?;
    // SAFETY: the class derives from tuple, whose `__new__` this is; it takes one tuple and no keywords.
    let made =
        unsafe { (maker.new)(maker.class.bind(py).as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: a `newfunc` returns a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, made) }
}

/// The correction at the page's prediction time: today's without the drift since then.
fn offset_correction_s(reading: &Reading) -> f64 {
    let drift_ns = reading.age().as_ns() as f64 * reading.drift_rate;
    let correction: Span = reading.corrected - reading.system;
    (correction - Span::from_ns(drift_ns.round() as i64)).as_secs_f64()
}
