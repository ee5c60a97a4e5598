//! A reading of the clock as an immutable Python object.

use crate::convert::{int64, read_error};
use chronotick::{FixedClocks, Order, Source, Status};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// The time, as the clock page tells it: a value, its bound, and how far to trust it.
#[pyclass(frozen, eq, module = "chronotick")]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Reading(pub(crate) chronotick::Reading);

#[pymethods]
impl Reading {
    /// The best estimate of the true time, Unix ns.
    #[getter]
    fn corrected_ns(&self) -> i64 {
        self.0.corrected.as_ns()
    }

    /// The true time is not before this, Unix ns; None without a bound.
    #[getter]
    fn earliest_ns(&self) -> Option<i64> {
        (!self.0.bound.is_unbounded()).then(|| self.0.bound.earliest().as_ns())
    }

    /// The true time is not after this, Unix ns; None without a bound.
    #[getter]
    fn latest_ns(&self) -> Option<i64> {
        (!self.0.bound.is_unbounded()).then(|| self.0.bound.latest().as_ns())
    }

    /// Half the width of the bound, ns; None without a bound.
    #[getter]
    fn max_error_ns(&self) -> Option<i64> {
        (!self.0.bound.is_unbounded()).then(|| self.0.max_error().as_ns())
    }

    /// How old the correction is, ns.
    #[getter]
    fn age_ns(&self) -> i64 {
        self.0.age().as_ns()
    }

    /// True when this moment was certainly before that of the other reading; when it was neither before nor after,
    /// nobody can tell.
    fn before(&self, other: &Self) -> bool {
        self.0.ordered(&other.0) == Order::Before
    }

    /// True when this moment was certainly after that of the other reading.
    fn after(&self, other: &Self) -> bool {
        self.0.ordered(&other.0) == Order::After
    }

    /// One standard deviation of the estimate, ns.
    #[getter]
    fn sigma_ns(&self) -> i64 {
        self.0.sigma().as_ns()
    }

    /// How far to trust the reading.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        status_word(py, self.0.status)
    }

    /// What the correction was computed from.
    #[getter]
    fn source<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        source_word(py, self.0.source)
    }

    /// The daemon's confidence, 0 to 1.
    #[getter]
    fn confidence(&self) -> f32 {
        self.0.confidence
    }

    /// The system clock at the reading, Unix ns.
    #[getter]
    fn system_ns(&self) -> i64 {
        self.0.system.as_ns()
    }

    /// The rate of the correction, s/s.
    #[getter]
    fn drift_rate(&self) -> f64 {
        self.0.drift_rate
    }

    fn __hash__(&self) -> u64 {
        // Equal readings have equal times.
        self.0.corrected.as_ns().cast_unsigned()
    }

    fn __repr__(&self) -> String {
        let bound = match self.max_error_ns() {
            Some(ns) => format!("{ns}"),
            None => "None".to_owned(),
        };
        format!(
            "Reading(corrected_ns={}, max_error_ns={bound}, sigma_ns={}, status='{}', source='{}')",
            self.corrected_ns(),
            self.sigma_ns(),
            self.0.status,
            self.0.source.as_str(),
        )
    }
}

/// The word of a source; always the same Python object.
pub(crate) fn source_word(py: Python<'_>, source: Source) -> &Bound<'_, PyString> {
    match source {
        Source::NoData => intern!(py, "no_data"),
        Source::Ntp => intern!(py, "ntp"),
        Source::CpuModel => intern!(py, "cpu_model"),
        Source::GpuModel => intern!(py, "gpu_model"),
        Source::Fusion => intern!(py, "fusion"),
    }
}

/// The word of a status; always the same Python object.
pub(crate) fn status_word(py: Python<'_>, status: Status) -> &Bound<'_, PyString> {
    match status {
        Status::Synchronized => intern!(py, "synchronized"),
        Status::WarmingUp => intern!(py, "warming_up"),
        Status::Holdover => intern!(py, "holdover"),
        Status::Disrupted => intern!(py, "disrupted"),
        Status::Expired => intern!(py, "expired"),
        Status::Legacy => intern!(py, "legacy"),
        Status::NoData => intern!(py, "no_data"),
    }
}

/// The reading that a client would make of these 128 bytes at these clock readings.
#[pyfunction]
#[pyo3(signature = (page, *, realtime_ns, boottime_ns = None, monotonic_raw_ns = None, counter = None))]
pub(crate) fn evaluate(
    page: &Bound<'_, PyBytes>,
    realtime_ns: &Bound<'_, PyAny>,
    boottime_ns: Option<&Bound<'_, PyAny>>,
    monotonic_raw_ns: Option<&Bound<'_, PyAny>>,
    counter: Option<&Bound<'_, PyAny>>,
) -> PyResult<Reading> {
    let or_zero = |value: Option<&Bound<'_, PyAny>>, name| value.map_or(Ok(0), |value| int64(value, name));
    let clocks = FixedClocks {
        realtime_ns: int64(realtime_ns, "realtime_ns")?,
        boottime_ns: or_zero(boottime_ns, "boottime_ns")?,
        monotonic_raw_ns: or_zero(monotonic_raw_ns, "monotonic_raw_ns")?,
        counter: counter.map(|value| int64(value, "counter")).transpose()?,
    };
    chronotick::evaluate(page.as_bytes(), &clocks).map(Reading).map_err(|e| read_error(page.py(), &e))
}
