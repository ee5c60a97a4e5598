//! The old client's tuple, `chronotick.CorrectedTime`, made natively.
#![allow(unsafe_code)]

use crate::reading::source_word;
use chronotick::{Reading, Span};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFloat, PyTuple, PyType};

/// How an instance is made. Calling the class would first run the Python function that a named tuple has for its
/// keywords, which costs more than the reading.
struct Maker {
    class: Py<PyType>,
    /// Where a tuple is no more than its items, it is allocated empty and filled, as `tuple.__new__` itself does. From
    /// Python 3.14 on a tuple also keeps its hash, which only `tuple.__new__` sets up.
    filled_in_place: bool,
    /// `tuple.__new__`.
    new: ffi::newfunc,
}

const FIELDS: isize = 7;

static MAKER: PyOnceLock<Maker> = PyOnceLock::new();

fn maker(py: Python<'_>) -> PyResult<&'static Maker> {
    MAKER.get_or_try_init(py, || {
        let class =
            PyModule::import(py, "chronotick.client")?.getattr("CorrectedTime")?.cast_into::<PyType>()?;
        if !class.is_subclass_of::<PyTuple>()? {
            return Err(PyTypeError::new_err("chronotick.client.CorrectedTime is no tuple"));
        }
        let tuple = py.get_type::<PyTuple>();
        // SAFETY: the type is a valid one, and Py_tp_new a slot that the limited API names.
        let slot = unsafe { ffi::PyType_GetSlot(tuple.as_type_ptr(), ffi::Py_tp_new) };
        if slot.is_null() {
            return Err(PyTypeError::new_err("tuple has no __new__"));
        }
        // SAFETY: what the slot Py_tp_new holds is a `newfunc`, and it is not NULL.
        let new = unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::newfunc>(slot) };
        let filled_in_place = py.version_info() < (3, 14);
        Ok(Maker { class: class.unbind(), filled_in_place, new })
    })
}

/// A reading as the old client gives it. A float of Unix seconds has a step of 238 ns.
pub(crate) fn corrected_time<'py>(py: Python<'py>, reading: &Reading) -> PyResult<Bound<'py, PyAny>> {
    let maker = maker(py)?;
    let float = |x: f64| PyFloat::new(py, x).into_any();
    let fields = [
        float(reading.corrected.as_secs_f64()),
        float(reading.system.as_secs_f64()),
        float(reading.sigma().as_ns() as f64 / 1e9),
        float(f64::from(reading.confidence)),
        source_word(py, reading.source).clone().into_any(),
        float(offset_correction_s(reading)),
        float(reading.drift_rate),
    ];
    if maker.filled_in_place { fill(py, maker, fields) } else { call(py, maker, fields) }
}

fn fill<'py>(
    py: Python<'py>,
    maker: &Maker,
    fields: [Bound<'py, PyAny>; FIELDS as usize],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the class derives from tuple, so its instances are allocated by their number of items, all NULL at first.
    let made = unsafe { ffi::PyType_GenericAlloc(maker.class.bind(py).as_type_ptr(), FIELDS) };
    // SAFETY: a new reference, or NULL with an exception set. A tuple with NULL items may be let go of.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
    for (at, field) in (0..).zip(fields) {
        // SAFETY: a tuple that nobody else refers to yet; the place is one of its seven, and takes over the reference.
        if unsafe { ffi::PyTuple_SetItem(made.as_ptr(), at, field.into_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(made)
}

fn call<'py>(
    py: Python<'py>,
    maker: &Maker,
    fields: [Bound<'py, PyAny>; FIELDS as usize],
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = PyTuple::new(py, [PyTuple::new(py, fields)?])?;
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
