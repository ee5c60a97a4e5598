//! An attached clock page as a JavaScript object.

use crate::failure::{Failure, Fault, attach_failure, read_failure};
use crate::frame::Frame;
use chronotick::{Client, Span, Timestamp};
use napi::Env;
use napi::bindgen_prelude::{BigInt64Array, BigInt64ArraySlice, Either, Object, Unknown};
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

    /// A function that writes a reading into this frame, and nothing else; see `quick.rs`.
    #[napi(ts_args_type = "frame: BigInt64Array", ts_return_type = "() => void")]
    pub fn reader<'env>(&self, env: &'env Env, frame: Unknown<'env>) -> Result<Unknown<'env>, napi::Error> {
        crate::quick::reader(env, &self.client, &frame)
    }

    /// Fails where a bare number cannot be given, with the reason.
    #[napi]
    pub fn require_usable(&self) -> Result<(), Fault> {
        self.client.now_ns().map(drop).map_err(|e| read_failure(&e))
    }

    /// Writes a reading into the frame, if its bound is at most as wide as the frame's first word says, ns.
    #[napi]
    pub fn read_within(&self, mut frame: BigInt64ArraySlice<'_>) -> Result<(), Fault> {
        let [max_error_ns, ..] = *Frame::of(&mut frame)?;
        let reading = self.client.now_within(Span::from_ns(max_error_ns)).map_err(|e| read_failure(&e))?;
        *Frame::of(&mut frame)? = Frame::words(&reading, 0);
        Ok(())
    }

    /// Writes the reading for the moment as far away as the frame's first word says, ns.
    #[napi]
    pub fn read_at(&self, mut frame: BigInt64ArraySlice<'_>) -> Result<(), Fault> {
        let [from_now_ns, ..] = *Frame::of(&mut frame)?;
        let reading = self.client.at(Span::from_ns(from_now_ns)).map_err(|e| read_failure(&e))?;
        *Frame::of(&mut frame)? = Frame::words(&reading, 0);
        Ok(())
    }

    /// Writes the reading for the moment at which the system clock showed what is in the frame's first word, Unix ns.
    #[napi]
    pub fn read_at_system_time(&self, mut frame: BigInt64ArraySlice<'_>) -> Result<(), Fault> {
        let [system_ns, ..] = *Frame::of(&mut frame)?;
        let reading =
            self.client.at_system_time(Timestamp::from_ns(system_ns)).map_err(|e| read_failure(&e))?;
        *Frame::of(&mut frame)? = Frame::words(&reading, 0);
        Ok(())
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
