//! `cellaflow-compactor run`: the jobs of a worker, once or on a schedule.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Places, contexts, stop_when_asked_or, worker};
use crate::archive::Worker;
use crate::archive::run::{self, Settings, Summary};
use crate::metrics::{self, Metrics};
use crate::schedule::{self, Job, Schedule};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow-compactor run --once                            for cron, or a CronJob; exit code 0: all went well
  cellaflow-compactor run --every 1m                        a worker of its own; stop it with SIGTERM
  cellaflow-compactor run --cron '15 3 * * *'               every night at 03:15 UTC
  cellaflow-compactor run --once --dry-run --json           what would be archived
  cellaflow-compactor run --every 1h --namespace eu --keep 365d
  cellaflow-compactor run --every 1m --archive s3://bucket/prefix --metrics-listen 127.0.0.1:9465

Several may run at a time: claims keep them apart. SIGTERM or SIGINT ends a round cleanly: before its
commit a claim is given up and what was written is left to `archive gc`; a commit under way is
finished. With --json: {\"dry_run\", \"lineages\", \"sessions\", \"events\", \"bytes\", \"claims\", \"failed\",
\"published\", \"erased\", \"dropped\", \"rewritten\"}, a line each round.

--keep counts from the end of a lineage's last session, and never less than the engine's
guard_retention_ms. What is under a legal hold stays.";

/// Time between two tries to reach an engine that is away, while on a schedule.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Run {
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    when: When,
    /// Says what would be archived and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Archives what ended this long ago, in ms, instead of the engine's archive_after_ms
    #[arg(long, value_name = "MS")]
    ended_before_ms: Option<u64>,
    /// Deletes archived lineages of this namespace that ended longer ago: 30d, 365d; without it they are kept for ever
    #[arg(long, value_name = "DURATION", value_parser = schedule::every)]
    keep: Option<Duration>,
    /// Serves Prometheus metrics at this address, for example 127.0.0.1:9465; without it there are none
    #[arg(long, value_name = "ADDRESS", env = "CELLAFLOW_COMPACTOR_METRICS_LISTEN")]
    metrics_listen: Option<SocketAddr>,
    /// Ends with its standard input, which whoever starts it holds open
    #[arg(long, hide = true)]
    while_input: bool,
    /// Prints the summary of a round as JSON
    #[arg(long)]
    json: bool,
}

/// When rounds begin.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct When {
    /// Runs once and ends
    #[arg(long)]
    once: bool,
    /// Runs now and then every so often: 30s, 1m, 2h, 1d
    #[arg(long, value_name = "DURATION", value_parser = schedule::every)]
    every: Option<Duration>,
    /// Runs when a crontab's five fields say so, in UTC
    #[arg(long, value_name = "FIELDS", value_parser = schedule::cron)]
    cron: Option<croner::Cron>,
}

impl When {
    fn schedule(&self) -> Schedule {
        match (&self.every, &self.cron) {
            (Some(every), _) => Schedule::Every(*every),
            (_, Some(cron)) => Schedule::Cron(Box::new(cron.clone())),
            (None, None) => Schedule::Once,
        }
    }
}

pub(super) async fn run(asked: Run) -> Result<(), String> {
    let stop = stop_when_asked_or(asked.while_input);
    let metrics = Metrics::new();
    let _serving = serve(asked.metrics_listen, &metrics).await?;
    let schedule = asked.when.schedule();
    let worker = match reach(&asked, &schedule, &metrics, stop.clone()).await? {
        Some(worker) => worker,
        None => return Ok(()),
    };
    if !asked.dry_run {
        let unique = format!("{}-{}", std::process::id(), crate::clock::now_ms());
        worker.store.probe(&unique).await.map_err(|error| error.to_string())?;
    }
    drop(worker);
    let asked = std::sync::Arc::new(asked);
    let jobs = [archive(&asked, &metrics, &stop), contexts(&asked, &metrics, &stop)];
    if matches!(schedule, Schedule::Once) || asked.dry_run {
        return schedule::run(&schedule, &jobs, stop).await;
    }
    // An agent that waits for its context does not wait for a round.
    let following = contexts::keep(asked.places.engine(), stop.clone());
    let (done, ()) = tokio::join!(schedule::run(&schedule, &jobs, stop), following);
    done
}

/// Reaches the engine for the first time: a schedule waits for one that starts later; `None`: asked to stop meanwhile.
async fn reach(
    asked: &Run,
    schedule: &Schedule,
    metrics: &Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<Option<Worker>, String> {
    loop {
        match worker(&asked.places, metrics, stop.clone()).await {
            Ok(worker) => return Ok(Some(worker)),
            Err(problem) if matches!(schedule, Schedule::Once) || !problem.may_pass => {
                return Err(problem.text);
            }
            Err(problem) => tracing::warn!(problem = problem.text, "waiting for the engine"),
        }
        tokio::select! {
            () = tokio::time::sleep(RECONNECT) => {}
            _ = stop.changed() => return Ok(None),
        }
    }
}

/// The job that archives. It looks for the engine in each round: address and token may have changed.
fn archive(asked: &std::sync::Arc<Run>, metrics: &Metrics, stop: &watch::Receiver<bool>) -> Job {
    const NAME: &str = "archive";
    let (asked, metrics, stop) = (std::sync::Arc::clone(asked), metrics.clone(), stop.clone());
    let run = move || {
        let (asked, metrics, stop) = (std::sync::Arc::clone(&asked), metrics.clone(), stop.clone());
        Box::pin(async move {
            let round = round(&asked, &metrics, stop).await;
            metrics.round(NAME, round.is_ok());
            if round.is_ok() {
                let now_s = i64::try_from(crate::clock::now_ms() / 1_000).unwrap_or(i64::MAX);
                metrics.last_success_seconds.set(now_s);
            }
            round
        }) as futures::future::LocalBoxFuture<'static, _>
    };
    Job { name: NAME, run: Box::new(run) }
}

/// The job that folds what is behind, whatever was missed.
fn contexts(asked: &std::sync::Arc<Run>, metrics: &Metrics, stop: &watch::Receiver<bool>) -> Job {
    const NAME: &str = "contexts";
    let (asked, metrics, stop) = (std::sync::Arc::clone(asked), metrics.clone(), stop.clone());
    let run = move || {
        let (asked, metrics, stop) = (std::sync::Arc::clone(&asked), metrics.clone(), stop.clone());
        Box::pin(async move {
            if asked.dry_run {
                return Ok(());
            }
            let round = contexts::once(asked.places.engine(), stop).await.and_then(contexts::checked);
            metrics.round(NAME, round.is_ok());
            round.map(|summary| {
                if summary.versions > 0 {
                    tracing::info!(
                        sessions = summary.sessions,
                        versions = summary.versions,
                        "compacted contexts"
                    );
                }
            })
        }) as futures::future::LocalBoxFuture<'static, _>
    };
    Job { name: NAME, run: Box::new(run) }
}

async fn round(asked: &Run, metrics: &Metrics, stop: watch::Receiver<bool>) -> Result<(), String> {
    let worker = worker(&asked.places, metrics, stop).await.map_err(|problem| problem.text)?;
    let keep_ms = asked.keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
    let settings = Settings { dry_run: asked.dry_run, ended_before_ms: asked.ended_before_ms, keep_ms };
    let summary = run::once(&worker, settings).await.map_err(|error| error.to_string())?;
    say(&summary, asked);
    match summary.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} claims came to nothing; the next run tries again")),
    }
}

async fn serve(
    listen: Option<SocketAddr>,
    metrics: &Metrics,
) -> Result<Option<tokio::task::JoinHandle<()>>, String> {
    let Some(address) = listen else { return Ok(None) };
    let taken = |error| format!("--metrics-listen {address} cannot be used: {error}");
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    tracing::info!(%address, "serving metrics");
    Ok(Some(tokio::spawn(metrics::serve(listener, metrics.clone()))))
}

#[expect(clippy::print_stdout, reason = "the summary is what the command is run for")]
fn say(summary: &Summary, asked: &Run) {
    let Summary { done, claims, failed, published, gone } = summary;
    if asked.json {
        let shown = serde_json::json!({
            "dry_run": asked.dry_run, "lineages": done.lineages, "sessions": done.sessions, "events": done.events,
            "bytes": done.bytes, "claims": claims, "failed": failed, "published": published,
            "erased": gone.erased, "dropped": gone.dropped, "rewritten": gone.rewritten,
        });
        println!("{shown}");
        return;
    }
    let verb = if asked.dry_run { "would archive" } else { "archived" };
    println!(
        "{verb} {} lineages with {} sessions and {} events ({} bytes of Parquet)",
        done.lineages, done.sessions, done.events, done.bytes
    );
    if gone.rewritten > 0 {
        println!(
            "took {} erased and {} expired lineages out of {} commits",
            gone.erased, gone.dropped, gone.rewritten
        );
    }
}
