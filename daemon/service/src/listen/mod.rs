//! The listener: HTTP/1, HTTP/2 and gRPC on one port, plain or over TLS, with a limit on whatever a stranger may take.
//!
//! What each limit is against: connections in all and of one address (exhaustion of descriptors and memory); a time for
//! the handshake, for the headers and for the first request (slow loris, in any protocol and before any); a size and a
//! count of headers; a rate that a body has to keep up; streams of a connection, resets that wait, pings (floods within
//! HTTP/2); a time for which an answer may be left unread. Answers and gRPC requests that stream may take as long as they
//! like: their connection proves itself by reading.

mod body;
mod count;
mod io;
mod tls;

pub use tls::{Tls, TlsError};

use crate::access::Peer;
use crate::api::grpc::takes_a_stream;
use crate::config::access::ListenerLimits;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version};
use body::{Counted, Timed};
use count::{Activity, Counts, Permit};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use io::{Stream, Watched};
use std::convert::Infallible;
use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// How long to wait where the operating system gives no more connections.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// What one HTTP/2 stream, and all of a connection, may have in flight that nobody has read yet.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const STREAM_SEND_MAX_BYTES: usize = 128 * 1024;
/// Streams that were opened and reset at once and wait to be seen: more, and the connection ends (rapid reset).
const RESETS_WAITING_MAX: usize = 20;
const RESETS_BY_ERROR_MAX: usize = 256;
/// hyper's own number of headers, for which it needs no allocation.
const HEADERS_UNALLOCATED: usize = 100;
/// Descriptors that are left for files and for webhooks.
const DESCRIPTORS_KEPT: u64 = 256;

struct Server {
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: ListenerLimits,
    http: Builder<TokioExecutor>,
    stop: CancellationToken,
    /// The grace is over.
    cut: CancellationToken,
}

/// Serves until `stop`, and then until the requests under way have ended. To drop it ends them at once.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    mut limits: ListenerLimits,
    router: Router,
    stop: CancellationToken,
) {
    limits.connections_max = within_descriptors(limits.connections_max);
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    let counts = Counts::new(limits.connections_max, limits.connections_per_address_max);
    let server = Arc::new(Server { router, tls, limits, http: http(&limits), stop: stop.clone(), cut });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Over the limit: closed at once, which costs the least.
            Ok((stream, addr)) => {
                if let Some(permit) = counts.admit(addr.ip()) {
                    connections.spawn(server.clone().connection(stream, addr, permit));
                }
            }
            // Gone again before it was accepted.
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(e) => {
                tracing::error!("no connection can be accepted just now: {e}");
                let _ = timeout(ACCEPT_AGAIN_AFTER, stop.cancelled()).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Raises the limit of open descriptors as far as it goes; gives how many connections fit under it.
fn within_descriptors(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let mut soft = limit.current;
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok() {
        soft = limit.maximum;
    }
    let Some(soft) = soft else { return wanted };
    let fitting = usize::try_from(soft.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(usize::MAX).max(1);
    if fitting < wanted {
        tracing::warn!(
            "this process may open {soft} descriptors: at most {fitting} connections are taken, not \
             listener.connections_max ({wanted}); raise the limit (ulimit -n, LimitNOFILE)"
        );
    }
    wanted.min(fitting)
}

fn http(limits: &ListenerLimits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    let mut http1 = http.http1();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max);
    if limits.headers_max != HEADERS_UNALLOCATED {
        http1.max_headers(limits.headers_max);
    }
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.header_bytes_max as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(STREAM_SEND_MAX_BYTES)
        .max_pending_accept_reset_streams(RESETS_WAITING_MAX)
        .max_local_error_reset_streams(RESETS_BY_ERROR_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .enable_connect_protocol();
    http
}

impl Server {
    async fn connection(self: Arc<Self>, tcp: TcpStream, addr: SocketAddr, permit: Permit) {
        // Answers are small and each is wanted at once.
        let _ = tcp.set_nodelay(true);
        let watched = Watched::new(tcp, self.limits.write_timeout, permit);
        let (stream, certificate) = match &self.tls {
            None => (Stream::Plain(watched), None),
            Some(tls) => match timeout(self.limits.handshake_timeout, tls.acceptor().accept(watched)).await {
                Ok(Ok(stream)) => {
                    let certificate = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
                    let certificate = certificate.map(|der| Arc::from(der.as_ref()));
                    (Stream::Tls(Box::new(stream)), certificate)
                }
                Ok(Err(e)) => return tracing::debug!(%addr, "a TLS handshake failed: {e}"),
                Err(_) => return tracing::debug!(%addr, "a TLS handshake took too long"),
            },
        };
        let activity = Arc::new(Activity::default());
        let service = service_fn(|request| {
            self.request(request, Peer { addr, certificate: certificate.clone() }, &activity)
        });
        let mut connection = pin!(self.http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut is_stopping = false;
        // A connection that has brought no request by then is nobody's.
        let (mut wait, mut seen) = (self.limits.header_timeout, 0);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(e) = ended {
                        tracing::trace!(%addr, "a connection broke off: {e}");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.cut.cancelled() => return,
                _ = timeout(wait, pending::<()>()) => {
                    let (requests, under_way) = activity.read();
                    match () {
                        () if under_way > 0 || requests != seen => wait = self.limits.idle_timeout,
                        // Never a request, or asked to go and still here.
                        () if requests == 0 || is_stopping => return,
                        () => {
                            is_stopping = true;
                            wait = self.limits.header_timeout;
                            connection.as_mut().graceful_shutdown();
                        }
                    }
                    seen = requests;
                }
            }
        }
    }

    fn request(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        activity: &Arc<Activity>,
    ) -> impl Future<Output = Result<hyper::Response<Body>, Infallible>> + use<> {
        let under_way = activity.begin();
        let is_grpc = is_grpc(&request);
        let is_endless = is_grpc && takes_a_stream(request.uri().path());
        let mut request = request.map(|body| {
            if is_endless || body.is_end_stream() {
                Body::new(body)
            } else {
                Body::new(Timed::new(body, &self.limits, is_grpc))
            }
        });
        request.extensions_mut().insert(peer);
        let router = self.router.clone();
        async move {
            let response = match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            Ok(response.map(|body| Body::new(Counted::new(body, under_way))))
        }
    }
}

/// A gRPC call. REST has none: to claim the media type on one of its paths helps nobody.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let path = request.uri().path();
    request.version() == Version::HTTP_2 && (path.starts_with("/minoots.") || path.starts_with("/grpc."))
}
