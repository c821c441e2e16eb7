//! `cellaflow sessions hold`.

use cellaflow_proto::v1;
use clap::Args;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{json, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions hold 334455 --reason 'case 12/26'
  cellaflow sessions hold 334455 --lift --reason 'case closed' --json

A hold concerns the whole lineage: the session, what it was forked from and its forks. While it is
set, the lineage is neither archived, nor erased, nor dropped at the end of its retention. With
--json: the field names of cellaflow.v1.HoldLineageResponse.";

#[derive(Args)]
pub(in crate::cli) struct Hold {
    /// Session: its id, the beginning or end of it (4 letters or more), or WORKFLOW/KEY
    session: String,
    /// Why, for people; journaled
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Lifts the hold
    #[arg(long)]
    lift: bool,
    /// Namespace, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Hold {
    pub(super) fn run(self) -> Result<String, Failure> {
        client::block_on(async {
            let engine = Engine::find(&self.engine).await?;
            let target = Target { session: self.session.clone(), namespace: self.namespace.clone() };
            let session_id = target.find(&engine).await?.session.session_id;
            let request =
                v1::HoldLineageRequest { session_id, held: !self.lift, reason: self.reason.clone() };
            let answer = engine.archive().hold_lineage(request).await;
            let answer = answer.map_err(|status| refusal::failure(&status))?.into_inner();
            if self.json {
                return Ok(output::json(&json::of(&answer)));
            }
            let now = if self.lift { "is under no hold any more" } else { "is under a legal hold" };
            Ok(format!("lineage {} {now}\n", answer.lineage_id))
        })
    }
}
