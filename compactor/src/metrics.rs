//! Every metric of the compactor, and the Prometheus listener: `GET /metrics` over plain HTTP/1, nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Scrapers connected at a time; further ones wait.
const SCRAPERS_MAX: usize = 8;
/// Time for one scraper's connection, idle or not.
const SCRAPE_MAX: Duration = Duration::from_secs(30);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A job, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct JobLabel {
    /// Its name.
    pub job: &'static str,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// All metrics; clones share their values.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Rounds of a job that ended.
    pub rounds: Family<JobLabel, Counter>,
    /// When the last round without a failed job ended, in seconds since the Unix epoch.
    pub last_success_seconds: Gauge,
    /// Claims that were archived.
    pub claims_committed: Counter,
    /// Claims that came to nothing: lost, or what was written did not read back.
    pub claims_failed: Counter,
    /// Lineages archived.
    pub lineages_archived: Counter,
    /// Sessions archived.
    pub sessions_archived: Counter,
    /// Events archived.
    pub events_archived: Counter,
    /// Bytes of files written into the archive.
    pub archive_written: Counter,
    /// Manifests published that a crash had left.
    pub manifests_recovered: Counter,
    /// Files deleted: unreferenced, past retention or rewritten by an erasure.
    pub files_deleted: Counter,
}

impl Metrics {
    /// Creates all metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self::default();
        let mut registry = Registry::with_prefix("cellaflow_compactor");
        metrics.register(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }

    fn register(&self, r: &mut Registry) {
        r.register("rounds", "Rounds of a job that ended, by outcome", self.rounds.clone());
        r.register_with_unit(
            "last_success",
            "When the last round without a failure ended, since the Unix epoch",
            Unit::Seconds,
            self.last_success_seconds.clone(),
        );
        r.register("claims_committed", "Claims that were archived", self.claims_committed.clone());
        r.register("claims_failed", "Claims that came to nothing", self.claims_failed.clone());
        r.register("lineages_archived", "Lineages archived", self.lineages_archived.clone());
        r.register("sessions_archived", "Sessions archived", self.sessions_archived.clone());
        r.register("events_archived", "Events archived", self.events_archived.clone());
        r.register_with_unit(
            "archive_written",
            "Size of the files written into the archive",
            Unit::Bytes,
            self.archive_written.clone(),
        );
        r.register(
            "manifests_recovered",
            "Manifests published that a crash had left",
            self.manifests_recovered.clone(),
        );
        r.register("files_deleted", "Files deleted from the archive", self.files_deleted.clone());
    }

    /// Counts a round of a job.
    pub fn round(&self, job: &'static str, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        self.rounds.get_or_create(&JobLabel { job, outcome }).inc();
    }

    /// All values in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _written = prometheus_client::encoding::text::encode(&mut text, &self.registry).is_ok();
        text
    }
}

/// Serves `metrics` on `listener` until dropped.
pub async fn serve(listener: TcpListener, metrics: Metrics) {
    let slots = Arc::new(Semaphore::new(SCRAPERS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let metrics = metrics.clone();
                drop(tokio::spawn(async move {
                    let _slot = slot;
                    scrape(socket, metrics).await;
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a metrics connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn scrape(socket: TcpStream, metrics: Metrics) {
    let service = service_fn(move |request| {
        let response = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
    // Errors and time-outs only mean that the scraper went away.
    drop(tokio::time::timeout(SCRAPE_MAX, connection).await);
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::from("only GET /metrics is served here\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(Full::from(metrics.encode()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    response
}
