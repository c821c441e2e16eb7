//! `cellaflow approvals approve` and `reject`.

use cellaflow_proto::v1::{self, ApprovalDecision};
use clap::Args;

use super::{call, open};
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::sessions::resumed;
use crate::cli::{format, json, json_input, lookup, payload, retry};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow approvals approve 334455                  the only approval it waits for
  cellaflow approvals approve 334455 pay#1 --comment 'as agreed with finance'
  cellaflow approvals reject payments/order-7 pay#1 --on-behalf-of 'Ada Lovelace'

`cellaflow approvals list` shows the calls. The decision is bound to the arguments shown there and
is made once. The token's name is recorded as the approver. With --json: the session, with the
field names of cellaflow.v1.Session.";

#[derive(Args)]
pub(in crate::cli) struct Decide {
    #[command(flatten)]
    target: Target,
    /// Step key of the approval [default: the only open one]
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// Comment for the workflow
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    comment: Option<String>,
    /// Person or program you decide for
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    on_behalf_of: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// What was decided.
struct Decided {
    step_key: String,
    call: String,
    session: v1::Session,
}

impl Decide {
    pub(super) fn run(self, decision: ApprovalDecision) -> Result<String, Failure> {
        let Decided { step_key, call, session } = client::block_on(self.send(decision))?;
        if self.json {
            return Ok(output::json(&json::of(&session)));
        }
        let word = format::decision(decision);
        Ok(format!("{step_key} is {word}: {call}\n{}", resumed(&session, clock::System.wall_ms())))
    }

    async fn send(&self, decision: ApprovalDecision) -> Result<Decided, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session = self.target.find(&engine).await?.session;
        let wait = self.wanted(&session)?;
        let call = call(&engine, &session.session_id, wait).await?;
        let by = v1::session_ref::By::SessionId(session.session_id.clone());
        let comment = self.comment.as_ref().map(|text| serde_json::Value::from(text.as_str()).to_string());
        let request = v1::DecideApprovalRequest {
            session: Some(v1::SessionRef { by: Some(by) }),
            step_key: wait.step_key.clone(),
            decision: decision.into(),
            comment: comment.map(|json| json_input::payload(v1::PayloadFormat::Json, json.into_bytes())),
            args_digest: wait.args_digest.clone(),
            dedupe_id: retry::dedupe_id(),
            on_behalf_of: self.on_behalf_of.clone(),
        };
        let answer = retry::safely(|| {
            let (mut sessions, request) = (engine.sessions(), request.clone());
            async move { sessions.decide_approval(request).await }
        })
        .await?;
        let after = answer.session.ok_or_else(|| Failure::other("the engine's answer holds no session"))?;
        let call = call.as_ref().map_or_else(String::new, payload::preview);
        Ok(Decided { step_key: wait.step_key.clone(), call, session: after })
    }

    /// The approval that is meant.
    fn wanted<'a>(&self, session: &'a v1::Session) -> Result<&'a v1::Wait, Failure> {
        let known: Vec<&v1::Wait> = open(session).collect();
        let meant = match (&self.step, &known[..]) {
            (Some(step), _) => known.iter().find(|wait| wait.step_key == *step).copied(),
            (None, [only]) => Some(*only),
            (None, _) => None,
        };
        let names: Vec<&str> = known.iter().map(|wait| wait.step_key.as_str()).collect();
        meant.ok_or_else(|| match (&self.step, names.is_empty()) {
            (_, true) => Failure::other("the session waits for no approval: `cellaflow approvals list`"),
            (Some(step), false) => Failure::usage(format!(
                "the session does not wait for an approval {step}; name one of: {}",
                names.join(", ")
            )),
            (None, false) => Failure::usage(format!(
                "the session waits for several approvals; name one of: {}",
                names.join(", ")
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        decide: Decide,
    }

    fn waits(keys: &[&str]) -> v1::Session {
        let approval = |key: &&str| v1::Wait {
            step_key: (*key).to_owned(),
            kind: v1::WaitKind::Approval.into(),
            ..v1::Wait::default()
        };
        v1::Session { waits: keys.iter().map(approval).collect(), ..v1::Session::default() }
    }

    #[test]
    fn the_only_approval_needs_no_name_and_several_do() {
        let unnamed = Line::parse_from(["approve", "334455"]).decide;
        assert_eq!(unnamed.wanted(&waits(&["pay#1"])).unwrap().step_key, "pay#1");
        let several = unnamed.wanted(&waits(&["pay#1", "mail#1"])).unwrap_err();
        assert!(several.message.contains("pay#1, mail#1"), "{}", several.message);
        let named = Line::parse_from(["approve", "334455", "mail#1"]).decide;
        assert_eq!(named.wanted(&waits(&["pay#1", "mail#1"])).unwrap().step_key, "mail#1");
        assert!(named.wanted(&waits(&["pay#1"])).unwrap_err().message.contains("pay#1"));
        assert!(named.wanted(&waits(&[])).unwrap_err().message.contains("no approval"));
    }
}
