//! Signals: a client tells a session something; the run takes it when it asks for it.
//!
//! Owns receiving, buffering and delivering. Never reads a value.
//!
//! S1. A signal is delivered once, to the oldest wait for its name; signals of a name are delivered in the order received.
//! S2. One that nobody awaits yet is buffered, and delivered in the frame of the wait that asks for it.
//! S3. A signal id is received once in the life of its session: again with the same name and value is a duplicate, with
//!     another one a conflict.
//! S4. What is buffered is bounded in number and in bytes of names; beyond it a signal is refused, to be sent again.
//! S5. The outcome of a wait is one: a signal or its time running out, whichever is journaled first.

use std::sync::Arc;

use super::command::{Code, Rejection, Reply, Signal};
use super::decide::{Decision, Run, check_length, nothing};
use super::draft::Draft;
use super::event::{Author, Body, SignalReceived};
use super::evolve::ensure;
use super::ids::{Seq, StepKey, TimeMs};
use super::session::{
    Head, NAME_BYTES_MAX, OpenWait, SIGNAL_NAME_BYTES_MAX, SIGNALS_BUFFERED_MAX, SignalRow, WaitKind,
};
use super::wait::{self, Asked};

/// Longest signal id in bytes.
pub const SIGNAL_ID_BYTES_MAX: usize = 128;

/// When to send a signal again that found no room, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// A client sends a signal.
pub(super) fn received(
    head: &Head,
    signal: &Signal,
    row: Option<SignalRow>,
    now: TimeMs,
) -> Result<Decision, Rejection> {
    if let Some(row) = row {
        return received_before(head, signal, &row); // S3
    }
    wait::check_takes(head)?;
    check_length("signal's name", &signal.name, NAME_BYTES_MAX)?;
    if let Some(id) = &signal.id {
        check_length("signal's id", id, SIGNAL_ID_BYTES_MAX)?;
    }
    let mut draft = Draft::after(head, now);
    let body = Body::SignalReceived(SignalReceived {
        name: signal.name.clone(),
        id: signal.id.clone(),
        value: signal.value.clone(),
        by: signal.by.clone(),
    });
    let waits = |wait: &&OpenWait| wait.kind == WaitKind::Signal && wait.name == signal.name;
    let Some(wait) = head.waits.iter().find(waits) else {
        check_room(head, &signal.name)?; // S4
        let seq = draft.push(Author::Client(None), body);
        return Ok(draft.appended(seq)); // S2
    };
    let seq = draft.push(Author::Client(None), body);
    draft.push(Author::Driver, delivered(&wait.step_key, Some(seq))); // S1
    Ok(draft.appended(seq))
}

fn received_before(head: &Head, signal: &Signal, row: &SignalRow) -> Result<Decision, Rejection> {
    if row.name == signal.name && row.value_digest == signal.value.digest {
        let reply = Reply::Appended { seq: row.seq, time: head.time, duplicate: true };
        return Ok(nothing(head.session, reply));
    }
    let message = format!(
        "this signal id was received at seq {} with another name or value; use an id that names this signal alone",
        row.seq
    );
    Err(Rejection::new(Code::SignalConflict, message))
}

fn check_room(head: &Head, name: &str) -> Result<(), Rejection> {
    let bytes: usize = head.signals.iter().map(|(name, _)| name.len()).sum();
    let count = head.signals.len();
    if count < SIGNALS_BUFFERED_MAX && bytes + name.len() <= SIGNAL_NAME_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "{count} signals of the session are not awaited yet; at most {SIGNALS_BUFFERED_MAX} with names of {SIGNAL_NAME_BYTES_MAX} bytes together may be: send it again when the run has taken some"
    );
    Err(Rejection::new(Code::SignalsFull, message).retry_after(RETRY_MS))
}

/// The run awaits a signal.
pub(super) fn awaited(
    run: &Run<'_>,
    key: &StepKey,
    name: &Arc<str>,
    timeout_ms: Option<u64>,
) -> Result<Decision, Rejection> {
    if let Some(answer) = wait::opened_before(run, &Asked { key, name, kind: WaitKind::Signal })? {
        return Ok(answer);
    }
    let due = wait::due_after(run, timeout_ms)?;
    let mut draft = run.draft();
    let body = Body::SignalAwaited { step_key: key.clone(), name: name.clone(), due };
    let seq = draft.push_append(run.append, body);
    // Whoever waits longer was there first; then nothing of this name is buffered.
    if let Some((_, signal)) = run.head.signals.iter().find(|(buffered, _)| buffered == name) {
        draft.push(Author::Driver, delivered(key, Some(*signal))); // S2
    }
    Ok(draft.appended(seq))
}

/// What is journaled when a signal was waited for long enough (S5: it closes the wait).
pub(super) fn timed_out(wait: &OpenWait) -> Body {
    delivered(&wait.step_key, None)
}

fn delivered(key: &StepKey, signal: Option<Seq>) -> Body {
    Body::SignalDelivered { step_key: key.clone(), signal }
}

/// Takes a delivered signal out of the buffer.
pub(super) fn taken(head: &mut Head, wait: &OpenWait, signal: Seq) -> Result<(), String> {
    let before = head.signals.len();
    head.signals.retain(|(name, seq)| !(*seq == signal && *name == wait.name));
    ensure(head.signals.len() < before, || {
        format!("step {} is given signal {signal}, which is not buffered for it", wait.step_key)
    })
}
