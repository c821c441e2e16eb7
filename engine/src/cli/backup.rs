//! `cellaflow backup`: a copy of the whole ledger, made while the engine runs.

use cellaflow_proto::v1;
use clap::Args;

use super::client::{self, Engine};
use super::output::{self, Failure};
use super::{format, json, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow backup                        into the engine's backup_dir, named by time and frame
  cellaflow backup --name before-upgrade --json | jq -r .directory

The backup is written on the engine's machine (setting backup_dir; default: backups in data_dir).
Needs a token of an admin of all namespaces. Copy it to another machine, then restore it there with
`cellaflow restore`; it is never opened in place. With --json: {\"directory\", \"frame\",
\"size_bytes\", \"took_ms\"}.";

#[derive(Args)]
pub(super) struct Backup {
    /// Name of the backup's folder [default: made of time and frame]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Backup {
    pub(super) fn run(self) -> Result<String, Failure> {
        let written = client::block_on(self.write())?;
        if self.json {
            return Ok(output::json(&json::of(&written)));
        }
        let v1::BackupLedgerResponse { directory, frame, size_bytes, took_ms } = &written;
        Ok(format!(
            "{directory}\n  frame {frame}, {}, in {}\n",
            format::bytes(*size_bytes),
            format::duration_ms(*took_ms)
        ))
    }

    async fn write(&self) -> Result<v1::BackupLedgerResponse, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let request = v1::BackupLedgerRequest { name: self.name.clone().unwrap_or_default() };
        let answer = engine.operator().backup_ledger(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| refusal::failure(&status))
    }
}
