//! The composition root: the only place that knows every part, and the order in which they start and stop.
//!
//! Start: settings → logs → TLS and tokens → port → services. Stop: no new connections, running requests get
//! `drain_ms`, then the rest is cut off.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::clock::{self, Clock};
use crate::config::{Beside, Mode, Settings};
use crate::dev::compactor::Compactor;
use crate::dispatch::Dispatch;
use crate::ids::Mint;
use crate::rpc::auth::{self, Gate, TokenLookup};
use crate::rpc::{listen, tls};
use crate::stale::Stale;
use crate::telemetry::{self, Metrics};
use crate::{dev, drivers, engine, footprint, rpc};

/// How often an idle connection is asked whether its peer is there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes a peer may send on one stream before the engine has read them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes a peer may send on one connection before the engine has read them.
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// What both modes need before anything is served.
struct Parts {
    settings: Settings,
    clock: Arc<dyn Clock>,
    mint: Mint,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    tokens: Arc<dyn TokenLookup>,
    listener: TcpListener,
    metrics: Metrics,
    /// Fires when the test that the engine belongs to is gone; absent: it belongs to none.
    abandoned: Option<oneshot::Receiver<()>>,
}

/// Runs a daemon until it is asked to stop; returns its exit code. With `test_clock` its wall clock is ahead by so many
/// milliseconds and can be told to skip time (`dev::test_clock`).
pub fn run(settings: Settings, test_clock: Option<u64>) -> ExitCode {
    footprint::limit_arenas();
    telemetry::logs::install(&settings);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(network_threads())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the runtime: {error}")),
    };
    let outcome = runtime.block_on(start(settings, test_clock));
    // Blocking tasks that never end must not keep a drained daemon alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

/// Threads that serve the network: two, on two cores or fewer one. There a second one would wake the first and take turns
/// with it on the core that decider, committer or worker process need.
fn network_threads() -> usize {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() <= 2 => 1,
        Ok(_) | Err(_) => 2,
    }
}

fn failed(problem: &str) -> ExitCode {
    tracing::error!("{problem}");
    ExitCode::FAILURE
}

/// The clock, and what says that whoever drives it has let go of it; absent with the real clock.
type DrivenClock = (Arc<dyn Clock>, Option<oneshot::Receiver<()>>);

/// The engine's clock, and what says that the test it belongs to is gone.
fn clock_of(test_clock: Option<u64>) -> Result<DrivenClock, String> {
    let Some(skipped_ms) = test_clock else { return Ok((Arc::new(clock::System), None)) };
    let clock = Arc::new(clock::Skipping::ahead_by(skipped_ms));
    let abandoned = dev::test_clock::follow(Arc::clone(&clock))
        .map_err(|error| format!("the test clock cannot be followed: {error}"))?;
    Ok((clock, Some(abandoned)))
}

async fn start(mut settings: Settings, test_clock: Option<u64>) -> Result<(), String> {
    let (clock, abandoned) = clock_of(test_clock)?;
    for warning in settings.warnings(clock.wall_ms()) {
        tracing::warn!("{warning}");
    }
    let mint = Mint::new(Arc::clone(&clock));
    let metrics = Metrics::new();
    if settings.mode == Mode::Dev {
        // Certificates are for clients, who have skipped no time.
        // What a test starts has beside it what the test starts.
        if test_clock.is_some() && settings.compactor == Beside::Found {
            settings.compactor = Beside::Off;
        }
        let prepared = dev::prepare(settings, &clock::System, &mint).map_err(|error| error.to_string())?;
        let listener = prepared.listener.try_clone().map_err(|error| error.to_string())?;
        let parts = Parts {
            settings: prepared.settings.clone(),
            clock,
            mint,
            tls: watch::channel(Arc::clone(&prepared.tls)).1,
            tokens: Arc::new(prepared.tokens.clone()),
            listener,
            metrics,
            abandoned,
        };
        let publish = || {
            let path = prepared.publish().map_err(|error| error.to_string())?;
            tracing::info!(url = prepared.connection.url, connection = %path.display(), "engine ready");
            Ok(Compactor::start(&prepared.settings, &prepared.connection))
        };
        return serve(parts, publish).await;
    }
    let files = settings.tls.as_ref().ok_or("no certificate is set")?;
    let loaded = tls::load(files)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let (current, tls) = watch::channel(loaded);
    drop(tokio::spawn(tls::reload::follow(files.clone(), current)));
    let tokens = Arc::new(auth::StaticTokens::new(&settings.tokens));
    let listener =
        listen::bind(settings.listen).map_err(|error| format!("listen ({}): {error}", settings.listen))?;
    let listening = settings.listen;
    let parts = Parts { settings, clock, mint, tls, tokens, listener, metrics, abandoned };
    serve(parts, || {
        tracing::info!(%listening, "engine ready");
        Ok(None)
    })
    .await
}

async fn serve(
    parts: Parts,
    ready: impl FnOnce() -> Result<Option<Compactor>, String>,
) -> Result<(), String> {
    let Parts { settings, clock, mint, tls, tokens, listener, metrics, abandoned } = parts;
    let (ledger, threads) = engine::open(&settings, Arc::clone(&clock), mint.clone())?;
    ledger.observe(Arc::new(telemetry::Counting(metrics.clone())));
    let dispatch = Dispatch::start(ledger.clone(), Arc::clone(&clock), settings.limits.lease_ttl_ms)
        .map_err(|error| error.to_string())?;
    let stale = Arc::new(Stale::new(&settings.limits, Arc::clone(&clock)));
    ledger.observe(Arc::clone(&stale) as Arc<dyn crate::ledger::Observer>);
    let (stop, stopping) = watch::channel(false);
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    serve_scrapes(&settings, &metrics, &stopping).await?;
    let incoming = listen::incoming(
        listener,
        listen::Options::new(tls, &settings.limits, metrics.clone()),
        stopped(stopping.clone()),
    );
    let services = engine::Services {
        ledger: ledger.clone(),
        dispatch: Arc::clone(&dispatch),
        clock: Arc::clone(&clock),
        mint,
        stale,
        metrics: metrics.clone(),
        stopping: stopping.clone(),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let known = auth::AnyOf(vec![tokens, Arc::new(engine::LedgerTokens(ledger.reader().clone()))]);
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .layer(auth::layer(Gate::new(Arc::new(known), Arc::clone(&clock)), metrics))
        .add_service(health_service);
    let router = services.add_to(router, &settings)?;
    drop(tokio::spawn(drivers::start(ledger.clone(), Arc::clone(&dispatch), clock)));
    let mut server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped(stopping)));
    let beside = ready()?;
    drop(tokio::spawn(footprint::keep_small(ledger.reader().clone())));
    tokio::select! {
        ended = &mut server => return Err(format!("the server ended by itself: {ended:?}")),
        () = rpc::signals::stop_requested() => {}
        () = gone(abandoned) => {}
    }
    let drain_ms = settings.limits.drain_ms;
    tracing::info!(drain_ms, "stopping");
    drop(beside);
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    dispatch.drain(drain_ms);
    let _ = stop.send(true);
    if tokio::time::timeout(Duration::from_millis(drain_ms), server).await.is_err() {
        tracing::warn!("requests were still running after drain_ms and are cut off");
    }
    // What is queued is still decided, made durable and answered.
    ledger.close();
    let joined = tokio::task::spawn_blocking(move || threads.join()).await;
    joined.map_err(|error| format!("the write path did not end: {error}"))
}

async fn gone(abandoned: Option<oneshot::Receiver<()>>) {
    match abandoned {
        // An error means that nobody follows the input any more, which also means stop.
        Some(abandoned) => drop(abandoned.await),
        None => std::future::pending().await,
    }
}

async fn serve_scrapes(
    settings: &Settings,
    metrics: &Metrics,
    stopping: &watch::Receiver<bool>,
) -> Result<(), String> {
    let Some(address) = settings.metrics_listen else { return Ok(()) };
    let scrapes = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("metrics_listen ({address}): {error}; choose another, or \"off\""))?;
    drop(tokio::spawn(telemetry::serve_metrics(scrapes, metrics.clone(), stopped(stopping.clone()))));
    Ok(())
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means the sender is gone, which also means stop.
    let _ = stopping.wait_for(|stop| *stop).await;
}
