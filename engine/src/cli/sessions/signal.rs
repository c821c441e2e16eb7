//! `cellaflow sessions signal`.

use cellaflow_proto::v1;
use clap::Args;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{json, json_input, lookup, retry};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions signal 334455 answer '{\"text\": \"yes\"}'
  cellaflow sessions signal support/case-7 answer @answer.json --id mail-4711
  cellaflow sessions signal 334455 stop

The session gets it when it awaits a signal of this name; until then it is kept. The same --id
sent again is received once. With --json: the answer, with the field names of
cellaflow.v1.SignalSessionResponse.";

#[derive(Args)]
pub(in crate::cli) struct Signal {
    #[command(flatten)]
    target: Target,
    /// Name of the signal, as workflow code awaits it
    #[arg(value_name = "NAME")]
    name: String,
    /// Value as JSON; @FILE reads a file, @- stdin
    #[arg(value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
    value: String,
    /// Id that makes it idempotent for the life of the session, at most 128 bytes [default: a new one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Signal {
    pub(super) fn run(self) -> Result<String, Failure> {
        let value = json_input::read("the value", &self.value)?;
        let (session_id, answer) = client::block_on(self.send(value))?;
        if self.json {
            return Ok(output::json(&json::of(&answer)));
        }
        let fate = match (answer.duplicate, answer.delivered) {
            (true, _) => "had been received before",
            (false, true) => "is delivered",
            (false, false) => "is kept until the session awaits it",
        };
        Ok(format!("signal {} {fate} (session {session_id}, seq {})\n", self.name, answer.seq))
    }

    async fn send(&self, value: String) -> Result<(String, v1::SignalSessionResponse), Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session_id = self.target.find(&engine).await?.session.session_id;
        // A new id makes a request that is sent again after a lost answer one signal.
        let signal_id = self.id.clone().unwrap_or_else(|| hex::encode(retry::dedupe_id()));
        let by = v1::session_ref::By::SessionId(session_id.clone());
        let request = v1::SignalSessionRequest {
            session: Some(v1::SessionRef { by: Some(by) }),
            name: self.name.clone(),
            value: Some(json_input::payload(v1::PayloadFormat::Json, value.into_bytes())),
            signal_id,
        };
        let answer = retry::safely(|| {
            let (mut sessions, request) = (engine.sessions(), request.clone());
            async move { sessions.signal_session(request).await }
        })
        .await?;
        Ok((session_id, answer))
    }
}
