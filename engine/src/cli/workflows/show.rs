//! `cellaflow workflows show`.

use cellaflow_proto::v1;
use clap::Args;
use serde_json::json;

use super::list::{self, name};
use crate::cli::output::{self, Failure};
use crate::cli::{client, format, json, lookup, table};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow workflows show audit
  cellaflow workflows show audit@1.0.0 --json

Names at most 5 sessions of each reason; `cellaflow sessions list --workflow audit --version 1.0.0`
lists all. With --json: {\"versions\": [WorkflowVersion]}, with the field names of
cellaflow.v1.WorkflowVersion.";

#[derive(Args)]
pub(in crate::cli) struct Show {
    /// Workflow, or one of its versions
    #[arg(value_name = "NAME[@VERSION]")]
    name: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Show {
    pub(super) fn run(self) -> Result<String, Failure> {
        let (workflow, version) = match self.name.rsplit_once('@') {
            Some((workflow, version)) => (workflow.to_owned(), Some(version)),
            None => (self.name.clone(), None),
        };
        let mut versions = client::block_on(list::fetch(&self.engine, workflow))?;
        versions.retain(|one| version.is_none_or(|version| one.version == version));
        if versions.is_empty() {
            let name = &self.name;
            return Err(Failure::other(format!(
                "{name} is not known here: no worker has served it and no session runs on it; `cellaflow workflows` lists what is"
            )));
        }
        if self.json {
            let versions = versions.iter().map(json::of).collect::<Vec<_>>();
            return Ok(output::json(&json!({ "versions": versions })));
        }
        let now_ms = clock::System.wall_ms();
        let shown: Vec<String> = versions.iter().map(|one| page(one, now_ms)).collect();
        Ok(shown.join("\n"))
    }
}

fn page(one: &v1::WorkflowVersion, now_ms: u64) -> String {
    let seen = |at_ms| if at_ms == 0 { "never".to_owned() } else { format::ago(at_ms, now_ms) };
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let mut rows = vec![
        ("version", name(one)),
        ("state", list::state(one)),
        ("compatible with", or_none(one.compatible.join(", "))),
        ("first served", seen(one.first_seen_ms)),
        ("last served", seen(one.last_seen_ms)),
        ("workers", or_none(one.workers.join(", "))),
        ("sessions", list::sessions(&one.sessions)),
    ];
    if !one.needs.is_empty() {
        rows.push(("start", one.needs.clone()));
    }
    let mut text = table::details(&rows);
    for waiting in &one.waiting {
        let line = format!("{} {}", format::count(waiting.count), waiting.reason);
        text += &format!("  {}\n", output::printable(&line));
        for session in &waiting.session_ids {
            text += &format!("    {}\n", output::printable(session));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_says_who_serves_it_what_must_be_started_and_which_sessions_wait() {
        let waiting =
            v1::WaitReason { reason: "waits for a timer".into(), count: 2, session_ids: vec!["s-1".into()] };
        let one = v1::WorkflowVersion {
            workflow: "audit".into(),
            version: "1".into(),
            first_seen_ms: 1,
            needs: "a worker that serves audit@1".into(),
            waiting: vec![waiting],
            ..v1::WorkflowVersion::default()
        };
        let text = page(&one, 10);
        for part in
            ["audit@1", "last served", "never", "a worker that serves", "2 waits for a timer", "    s-1"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
