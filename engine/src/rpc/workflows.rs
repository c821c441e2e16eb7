//! Versions of workflows: what runs on each, what waits and why, and draining them.
//!
//! 1. Sessions that have ended are not counted: what a version is still needed for is what has not.
//! 2. A version is drained when it is draining and no session that has not ended is pinned to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cellaflow_proto::v1;

use super::auth::Principal;
use super::context::{Context, not_found};
use super::{convert, journal, status};
use crate::graph::command::{Command, DrainWorkflow};
use crate::graph::event::WorkflowDrained;
use crate::graph::ids::{Namespace, SessionId};
use crate::graph::session::{Head, Status, WaitKind};
use crate::graph::version::{self, WorkflowRow};
use crate::ledger::{Origin, ReadError, Refused, Submission};

/// Reasons shown of one version; the most frequent ones.
const REASONS_MAX: usize = 20;
/// Sessions named of one reason.
const NAMED_MAX: usize = 5;

/// Lists the versions of a namespace's workflows.
///
/// # Errors
/// `permission_denied` for another namespace.
pub async fn list(
    context: &Context,
    caller: &Principal,
    request: v1::ListWorkflowsRequest,
) -> Result<v1::ListWorkflowsResponse, Refused> {
    let namespace = named(caller, &request.namespace)?;
    let context = context.clone();
    let versions =
        journal::blocking(move || versions(&context, &namespace)).await.map_err(Refused::Failed)?;
    let wanted = |one: &v1::WorkflowVersion| request.workflow.is_empty() || one.workflow == request.workflow;
    Ok(v1::ListWorkflowsResponse { versions: versions.into_iter().filter(wanted).collect() })
}

/// Drains a version, or undoes it, and says how it is then.
///
/// # Errors
/// `permission_denied` for another namespace, `invalid_argument`.
pub async fn drain(
    context: &Context,
    caller: &Principal,
    request: v1::DrainWorkflowRequest,
) -> Result<v1::WorkflowVersion, Refused> {
    let namespace = named(caller, &request.namespace)?;
    let drained = WorkflowDrained {
        workflow: convert::workflow(request.workflow).map_err(Refused::Rejected)?,
        version: convert::version(request.version).map_err(Refused::Rejected)?,
        draining: request.draining,
        by: Arc::clone(&caller.name),
    };
    let dedupe = convert::dedupe_id(&request.dedupe_id).map_err(Refused::Rejected)?;
    let info = context.ledger.namespace(&namespace).await?;
    let (workflow, version) = (drained.workflow.to_string(), drained.version.to_string());
    let session = info.system;
    let command =
        Command::DrainWorkflow(DrainWorkflow { session, namespace: namespace.clone(), drained, dedupe });
    submit(context, session, command).await?;
    let context = context.clone();
    let all = journal::blocking(move || versions(&context, &namespace)).await.map_err(Refused::Failed)?;
    let same = |one: &v1::WorkflowVersion| one.workflow == workflow && one.version == version;
    let found = all.into_iter().find(same);
    Ok(found.unwrap_or(v1::WorkflowVersion {
        workflow: workflow.clone(),
        version: version.clone(),
        ..Default::default()
    }))
}

/// The newest version of a workflow that takes new sessions; empty: none does.
///
/// # Errors
/// As the ledger's reads.
pub fn newest(context: &Context, namespace: &str, workflow: &str) -> Result<Arc<str>, ReadError> {
    let mut rows = context.ledger.reader().workflows(namespace)?;
    rows.retain(|row| &*row.workflow == workflow);
    Ok(version::newest(&rows).map_or_else(|| "".into(), |row| Arc::clone(&row.version)))
}

/// Has a command of a namespace's system session carried out.
///
/// # Errors
/// As every command.
pub async fn submit(context: &Context, session: SessionId, command: Command) -> Result<(), Refused> {
    let place = context.ledger.lineage(session).map_err(Refused::Failed)?.ok_or_else(not_found)?;
    let blobs = context.ledger.blobs(&place.salt);
    let submission =
        Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() };
    context.ledger.submit(submission).await.map(drop)
}

fn named(caller: &Principal, namespace: &str) -> Result<Namespace, Refused> {
    caller.namespace_for(namespace).map_err(|refusal| Refused::Rejected(status::denied(&refusal)))
}

/// What is counted of a version.
#[derive(Default)]
struct Counted {
    shown: v1::WorkflowVersion,
    sessions: BTreeMap<i32, u64>,
    reasons: BTreeMap<String, Waiting>,
    /// Sessions that need a worker, now or when what they wait for comes.
    unfinished: u64,
}

#[derive(Default)]
struct Waiting {
    count: u64,
    named: Vec<String>,
}

fn versions(context: &Context, namespace: &str) -> Result<Vec<v1::WorkflowVersion>, ReadError> {
    let reader = context.ledger.reader();
    let mut versions: BTreeMap<(String, String), Counted> = BTreeMap::new();
    for row in reader.workflows(namespace)? {
        versions.entry((row.workflow.to_string(), row.version.to_string())).or_default().shown = shown(&row);
    }
    for session in reader.live()? {
        let seen = |head: &Arc<Head>| &*head.namespace == namespace && !head.system;
        let Some(head) = reader.head(session)?.filter(seen) else { continue };
        let counted = versions.entry((head.workflow.to_string(), head.version.to_string())).or_default();
        *counted.sessions.entry(convert::status_to_wire(&head.status).into()).or_default() += 1;
        if let Some(reason) = reason(context, &head) {
            counted.reasons.entry(reason).or_default().note(session);
        }
        counted.unfinished += 1;
    }
    let now = context.clock.wall_ms();
    let workers = context.fleet.workers(&|theirs| theirs == namespace);
    let finish = |((workflow, version), counted): ((String, String), Counted)| {
        let kind = format!("{workflow}@{version}");
        let serving = workers.iter().filter(|worker| worker.workflows.contains(&kind));
        let workers = serving.map(|worker| worker.instance.clone()).collect();
        counted.finish(workflow, version, workers, now)
    };
    Ok(versions.into_iter().map(finish).collect())
}

impl Waiting {
    fn note(&mut self, session: SessionId) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(session.to_string());
        }
    }
}

impl Counted {
    fn finish(
        self,
        workflow: String,
        version: String,
        workers: Vec<String>,
        now: u64,
    ) -> v1::WorkflowVersion {
        let shown = |(reason, waiting): (String, Waiting)| v1::WaitReason {
            reason,
            count: waiting.count,
            session_ids: waiting.named,
        };
        let mut waiting: Vec<_> = self.reasons.into_iter().map(shown).collect();
        waiting.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        waiting.truncate(REASONS_MAX);
        let drained = self.shown.draining_since_ms > 0 && self.sessions.is_empty(); // 2
        let sessions = self.sessions.into_iter().map(|(status, count)| v1::StatusCount { status, count });
        let sessions = sessions.collect();
        let needs = match (self.unfinished, workers.is_empty()) {
            (1.., true) => format!(
                "a worker that serves {workflow}@{version}, or whose code says compatible: [\"{version}\"]"
            ),
            _ => String::new(),
        };
        let last_seen_ms = if workers.is_empty() { self.shown.last_seen_ms } else { now };
        let own = v1::WorkflowVersion { workflow, version, sessions, waiting, workers, ..self.shown };
        v1::WorkflowVersion { drained, needs, last_seen_ms, ..own }
    }
}

fn shown(row: &WorkflowRow) -> v1::WorkflowVersion {
    v1::WorkflowVersion {
        compatible: row.compatible.iter().map(ToString::to_string).collect(),
        first_seen_ms: row.first_seen.map_or(0, |at| at.0),
        last_seen_ms: row.last_seen.map_or(0, |at| at.0),
        draining_since_ms: row.draining.as_ref().map_or(0, |(since, _)| since.0),
        draining_by: row.draining.as_ref().map(|(_, by)| by.to_string()).unwrap_or_default(),
        ..v1::WorkflowVersion::default()
    }
}

/// Why a session does not go on; `None`: it does.
fn reason(context: &Context, head: &Head) -> Option<String> {
    if head.is_held(context.ledger.identity().incarnation) {
        return Some("held since a restore; `cellaflow sessions release`".to_owned());
    }
    match &head.status {
        Status::Paused { .. } => Some(paused(head)),
        Status::Waiting => Some(format!("waits for {}", waits(head))),
        Status::Pending | Status::Running => {
            let why = context.fleet.waiting_for(head);
            (!why.is_empty()).then(|| format!("waits for {why}"))
        }
        Status::Completed | Status::Failed | Status::Cancelled => None,
    }
}

fn paused(head: &Head) -> String {
    let name = convert::pause_reason(&head.status).as_str_name();
    let name = name.trim_start_matches("PAUSE_REASON_").to_lowercase().replace('_', " ");
    format!("paused ({name}); `cellaflow sessions show` says what to do")
}

fn waits(head: &Head) -> String {
    let mut kinds: Vec<&str> = head
        .waits
        .iter()
        .map(|wait| match wait.kind {
            WaitKind::Timer => "a timer",
            WaitKind::Signal => "a signal",
            WaitKind::Approval { .. } => "an approval",
            WaitKind::Child { .. } => "a child",
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.join(" or ")
}
