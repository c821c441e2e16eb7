//! The command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::sync::watch;

use crate::archive::restore;
use crate::archive::run::{self, Settings, Summary};
use crate::archive::{Store, Worker};
use crate::{bench, connection, report};

/// Archives cold journals as Parquet and compacts long histories.
#[derive(Parser)]
#[command(name = "cellaflow-compactor", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Moves lineages that ended long enough ago into the archive
    Run(Run),
    /// Brings the lineage of an archived session back into the engine
    Restore(Restore),
    Report(report::command::Args),
    Bench(bench::command::Args),
}

/// The engine and the archive that a command works on.
#[derive(Args)]
struct Places {
    #[command(flatten)]
    engine: connection::Options,
    /// Folder or s3://bucket/prefix of the archive
    #[arg(long, value_name = "PATH|URL", env = "CELLAFLOW_ARCHIVE", default_value = "archive")]
    archive: String,
    /// How long a claim on lineages lasts if its worker is not heard of, in ms
    #[arg(long, value_name = "MS", default_value_t = 600_000, value_parser = clap::value_parser!(u64).range(500..=86_400_000))]
    claim_ms: u64,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    places: Places,
    /// Runs once and ends: for cron, or a CronJob
    #[arg(long, required = true)]
    once: bool,
    /// Says what would be archived and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Archives what ended this long ago, in ms, instead of the engine's archive_after_ms
    #[arg(long, value_name = "MS")]
    ended_before_ms: Option<u64>,
    /// Prints the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Restore {
    #[command(flatten)]
    places: Places,
    /// Session, by its id
    #[arg(value_name = "SESSION")]
    session: String,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    // Nobody else has chosen one: this is the first thing that the process does.
    let _chosen_before = rustls::crypto::ring::default_provider().install_default().is_err();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the runtime: {error}")),
    };
    let done = match cli.command {
        Command::Run(asked) => runtime.block_on(once(&asked)),
        Command::Restore(asked) => runtime.block_on(bring_back(&asked)),
        Command::Report(args) => {
            runtime.block_on(report::command::run(&args)).map_err(|error| error.to_string())
        }
        Command::Bench(args) => bench::command::run(&args).map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

fn failed(problem: &str) -> ExitCode {
    // Nobody is left to tell when standard error is gone as well.
    let _unheard = writeln!(std::io::stderr(), "cellaflow-compactor: {problem}").is_err();
    ExitCode::FAILURE
}

/// Connects to what a command works on.
async fn worker(places: &Places) -> Result<Worker, String> {
    let store = Store::open(&places.archive).map_err(|error| error.to_string())?;
    let engine = connection::connect(&places.engine).await.map_err(|error| error.to_string())?;
    let namespace = match places.engine.namespace.as_str() {
        "" => own_namespace(&engine).await?,
        named => named.to_owned(),
    };
    Ok(Worker { engine, store, namespace, claim_ms: places.claim_ms, stop: stop_when_asked() })
}

async fn once(asked: &Run) -> Result<(), String> {
    let worker = worker(&asked.places).await?;
    if !asked.dry_run {
        let unique = format!("{}-{}", std::process::id(), run::stamp());
        worker.store.probe(&unique).await.map_err(|error| error.to_string())?;
    }
    let settings = Settings { dry_run: asked.dry_run, ended_before_ms: asked.ended_before_ms };
    let summary = run::once(&worker, settings).await.map_err(|error| error.to_string())?;
    say(&summary, asked);
    match summary.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} claims came to nothing; the next run tries again")),
    }
}

#[expect(clippy::print_stdout, reason = "what was restored is what the command is run for")]
async fn bring_back(asked: &Restore) -> Result<(), String> {
    let worker = worker(&asked.places).await?;
    let restored = restore::lineage(&worker, &asked.session).await.map_err(|error| error.to_string())?;
    match restored {
        None => println!("session {} is not archived: there is nothing to restore", asked.session),
        Some(restored) => println!(
            "restored lineage {} with {} sessions and {} events",
            restored.lineage_id, restored.sessions, restored.events
        ),
    }
    Ok(())
}

/// The namespace that a token without a choice works in.
async fn own_namespace(engine: &connection::Archive) -> Result<String, String> {
    let nothing = cellaflow_proto::v1::ListColdRequest {
        // Nothing ended before time began.
        ended_before_ms: Some(u64::MAX),
        ..cellaflow_proto::v1::ListColdRequest::default()
    };
    let answer = engine.clone().list_cold(nothing).await.map_err(|status| status.message().to_owned())?;
    Ok(answer.into_inner().namespace)
}

#[expect(clippy::print_stdout, reason = "the summary is what the command is run for")]
fn say(summary: &Summary, asked: &Run) {
    let Summary { done, claims, failed, published } = summary;
    if asked.json {
        let shown = serde_json::json!({
            "dry_run": asked.dry_run, "lineages": done.lineages, "sessions": done.sessions, "events": done.events,
            "bytes": done.bytes, "claims": claims, "failed": failed, "published": published,
        });
        println!("{shown}");
        return;
    }
    let verb = if asked.dry_run { "would archive" } else { "archived" };
    println!(
        "{verb} {} lineages with {} sessions and {} events ({} bytes of Parquet)",
        done.lineages, done.sessions, done.events, done.bytes
    );
}

/// Becomes true with the first SIGTERM or SIGINT: the work ends where nothing is lost.
fn stop_when_asked() -> watch::Receiver<bool> {
    let (stop, stopping) = watch::channel(false);
    drop(tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut term) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping after the lineage at hand");
        // Everybody who listens has ended already.
        let _unheard = stop.send(true).is_err();
    }));
    stopping
}
