//! `cellaflow approvals list`.

use cellaflow_proto::v1;
use clap::Args;
use serde_json::json;

use super::{call, open};
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::table::{self, Column};
use crate::cli::{format, json, lookup, payload, refusal};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow approvals list
  cellaflow approvals list --workflow payments --json | jq '.approvals[] | .call.value.args'

With --json: {\"approvals\": [{\"session_id\", \"workflow\", \"key\", \"wait\", \"call\"}]}; a wait has the
field names of cellaflow.v1.Wait. Decide with `cellaflow approvals approve SESSION STEP`.";

/// Sessions asked for at a time.
const PAGE: u32 = 1_000;

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Only sessions of this workflow
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    workflow: String,
    /// Approvals listed at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Namespace, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// An approval somebody is to decide.
struct Approval {
    session: v1::Session,
    wait: v1::Wait,
    call: Option<v1::Payload>,
}

impl List {
    pub(super) fn run(self) -> Result<String, Failure> {
        let approvals = client::block_on(self.fetch())?;
        if self.json {
            let rows: Vec<_> = approvals.iter().map(Approval::to_json).collect();
            return Ok(output::json(&json!({ "approvals": rows })));
        }
        if approvals.is_empty() {
            output::complain(&"no session waits for an approval");
            return Ok(String::new());
        }
        Ok(rows(&approvals, clock::System.wall_ms(), table::columns()))
    }

    async fn fetch(&self) -> Result<Vec<Approval>, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let page = self.page(&engine, page_token).await?;
            for session in page.sessions {
                for wait in open(&session) {
                    if found.len() >= self.limit {
                        return Ok(found);
                    }
                    let call = call(&engine, &session.session_id, wait).await?;
                    found.push(Approval { session: session.clone(), wait: wait.clone(), call });
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }

    async fn page(&self, engine: &Engine, page_token: String) -> Result<v1::ListSessionsResponse, Failure> {
        use v1::SessionStatus::{Paused, Running, Waiting};
        let request = v1::ListSessionsRequest {
            namespace: self.namespace.clone(),
            statuses: [Waiting, Running, Paused].map(Into::into).to_vec(),
            workflow: self.workflow.clone(),
            page_size: PAGE,
            page_token,
            ..v1::ListSessionsRequest::default()
        };
        let answer = engine.sessions().list_sessions(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| refusal::failure(&status))
    }
}

impl Approval {
    fn to_json(&self) -> serde_json::Value {
        json!({
            "session_id": self.session.session_id,
            "workflow": self.session.workflow,
            "key": self.session.key,
            "wait": json::of(&self.wait),
            "call": self.call.as_ref().map(json::of),
        })
    }
}

fn rows(approvals: &[Approval], now_ms: u64, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 5] = [
        ("session", Column::Whole),
        ("workflow", Column::Text),
        ("step", Column::Whole),
        ("expires", Column::Whole),
        ("call", Column::Text),
    ];
    let row = |approval: &Approval| {
        let id = &approval.session.session_id;
        vec![
            id.rsplit('-').next().unwrap_or(id).to_owned(),
            approval.session.workflow.clone(),
            approval.wait.step_key.clone(),
            format::ago(approval.wait.due_ms, now_ms),
            approval.call.as_ref().map_or_else(String::new, payload::preview),
        ]
    };
    table::table(&HEADER, approvals.iter().map(row).collect(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json_input;

    #[test]
    fn a_row_shows_what_is_asked_and_until_when() {
        let session = v1::Session {
            session_id: "01935a2b-77f0-7abc-9def-001122334455".into(),
            workflow: "payments".into(),
            ..v1::Session::default()
        };
        let wait = v1::Wait { step_key: "pay#1".into(), due_ms: 61_000, ..v1::Wait::default() };
        let call = json_input::payload(v1::PayloadFormat::Json, br#"{"toolCall":"pay"}"#.to_vec());
        let text = rows(&[Approval { session, wait, call: Some(call) }], 1_000, None);
        let row = text.lines().nth(1).unwrap();
        for part in ["001122334455", "payments", "pay#1", "in 1 min", r#"{"toolCall":"pay"}"#] {
            assert!(row.contains(part), "{part} in {row}");
        }
    }
}
