//! The old client's tuple, `chronotick.CorrectedTime`, made natively.
#![allow(unsafe_code)]

use crate::reading::source_word;
use chronotick::{Reading, Source, Span};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFloat, PyTuple, PyType};
use std::cell::UnsafeCell;

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

/// The tuples given out last. One that nobody else has any more is given out again with the new times in it, as `zip` does
/// with its own: making a tuple and letting go of it takes as long as the reading. There are two, since the variable that
/// a caller puts the new one into usually holds the last one until then.
#[derive(Default)]
pub(crate) struct Kept(UnsafeCell<[Slot; 2]>);

type Slot = Option<(Rest, Py<PyAny>)>;

/// The fields besides the two times, which rarely differ from one reading to the next.
#[derive(Clone, Copy, PartialEq)]
struct Rest {
    sigma_ns: i64,
    confidence: f32,
    source: Source,
    offset_ns: i64,
    drift_rate: f64,
}

// SAFETY: the cell is reached in `corrected_time` and `make` alone, with an attached interpreter; the module says that it uses
// the GIL, and nothing that lets go of the GIL happens while the cell is borrowed.
unsafe impl Sync for Kept {}

/// A reading as the old client gives it. A float of Unix seconds has a step of 238 ns.
// Always inlined, as `Client::now` is, and for the same reason.
#[inline(always)]
pub(crate) fn corrected_time<'py>(
    py: Python<'py>,
    kept: &Kept,
    reading: &Reading,
) -> PyResult<Bound<'py, PyAny>> {
    let rest = Rest {
        sigma_ns: reading.sigma().as_ns(),
        confidence: reading.confidence,
        source: reading.source,
        offset_ns: offset_correction(reading).as_ns(),
        drift_rate: reading.drift_rate,
    };
    let times = [reading.corrected.as_secs_f64(), reading.system.as_secs_f64()];
    // SAFETY: nobody else has a reference to the slots meanwhile: what follows makes floats and puts them into a tuple in
    // place of others, neither of which lets other code run.
    for (of, made) in unsafe { &*kept.0.get() }.iter().flatten() {
        // SAFETY: a valid object; the count is read by the thread that has the GIL.
        if *of == rest && unsafe { ffi::Py_REFCNT(made.as_ptr()) } == 1 {
            for (at, time) in (0..).zip(times) {
                set(py, made.as_ptr(), at, PyFloat::new(py, time).into_any())?;
            }
            return Ok(made.bind(py).clone());
        }
    }
    make(py, kept, rest, times)
}

#[inline(never)]
fn make<'py>(py: Python<'py>, kept: &Kept, rest: Rest, times: [f64; 2]) -> PyResult<Bound<'py, PyAny>> {
    let maker = maker(py)?;
    let float = |x: f64| PyFloat::new(py, x).into_any();
    let fields = [
        float(times[0]),
        float(times[1]),
        float(rest.sigma_ns as f64 / 1e9),
        float(f64::from(rest.confidence)),
        source_word(py, rest.source).clone().into_any(),
        float(rest.offset_ns as f64 / 1e9),
        float(rest.drift_rate),
    ];
    if !maker.filled_in_place {
        return call(py, maker, fields);
    }
    // SAFETY: the class derives from tuple, so its instances are allocated by their number of items, all NULL at first.
    let made = unsafe { ffi::PyType_GenericAlloc(maker.class.bind(py).as_type_ptr(), FIELDS) };
    // SAFETY: a new reference, or NULL with an exception set. A tuple with NULL items may be let go of.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
    for (at, field) in (0..).zip(fields) {
        set(py, made.as_ptr(), at, field)?;
    }
    let new = Some((rest, made.clone().unbind()));
    let oldest = {
        // SAFETY: as in `corrected_time`; only references move here.
        let [last, before] = unsafe { &mut *kept.0.get() };
        std::mem::replace(before, std::mem::replace(last, new))
    };
    // Now that nobody is in there: letting go of a tuple may run what somebody gave its class.
    drop(oldest);
    Ok(made)
}

/// Puts a field into a tuple of ours that nobody else refers to.
#[inline(always)]
fn set(py: Python<'_>, made: *mut ffi::PyObject, at: isize, field: Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: a tuple with one reference, which is its condition; the place is one of its seven, and takes over the field.
    match unsafe { ffi::PyTuple_SetItem(made, at, field.into_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(py)),
    }
}

#[cold]
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
#[inline(always)]
fn offset_correction(reading: &Reading) -> Span {
    let drift_ns = reading.age().as_ns() as f64 * reading.drift_rate;
    // Rounded by hand: without the newest instructions `f64::round` is a call.
    let drift = Span::from_ns((drift_ns + 0.5_f64.copysign(drift_ns)) as i64);
    reading.corrected - reading.system - drift
}
