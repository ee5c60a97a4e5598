//! A receiver of webhooks that remembers what arrived.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use chronotick::os_clock::{boottime, realtime};
use chronotick_core::Timestamp;
use serde_json::Value;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its Idempotency-Key.
    pub key: String,
    /// Its X-Minoots-Timer-Id.
    pub timer: String,
    /// The system clock when it arrived.
    pub arrived: Timestamp,
    /// Its body, `null` when it is not JSON.
    pub body: Value,
}

/// A server on loopback that answers every request with 204; ends with its process or when dropped.
#[derive(Debug)]
pub struct WebhookSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug, Default)]
struct Shared {
    deliveries: Mutex<Vec<Delivery>>,
    arrived: Condvar,
}

impl WebhookSink {
    /// Starts a receiver on a free port.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build()?;
        let shared = Arc::new(Shared::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let of_handler = shared.clone();
        let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let shared = of_handler.clone();
            async move { shared.record(&headers, &body) }
        });
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// Where it listens, as a webhook's `url`.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What arrived so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.deliveries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for `count` deliveries in all; after `crate::patience::HUNG`, what there is.
    pub fn wait_for(&self, count: usize) -> Vec<Delivery> {
        let give_up = boottime() + crate::patience::HUNG;
        let mut deliveries = self.shared.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        while deliveries.len() < count && boottime() < give_up {
            let left = (give_up - boottime()).to_duration();
            let woken = self.shared.arrived.wait_timeout(deliveries, left);
            deliveries = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        deliveries.clone()
    }
}

impl Shared {
    fn record(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let arrived = realtime();
        let header = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let delivery = Delivery {
            key: header("idempotency-key"),
            timer: header("x-minoots-timer-id"),
            arrived,
            body: serde_json::from_slice(body).unwrap_or_default(),
        };
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
        self.arrived.notify_all();
        StatusCode::NO_CONTENT
    }
}

impl Drop for WebhookSink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
