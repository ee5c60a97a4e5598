//! An attached clock page as a Python object.

use crate::convert::{attach_error, int64, read_error, wait_error};
use crate::corrected::{Kept, corrected_time};
use crate::reading::{Reading, status_word};
use chronotick::os_clock::boottime;
use chronotick::{Client, Flags, ReadError, Span, Timestamp, WaitError, Waited};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Python's signal handlers run at least this often during a wait, so that Ctrl-C ends it.
const SIGNALS_EVERY: Span = Span::from_ms(50);
/// Up to this tolerance the end of a wait is spun, which the client itself does only below a millisecond.
const SPUN: Span = Span::from_ms(1);

/// An attached clock page. All threads may share one.
///
/// The client is boxed, since it begins on a cache line and Python's objects begin on any 16 bytes.
#[pyclass(frozen, module = "chronotick._native")]
pub(crate) struct ClockPage {
    client: Box<Client>,
    kept: Kept,
}

/// Python's allocator gives no more, and PyO3 does not ask for more.
const _: () = assert!(align_of::<ClockPage>() <= 16 && align_of::<Reading>() <= 16);

#[pymethods]
impl ClockPage {
    /// Attaches the page with this name or absolute path; None is $CHRONOTICK_SHM, else the default name.
    #[new]
    #[pyo3(signature = (name = None))]
    fn attach(py: Python<'_>, name: Option<&str>) -> PyResult<Self> {
        Client::attach_named(name)
            .map(|c| Self { client: Box::new(c), kept: Kept::default() })
            .map_err(|e| attach_error(py, &e))
    }

    /// Where the page is.
    #[getter]
    fn path(&self) -> &std::path::Path {
        self.client.path()
    }

    /// The time now, with its bound, sigma and status.
    fn now(&self, py: Python<'_>) -> PyResult<Reading> {
        self.client.now().map(Reading).map_err(|e| read_error(py, &e))
    }

    /// The corrected time now, Unix ns; an error where the clock is not usable, since a number carries no status.
    fn now_ns(&self, py: Python<'_>) -> PyResult<i64> {
        self.client.now_ns().map_err(|e| read_error(py, &e))
    }

    /// The time now, if it is known to within this many nanoseconds on each side.
    fn now_within(&self, py: Python<'_>, max_error_ns: &Bound<'_, PyAny>) -> PyResult<Reading> {
        let max_error = Span::from_ns(int64(max_error_ns, "max_error_ns")?);
        self.client.now_within(max_error).map(Reading).map_err(|e| read_error(py, &e))
    }

    /// The reading for the moment this far away, ns, past (negative) or future.
    fn at(&self, py: Python<'_>, from_now_ns: &Bound<'_, PyAny>) -> PyResult<Reading> {
        let from_now = Span::from_ns(int64(from_now_ns, "from_now_ns")?);
        self.client.at(from_now).map(Reading).map_err(|e| read_error(py, &e))
    }

    /// The reading for the moment at which the system clock showed this, Unix ns.
    fn at_system_time(&self, py: Python<'_>, system_ns: &Bound<'_, PyAny>) -> PyResult<Reading> {
        let system = Timestamp::from_ns(int64(system_ns, "system_ns")?);
        self.client.at_system_time(system).map(Reading).map_err(|e| read_error(py, &e))
    }

    /// The time now in float seconds, as the old client gives it; an error where the clock is not usable, since the tuple
    /// carries no status.
    fn get_time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.client.now() {
            Ok(reading) if reading.status.is_usable() => corrected_time(py, &self.kept, &reading),
            Ok(reading) => Err(read_error(py, &ReadError::Untrusted { status: reading.status })),
            Err(e) => Err(read_error(py, &e)),
        }
    }

    /// The same for the moment this far ahead, ns; the clock must be usable now, and the page may run out until then.
    fn get_time_at<'py>(
        &self,
        py: Python<'py>,
        from_now_ns: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let from_now = Span::from_ns(int64(from_now_ns, "from_now_ns")?);
        let now = self.client.now().map_err(|e| read_error(py, &e))?;
        if !now.status.is_usable() {
            return Err(read_error(py, &ReadError::Untrusted { status: now.status }));
        }
        let reading = self.client.at(from_now).map_err(|e| read_error(py, &e))?;
        corrected_time(py, &self.kept, &reading)
    }

    /// The 128 bytes of the page, whole and untorn.
    fn page_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let read = || {
            // A reading looks for a page that was replaced, which a bare snapshot does not.
            self.client.now()?;
            self.client.snapshot()
        };
        let record = read().map_err(|e| read_error(py, &e))?;
        Ok(PyBytes::new(py, &record.to_bytes()))
    }

    /// How far the clock can be trusted now.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyString>> {
        self.client.status().map(|s| status_word(py, s)).map_err(|e| read_error(py, &e))
    }

    /// True when the daemon has set both VALID and WARMUP_COMPLETE: how old clients judge it.
    fn is_ready(&self, py: Python<'_>) -> PyResult<bool> {
        let read = || {
            // A reading looks for a page that was replaced, which a bare snapshot does not.
            self.client.now()?;
            self.client.snapshot()
        };
        let flags = read().map_err(|e| read_error(py, &e))?.flags;
        Ok(flags.has(Flags::VALID | Flags::WARMUP_COMPLETE))
    }

    /// Blocks until corrected time reaches the target; returns how late it woke, ns, never negative.
    fn wait_until_ns(
        &self,
        py: Python<'_>,
        target_ns: &Bound<'_, PyAny>,
        tolerance_ns: &Bound<'_, PyAny>,
    ) -> PyResult<i64> {
        let target = Timestamp::from_ns(int64(target_ns, "target_ns")?);
        let tolerance = Span::from_ns(int64(tolerance_ns, "tolerance_ns")?);
        // The default of a millisecond is met with a short spin as well: a sleep alone overshoots by the timer's slack.
        let tolerance = if tolerance <= SPUN { tolerance.min(SPUN - Span::from_ns(1)) } else { tolerance };
        self.wait(py, target, tolerance).map(Span::as_ns)
    }

    /// Blocks until the clock is synchronized or in holdover; returns the first such reading.
    fn wait_synchronized(&self, py: Python<'_>, timeout_ns: &Bound<'_, PyAny>) -> PyResult<Reading> {
        let timeout = Span::from_ns(int64(timeout_ns, "timeout_ns")?);
        let deadline = boottime() + timeout;
        loop {
            let left = deadline - boottime();
            match py.detach(|| self.client.wait_synchronized(left.min(SIGNALS_EVERY))) {
                Ok(reading) => return Ok(Reading(reading)),
                Err(e) if left <= SIGNALS_EVERY => return Err(wait_error(py, &e)),
                Err(_) => py.check_signals()?,
            }
        }
    }
}

impl ClockPage {
    fn wait(&self, py: Python<'_>, target: Timestamp, tolerance: Span) -> PyResult<Span> {
        let begin = self.client.now().map_err(|e| read_error(py, &e))?.corrected;
        if target < begin {
            // Refused by the client, whose error says by how much it is late or why the clock cannot be used.
            return self.slice(py, target, tolerance).map(|w| w.late_by).map_err(|e| wait_error(py, &e));
        }
        let mut now = begin;
        loop {
            let stop = target.min(now + SIGNALS_EVERY);
            // Only the last slice need end sharply.
            let tolerance = if stop == target { tolerance } else { SIGNALS_EVERY };
            now = match self.slice(py, stop, tolerance) {
                Ok(waited) if stop == target => return Ok(waited.late_by),
                Ok(waited) => waited.reading.corrected,
                // The slice ended between the last reading and the wait: the target was ahead when we began.
                Err(WaitError::AlreadyPast { late_by, .. }) if stop == target => return Ok(late_by),
                Err(WaitError::AlreadyPast { now, .. }) => now,
                Err(e) => return Err(wait_error(py, &e)),
            };
            py.check_signals()?;
        }
    }

    fn slice(&self, py: Python<'_>, stop: Timestamp, tolerance: Span) -> Result<Waited, WaitError> {
        py.detach(|| self.client.wait_until(stop, tolerance))
    }
}
