//! The one table of which role may call which method (A2).
//!
//! A path that is not listed is refused for everyone, whoever adds it to a service. Messages inside streams have a
//! table of their own, by message and arm of its oneof.

use super::{Refusal, Role};
use Role::{Admin, Client, Compactor, Viewer, Worker};

/// The only methods that need no token (A1).
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

const EVERYONE: &[Role] = &[Worker, Client, Compactor, Viewer, Admin];
/// Clients run sessions too: `client.run` executes in process.
const RUNS: &[Role] = &[Worker, Client, Admin];
const REPAIRS: &[Role] = &[Client, Admin];
const AUDITS: &[Role] = &[Compactor, Admin];
const ADMINS: &[Role] = &[Admin];

/// Method path and the roles that may call it.
const METHODS: &[(&str, &[Role])] = &[
    ("/cellaflow.v1.EngineService/StartSession", RUNS),
    ("/cellaflow.v1.EngineService/CommitStep", RUNS),
    // Can take the lease; who only reads uses SubscribeSession.
    ("/cellaflow.v1.EngineService/ReplayRecovery", RUNS),
    ("/cellaflow.v1.WorkerService/Channel", RUNS),
    ("/cellaflow.v1.WorkerService/Heartbeat", RUNS),
    ("/cellaflow.v1.SessionService/GetSession", EVERYONE),
    ("/cellaflow.v1.SessionService/AwaitSession", EVERYONE),
    ("/cellaflow.v1.SessionService/ListSessions", EVERYONE),
    ("/cellaflow.v1.SessionService/SubscribeSession", EVERYONE),
    ("/cellaflow.v1.SessionService/SetLabels", RUNS),
    ("/cellaflow.v1.SessionService/SignalSession", RUNS),
    ("/cellaflow.v1.SessionService/DecideApproval", REPAIRS),
    ("/cellaflow.v1.SessionService/ForkSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/AcceptDivergence", REPAIRS),
    ("/cellaflow.v1.SessionService/GetBudget", EVERYONE),
    ("/cellaflow.v1.OperatorService/RaiseBudget", REPAIRS),
    ("/cellaflow.v1.OperatorService/ResumeSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/PauseSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/RetrySession", REPAIRS),
    ("/cellaflow.v1.OperatorService/CancelSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/TerminateSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/BatchSessions", REPAIRS),
    ("/cellaflow.v1.OperatorService/ResolveStep", REPAIRS),
    ("/cellaflow.v1.OperatorService/VerifyLedger", AUDITS),
    ("/cellaflow.v1.OperatorService/CreateToken", ADMINS),
    ("/cellaflow.v1.OperatorService/ListTokens", ADMINS),
    ("/cellaflow.v1.OperatorService/RevokeToken", ADMINS),
    ("/cellaflow.v1.OperatorService/ReleaseSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/BackupLedger", ADMINS),
    ("/cellaflow.v1.OperatorService/ListWorkflows", EVERYONE),
    ("/cellaflow.v1.OperatorService/DrainWorkflow", REPAIRS),
    ("/cellaflow.v1.OperatorService/GetStatus", EVERYONE),
    ("/cellaflow.v1.ArchiveService/ListCold", AUDITS),
    ("/cellaflow.v1.ArchiveService/ClaimLineages", AUDITS),
    ("/cellaflow.v1.ArchiveService/DropClaim", AUDITS),
    ("/cellaflow.v1.ArchiveService/ReadLineage", AUDITS),
    ("/cellaflow.v1.ArchiveService/CommitArchive", AUDITS),
    ("/cellaflow.v1.ArchiveService/ListUnpublished", AUDITS),
    ("/cellaflow.v1.ArchiveService/MarkPublished", AUDITS),
    ("/cellaflow.v1.ArchiveService/GetArchived", AUDITS),
    ("/cellaflow.v1.ArchiveService/RestorePage", AUDITS),
    ("/cellaflow.v1.ArchiveService/FinishRestore", AUDITS),
    ("/cellaflow.v1.ArchiveService/ListGoing", AUDITS),
    ("/cellaflow.v1.ArchiveService/CommitRewrite", AUDITS),
    ("/cellaflow.v1.ArchiveService/EraseLineage", ADMINS),
    ("/cellaflow.v1.ArchiveService/HoldLineage", ADMINS),
    ("/cellaflow.v1.ContextService/GetContext", EVERYONE),
    ("/cellaflow.v1.ContextService/ListContexts", EVERYONE),
    ("/cellaflow.v1.ContextService/LoadContext", AUDITS),
    ("/cellaflow.v1.ContextService/PutContext", AUDITS),
    ("/cellaflow.v1.ContextService/ListStale", AUDITS),
    ("/cellaflow.v1.ContextService/AwaitStale", AUDITS),
    ("/cellaflow.v1.ArchiveService/ImportSession", AUDITS),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", EVERYONE),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", EVERYONE),
];

/// A worker's message on its channel.
pub const WORKER_MESSAGE: &str = "cellaflow.v1.WorkerMessage";

/// What an append on a worker's channel appends.
pub const APPEND: &str = "cellaflow.v1.Append";

/// Full message name and arm of its oneof, and the roles that may send it.
const ARMS: &[(&str, &str, &[Role])] = &[
    (WORKER_MESSAGE, "hello", RUNS),
    (WORKER_MESSAGE, "start", RUNS),
    (WORKER_MESSAGE, "attach", RUNS),
    (WORKER_MESSAGE, "append", RUNS),
    (WORKER_MESSAGE, "release", RUNS),
    (WORKER_MESSAGE, "piece", RUNS),
    (WORKER_MESSAGE, "credit", RUNS),
    (WORKER_MESSAGE, "capacity", RUNS),
    (WORKER_MESSAGE, "goodbye", RUNS),
    (APPEND, "step_completed", RUNS),
    (APPEND, "step_failed", RUNS),
    (APPEND, "step_heartbeat", RUNS),
    (APPEND, "guard_intent", RUNS),
    (APPEND, "guard_unknown", RUNS),
    (APPEND, "guard_reconciliation", RUNS),
    (APPEND, "zone_entered", RUNS),
    (APPEND, "zone_committed", RUNS),
    (APPEND, "zone_failed", RUNS),
    (APPEND, "zone_rolled_back", RUNS),
    (APPEND, "zone_evidence", RUNS),
    (APPEND, "session_completed", RUNS),
    (APPEND, "session_failed", RUNS),
    (APPEND, "session_paused", RUNS),
    (APPEND, "timer_started", RUNS),
    (APPEND, "signal_awaited", RUNS),
    (APPEND, "approval_requested", RUNS),
    (APPEND, "wait_dropped", RUNS),
    (APPEND, "child_spawned", RUNS),
    (APPEND, "child_cancel_requested", RUNS),
    (APPEND, "session_continued", RUNS),
    (APPEND, "session_cancelled", RUNS),
    (APPEND, "budget_reserved", RUNS),
    (APPEND, "budget_released", RUNS),
];

/// Oneofs inside streamed messages that only choose the shape of a value, not what is done.
#[cfg(test)]
const VALUES: [(&str, &str); 2] =
    [("cellaflow.v1.Payload", "body"), ("cellaflow.v1.GuardReconciliation", "finding")];

/// Says whether `path` needs no token.
pub fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// Checks a call of `path` by `role`.
///
/// # Errors
/// [`Refusal::Unlisted`] or [`Refusal::Role`].
pub fn may_call(role: Role, path: &str) -> Result<(), Refusal> {
    let listed = METHODS.iter().find(|(method, _)| *method == path).map(|(_, roles)| *roles);
    judge(role, listed, || format!("method {path}"))
}

/// Checks a message inside a stream: the arm `arm` of the oneof in `message`, a full protobuf name.
///
/// # Errors
/// [`Refusal::Unlisted`] or [`Refusal::Role`].
pub fn may_send(role: Role, message: &str, arm: &str) -> Result<(), Refusal> {
    let listed = ARMS.iter().find(|(m, a, _)| *m == message && *a == arm).map(|(_, _, roles)| *roles);
    judge(role, listed, || format!("message {message}.{arm}"))
}

fn judge(role: Role, listed: Option<&'static [Role]>, what: impl Fn() -> String) -> Result<(), Refusal> {
    match listed {
        Some(roles) if roles.contains(&role) => Ok(()),
        Some(needed) => Err(Refusal::Role { role, needed, what: what() }),
        None => Err(Refusal::Unlisted { what: what() }),
    }
}

/// Returns every listed method path, open ones included.
pub fn listed_methods() -> impl Iterator<Item = &'static str> {
    OPEN.into_iter().chain(METHODS.iter().map(|(path, _)| *path))
}

/// Returns every listed arm as (message, arm).
pub fn listed_arms() -> impl Iterator<Item = (&'static str, &'static str)> {
    ARMS.iter().map(|(message, arm, _)| (*message, *arm))
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
