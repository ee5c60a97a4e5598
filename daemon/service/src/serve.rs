//! Puts the service together, runs it, and takes it apart in the right order.

use crate::actions::{Connector, Connectors, Orchestrator, Webhook};
use crate::api::{self, App};
use crate::clock::PageClock;
use crate::config::Config;
use crate::engine::{Engine, EngineConfig, EngineHandle, StartError, Started, Threads};
use crate::ids;
use crate::store::{ControlStore, DiskControl, LogOptions, MemoryControl, embedded};
use crate::telemetry::Metrics;
use axum::Router;
use axum::serve::ListenerExt;
use minoots_kernel::TenantId;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests and action attempts that are under way may take to end at a shutdown.
const GRACE: Duration = Duration::from_secs(10);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}: {reason}{}", hint(reason))]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the operating system said.
        reason: io::Error,
    },
    /// The engine did not start; the text names the data directory.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// The webhook client did not start.
    #[error("{0}")]
    Webhook(String),
}

fn hint(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => ": stop what listens there, or choose another port with --listen",
        io::ErrorKind::PermissionDenied => ": choose a port from 1024 up with --listen",
        _ => "",
    }
}

/// A service that runs. Call [`Service::stop`]; to drop it is a crash.
pub struct Service {
    /// Where it listens; with port 0 asked for, the port it got.
    pub addr: SocketAddr,
    /// The clock in use, in words.
    pub clock: String,
    engine: EngineHandle,
    engine_threads: Threads,
    orchestrator: JoinHandle<()>,
    server: JoinHandle<()>,
    stop_serving: CancellationToken,
    stop_actions: CancellationToken,
    streams: TaskTracker,
}

impl Service {
    /// Binds the address, opens the store, starts everything. Time comes from the clock page, while there is a good one.
    pub async fn start(config: &Config) -> Result<Self, ServeError> {
        // First of all: an address in use is the likeliest mistake, and the store is not touched then.
        let listener = bind(config.listen).await?;
        let stores = embedded::open(&config.data_dir, config.partitions, LogOptions::default())
            .map_err(StartError::from)?;
        let shm_name = config.shm_name.clone();
        let started = Engine::start(EngineConfig {
            stores,
            clock: Box::new(move || Box::new(PageClock::new(Some(&shm_name)))),
            ids: ids::system(),
            retention: config.retention,
        })?;
        let control = DiskControl::open(&config.data_dir.join("control")).map_err(StartError::from)?;
        Self::assemble(config, listener, started, Arc::new(control)).await
    }

    /// The same over an engine that was started elsewhere: on another store, another clock.
    pub async fn start_over(config: &Config, started: Started) -> Result<Self, ServeError> {
        let listener = bind(config.listen).await?;
        Self::assemble(config, listener, started, Arc::new(MemoryControl::default())).await
    }

    async fn assemble(
        config: &Config,
        listener: TcpListener,
        started: Started,
        control: Arc<dyn ControlStore>,
    ) -> Result<Self, ServeError> {
        let addr =
            listener.local_addr().map_err(|reason| ServeError::Listen { listen: config.listen, reason })?;
        let webhook: Arc<dyn Connector> = Arc::new(Webhook::new().map_err(ServeError::Webhook)?);
        let connectors = Connectors::new([webhook]);
        let Started { handle: engine, fires, feed, linker, threads: engine_threads, .. } = started;
        tokio::spawn(linker.run(vec![TenantId::default()]));
        let clock = match engine.status().await {
            Ok(status) => format!("{}: {}", status.clock.as_str(), status.clock_detail),
            Err(e) => e.to_string(),
        };
        let metrics = Arc::new(Metrics::default());
        let streams = TaskTracker::new();
        let (stop_serving, stop_actions) = (CancellationToken::new(), CancellationToken::new());
        let orchestrator = tokio::spawn(
            Orchestrator::new(
                engine.clone(),
                connectors.clone(),
                config.retry,
                config.max_in_flight,
                metrics.clone(),
                stop_actions.clone(),
            )
            .run(fires),
        );
        let app = App {
            engine: engine.clone(),
            feed,
            connectors,
            control,
            gate: Arc::default(),
            audit: Arc::default(),
            metrics,
            shutdown: stop_serving.clone(),
            streams: streams.clone(),
        };
        let server = tokio::spawn(serve_http(listener, api::router(app).await, stop_serving.clone()));
        Ok(Self {
            addr,
            clock,
            engine,
            engine_threads,
            orchestrator,
            server,
            stop_serving,
            stop_actions,
            streams,
        })
    }

    /// Stops accepting, lets requests and action attempts end, then stops the engine. A fire whose actions have not
    /// ended is taken up again at the next start.
    pub async fn stop(self) {
        self.stop_serving.cancel();
        self.stop_actions.cancel();
        // Each part has the grace from now; what is left after it is cut off.
        let (mut server, mut orchestrator) = (self.server, self.orchestrator);
        self.streams.close();
        let ended = async { tokio::join!(&mut server, &mut orchestrator, self.streams.wait()) };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("requests or webhooks were still under way after {} s: cut off", GRACE.as_secs());
            server.abort();
            orchestrator.abort();
        }
        self.engine.shutdown();
        let threads = self.engine_threads;
        if let Ok(Err(_panic)) = tokio::task::spawn_blocking(move || threads.join()).await {
            tracing::error!("a thread of the engine had panicked: see its message above");
        }
    }
}

async fn serve_http(listener: TcpListener, router: Router, stop: CancellationToken) {
    // Answers are small and each is wanted at once.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(e) = served {
        tracing::error!("the listener failed: {e}");
    }
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen).await.map_err(|reason| ServeError::Listen { listen, reason })
}
