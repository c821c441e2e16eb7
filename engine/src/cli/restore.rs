//! `cellaflow restore`: puts a backup together as a ledger with a new incarnation. Works on folders; no engine runs on them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::output::{self, Failure};
use crate::clock::{self, Clock};
use crate::ids::Mint;
use crate::ledger::restore::new_incarnation;
use crate::storage::{self, OpenError};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow restore --from /backups/2026-01-31T12-00-00Z-4711 --data /var/lib/cellaflow
  cellaflow sessions release --all       once the engine runs again: lets unfinished sessions go on

The backup stays as it is. The restored ledger gets a new incarnation: workers of the former one are
refused until they attach anew, and sessions that had not ended wait for `cellaflow sessions
release`, because what they did after the backup was made is not in it and may be done a second
time. With --json: {\"ledger_id\", \"frame\", \"created_ms\", \"incarnation\", \"data\"}.";

/// Folder of the ledger inside the data folder.
const LEDGER: &str = "ledger";

#[derive(Args)]
pub(super) struct Restore {
    /// Folder that `cellaflow backup` made
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// Data folder of the engine that is to have it; it must hold no ledger
    #[arg(long, visible_alias = "data-dir", value_name = "PATH", default_value = crate::dev::FOLDER)]
    data: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(self) -> Result<String, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(clock::System);
        let mint = Mint::new(Arc::clone(&clock));
        let mut incarnation = String::new();
        let to = self.data.join(LEDGER);
        let restored = storage::restore(&self.from, &to, &storage::Settings::default(), |store| {
            incarnation = new_incarnation(store, clock.as_ref(), &mint)?.to_string();
            Ok(())
        });
        let manifest = restored.map_err(|error| match error {
            OpenError::NotABackup { .. } | OpenError::NotEmpty { .. } => Failure::usage(error),
            _ => Failure::other(error),
        })?;
        if self.json {
            return Ok(output::json(&json!({
                "ledger_id": manifest.ledger_id,
                "frame": manifest.frame,
                "created_ms": manifest.created_ms,
                "incarnation": incarnation,
                "data": self.data.display().to_string(),
            })));
        }
        Ok(format!(
            "restored frame {} of {} into {}\nsessions that had not ended wait for `cellaflow sessions release`\n",
            manifest.frame,
            crate::clock::rfc3339(manifest.created_ms),
            self.data.display()
        ))
    }
}
