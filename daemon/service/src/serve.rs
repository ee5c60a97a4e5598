//! Puts the service together, runs it, and takes it apart in the right order.

use crate::access::authenticate::AuthenticatorError;
use crate::access::now::Now;
use crate::access::policy::{Policies, PolicyError};
use crate::access::tenants::Tenants;
use crate::access::{Authenticator, Gate};
use crate::actions::{Connector, Connectors, Orchestrator, OrchestratorConfig, Webhook};
use crate::api::{self, App};
use crate::audit::Audit;
use crate::clock::PageClock;
use crate::config::Config;
use crate::config::access::AuthMode;
use crate::engine::{Engine, EngineConfig, EngineHandle, StartError, Started, Threads};
use crate::ids;
use crate::listen::{self, Tls, TlsError};
use crate::schemas::Schemas;
use crate::secrets::Secrets;
use crate::signing::Signing;
use crate::store::{ControlStore, DiskControl, LogOptions, embedded};
use crate::telemetry::Metrics;
use chronotick::os_clock::{boottime, realtime};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests and action attempts that are under way may take to end at a shutdown.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether refused callers are to be written down.
const REFUSALS_LOOK: Duration = Duration::from_secs(10);

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
    /// Nobody could be let in.
    #[error(transparent)]
    Authenticator(#[from] AuthenticatorError),
    /// The policies cannot be used.
    #[error(transparent)]
    Policies(#[from] PolicyError),
    /// The listener's certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit, the signing keys, the schemas or the secrets cannot be used.
    #[error("{0}")]
    Trust(String),
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
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The clock in use, in words.
    pub clock: String,
    engine: EngineHandle,
    engine_threads: Threads,
    orchestrator: JoinHandle<()>,
    server: JoinHandle<()>,
    stop_serving: CancellationToken,
    stop_actions: CancellationToken,
    audit: Audit,
    authenticator: Authenticator,
    streams: TaskTracker,
}

/// The parts that vouch for what the service says.
struct Trust {
    signing: Arc<Signing>,
    schemas: Arc<Schemas>,
    secrets: Arc<Secrets>,
}

impl Trust {
    fn open(config: &Config, control: &Arc<dyn ControlStore>) -> Result<Self, ServeError> {
        let told = |e: String| ServeError::Trust(e);
        let master = config.secrets.master().map_err(told)?;
        let signing = Signing::open(control.clone(), master.clone(), realtime().as_ns());
        Ok(Self {
            signing: Arc::new(signing.map_err(|e| told(e.to_string()))?),
            schemas: Arc::new(Schemas::open(control.clone()).map_err(|e| told(e.to_string()))?),
            secrets: Arc::new(Secrets::open(control.clone(), master).map_err(|e| told(e.to_string()))?),
        })
    }
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
        let now = Now::new(PageClock::new(Some(&config.shm_name)));
        let audit_dir = Some(config.data_dir.join("audit"));
        Self::assemble(config, listener, started, Arc::new(control), now, audit_dir).await
    }

    /// The same over an engine that was started elsewhere: on another store, another clock. `now` judges credentials.
    pub async fn start_over(
        config: &Config,
        started: Started,
        control: Arc<dyn ControlStore>,
        now: Now,
    ) -> Result<Self, ServeError> {
        let listener = bind(config.listen).await?;
        Self::assemble(config, listener, started, control, now, None).await
    }

    async fn assemble(
        config: &Config,
        listener: TcpListener,
        started: Started,
        control: Arc<dyn ControlStore>,
        now: Now,
        audit_dir: Option<PathBuf>,
    ) -> Result<Self, ServeError> {
        let access = &config.access;
        let tls = access.tls.as_ref().map(|tls| Tls::load(tls, now.clone())).transpose()?;
        let authenticator = Authenticator::open(access, control.clone(), now)?;
        let policies = Policies::load(access.policies.as_deref())?;
        let gate = Gate::default().with_authenticator(authenticator.clone()).with_policies(policies);
        let addr =
            listener.local_addr().map_err(|reason| ServeError::Listen { listen: config.listen, reason })?;
        let trust = Trust::open(config, &control)?;
        let webhook = Webhook::new(trust.signing.clone(), trust.secrets.clone());
        let webhook: Arc<dyn Connector> = Arc::new(webhook.map_err(ServeError::Webhook)?);
        let connectors = Connectors::new([webhook]);
        let audit = match audit_dir {
            Some(dir) => {
                let clock = Box::new(PageClock::new(Some(&config.shm_name)));
                Audit::open(&dir, trust.signing.clone(), control.clone(), clock)
                    .map_err(|e| ServeError::Trust(e.to_string()))?
            }
            None => Audit::default(),
        };
        let Started { handle: engine, fires, feed, linker, threads: engine_threads, .. } = started;
        tokio::spawn(linker.run());
        let clock = match engine.status().await {
            Ok(status) => format!("{}: {}", status.clock.as_str(), status.clock_detail),
            Err(e) => e.to_string(),
        };
        let tenants = Tenants::open(control.clone()).map_err(StartError::from)?;
        let gate = gate.with_quotas(access.limits, Arc::new(tenants), engine.clone());
        let metrics = Arc::new(Metrics::default());
        let streams = TaskTracker::new();
        let (stop_serving, stop_actions) = (CancellationToken::new(), CancellationToken::new());
        let told = OrchestratorConfig {
            retry: config.retry,
            max_in_flight: config.max_in_flight,
            queued_max: config.queued_fires_max,
            quotas: gate.quotas.clone(),
        };
        let orchestrator = Orchestrator::new(
            engine.clone(),
            connectors.clone(),
            told,
            metrics.clone(),
            stop_actions.clone(),
        );
        let lanes = orchestrator.lanes();
        let orchestrator = tokio::spawn(orchestrator.run(fires));
        let app = App {
            engine: engine.clone(),
            feed,
            connectors,
            control,
            gate: Arc::new(gate),
            audit: Arc::new(audit.clone()),
            signing: trust.signing,
            schemas: trust.schemas,
            secrets: trust.secrets,
            metrics,
            lanes,
            shutdown: stop_serving.clone(),
            streams: streams.clone(),
        };
        if access.mode == AuthMode::Required && tls.is_none() && !addr.ip().to_canonical().is_loopback() {
            tracing::warn!(
                "credentials come over plain HTTP from other machines: set [tls], or put TLS in front"
            );
        }
        tokio::spawn(tell_refusals(authenticator.clone(), audit.clone(), stop_serving.clone()));
        let told_by = authenticator.clone();
        // The public keys of issuers may be far away, and nobody has to wait for them yet.
        tokio::spawn(async move { authenticator.refresh().await });
        if let Some(tls) = &tls {
            tokio::spawn(tls.clone().follow(stop_serving.clone()));
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let router = api::router(app).await;
        let server =
            tokio::spawn(listen::serve(listener, tls, access.listener, router, stop_serving.clone()));
        Ok(Self {
            addr,
            scheme,
            clock,
            engine,
            engine_threads,
            orchestrator,
            server,
            stop_serving,
            stop_actions,
            audit,
            authenticator: told_by,
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
        let audit = self.audit;
        self.authenticator.refusals().flush().iter().for_each(|summary| audit.note_refused(summary));
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
        self.engine.shutdown();
        let threads = self.engine_threads;
        if let Ok(Err(_panic)) = tokio::task::spawn_blocking(move || threads.join()).await {
            tracing::error!("a thread of the engine had panicked: see its message above");
        }
    }
}

/// Writes down, when a minute is over, how many callers were refused in it.
async fn tell_refusals(authenticator: Authenticator, audit: Audit, stop: CancellationToken) {
    while tokio::time::timeout(REFUSALS_LOOK, stop.cancelled()).await.is_err() {
        let told = authenticator.refusals().flush_if_due(boottime());
        told.iter().for_each(|summary| audit.note_refused(summary));
    }
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen).await.map_err(|reason| ServeError::Listen { listen, reason })
}
