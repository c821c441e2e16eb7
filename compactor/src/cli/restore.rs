//! `cellaflow-compactor restore`.

use clap::Args;

use super::{Places, reader, stop_when_asked};
use crate::archive::restore;

const EXAMPLES: &str = "Examples:
  cellaflow-compactor restore 01980c5e-7d1a-7c3e-8f00-1c2d3e4f5a6b
  cellaflow-compactor restore SESSION --json --archive s3://bucket/prefix

The whole lineage comes back: its root and all forks. It can then be shown, forked and replayed, and is
archived again when it is cold. Exit code 0 also if there is nothing to restore. With --json:
{\"restored\", \"lineage_id\", \"sessions\", \"events\"}.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Restore {
    #[command(flatten)]
    places: Places,
    /// Session, by its id
    #[arg(value_name = "SESSION")]
    session: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "what was restored is what the command is run for")]
pub(super) async fn run(asked: &Restore) -> Result<(), String> {
    let worker = reader(&asked.places, stop_when_asked()).await?;
    let restored = restore::lineage(&worker, &asked.session).await.map_err(|error| error.to_string())?;
    match (restored, asked.json) {
        (None, false) => println!("session {} is not archived: there is nothing to restore", asked.session),
        (Some(restored), false) => println!(
            "restored lineage {} with {} sessions and {} events",
            restored.lineage_id, restored.sessions, restored.events
        ),
        (None, true) => println!("{}", serde_json::json!({ "restored": false })),
        (Some(restored), true) => println!(
            "{}",
            serde_json::json!({
                "restored": true, "lineage_id": restored.lineage_id, "sessions": restored.sessions,
                "events": restored.events,
            })
        ),
    }
    Ok(())
}
