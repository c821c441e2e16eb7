//! The command line.

mod contexts;
mod gc;
mod restore;
mod run;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::sync::watch;

use crate::archive::{Store, Worker};
use crate::metrics::Metrics;
use crate::{bench, connection, import, report};

const EXAMPLES: &str = "Examples:
  cellaflow-compactor run --once                        archives what ended long enough ago
  cellaflow-compactor run --every 1m                    the same, again and again
  cellaflow-compactor restore 01980c5e-7d1a-7c3e-…      brings a lineage back
  cellaflow-compactor report cost wasted                what sessions cost, from the archive
  cellaflow-compactor import runs/*.jsonl               transcripts as sessions that have ended

It finds the engine as `cellaflow` does: CELLAFLOW_URL with CELLAFLOW_TOKEN (role compactor), or
.cellaflow/connection.json in this folder or above it. RUST_LOG sets what is logged (default: info).";

/// Archives cold journals as Parquet and compacts long histories.
#[derive(Parser)]
#[command(name = "cellaflow-compactor", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Moves lineages that ended long enough ago into the archive, and compacts the contexts of live sessions
    Run(run::Run),
    /// Brings the lineage of an archived session back into the engine
    Restore(restore::Restore),
    /// Walks every hash chain across ledger and archive, and reads every archived file
    Verify(verify::Verify),
    /// Compacts the conversations of live sessions into contexts for their prompts
    Contexts(contexts::ContextsOf),
    /// Looks after the archive's files
    #[command(subcommand)]
    Archive(Archive),
    Report(report::command::Args),
    Import(import::command::Args),
    Bench(bench::command::Args),
}

#[derive(Subcommand)]
enum Archive {
    /// Deletes files that no manifest names: what crashes and lost claims have left
    Gc(gc::Gc),
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

impl Places {
    fn engine(&self) -> &connection::Options {
        &self.engine
    }
}

/// Why a command has nothing to work on.
struct Problem {
    /// What the operator must do.
    text: String,
    /// It may go away by itself.
    may_pass: bool,
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
        Command::Run(asked) => runtime.block_on(run::run(asked)),
        Command::Restore(asked) => runtime.block_on(restore::run(&asked)),
        Command::Verify(asked) => runtime.block_on(verify::run(&asked)),
        Command::Contexts(asked) => runtime.block_on(contexts::run(&asked)),
        Command::Archive(Archive::Gc(asked)) => runtime.block_on(gc::run(&asked)),
        Command::Report(args) => {
            runtime.block_on(report::command::run(&args)).map_err(|error| error.to_string())
        }
        Command::Import(args) => {
            runtime.block_on(import::command::run(&args)).map_err(|error| error.to_string())
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

/// Connects to what a command works on, and makes the archive if there is none.
async fn worker(places: &Places, metrics: &Metrics, stop: watch::Receiver<bool>) -> Result<Worker, Problem> {
    with_store(Store::open(&places.archive), places, metrics, stop).await
}

/// The same for a command that has nothing to do in an archive without files.
async fn reader(places: &Places, stop: watch::Receiver<bool>) -> Result<Worker, String> {
    let store = Store::open_existing(&places.archive);
    with_store(store, places, &Metrics::new(), stop).await.map_err(|problem| problem.text)
}

async fn with_store(
    store: Result<Store, crate::archive::store::Error>,
    places: &Places,
    metrics: &Metrics,
    stop: watch::Receiver<bool>,
) -> Result<Worker, Problem> {
    let store = store.map_err(|error| Problem { text: error.to_string(), may_pass: false })?;
    let channel = connection::channel(&places.engine).await.map_err(|error| Problem {
        may_pass: matches!(error, connection::Error::Unreachable { .. } | connection::Error::Nowhere),
        text: error.to_string(),
    })?;
    let engine = connection::archive(channel.clone());
    let namespace = match places.engine.namespace.as_str() {
        "" => own_namespace(&engine).await?,
        named => named.to_owned(),
    };
    Ok(Worker {
        channel,
        engine,
        store,
        namespace,
        claim_ms: places.claim_ms,
        metrics: metrics.clone(),
        stop,
    })
}

/// The namespace that a token without a choice works in.
async fn own_namespace(engine: &connection::Archive) -> Result<String, Problem> {
    let nothing = cellaflow_proto::v1::ListColdRequest {
        // Nothing ended before time began.
        ended_before_ms: Some(u64::MAX),
        ..cellaflow_proto::v1::ListColdRequest::default()
    };
    let answer = engine.clone().list_cold(nothing).await.map_err(|status| Problem {
        text: status.message().to_owned(),
        may_pass: status.code() == tonic::Code::Unavailable,
    })?;
    Ok(answer.into_inner().namespace)
}

/// Resolves when standard input has ended: whoever started this is gone.
async fn input_ended(follow: bool) {
    if follow {
        let (ended, end) = tokio::sync::oneshot::channel();
        // A thread of its own: a read of standard input cannot be given up.
        let read = move || {
            let _ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).is_ok();
            drop::<tokio::sync::oneshot::Sender<()>>(ended);
        };
        if std::thread::Builder::new().name("input".into()).spawn(read).is_ok() {
            let _gone = end.await.is_err();
            return;
        }
    }
    std::future::pending().await
}

/// Becomes true with the first SIGTERM or SIGINT: the work ends where nothing is lost.
fn stop_when_asked() -> watch::Receiver<bool> {
    stop_when_asked_or(false)
}

/// As `stop_when_asked`, and with the end of standard input if that is followed.
fn stop_when_asked_or(while_input: bool) -> watch::Receiver<bool> {
    let (stop, stopping) = watch::channel(false);
    drop(tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut term) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
            () = input_ended(while_input) => {}
        }
        tracing::info!("stopping: a commit under way is finished, anything else is given up");
        stop.send_replace(true);
        // The channel lives as long as the process: nobody takes its end for a change.
        std::future::pending::<()>().await;
    }));
    stopping
}
