//! Versioned: which code serves a workflow is journaled, and a version can be drained.
//!
//! Owns what is known of a workflow's versions in a namespace. Never: decides which worker runs a session (a session is
//! pinned to its version, and dispatch knows who serves that).
//!
//! R1. Only a namespace's system session takes these events.
//! R2. Code is registered once an hour at most: the same version with the same compatibility again appends nothing before.
//!     A worker that leaves says only that it was there, never what its code is compatible with: a newer one may have said.
//! R3. A version that is drained starts no session at the top of a tree. What belongs to sessions that are there goes on:
//!     their keys, leases, children, successors and forks.
//! R4. Draining twice, or undoing what was not done, appends nothing.
//! R5. A start that names no version gets the newest one that is served or was, and is not drained; if there is none it is
//!     refused, unless its key names a session that is there.

use std::sync::Arc;

use super::command::{Code, DrainWorkflow, RegisterWorkflow, Rejection, Reply, Start};
use super::decide::{Decision, View, check_length, found, invalid, nothing};
use super::draft::Draft;
use super::end;
use super::event::{Author, Body};
use super::ids::{Namespace, TimeMs};
use super::session::{Head, NAME_BYTES_MAX};

/// Versions that one definition may be compatible with.
pub const COMPATIBLE_MAX: usize = 64;

/// How exactly it is known when a version was last served, in ms (R2).
pub const SEEN_EVERY_MS: u64 = 3_600_000;

/// What is known of a workflow's version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkflowRow {
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: Arc<str>,
    /// Earlier versions whose sessions its code goes on with, as it last said.
    pub compatible: Vec<Arc<str>>,
    /// When a worker first served it; `None`: none has.
    pub first_seen: Option<TimeMs>,
    /// When one was last known to, to [`SEEN_EVERY_MS`].
    pub last_seen: Option<TimeMs>,
    /// Since when it is drained, and by whom.
    pub draining: Option<(TimeMs, Arc<str>)>,
}

/// What changes in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkflowChange {
    Registered {
        compatible: Vec<Arc<str>>,
        at: TimeMs,
    },
    Drained {
        /// `None`: not any more.
        since: Option<TimeMs>,
        by: Arc<str>,
    },
}

impl WorkflowRow {
    /// Nothing is known of it.
    #[must_use]
    pub fn unknown(namespace: Namespace, workflow: Arc<str>, version: Arc<str>) -> Self {
        Self {
            namespace,
            workflow,
            version,
            compatible: Vec::new(),
            first_seen: None,
            last_seen: None,
            draining: None,
        }
    }

    /// The row after a change.
    #[must_use]
    pub fn changed(self, change: WorkflowChange) -> Self {
        match change {
            WorkflowChange::Registered { compatible, at } => {
                Self { compatible, first_seen: self.first_seen.or(Some(at)), last_seen: Some(at), ..self }
            }
            WorkflowChange::Drained { since, by } => {
                Self { draining: since.map(|since| (since, by)), ..self }
            }
        }
    }
}

/// The newest version that takes new sessions (R5): the greatest if all of them read as numbers (1.10.0 is newer than
/// 1.9.0, 2.0.0 than 2.0.0-rc.1), else the one that was first served last.
#[must_use]
pub fn newest(rows: &[WorkflowRow]) -> Option<&WorkflowRow> {
    let open = rows.iter().filter(|row| row.first_seen.is_some() && row.draining.is_none());
    let numbered: Option<Vec<_>> = open.clone().map(|row| Some((number(&row.version)?, row))).collect();
    match numbered {
        Some(numbered) => numbered.into_iter().max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, row)| row),
        None => open.max_by_key(|row| (row.first_seen, &row.version)),
    }
}

/// A version as numbers, then whether it is a final one, then what precedes a final one; `None`: it is no number.
fn number(version: &str) -> Option<(Vec<u64>, bool, &str)> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let (numbers, before) = version.split_once('-').unwrap_or((version, ""));
    let numbers = numbers.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    Some((numbers, before.is_empty(), before))
}

/// A worker brings code, or leaves with it.
pub(super) fn register(
    view: &impl View,
    command: &RegisterWorkflow,
    now: TimeMs,
) -> Result<Decision, Rejection> {
    let code = &command.code;
    let head = system(view, command.session)?;
    check(&code.workflow, &code.version)?;
    if code.compatible.len() > COMPATIBLE_MAX {
        let count = code.compatible.len();
        return Err(invalid(format!(
            "code is compatible with at most {COMPATIBLE_MAX} versions; this names {count}"
        )));
    }
    for version in &code.compatible {
        check_length("compatible version", version, NAME_BYTES_MAX)?;
    }
    let known = view.workflow(&command.namespace, &code.workflow, &code.version);
    let same =
        known.as_ref().is_some_and(|row| row.first_seen.is_some() && row.compatible == code.compatible);
    let seen = known.and_then(|row| row.last_seen);
    let fresh = seen.is_some_and(|seen| now < seen.plus(SEEN_EVERY_MS));
    let said = if command.leaving { fresh || !same } else { fresh && same };
    if said {
        return Ok(nothing(head.session, Reply::Done { entry: None })); // R2
    }
    let mut draft = Draft::after(&head, now);
    let seq = draft.push(Author::Driver, Body::WorkflowRegistered(code.clone()));
    Ok(draft.appended(seq))
}

/// An operator drains a version, or undoes it.
pub(super) fn drain(view: &impl View, command: &DrainWorkflow, now: TimeMs) -> Result<Decision, Rejection> {
    let drained = &command.drained;
    let head = system(view, command.session)?;
    check(&drained.workflow, &drained.version)?;
    if let Some(seq) = end::seen(&head, command.dedupe) {
        return Ok(end::seen_before(&head, seq));
    }
    let known = view.workflow(&command.namespace, &drained.workflow, &drained.version);
    if known.is_some_and(|row| row.draining.is_some()) == drained.draining {
        return Ok(nothing(head.session, Reply::Done { entry: None })); // R4
    }
    let mut draft = Draft::after(&head, now);
    let seq = draft.push(Author::Operator(command.dedupe), Body::WorkflowDrained(drained.clone()));
    Ok(draft.appended(seq))
}

/// Refuses a new session of a version that is drained (R3).
pub(super) fn check_open(view: &impl View, start: &Start) -> Result<(), Rejection> {
    if start.system {
        return Ok(());
    }
    if start.version.is_empty() {
        return Err(none_open(&start.workflow)); // R5
    }
    let row = view.workflow(&start.namespace, &start.workflow, &start.version);
    if row.is_none_or(|row| row.draining.is_none()) {
        return Ok(());
    }
    let Start { workflow, version, .. } = start;
    let message = format!(
        "version {version} of {workflow} is drained and starts no new sessions; start a newer version, or undo it with `cellaflow workflows undrain {workflow}@{version}`"
    );
    Err(Rejection::new(Code::VersionDraining, message))
}

fn none_open(workflow: &str) -> Rejection {
    let message = format!(
        "no version of {workflow} takes new sessions: start a worker that serves one which is not drained (`cellaflow workflows show {workflow}`), or name a version"
    );
    Rejection::new(Code::NoVersion, message)
}

fn system(view: &impl View, session: super::ids::SessionId) -> Result<Arc<Head>, Rejection> {
    let head = found(view, session)?;
    if head.system {
        Ok(head)
    } else {
        Err(invalid("versions are kept in a namespace's system session; name that one"))
    } // R1
}

fn check(workflow: &str, version: &str) -> Result<(), Rejection> {
    check_length("workflow name", workflow, NAME_BYTES_MAX)?;
    check_length("workflow version", version, NAME_BYTES_MAX)
}
