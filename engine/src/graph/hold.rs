//! Restored: after a restore from a backup nothing goes on by itself.
//!
//! Owns who is held and letting them go. Never: knows backups.
//!
//! H1. A session runs under one incarnation of the ledger: the one it began under, or was last released to. Under another
//!     one it gets no lease and nothing of it is committed; what clients and timers bring is kept.
//! H2. Letting go is an event. It says nothing about what happened after the backup was made: that is not in the ledger, and
//!     steps of that time run again.
//! H3. Letting go a session that is not held changes nothing.

use super::command::{Code, Rejection, ReleaseHold, Reply};
use super::decide::{Decision, nothing};
use super::draft::Draft;
use super::end;
use super::event::{Author, Body};
use super::ids::{Incarnation, TimeMs};
use super::session::Head;

impl Head {
    /// True if the session waits for somebody to let it go on under `incarnation` (H1).
    #[must_use]
    pub fn is_held(&self, incarnation: Incarnation) -> bool {
        !self.system && !self.status.is_terminal() && self.incarnation.is_some_and(|own| own != incarnation)
    }
}

/// Refuses a lease on a session that is held (H1).
pub(super) fn unless_held(head: &Head, incarnation: Incarnation) -> Result<(), Rejection> {
    if head.is_held(incarnation) { Err(held(head)) } else { Ok(()) }
}

/// What a caller is told who would run a session that is held.
#[must_use]
pub fn held(head: &Head) -> Rejection {
    Rejection::new(
        Code::IncarnationChanged,
        format!(
            "the ledger was restored from a backup and session {} waits; let it go on with `cellaflow sessions release`",
            head.session
        ),
    )
}

/// Somebody lets a session go on (H2).
pub(super) fn release(head: &Head, release: &ReleaseHold, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(seq) = end::seen(head, release.dedupe) {
        return Ok(end::seen_before(head, seq));
    }
    if head.status.is_terminal() {
        return Err(end::over(head));
    }
    if !head.is_held(release.incarnation) {
        return Ok(nothing(head.session, Reply::Done { entry: None })); // H3
    }
    let body = Body::SessionReleased { incarnation: release.incarnation, by: release.by.clone() };
    let mut draft = Draft::after(head, now);
    let seq = draft.push(Author::Operator(release.dedupe), body);
    Ok(draft.appended(seq))
}
