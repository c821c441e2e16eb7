//! Children: a session spawns others, joins them and is told how they ended; nothing of that is lost or done twice.
//!
//! Owns spawning, what is known of a child in its parent, and what an end waits for. Never touches the child: the driver
//! of the tree starts it, carries requests to cancel to it and brings its end back, each idempotent.
//!
//! H1. A spawn names one child, minted before it was decided; the same spawn re-sent names the same child.
//! H2. A child's end is brought back once, with its result by value, and is the outcome of the step that spawned it. If
//!     the child was continued, the last of its successors ends it.
//! H3. A session ends after its children, abandoned ones excepted; terminating is the exception and names those it
//!     leaves behind, so that they are terminated, too.
//! H4. Asking to cancel a child is an event. Cancelling a session cancels the children that it had then; what its cleanup
//!     spawns is left alone.
//! H5. A tree has a bounded depth, a session a bounded number of open children (W5).

use std::sync::Arc;

use super::command::{Code, Rejection, Reply};
use super::decide::{Decision, Run, invalid, nothing};
use super::draft::Draft;
use super::event::{Author, Body, ChildEnded, ChildSpawned};
use super::evolve::ensure;
use super::ids::{Seq, StepKey, TimeMs};
use super::session::{Head, OpenWait, TREE_DEPTH_MAX, WaitKind};
use super::wait::{self, Asked};

/// When to ask again to end a session whose children are open, in milliseconds.
const RETRY_MS: u64 = 250;

/// The run spawns a child.
pub(super) fn spawned(run: &Run<'_>, child: &ChildSpawned) -> Result<Decision, Rejection> {
    let asked = Asked { key: &child.step_key, name: &child.name, kind: kind(child) };
    if let Some(answer) = wait::opened_before(run, &asked)? {
        return Ok(answer); // H1
    }
    if run.head.depth >= TREE_DEPTH_MAX {
        let message = format!(
            "the session is {TREE_DEPTH_MAX} spawns below the top of its tree, the most there may be; do the work here, or start an independent session"
        );
        return Err(Rejection::new(Code::TreeTooDeep, message)); // H5
    }
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::ChildSpawned(child.clone()));
    Ok(draft.appended(seq))
}

/// The run asks to cancel a child (H4).
pub(super) fn cancel(run: &Run<'_>, key: &StepKey, reason: &Arc<str>) -> Result<Decision, Rejection> {
    let open = match run.head.wait(key) {
        Some(OpenWait { kind: WaitKind::Child { cancelling, .. }, .. }) => Some(*cancelling),
        Some(_) => return Err(invalid(format!("{key} is no child; drop the wait instead"))),
        None => None,
    };
    if open == Some(false) {
        let mut draft = run.draft();
        let body = Body::ChildCancelRequested { step_key: key.clone(), reason: reason.clone() };
        let seq = draft.push_append(run.append, body);
        return Ok(draft.appended(seq));
    }
    // It ended meanwhile, or was asked before: there is nothing to add.
    match &run.row {
        Some(row) => Ok(run.duplicate(row.seq)),
        None => Err(wait::not_found(key)),
    }
}

/// The driver brings a child's end back (H2).
pub(super) fn ended(head: &Head, ended: &ChildEnded, now: TimeMs) -> Decision {
    let waits = head.wait(&ended.step_key).is_some_and(|wait| wait.child() == Some(ended.child));
    if head.status.is_terminal() || !waits {
        return nothing(head.session, Reply::Done { entry: None });
    }
    let mut draft = Draft::after(head, now);
    let seq = draft.push(Author::Driver, Body::ChildEnded(ended.clone()));
    draft.appended(seq)
}

/// Refuses an end while children are open that it has to wait for (H3).
pub(super) fn check_ended(head: &Head) -> Result<(), Rejection> {
    let mut open = head.waits.iter().filter(|wait| binds(wait));
    let Some(first) = open.next() else { return Ok(()) };
    let message = format!(
        "child {} and {} others have not ended; wait for them or cancel them, then end the session",
        first.step_key,
        open.count()
    );
    Err(Rejection::new(Code::OpenChildren, message).retry_after(RETRY_MS))
}

/// True if the driver must ask the child of this wait to cancel, as far as its parent is concerned (H4).
#[must_use]
pub fn is_to_cancel(head: &Head, wait: &OpenWait) -> bool {
    match wait.kind {
        WaitKind::Child { abandoned, cancelling, .. } => {
            let with_parent = !abandoned && head.cancel_requested.is_some_and(|at| wait.seq < at);
            cancelling || with_parent
        }
        WaitKind::Timer | WaitKind::Signal | WaitKind::Approval { .. } => false,
    }
}

/// True for a child whose end its parent's end waits for.
fn binds(wait: &OpenWait) -> bool {
    match wait.kind {
        WaitKind::Child { abandoned, .. } => !abandoned,
        WaitKind::Timer | WaitKind::Signal | WaitKind::Approval { .. } => false,
    }
}

fn kind(child: &ChildSpawned) -> WaitKind {
    WaitKind::Child { session: child.child, abandoned: child.abandoned, cancelling: false }
}

/// Folds a spawn: it is waited for.
pub(super) fn follow_spawn(head: &mut Head, child: &ChildSpawned, seq: Seq) -> Result<(), String> {
    let (step_key, name) = (child.step_key.clone(), child.name.clone());
    wait::opened(head, OpenWait { step_key, name, kind: kind(child), seq, due: None })
}

/// Folds a child's end.
pub(super) fn follow_end(head: &mut Head, ended: &ChildEnded) -> Result<(), String> {
    let is_child =
        |kind: &WaitKind| matches!(kind, WaitKind::Child { session, .. } if *session == ended.child);
    wait::closed(head, &ended.step_key, is_child).map(drop)
}

/// Folds a request to cancel a child.
pub(super) fn follow_cancel(head: &mut Head, key: &str) -> Result<(), String> {
    let wait = head.waits.iter_mut().find(|wait| *wait.step_key == *key);
    let Some(OpenWait { kind: WaitKind::Child { cancelling, .. }, .. }) = wait else {
        return Err(format!("step {key} is no open child"));
    };
    ensure(!*cancelling, || format!("child {key} was asked to cancel before"))?;
    *cancelling = true;
    Ok(())
}

/// The children that a terminated session leaves behind (H3).
pub(super) fn left_behind(head: &Head) -> Vec<OpenWait> {
    head.waits.iter().filter(|wait| binds(wait)).cloned().collect()
}
