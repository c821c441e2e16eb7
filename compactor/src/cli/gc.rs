//! `cellaflow-compactor archive gc`.

use std::time::Duration;

use clap::Args;

use super::{Places, stop_when_asked, worker};
use crate::archive::gc;
use crate::metrics::Metrics;
use crate::schedule;

const EXAMPLES: &str = "Examples:
  cellaflow-compactor archive gc --dry-run
  cellaflow-compactor archive gc --grace 2d --json

Looks at the namespace's files and deletes those that no manifest names and that are older than the
grace. A worker gives its work up after 6 hours, so a shorter grace than that is only for times when
none runs. With --json: {\"dry_run\", \"files\", \"bytes\", \"young\"}; young ones are left for later.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Gc {
    #[command(flatten)]
    places: Places,
    /// How old a file must be: 30s, 1m, 2h, 1d
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = schedule::every)]
    grace: Duration,
    /// Says what would be deleted and deletes nothing
    #[arg(long)]
    dry_run: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "what was deleted is what the command is run for")]
pub(super) async fn run(asked: &Gc) -> Result<(), String> {
    let worker = worker(&asked.places, &Metrics::new(), stop_when_asked()).await;
    let worker = worker.map_err(|problem| problem.text)?;
    let grace_ms = u64::try_from(asked.grace.as_millis()).unwrap_or(u64::MAX);
    let done = gc::once(&worker, grace_ms, asked.dry_run).await.map_err(|error| error.to_string())?;
    let gc::Summary { files, bytes, young } = done;
    if asked.json {
        let shown =
            serde_json::json!({ "dry_run": asked.dry_run, "files": files, "bytes": bytes, "young": young });
        println!("{shown}");
        return Ok(());
    }
    let verb = if asked.dry_run { "would delete" } else { "deleted" };
    println!("{verb} {files} files with {bytes} bytes; {young} unnamed ones are younger than the grace");
    Ok(())
}
