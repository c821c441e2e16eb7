//! `cellaflow-compactor verify`.

use std::io::IsTerminal as _;

use cellaflow_proto::v1;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use v1::operator_service_client::OperatorServiceClient;
use v1::verify_ledger_response::Body;

use super::{Places, reader, stop_when_asked};
use crate::archive::Worker;
use crate::archive::walk::{self, Walked};

const EXAMPLES: &str = "Examples:
  cellaflow-compactor verify --archive /var/lib/cellaflow/archive
  cellaflow-compactor verify --payloads --json | jq .faults

The engine walks what it has, as `cellaflow ledger verify` does; then every file that a published
manifest names is read and checked, and every archived chain is followed to the end that the ledger
keeps. Exit code 0: nothing is wrong; 1: something is. With --json: {\"ledger\": {sessions, events,
payloads, archived_sessions}, \"archive\": {manifests, files, events, sessions}, \"faults\": [text]}.";

/// Faults of the ledger kept for the report.
const FAULTS_MAX: usize = 1_000;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Verify {
    #[command(flatten)]
    places: Places,
    /// Checks payload bytes in the ledger against their digests, too; slower
    #[arg(long)]
    payloads: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(asked: &Verify) -> Result<(), String> {
    let mut stop = stop_when_asked();
    let worker = reader(&asked.places, stop.clone()).await?;
    let progress = progress();
    let show = |events| progress.set_message(format!("archive: {events} events"));
    let walk = async {
        let (ledger, faults) = ledger(&worker, asked.payloads, &progress).await?;
        let walked = walk::archive(&worker, &show).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((ledger, faults, walked))
    };
    let (ledger, mut faults, walked) = tokio::select! {
        walked = walk => walked?,
        _ = stop.wait_for(|stop| *stop) => {
            return Err("stopped before the end of the walk: nothing is proven; run it again".to_owned());
        }
    };
    progress.finish_and_clear();
    faults.extend(walked.faults.iter().cloned());
    say(asked.json, &ledger, &walked, &faults);
    match faults.len() {
        0 => Ok(()),
        found => Err(format!(
            "{found} faults: keep a copy of ledger and archive, and restore a backup of what is damaged"
        )),
    }
}

async fn ledger(
    worker: &Worker,
    payloads: bool,
    progress: &ProgressBar,
) -> Result<(v1::VerifySummary, Vec<String>), String> {
    let refused = |status: tonic::Status| status.message().to_owned();
    let request = v1::VerifyLedgerRequest { session_id: String::new(), payloads };
    let mut operator = OperatorServiceClient::new(worker.channel.clone());
    let mut stream = operator.verify_ledger(request).await.map_err(refused)?.into_inner();
    let mut faults = Vec::new();
    while let Some(message) = stream.message().await.map_err(refused)? {
        match message.body {
            Some(Body::Progress(at)) => progress.set_message(format!("ledger: {} events", at.events)),
            Some(Body::Fault(fault)) if faults.len() < FAULTS_MAX => {
                faults.push(format!("session {} event {}: {}", fault.session_id, fault.seq, fault.message));
            }
            Some(Body::Summary(summary)) => return Ok((summary, faults)),
            Some(Body::Fault(_)) | None => {}
        }
    }
    Err("the engine ended its walk before its end, nothing is proven: run it again".to_owned())
}

#[expect(clippy::print_stdout, reason = "what was found is what the command is run for")]
fn say(as_json: bool, ledger: &v1::VerifySummary, walked: &Walked, faults: &[String]) {
    let v1::VerifySummary { sessions, events, payloads, archived_sessions, .. } = *ledger;
    if as_json {
        let shown = json!({
            "ledger": {
                "sessions": sessions, "events": events, "payloads": payloads, "archived_sessions": archived_sessions,
            },
            "archive": {
                "manifests": walked.manifests, "files": walked.files, "events": walked.events,
                "sessions": walked.sessions,
            },
            "faults": faults,
        });
        println!("{shown}");
        return;
    }
    println!(
        "ledger: {} sessions, {events} events; archive: {} sessions, {} events in {} files of {} commits",
        sessions - archived_sessions,
        walked.sessions,
        walked.events,
        walked.files,
        walked.manifests
    );
    match faults {
        [] => println!("every chain holds"),
        faults => faults.iter().for_each(|fault| println!("fault: {fault}")),
    }
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
