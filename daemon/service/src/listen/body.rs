//! Bodies with a limit on time: a request's has to keep up a rate; an answer's keeps its connection in use.

use super::count::UnderWay;
use crate::config::access::ListenerLimits;
use axum::body::{Body, Bytes, HttpBody};
use chronotick::os_clock::boottime;
use chronotick_core::MonoTime;
use hyper::body::{Frame, SizeHint};
use std::future::{Pending, pending};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Timeout, timeout};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request. It has some time, and more for each byte that has come: who trickles is cut off.
pub(super) struct Timed<B> {
    body: B,
    started: MonoTime,
    allowance: Duration,
    rate_min: u64,
    received: u64,
    /// What is told of a body that is late.
    late: fn() -> BoxError,
    timer: Option<Pin<Box<Timeout<Pending<()>>>>>,
}

const LATE: &str = "it came too slowly";

fn late_body() -> BoxError {
    io::Error::new(io::ErrorKind::TimedOut, LATE).into()
}

/// A gRPC server answers a call with the status that it finds in the error of the body.
fn late_call() -> BoxError {
    let detail = format!("the request broke off ({LATE}): send it again");
    tonic::Status::deadline_exceeded(detail).into()
}

impl<B> Timed<B> {
    pub(super) fn new(body: B, limits: &ListenerLimits, is_grpc: bool) -> Self {
        Self {
            body,
            started: boottime(),
            allowance: limits.body_timeout,
            rate_min: limits.body_rate_min,
            received: 0,
            late: if is_grpc { late_call } else { late_body },
            timer: None,
        }
    }

    /// The time that is left; `None` when it is over.
    fn left(&self) -> Option<Duration> {
        let earned = Duration::from_millis(self.received.saturating_mul(1_000) / self.rate_min.max(1));
        let passed = (boottime() - self.started).to_duration();
        self.allowance.saturating_add(earned).checked_sub(passed).filter(|left| !left.is_zero())
    }
}

impl<B> HttpBody for Timed<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
                self.received += data.len() as u64;
            }
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        loop {
            let Some(left) = self.left() else {
                return Poll::Ready(Some(Err((self.late)())));
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(timeout(left, pending())));
            // What has come since the timer was set may have put the end off.
            let _ = ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, and the request that is under way until its end.
pub(super) struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl Counted {
    pub(super) fn new(body: Body, under_way: UnderWay) -> Self {
        Self { body, _under_way: under_way }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    fn timed(allowance_ms: u64, chunks: Vec<&'static str>, then_ends: bool) -> Timed<Body> {
        use futures::stream::{self, StreamExt};
        let frames =
            stream::iter(chunks.into_iter().map(|c| Ok::<_, io::Error>(Frame::data(Bytes::from(c)))));
        let body = if then_ends {
            Body::new(StreamBody::new(frames))
        } else {
            Body::new(StreamBody::new(frames.chain(stream::pending())))
        };
        let limits = ListenerLimits {
            body_timeout: Duration::from_millis(allowance_ms),
            body_rate_min: 1_000,
            ..ListenerLimits::default()
        };
        Timed::new(body, &limits, false)
    }

    #[tokio::test]
    async fn a_body_that_stops_is_cut_off_and_one_that_comes_is_not() {
        let whole = timed(1, vec!["ab", "c"], true).collect().await.unwrap();
        assert_eq!(whole.to_bytes(), "abc");
        let late = timed(1, vec!["ab"], false).collect().await.unwrap_err();
        assert!(late.to_string().contains("too slowly"), "{late}");
    }

    #[test]
    fn bytes_earn_time() {
        let mut body = timed(100, Vec::new(), true);
        assert!(body.left().unwrap() <= Duration::from_millis(100));
        body.received = 60_000;
        assert!(body.left().unwrap() > Duration::from_secs(59));
        body.allowance = Duration::ZERO;
        body.received = 0;
        assert_eq!(body.left(), None);
    }
}
