//! `cellaflow sessions erase`.

use std::io::IsTerminal as _;

use cellaflow_proto::v1;
use clap::Args;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{json, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions erase 334455 --reason 'request of 23 November'
  cellaflow sessions erase support-desk/ticket-7 --reason 'GDPR 17' --yes --json

Erases the whole lineage: the session, what it was forked from and its forks; all must have ended.
From then on nobody reads, forks or restores them, and their keys are free. Payloads go from the
ledger and from every file of the archive with the compactor's next run (`cellaflow-compactor run`);
headers stay, so that chains still verify. Children are lineages of their own. What is under a legal
hold is refused. With --json: the field names of cellaflow.v1.EraseLineageResponse.";

#[derive(Args)]
pub(in crate::cli) struct Erase {
    /// Session: its id, the beginning or end of it (4 letters or more), or WORKFLOW/KEY
    session: String,
    /// Why, for people; journaled
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Erases without asking
    #[arg(long)]
    yes: bool,
    /// Namespace, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Prints JSON; needs --yes
    #[arg(long, requires = "yes")]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Erase {
    pub(super) fn run(self) -> Result<String, Failure> {
        client::block_on(async {
            let engine = Engine::find(&self.engine).await?;
            let target = Target { session: self.session.clone(), namespace: self.namespace.clone() };
            let session = target.find(&engine).await?.session;
            if !self.yes {
                confirm(&session)?;
            }
            let request =
                v1::EraseLineageRequest { session_id: session.session_id, reason: self.reason.clone() };
            let answer = engine.archive().erase_lineage(request).await;
            let answer = answer.map_err(|status| refusal::failure(&status))?.into_inner();
            if self.json {
                return Ok(output::json(&json::of(&answer)));
            }
            let rest = match answer.erasing {
                true => "their payloads go with the compactor's next run",
                false => "their payloads are gone",
            };
            Ok(format!("erased lineage {} with {} sessions: {rest}\n", answer.lineage_id, answer.sessions))
        })
    }
}

/// Lets a person type the end of the id: a mere `y` is typed too easily.
fn confirm(session: &v1::Session) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("nothing was changed: without a terminal, say --yes to erase"));
    }
    let id = &session.session_id;
    let end = id.rsplit('-').next().unwrap_or(id);
    let question =
        format!("{} {id} and its whole lineage go for good. Type {end} to erase them: ", session.workflow);
    if output::ask(&question).is_some_and(|typed| typed == end) {
        return Ok(());
    }
    Err(Failure::other("nothing was changed"))
}
