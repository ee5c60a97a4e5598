//! An attached clock page as a JavaScript object.

use crate::failure::{Failure, Fault, attach_failure, read_failure};
use crate::frame::Frame;
use chronotick::{Client, Span, Timestamp};
use napi::Env;
use napi::bindgen_prelude::{BigInt64Array, BigInt64ArraySlice, Either, Object};
use napi_derive::napi;
use std::sync::Arc;

/// How a wait ended: the words of its last reading, or why there is none.
type Waited = Either<BigInt64Array, Failure>;

/// An attached clock page.
#[napi]
pub struct ClockPage {
    client: Arc<Client>,
}

#[napi]
impl ClockPage {
    /// Attaches the page with this name or absolute path; without one, `$CHRONOTICK_SHM` or the default name.
    #[napi(factory)]
    pub fn attach(name: Option<String>) -> Result<Self, Fault> {
        let client = Client::attach_named(name.as_deref()).map_err(|e| attach_failure(&e))?;
        Ok(Self { client: Arc::new(client) })
    }

    /// Where the page is.
    #[napi(getter)]
    pub fn path(&self) -> String {
        self.client.path().to_string_lossy().into_owned()
    }

    /// Writes a reading into the frame.
    #[napi]
    pub fn read(&self, mut frame: BigInt64ArraySlice<'_>) -> Result<(), Fault> {
        let reading = self.client.now().map_err(|e| read_failure(&e))?;
        *Frame::of(&mut frame)? = Frame::words(&reading, 0);
        Ok(())
    }

    /// The corrected time, Unix ms with a fraction.
    #[napi]
    pub fn now_ms(&self) -> Result<f64, Fault> {
        let ns = self.client.now().map_err(|e| read_failure(&e))?.corrected.as_ns();
        // One rounding: both terms are exact.
        Ok(ns.div_euclid(1_000_000) as f64 + ns.rem_euclid(1_000_000) as f64 / 1e6)
    }

    /// The number of the status.
    #[napi]
    pub fn status(&self) -> Result<u32, Fault> {
        self.client.status().map(|s| s as u32).map_err(|e| read_failure(&e))
    }

    /// Waits until the time in the frame's first word, with the tolerance in its second, both ns. The wait has a thread
    /// of its own, since one on Node's few pool threads would hold up files and name look-ups.
    #[napi(ts_return_type = "Promise<BigInt64Array | Failure>")]
    pub fn wait<'env>(
        &self,
        env: &'env Env,
        mut frame: BigInt64ArraySlice<'_>,
    ) -> Result<Object<'env>, napi::Error> {
        let [target, tolerance, ..] =
            *Frame::of(&mut frame).map_err(|e| napi::Error::from_reason(e.reason.clone()))?;
        let (deferred, promise) = env.create_deferred()?;
        let client = Arc::clone(&self.client);
        std::thread::Builder::new().name("minoots-wait".to_owned()).spawn(move || {
            let waited = wait(&client, Timestamp::from_ns(target), Span::from_ns(tolerance));
            deferred.resolve(move |_| Ok(waited));
        })?;
        Ok(promise)
    }
}

fn wait(client: &Client, target: Timestamp, tolerance: Span) -> Waited {
    match client.wait_until(target, tolerance) {
        Ok(waited) => {
            Either::A(BigInt64Array::new(Frame::words(&waited.reading, waited.late_by.as_ns()).to_vec()))
        }
        Err(e) => Either::B(Failure::new(e.code(), &e)),
    }
}
