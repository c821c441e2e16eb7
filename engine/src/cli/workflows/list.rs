//! `cellaflow workflows`.

use cellaflow_proto::v1;
use clap::Args;
use serde_json::json;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::table::{self, Column};
use crate::cli::{format, json, lookup, refusal};
use crate::clock::{self, Clock as _};

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  cellaflow workflows
  cellaflow workflows list --workflow audit
  cellaflow workflows show audit
  cellaflow workflows --json | jq '.versions[] | select(.drained) | .version'
  cellaflow workflows drain audit@1.0.0

Sessions that have ended are not counted. With --json: {\"versions\": [WorkflowVersion]}, with the
field names of cellaflow.v1.WorkflowVersion.";

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Only the versions of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl List {
    pub(super) fn run(self) -> Result<String, Failure> {
        let versions = client::block_on(fetch(&self.engine, self.workflow.unwrap_or_default()))?;
        if self.json {
            let versions = versions.iter().map(json::of).collect::<Vec<_>>();
            return Ok(output::json(&json!({ "versions": versions })));
        }
        if versions.is_empty() {
            output::complain(&"no worker has served a workflow here, and no session runs");
            return Ok(String::new());
        }
        Ok(page(&versions, clock::System.wall_ms(), table::columns()))
    }
}

/// The versions of a workflow; of all if its name is empty.
pub(super) async fn fetch(
    options: &lookup::Options,
    workflow: String,
) -> Result<Vec<v1::WorkflowVersion>, Failure> {
    let engine = Engine::find(options).await?;
    let request = v1::ListWorkflowsRequest { workflow, namespace: String::new() };
    let answer = engine.operator().list_workflows(request).await;
    answer.map(|answer| answer.into_inner().versions).map_err(|status| refusal::failure(&status))
}

/// A table, and below it why sessions wait.
pub(super) fn page(versions: &[v1::WorkflowVersion], now_ms: u64, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 6] = [
        ("workflow", Column::Whole),
        ("compatible with", Column::Text),
        ("sessions", Column::Text),
        ("workers", Column::Number),
        ("first seen", Column::Whole),
        ("state", Column::Text),
    ];
    let row = |one: &v1::WorkflowVersion| {
        vec![
            name(one),
            one.compatible.join(" "),
            sessions(&one.sessions),
            one.workers.len().to_string(),
            format::ago(one.first_seen_ms, now_ms),
            state(one),
        ]
    };
    let mut text = table::table(&HEADER, versions.iter().map(row).collect(), columns);
    for one in versions.iter().filter(|one| !one.waiting.is_empty() || !one.needs.is_empty()) {
        text += &format!("\n{}:\n", output::printable(&name(one)));
        for waiting in &one.waiting {
            let line = format!("{} {}", format::count(waiting.count), waiting.reason);
            text += &format!("  {}\n", output::printable(&line));
        }
        if !one.needs.is_empty() {
            text += &format!("  start {}\n", output::printable(&one.needs));
        }
    }
    text
}

pub(super) fn name(one: &v1::WorkflowVersion) -> String {
    format!("{}@{}", one.workflow, one.version)
}

pub(super) fn sessions(counts: &[v1::StatusCount]) -> String {
    let shown = counts
        .iter()
        .map(|count| format!("{} {}", format::count(count.count), format::status(count.status())));
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

pub(super) fn state(one: &v1::WorkflowVersion) -> String {
    match (one.draining_since_ms, one.drained, one.workers.is_empty()) {
        (1.., true, _) => "drained: its code is not needed any more".to_owned(),
        (1.., false, _) => format!("draining, by {}", one.draining_by),
        (0, _, false) => "served".to_owned(),
        (0, _, true) => "no worker".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_counts_reasons_and_what_is_drained() {
        let count = v1::StatusCount { status: v1::SessionStatus::Waiting.into(), count: 3 };
        let old = v1::WorkflowVersion {
            workflow: "audit".into(),
            version: "1".into(),
            sessions: vec![count],
            waiting: vec![v1::WaitReason {
                reason: "waits for a signal".into(),
                count: 3,
                session_ids: vec![],
            }],
            draining_since_ms: 5,
            draining_by: "ada".into(),
            needs: "a worker".into(),
            ..v1::WorkflowVersion::default()
        };
        let gone = v1::WorkflowVersion {
            version: "0".into(),
            drained: true,
            sessions: vec![],
            waiting: vec![],
            needs: String::new(),
            ..old.clone()
        };
        let text = page(&[gone, old], 10, None);
        for part in [
            "audit@1",
            "3 waiting",
            "draining, by ada",
            "drained: its code",
            "  3 waits for a signal",
            "  start a worker",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
