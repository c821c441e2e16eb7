//! `cellaflow status`: how the engine is.

use cellaflow_proto::v1;
use clap::Args;

use super::client::{self, Engine};
use super::output::{self, Failure};
use super::table::{self, Column};
use super::{format, json, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow status
  cellaflow status --url https://engine.example.com --json | jq .disk_free_bytes

With --json: the field names of cellaflow.v1.GetStatusResponse. Exit code 1 while new sessions are
refused because the disk is nearly full.";

#[derive(Args)]
pub(super) struct ShowStatus {
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl ShowStatus {
    pub(super) fn run(self) -> Result<String, Failure> {
        let status = client::block_on(self.fetch())?;
        let text = if self.json { output::json(&json::of(&status)) } else { page(&status, table::columns()) };
        if !status.disk_low {
            return Ok(text);
        }
        output::print(&text)?;
        Err(Failure::other(
            "the disk is nearly full, new sessions are refused: free some space (disk_free_min_bytes)",
        ))
    }

    async fn fetch(&self) -> Result<v1::GetStatusResponse, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let answer = engine.operator().get_status(v1::GetStatusRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(|status| refusal::failure(&status))
    }
}

fn page(status: &v1::GetStatusResponse, columns: Option<u16>) -> String {
    let free = format!(
        "{} on disk, {} free",
        format::bytes(status.disk_bytes),
        format::bytes(status.disk_free_bytes)
    );
    let facts = table::details(&[
        ("engine", status.version.clone()),
        ("up for", format::duration_ms(status.uptime_ms)),
        ("ledger", status.ledger_id.clone()),
        ("incarnation", status.incarnation.clone()),
        ("durable frame", format::count(status.frame)),
        ("space", free),
        ("memory", format::bytes(status.rss_bytes)),
        ("sessions", sessions(&status.sessions)),
        ("workers", if status.workers.is_empty() { "none connected".to_owned() } else { String::new() }),
    ]);
    if status.workers.is_empty() { facts } else { format!("{facts}\n{}", workers(&status.workers, columns)) }
}

fn sessions(counts: &[v1::StatusCount]) -> String {
    let shown: Vec<String> = counts
        .iter()
        .filter(|count| count.count > 0)
        .map(|count| format!("{} {}", format::count(count.count), format::status(count.status())))
        .collect();
    if shown.is_empty() { "none open".to_owned() } else { shown.join(", ") }
}

fn workers(workers: &[v1::WorkerStatus], columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 6] = [
        ("worker", Column::Whole),
        ("client", Column::Text),
        ("serves", Column::Text),
        ("sessions", Column::Number),
        ("free", Column::Number),
        ("heard", Column::Whole),
    ];
    let row = |worker: &v1::WorkerStatus| {
        vec![
            worker.instance.clone(),
            worker.client.clone(),
            worker.workflows.join(" "),
            worker.sessions.to_string(),
            worker.free.to_string(),
            format!("{} ago", format::duration_ms(worker.idle_ms)),
        ]
    };
    table::table(&HEADER, workers.iter().map(row).collect(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_space_sessions_and_workers() {
        let count = |status: v1::SessionStatus, count| v1::StatusCount { status: status.into(), count };
        let worker = v1::WorkerStatus {
            instance: "w1".into(),
            workflows: vec!["audit@3".into()],
            idle_ms: 1_500,
            ..v1::WorkerStatus::default()
        };
        let status = v1::GetStatusResponse {
            version: "0.1.0".into(),
            disk_bytes: 3 << 20,
            sessions: vec![count(v1::SessionStatus::Running, 2), count(v1::SessionStatus::Paused, 0)],
            workers: vec![worker],
            ..v1::GetStatusResponse::default()
        };
        let text = page(&status, None);
        for part in ["3 MiB on disk", "2 running", "audit@3", "1.5 s ago"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("paused"), "{text}");
        assert!(page(&v1::GetStatusResponse::default(), None).contains("none connected"));
    }
}
