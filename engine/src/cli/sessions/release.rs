//! `cellaflow sessions release`: lets sessions go on after a restore.

use cellaflow_proto::v1;
use clap::Args;
use serde_json::json;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{json, lookup, refusal, retry};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions list --held                     who waits since the restore
  cellaflow sessions release 01a20780-42cc-7d5e-845f-0d3c1c7b6a10
  cellaflow sessions release --all --dry-run
  cellaflow sessions release --all --json

What a session did after the backup was made is not in it: those steps run again, and guarded ones
among them may happen a second time. Look at what matters before you release it. With --json of
one session: the Session; of all: {\"matched\", \"released\", \"refused\"}.";

#[derive(Args)]
pub(in crate::cli) struct Release {
    /// Session: its id, the beginning or end of it (4 letters or more), or WORKFLOW/KEY
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    session: Option<String>,
    /// Every session that waits since the restore
    #[arg(long)]
    all: bool,
    /// With --all: changes nothing and counts them
    #[arg(long, requires = "all")]
    dry_run: bool,
    /// Namespace, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Release {
    pub(super) fn run(self) -> Result<String, Failure> {
        client::block_on(async {
            let engine = Engine::find(&self.engine).await?;
            match &self.session {
                Some(session) => self.one(&engine, session).await,
                None => self.every(&engine).await,
            }
        })
    }

    async fn one(&self, engine: &Engine, session: &str) -> Result<String, Failure> {
        let target = Target { session: session.to_owned(), namespace: self.namespace.clone() };
        let session_id = target.find(engine).await?.session.session_id;
        let request = v1::ReleaseSessionRequest { session_id, dedupe_id: retry::dedupe_id() };
        let answer = retry::safely(|| {
            let (mut operator, request) = (engine.operator(), request.clone());
            async move { operator.release_session(request).await }
        })
        .await?;
        let session = answer.session.unwrap_or_default();
        Ok(match self.json {
            true => output::json(&json::of(&session)),
            false => format!("{} goes on\n", session.session_id),
        })
    }

    async fn every(&self, engine: &Engine) -> Result<String, Failure> {
        let filter = v1::SessionFilter { namespace: self.namespace.clone(), ..v1::SessionFilter::default() };
        let request = v1::BatchSessionsRequest {
            action: v1::SessionAction::Release.into(),
            filter: Some(filter),
            reason: String::new(),
            dry_run: self.dry_run,
        };
        let answer = engine.operator().batch_sessions(request).await.map_err(|no| refusal::failure(&no))?;
        let mut stream = answer.into_inner();
        while let Some(message) = stream.message().await.map_err(|no| refusal::failure(&no))? {
            if let Some(v1::batch_sessions_response::Body::Summary(sum)) = message.body {
                let v1::BatchSummary { matched, done, refused } = sum;
                return Ok(match self.json {
                    true => {
                        output::json(&json!({ "matched": matched, "released": done, "refused": refused }))
                    }
                    false if self.dry_run => format!("{matched} sessions would go on\n"),
                    false => format!("{done} sessions go on, {refused} were refused\n"),
                });
            }
        }
        Err(Failure::try_again(
            "the engine ended before all were released; run it again: it goes on where it was",
        ))
    }
}
