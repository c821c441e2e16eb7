//! `cellaflow sessions budget show`.

use cellaflow_proto::v1;
use clap::Args;

use super::lines;
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{json, lookup, retry};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions budget show audit/report-7
  cellaflow sessions budget show 334455 --json | jq '.[0].spent'

With --json: the budgets, nearest first, with the field names of cellaflow.v1.BudgetState.";

#[derive(Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    target: Target,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Show {
    pub(super) fn run(self) -> Result<String, Failure> {
        let budgets = client::block_on(self.budgets())?;
        if self.json {
            let budgets = budgets.iter().map(json::of).collect();
            return Ok(output::json(&serde_json::Value::Array(budgets)));
        }
        if budgets.is_empty() {
            return Ok("the session is under no budget\n".to_owned());
        }
        Ok(budgets.iter().map(lines).collect())
    }

    async fn budgets(&self) -> Result<Vec<v1::BudgetState>, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session_id = self.target.find(&engine).await?.session.session_id;
        let by = Some(v1::session_ref::By::SessionId(session_id));
        let request = v1::GetBudgetRequest { session: Some(v1::SessionRef { by }) };
        let answer = retry::safely(|| {
            let (mut sessions, request) = (engine.sessions(), request.clone());
            async move { sessions.get_budget(request).await }
        })
        .await?;
        Ok(answer.budgets)
    }
}
