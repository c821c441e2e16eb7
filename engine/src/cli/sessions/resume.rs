//! `cellaflow sessions resume`.

use cellaflow_proto::v1;
use clap::Args;

use super::advice;
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{format, json, lookup, retry};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions resume 334455
  cellaflow sessions resume audit/report-7 --json | jq .status

With --json: the session as it is now, with the field names of cellaflow.v1.Session. A session
that is paused because a guarded step's outcome is unknown is better served by `cellaflow steps
resolve`, which resumes it, too.";

#[derive(Args)]
pub(in crate::cli) struct Resume {
    #[command(flatten)]
    target: Target,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Resume {
    pub(super) fn run(self) -> Result<String, Failure> {
        let session = client::block_on(self.resume())?;
        if self.json {
            return Ok(output::json(&json::of(&session)));
        }
        Ok(resumed(&session, clock::System.wall_ms()))
    }

    async fn resume(&self) -> Result<v1::Session, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session_id = self.target.find(&engine).await?.session.session_id;
        let request = v1::ResumeSessionRequest { session_id, dedupe_id: retry::dedupe_id() };
        let answer = retry::safely(|| {
            let (mut operator, request) = (engine.operator(), request.clone());
            async move { operator.resume_session(request).await }
        })
        .await?;
        answer.session.ok_or_else(|| Failure::other("the engine's answer holds no session"))
    }
}

/// Says what state the session is in now, and what else it needs.
pub(in crate::cli) fn resumed(session: &v1::Session, now_ms: u64) -> String {
    let waits = super::list::waits_for(session);
    let waits = if waits.is_empty() { String::new() } else { format!(": {waits}") };
    let state = format!("session {} is {}{waits}\n", session.session_id, format::status(session.status()));
    let advice = advice(session, now_ms);
    if advice.is_empty() { state } else { format!("{state}\n{advice}") }
}
