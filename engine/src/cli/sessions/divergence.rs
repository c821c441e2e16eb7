//! Both sides of a nondeterminism, as the run that found it wrote them down.

use cellaflow_proto::{content, v1};
use prost::Message as _;
use serde_json::{Value, json};

use crate::cli::client::Engine;
use crate::cli::output::Failure;
use crate::cli::{history, table, value};

/// What a session is paused for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Divergence {
    pub(super) step_key: String,
    recorded: String,
    requested: String,
    pub(super) repair: Repair,
}

/// What can be accepted.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Repair {
    /// The recorded outcome stands for the input of this digest.
    Input(Vec<u8>),
    /// These further steps need not be asked for, and the one paused for neither.
    Drop(Vec<String>),
    #[default]
    None,
}

/// Reads what a session is paused for; `None`: it is not paused for a nondeterminism.
///
/// # Errors
/// The engine's refusal, or the transport's.
pub(super) async fn read(engine: &Engine, session: &v1::Session) -> Result<Option<Divergence>, Failure> {
    if session.pause_reason() != v1::PauseReason::Nondeterminism {
        return Ok(None);
    }
    Ok(history::last_pause(engine, session).await?.map(|paused| Divergence::of(&paused)))
}

impl Divergence {
    fn of(paused: &v1::SessionPaused) -> Self {
        let data = details(paused).unwrap_or(Value::Null);
        let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let step_key = if paused.step_key.is_empty() { text("stepKey") } else { paused.step_key.clone() };
        let dropped = data.get("drop").and_then(Value::as_array).map(|keys| {
            keys.iter().filter_map(Value::as_str).filter(|key| *key != step_key).map(str::to_owned).collect()
        });
        let repair = match (data.get("inputDigest").and_then(Value::as_str), dropped) {
            (Some(digest), _) => hex::decode(digest).map_or(Repair::None, Repair::Input),
            (None, Some(also)) => Repair::Drop(also),
            (None, None) => Repair::None,
        };
        let requested = text("requested");
        let requested = if requested.is_empty() { "nothing: the run ended".to_owned() } else { requested };
        Self { recorded: text("recorded"), requested, repair, step_key }
    }

    /// Both sides, for programs.
    pub(super) fn json(&self) -> Value {
        json!({ "step_key": self.step_key, "recorded": self.recorded, "requested": self.requested })
    }

    /// Both sides, for people.
    pub(super) fn sides(&self) -> String {
        table::details(&[
            ("paused at", self.step_key.clone()),
            ("recorded", self.recorded.clone()),
            ("asked for", self.requested.clone()),
        ])
    }

    /// Ready-made commands.
    pub(super) fn advice(&self, id: &str) -> String {
        let accept = match &self.repair {
            Repair::Input(_) => {
                format!("  cellaflow sessions accept {id}    the recorded outcome stands for the new input\n")
            }
            Repair::Drop(_) => {
                format!("  cellaflow sessions accept {id}    what was recorded need not be asked for\n")
            }
            Repair::None => String::new(),
        };
        format!(
            "The code asked for something else than the ledger has. Run the version it started on and resume, or:\n\
             {accept}  cellaflow sessions fork {id} --from SEQ    go on from before it\n"
        )
    }
}

fn details(paused: &v1::SessionPaused) -> Option<Value> {
    let Some(v1::payload::Body::Data(bytes)) = &paused.details.as_ref()?.body else { return None };
    let failure = content::StepFailure::decode(bytes.clone()).ok()?;
    value::read(&failure.data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json_input::payload;

    fn paused(data: &str) -> v1::SessionPaused {
        let failure =
            content::StepFailure { data: data.as_bytes().to_vec().into(), ..content::StepFailure::default() };
        let details = Some(payload(v1::PayloadFormat::Failure, failure.encode_to_vec()));
        v1::SessionPaused { step_key: "ask#1".into(), details, ..v1::SessionPaused::default() }
    }

    #[test]
    fn both_sides_are_read_with_what_can_be_accepted() {
        let input =
            Divergence::of(&paused(r#"{"recorded":"blue","requested":"green","inputDigest":"0aff"}"#));
        assert_eq!(input.repair, Repair::Input(vec![0x0a, 0xff]));
        assert!(input.sides().contains("blue") && input.sides().contains("green"));
        let dropped = Divergence::of(&paused(r#"{"recorded":"b","requested":"","drop":["ask#1","b#1"]}"#));
        assert_eq!(dropped.repair, Repair::Drop(vec!["b#1".to_owned()]));
        assert!(dropped.sides().contains("the run ended"));
        let kind = Divergence::of(&paused(r#"{"recorded":"a step","requested":"a zone"}"#));
        assert_eq!(kind.repair, Repair::None);
        assert!(!kind.advice("s1").contains("accept"), "what cannot be accepted is not offered");
    }
}
