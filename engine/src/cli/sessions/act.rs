//! `cellaflow sessions pause|resume|retry|cancel|terminate`: one session by name, or all that a filter selects.
//!
//! 1. A batch needs a condition; `--dry-run` shows what it would be done to and changes nothing.
//! 2. What became of each session is printed as it becomes known. If one refused, the exit code is 1.

use cellaflow_proto::v1;
use cellaflow_proto::v1::batch_sessions_response::Body;
use clap::Args;
use serde_json::json;

use super::list::{self, State};
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{format, json, lookup, refusal, retry};
use crate::clock::{self, Clock as _};

pub(super) const PAUSE: &str = "Examples:
  cellaflow sessions pause 334455 --reason 'bank holiday'
  cellaflow sessions pause --workflow audit --dry-run    what it would pause
  cellaflow sessions pause --workflow audit

Steps that have begun may commit; nothing new begins until `cellaflow sessions resume`. With --json:
one session as it is then (cellaflow.v1.Session), or for a filter one line per session and a last
one with the sums.";
pub(super) const RETRY: &str = "Examples:
  cellaflow sessions retry 334455
  cellaflow sessions retry --workflow audit --paused-for retries-exhausted

Resumes a paused session and gives its failed steps a fresh round of attempts. With --json: as
`sessions pause`.";
pub(super) const CANCEL: &str = "Examples:
  cellaflow sessions cancel 334455 --reason 'not needed any more'
  cellaflow sessions cancel --workflow audit --of-version 1.2.0 --dry-run

Its children end first, then its cleanup runs, then it ends; a session that never ran ends at once.
If nothing runs it, nothing cleans up: see `sessions terminate`. With --json: as `sessions pause`.";
pub(super) const TERMINATE: &str = "Examples:
  cellaflow sessions terminate 334455 --reason 'runs away'
  cellaflow sessions terminate --label customer=42 --dry-run

Ends it and its children at once; no cleanup runs, and what became of guarded steps that were in
flight nobody will say. With --json: as `sessions pause`.";

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Pause,
    Resume,
    Retry,
    Cancel,
    Terminate,
}

#[derive(Args)]
pub(in crate::cli) struct Act {
    /// Session: its id, the end of one, or workflow/key; leave it out to select by a filter
    #[arg(value_name = "SESSION", conflicts_with_all = ["workflow", "of_version", "status", "label", "within", "paused_for", "dry_run"])]
    session: Option<String>,
    /// Only sessions of this workflow
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    workflow: String,
    /// Only sessions of this version of their workflow
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    of_version: String,
    /// Only sessions in this state; may be given several times
    #[arg(long, value_enum)]
    status: Vec<State>,
    /// Only sessions that have this label; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = list::label)]
    label: Vec<(String, String)>,
    /// Only sessions started within this time, for example 90m, 12h or 7d
    #[arg(long, value_name = "TIME", value_parser = format::parse_duration_ms)]
    within: Option<u64>,
    /// Only sessions that are paused for this reason
    #[arg(long, value_enum, value_name = "REASON")]
    paused_for: Option<PausedFor>,
    /// Shows which sessions a filter selects, and does nothing
    #[arg(long)]
    dry_run: bool,
    /// Why; kept in the session's events
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Namespace, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// Why a session is paused, by which a filter narrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PausedFor {
    Requested,
    EffectUnknown,
    Nondeterminism,
    RetriesExhausted,
    Budget,
}

impl PausedFor {
    const fn on_the_wire(self) -> v1::PauseReason {
        match self {
            Self::Requested => v1::PauseReason::Requested,
            Self::EffectUnknown => v1::PauseReason::EffectUnknown,
            Self::Nondeterminism => v1::PauseReason::Nondeterminism,
            Self::RetriesExhausted => v1::PauseReason::RetriesExhausted,
            Self::Budget => v1::PauseReason::Budget,
        }
    }
}

impl Act {
    pub(super) fn run(self, action: Action) -> Result<String, Failure> {
        match &self.session {
            Some(session) => {
                let session = client::block_on(self.one(action, session))?;
                if self.json {
                    return Ok(output::json(&json::of(&session)));
                }
                Ok(super::resumed(&session, clock::System.wall_ms()))
            }
            None => client::block_on(self.batch(action)),
        }
    }

    async fn one(&self, action: Action, session: &str) -> Result<v1::Session, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let target = Target { session: session.to_owned(), namespace: self.namespace.clone() };
        let session_id = target.find(&engine).await?.session.session_id;
        let asked = Asked { session_id, reason: self.reason.clone(), dedupe_id: retry::dedupe_id() };
        let session = retry::safely(|| asked.clone().send(engine.operator(), action)).await?;
        session.ok_or_else(|| Failure::other("the engine's answer holds no session"))
    }

    async fn batch(&self, action: Action) -> Result<String, Failure> {
        let filter = self.filter();
        let unfiltered =
            v1::SessionFilter { namespace: filter.namespace.clone(), ..v1::SessionFilter::default() };
        if filter == unfiltered {
            return Err(Failure::usage("name a session, or a filter: --workflow, --status, --label, …")); // 1
        }
        let request = v1::BatchSessionsRequest {
            action: action.on_the_wire().into(),
            filter: Some(filter),
            reason: self.reason.clone(),
            dry_run: self.dry_run,
        };
        let engine = Engine::find(&self.engine).await?;
        let failure = |status| refusal::failure(&status);
        let mut stream = engine.operator().batch_sessions(request).await.map_err(failure)?.into_inner();
        while let Some(message) = stream.message().await.map_err(failure)? {
            match message.body {
                Some(Body::Result(result)) => output::print_part(&self.line(action, &result))?, // 2
                Some(Body::Summary(summary)) => return self.sum(action, &summary),
                None => {}
            }
        }
        Err(Failure::unavailable("the batch was cut off before its end: run it again, nothing is done twice"))
    }

    fn filter(&self) -> v1::SessionFilter {
        let now_ms = clock::System.wall_ms();
        v1::SessionFilter {
            namespace: self.namespace.clone(),
            statuses: self.status.iter().map(|state| state.on_the_wire().into()).collect(),
            workflow: self.workflow.clone(),
            version: self.of_version.clone(),
            labels: self.label.iter().cloned().collect(),
            started_after_ms: self.within.map_or(0, |ms| now_ms.saturating_sub(ms)),
            pause_reason: self.paused_for.map_or(0, |reason| reason.on_the_wire().into()),
            ..v1::SessionFilter::default()
        }
    }

    fn line(&self, action: Action, result: &v1::BatchResult) -> String {
        let session = result.session.clone().unwrap_or_default();
        let v1::Session { session_id, workflow, version, .. } = &session;
        let status = format::status(session.status());
        let v1::BatchResult { code, message, .. } = result;
        if self.json {
            let line =
                json!({ "session_id": session_id, "status": status, "code": code, "message": message });
            return format!("{line}\n");
        }
        let what = match (code.is_empty(), self.dry_run) {
            (true, true) => format!("would be {}, is {status}", action.done()),
            (true, false) => format!("{}, is {status}", action.done()),
            (false, _) => format!("{code}: {message}"),
        };
        format!("{session_id}  {}@{}  {what}\n", output::printable(workflow), output::printable(version))
    }

    fn sum(&self, action: Action, summary: &v1::BatchSummary) -> Result<String, Failure> {
        let v1::BatchSummary { matched, done, refused } = *summary;
        let would = if self.dry_run { " would be" } else { "" };
        let sum = match self.json {
            true => {
                let sums = json!({ "matched": matched, "done": done, "refused": refused });
                format!("{}\n", json!({ "summary": sums }))
            }
            false => {
                let of = format::counted(matched, "session");
                format!("{done} of {of}{would} {}\n", action.done())
            }
        };
        if refused == 0 {
            return Ok(sum);
        }
        output::print_part(&sum)?;
        Err(Failure::other(format!("{} refused, see above", format::counted(refused, "session"))))
    }
}

/// A request on one session.
#[derive(Clone)]
struct Asked {
    session_id: String,
    reason: String,
    dedupe_id: bytes::Bytes,
}

impl Asked {
    async fn send(
        self,
        mut operator: client::Operator,
        action: Action,
    ) -> Result<tonic::Response<Option<v1::Session>>, tonic::Status> {
        let Self { session_id, reason, dedupe_id } = self;
        match action {
            Action::Pause => {
                let request = v1::PauseSessionRequest { session_id, reason, dedupe_id };
                Ok(operator.pause_session(request).await?.map(|answer| answer.session))
            }
            Action::Resume => {
                let request = v1::ResumeSessionRequest { session_id, dedupe_id };
                Ok(operator.resume_session(request).await?.map(|answer| answer.session))
            }
            Action::Retry => {
                let request = v1::RetrySessionRequest { session_id, reason, dedupe_id };
                Ok(operator.retry_session(request).await?.map(|answer| answer.session))
            }
            Action::Cancel => {
                let request = v1::CancelSessionRequest { session_id, reason, dedupe_id };
                Ok(operator.cancel_session(request).await?.map(|answer| answer.session))
            }
            Action::Terminate => {
                let request = v1::TerminateSessionRequest { session_id, reason, dedupe_id };
                Ok(operator.terminate_session(request).await?.map(|answer| answer.session))
            }
        }
    }
}

impl Action {
    const fn on_the_wire(self) -> v1::SessionAction {
        match self {
            Self::Pause => v1::SessionAction::Pause,
            Self::Resume => v1::SessionAction::Resume,
            Self::Retry => v1::SessionAction::Retry,
            Self::Cancel => v1::SessionAction::Cancel,
            Self::Terminate => v1::SessionAction::Terminate,
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Retry => "retried",
            Self::Cancel => "asked to cancel",
            Self::Terminate => "terminated",
        }
    }
}
