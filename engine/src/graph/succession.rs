//! Continued: an endless agent ends its session and another one goes on, under the same key and in a lineage of its own.
//!
//! Owns the end that names a successor, and the successor's start. Never starts it: the driver of the tree does, which
//! carries input, state and conversation over by value.
//!
//! N1. A continuation is an end like any other; it names one successor, minted before it was decided.
//! N2. The successor is started once, whoever tries and however often.
//! N3. It takes over key, parent and top. The key keeps the input that callers use it with, so that they find the
//!     session that goes on now.
//! N4. Until the successor exists the key names its predecessor, which counts as going on: nobody restarts the key then.

use super::command::{Descent, Rejection, Reply, Start, StartKey};
use super::decide::{Decision, Run, View, check_length, nothing};
use super::end;
use super::event::{Body, SessionContinued};
use super::session::NAME_BYTES_MAX;

/// The run ends its session and names the successor (N1).
pub(super) fn continued(run: &Run<'_>, continued: &SessionContinued) -> Result<Decision, Rejection> {
    let mut continued = continued.clone();
    if continued.version.is_empty() {
        continued.version = run.head.version.clone();
    }
    check_length("workflow version", &continued.version, NAME_BYTES_MAX)?;
    end::end(run, Body::SessionContinued(continued))
}

/// Under which key and generation a session starts that the engine itself starts; `Err`: it exists already (N2).
pub(super) fn placed<'a>(
    view: &impl View,
    start: &'a Start,
    descent: &Descent,
) -> Result<(Option<&'a StartKey>, u32), Decision> {
    if view.head(start.session).is_some() {
        let reply = Reply::Bound { created: false, epoch: None };
        return Err(nothing(start.session, reply));
    }
    let (Some(key), Some(predecessor)) = (&start.key, descent.continues) else {
        return Ok((None, 0));
    };
    match view.session_key(&key.digest) {
        // N3
        Some(row) if row.session == predecessor => Ok((Some(key), row.generation.saturating_add(1))),
        // The key was forgotten, or names somebody else since: it is not taken away from them.
        Some(_) | None => Ok((None, 0)),
    }
}
