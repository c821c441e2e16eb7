//! `cellaflow steps resolve`: a person says what became of a guarded step.

use cellaflow_proto::v1::resolve_step_request::Resolution;
use cellaflow_proto::{content, v1};
use clap::{Args, Subcommand};
use prost::Message as _;

use super::client::{self, Engine};
use super::json_input::{self, payload};
use super::output::{self, Failure};
use super::session_ref::Target;
use super::sessions::resumed;
use super::{json, lookup, retry};
use crate::clock::{self, Clock as _};

const EXAMPLES: &str = "Examples:
  cellaflow steps resolve 334455 mail#1 --output '{\"messageId\": \"a@b\"}'   it happened
  cellaflow steps resolve 334455 mail#1 --output @result.json
  cellaflow steps resolve 334455 mail#1 --not-applied                     it did not: try again
  cellaflow steps resolve 334455 mail#1 --error 'refused by the bank'     the step fails

`cellaflow sessions show` names the steps that can be resolved, and from when on. A session that
is paused because of this step goes on, unless --no-resume is given. With --json: the session,
with the field names of cellaflow.v1.Session.";

/// Code of a failure that a person decided on; workflow code can tell it from the tool's own.
const FAILURE_CODE: &str = "resolved_by_operator";

#[derive(Subcommand)]
pub(super) enum Steps {
    /// Says what became of a guarded step whose outcome is unknown
    #[command(after_help = EXAMPLES)]
    Resolve(Resolve),
}

impl Steps {
    pub(super) fn run(self) -> Result<String, Failure> {
        match self {
            Self::Resolve(command) => command.run(),
        }
    }
}

#[derive(Args)]
pub(super) struct Resolve {
    #[command(flatten)]
    target: Target,
    /// Step key, as `sessions show` names it
    #[arg(value_name = "STEP")]
    step: String,
    #[command(flatten)]
    outcome: Outcome,
    /// Leaves a session paused that is paused because of this step
    #[arg(long)]
    no_resume: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Outcome {
    /// The effect happened: this JSON is the step's output; @FILE reads a file, @- stdin
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    output: Option<String>,
    /// The step fails with this message
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    error: Option<String>,
    /// The effect did not happen: the step is attempted again
    #[arg(long)]
    not_applied: bool,
}

impl Resolve {
    fn run(self) -> Result<String, Failure> {
        let resolution = self.outcome.resolution()?;
        let session = client::block_on(self.send(resolution))?;
        if self.json {
            return Ok(output::json(&json::of(&session)));
        }
        Ok(format!("step {} is resolved; {}", self.step, resumed(&session, clock::System.wall_ms())))
    }

    async fn send(&self, resolution: Resolution) -> Result<v1::Session, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session_id = self.target.find(&engine).await?.session.session_id;
        let request = v1::ResolveStepRequest {
            session_id,
            step_key: self.step.clone(),
            dedupe_id: retry::dedupe_id(),
            resume: !self.no_resume,
            resolution: Some(resolution),
        };
        let answer = retry::safely(|| {
            let (mut operator, request) = (engine.operator(), request.clone());
            async move { operator.resolve_step(request).await }
        })
        .await?;
        answer.session.ok_or_else(|| Failure::other("the engine's answer holds no session"))
    }
}

impl Outcome {
    fn resolution(&self) -> Result<Resolution, Failure> {
        match (&self.output, &self.error) {
            (Some(text), _) => {
                let text = json_input::read("--output", text)?;
                Ok(Resolution::Output(payload(v1::PayloadFormat::Json, text.into_bytes())))
            }
            (None, Some(message)) => {
                let failure = content::StepFailure {
                    name: "ResolvedByOperator".to_owned(),
                    code: FAILURE_CODE.to_owned(),
                    message: message.clone(),
                    ..content::StepFailure::default()
                };
                Ok(Resolution::Failure(payload(v1::PayloadFormat::Failure, failure.encode_to_vec())))
            }
            (None, None) => Ok(Resolution::NotApplied(true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Exit;

    fn outcome(output: Option<&str>, error: Option<&str>) -> Outcome {
        Outcome { output: output.map(Into::into), error: error.map(Into::into), not_applied: false }
    }

    #[test]
    fn an_output_is_sent_as_the_json_that_was_written() {
        let Resolution::Output(payload) = outcome(Some(r#"{"id": 7}"#), None).resolution().unwrap() else {
            panic!()
        };
        assert_eq!(payload.format(), v1::PayloadFormat::Json);
        assert_eq!(payload.body, Some(v1::payload::Body::Data(r#"{"id": 7}"#.into())));
        let wrong = outcome(Some("{id: 7}"), None).resolution().unwrap_err();
        assert_eq!(wrong.exit, Exit::Usage);
    }

    #[test]
    fn an_output_is_read_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1]").unwrap();
        let text = format!("@{}", file.path().display());
        let Resolution::Output(payload) = outcome(Some(&text), None).resolution().unwrap() else { panic!() };
        assert_eq!(payload.body, Some(v1::payload::Body::Data("[1]".into())));
        assert!(
            outcome(Some("@/no/such/file"), None).resolution().unwrap_err().message.contains("/no/such/file")
        );
    }

    #[test]
    fn an_error_says_that_a_person_decided() {
        let Resolution::Failure(payload) = outcome(None, Some("refused")).resolution().unwrap() else {
            panic!()
        };
        let Some(v1::payload::Body::Data(bytes)) = payload.body else { panic!() };
        let failure = content::StepFailure::decode(bytes).unwrap();
        assert_eq!(
            (failure.code.as_str(), failure.message.as_str(), failure.retryable),
            (FAILURE_CODE, "refused", false)
        );
    }
}
