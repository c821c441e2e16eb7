//! `cellaflow sessions fork`.

use cellaflow_proto::{content, v1};
use clap::{Args, ValueEnum};
use prost::Message as _;

use crate::cli::client::{self, Engine};
use crate::cli::json_input::{self, payload};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{format, history, json, lookup, retry};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions fork 334455 --from 12
  cellaflow sessions fork 334455 --step search#1 --output '\"nothing found\"'   what if it had said so
  cellaflow sessions fork 334455 --step pay#1 --error 'card declined'
  cellaflow sessions fork audit/report-7 --from 1 --input @other.json --key what-if
  cellaflow sessions fork 334455 --from 12 --effects live        perform guarded effects

The fork has the session's events up to --from and goes on from there; the session itself is not
touched. It is cut earlier where an edited step has its outcome before, at the entry of a zone that
was open, and before the end. A worker runs it. Unless --effects live is given, guarded steps take
the outcome that was recorded under their key, and without one the fork pauses for an answer
(`cellaflow steps resolve`). With --json: the fork, with the field names of cellaflow.v1.Session.";

/// Code of a failure that an edit gave; workflow code can tell it from the tool's own.
const FAILURE_CODE: &str = "edited_by_fork";

#[derive(Args)]
pub(in crate::cli) struct Fork {
    #[command(flatten)]
    target: Target,
    /// Last event the fork has in common with the session [default: as much as the edit leaves]
    #[arg(long, value_name = "SEQ", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// Step or zone whose outcome is another one in the fork
    #[arg(long, value_name = "KEY")]
    step: Option<String>,
    /// The step's output, as JSON; of a model call, the text of its answer; @FILE reads a file, @- stdin
    #[arg(
        long,
        value_name = "JSON",
        requires = "step",
        conflicts_with = "error",
        allow_hyphen_values = true
    )]
    output: Option<String>,
    /// The step fails with this message
    #[arg(long, value_name = "TEXT", requires = "step", allow_hyphen_values = true)]
    error: Option<String>,
    /// The session's input, as JSON; @FILE reads a file, @- stdin
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    input: Option<String>,
    /// What becomes of guarded effects
    #[arg(long, value_name = "HOW", default_value = "stubbed")]
    effects: Effects,
    /// Key of the fork [default: none]
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    key: String,
    /// Version the fork runs on [default: the session's]
    #[arg(long = "run-version", value_name = "VERSION", default_value = "", hide_default_value = true)]
    version: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// What becomes of guarded effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Effects {
    /// They take what was recorded, or the fork pauses.
    Stubbed,
    /// They are performed.
    Live,
}

impl Fork {
    pub(super) fn run(self) -> Result<String, Failure> {
        if self.step.is_some() && self.output.is_none() && self.error.is_none() {
            return Err(Failure::usage("--step needs the outcome it is to have: add --output or --error"));
        }
        let forked = client::block_on(self.send())?;
        if self.json {
            return Ok(output::json(&json::of(&forked)));
        }
        Ok(self.said(&forked))
    }

    fn said(&self, forked: &v1::Session) -> String {
        let (id, cut) = (&forked.session_id, forked.forked_from_seq);
        let earlier = if self.from > cut { format!(", earlier than {}", self.from) } else { String::new() };
        let parent = &forked.forked_from_session;
        let state = format::status(forked.status());
        format!(
            "forked {parent} after event {cut}{earlier}: session {id} is {state}\n\n\
             Compare the two:\n  cellaflow sessions diff {parent} {id}\n"
        )
    }

    async fn send(&self) -> Result<v1::Session, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session = self.target.find(&engine).await?.session;
        let by = v1::session_ref::By::SessionId(session.session_id.clone());
        let request = v1::ForkSessionRequest {
            edits: self.edits(&engine, &session).await?,
            session: Some(v1::SessionRef { by: Some(by) }),
            from_seq: self.from,
            effects_live: self.effects == Effects::Live,
            key: self.key.clone(),
            version: self.version.clone(),
            dedupe_id: retry::dedupe_id(),
        };
        let answer = retry::safely(|| {
            let (mut sessions, request) = (engine.sessions(), request.clone());
            async move { sessions.fork_session(request).await }
        })
        .await?;
        answer.session.ok_or_else(|| Failure::other("the engine's answer holds no session"))
    }

    async fn edits(&self, engine: &Engine, session: &v1::Session) -> Result<Vec<v1::ForkEdit>, Failure> {
        use v1::fork_edit::Edit;
        let mut edits = Vec::new();
        if let Some(text) = &self.input {
            let text = json_input::read("--input", text)?;
            let edit = Some(Edit::Input(payload(v1::PayloadFormat::Json, text.into_bytes())));
            edits.push(v1::ForkEdit { step_key: String::new(), edit });
        }
        if let Some(step_key) = self.step.clone() {
            let edit = match (&self.output, &self.error) {
                (Some(text), _) => Edit::Output(output_payload(engine, session, &step_key, text).await?),
                (None, Some(message)) => Edit::Failure(failure(message)),
                (None, None) => return Ok(edits),
            };
            edits.push(v1::ForkEdit { step_key, edit: Some(edit) });
        }
        Ok(edits)
    }
}

fn failure(message: &str) -> v1::Payload {
    let failure = content::StepFailure {
        name: "EditedByFork".to_owned(),
        code: FAILURE_CODE.to_owned(),
        message: message.to_owned(),
        ..content::StepFailure::default()
    };
    payload(v1::PayloadFormat::Failure, failure.encode_to_vec())
}

/// The output in the form of the one that it stands for: a model's answer as an answer.
async fn output_payload(
    engine: &Engine,
    session: &v1::Session,
    step_key: &str,
    text: &str,
) -> Result<v1::Payload, Failure> {
    let text = json_input::read("--output", text)?;
    let mut recorded = None;
    history::each(engine, &session.session_id, (1, session.seq), |event| {
        recorded = history::answered_with(event, step_key).or(recorded.take());
    })
    .await?;
    let Some(recorded) = recorded else { return Ok(payload(v1::PayloadFormat::Json, text.into_bytes())) };
    let Ok(serde_json::Value::String(said)) = serde_json::from_str(&text) else {
        return Err(Failure::usage(format!(
            "step {step_key} is a model call: give the text of its answer, for example --output '\"yes\"'"
        )));
    };
    let answer = answer(&recorded, said);
    Ok(payload(v1::PayloadFormat::LlmResponse, answer.encode_to_vec()))
}

fn answer(recorded: &content::LlmResponse, said: String) -> content::LlmResponse {
    let part = content::Part { kind: Some(content::part::Kind::Text(said)), ..content::Part::default() };
    let role = recorded.message.as_ref().map_or_else(|| "assistant".to_owned(), |old| old.role.clone());
    content::LlmResponse {
        message: Some(content::Message { role, parts: vec![part], ..content::Message::default() }),
        finish_reason: "stop".to_owned(),
        model: recorded.model.clone(),
        ..content::LlmResponse::default()
    }
}
