//! `cellaflow sessions accept`: what the code asked for stands in place of what was recorded.

use cellaflow_proto::v1;
use clap::Args;

use super::divergence::{self, Divergence, Repair};
use super::resumed;
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{json, lookup, retry};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions show 334455              both sides
  cellaflow sessions accept 334455
  cellaflow sessions accept 334455 --json | jq .status

For a session that is paused because its code asked for something else than the ledger has. Where it
asked with another input, the recorded outcome stands for that input from now on; where it did not
ask for steps that are recorded, they need not be asked for. The session goes on. What cannot be
accepted is said so; fork the session before it instead (`cellaflow sessions fork --from SEQ`).
With --json: the session as it is now, with the field names of cellaflow.v1.Session.";

#[derive(Args)]
pub(in crate::cli) struct Accept {
    #[command(flatten)]
    target: Target,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Accept {
    pub(super) fn run(self) -> Result<String, Failure> {
        let (diverged, session) = client::block_on(self.send())?;
        if self.json {
            return Ok(output::json(&json::of(&session)));
        }
        Ok(format!("{}\naccepted; {}", diverged.sides(), resumed(&session, clock::System.wall_ms())))
    }

    async fn send(&self) -> Result<(Divergence, v1::Session), Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session = self.target.find(&engine).await?.session;
        let id = session.session_id.clone();
        let diverged = divergence::read(&engine, &session).await?.ok_or_else(|| {
            Failure::other(format!(
                "session {id} is not paused for a nondeterminism: look at it with `cellaflow sessions show`"
            ))
        })?;
        let request = request(&diverged, id)?;
        let answer = retry::safely(|| {
            let (mut operator, request) = (engine.operator(), request.clone());
            async move { operator.accept_divergence(request).await }
        })
        .await?;
        let session = answer.session.ok_or_else(|| Failure::other("the engine's answer holds no session"))?;
        Ok((diverged, session))
    }
}

fn request(diverged: &Divergence, session_id: String) -> Result<v1::AcceptDivergenceRequest, Failure> {
    let request = v1::AcceptDivergenceRequest {
        step_key: diverged.step_key.clone(),
        dedupe_id: retry::dedupe_id(),
        ..v1::AcceptDivergenceRequest::default()
    };
    match &diverged.repair {
        Repair::Input(digest) => {
            Ok(v1::AcceptDivergenceRequest { input_digest: digest.clone().into(), session_id, ..request })
        }
        Repair::Drop(also) => {
            Ok(v1::AcceptDivergenceRequest { drop: true, also_drop: also.clone(), session_id, ..request })
        }
        Repair::None => Err(Failure::other(format!(
            "{}\nThis cannot be accepted: fork before it with `cellaflow sessions fork {session_id} --from SEQ`",
            diverged.sides()
        ))),
    }
}
