//! `cellaflow workflows drain` and `undrain`.

use cellaflow_proto::v1;
use clap::Args;

use super::list;
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::{json, lookup, retry, table};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow workflows drain audit@1.0.0      new sessions of it are refused (version_draining)
  cellaflow workflows undrain audit@1.0.0

Sessions that are there run to their end, their children and successors included; `cellaflow
workflows` shows when the version is drained. With --json: the field names of
cellaflow.v1.WorkflowVersion.";

#[derive(Args)]
pub(in crate::cli) struct Drain {
    /// Workflow and version
    #[arg(value_name = "NAME@VERSION")]
    kind: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Drain {
    pub(super) fn run(self, draining: bool) -> Result<String, Failure> {
        let Some((workflow, version)) = self.kind.rsplit_once('@') else {
            return Err(Failure::usage("name workflow and version, for example audit@1.0.0"));
        };
        let request = v1::DrainWorkflowRequest {
            workflow: workflow.to_owned(),
            version: version.to_owned(),
            draining,
            namespace: String::new(),
            dedupe_id: retry::dedupe_id(),
        };
        let drained = client::block_on(self.send(request))?;
        if drained.first_seen_ms == 0 && drained.sessions.is_empty() && draining {
            output::complain(&"no worker has served this version and no session runs on it: check the name");
        }
        if self.json {
            return Ok(output::json(&json::of(&drained)));
        }
        Ok(list::page(&[drained], clock::System.wall_ms(), table::columns()))
    }

    async fn send(&self, request: v1::DrainWorkflowRequest) -> Result<v1::WorkflowVersion, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let answer = retry::safely(|| {
            let (mut operator, request) = (engine.operator(), request.clone());
            async move { operator.drain_workflow(request).await }
        })
        .await?;
        answer.version.ok_or_else(|| Failure::other("the engine's answer holds no version"))
    }
}
