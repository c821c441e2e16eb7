//! Keyed: namespace, workflow and the caller's key name one session, ended or not.
//!
//! Owns starting and finding a session by its key. Never compares inputs itself: their digests come with the command.
//!
//! K1. A key that names a session returns it, whatever state it is in; no second session comes to be.
//! K2. The same key with another input is refused.
//! K3. Only a caller that asks for it gets a new generation, and only once the present one has ended.
//! K4. Start and lease are one frame: a session that is created with a lease is never seen without it.

use super::budget;
use super::command::{Code, Rejection, Reply, Start, StartKey};
use super::decide::{Decision, View, check_length, invalid, nothing};
use super::draft::Draft;
use super::event::{Author, Body, LeaseGranted, SessionStarted};
use super::ids::{Epoch, TimeMs};
use super::label;
use super::lease::{self, Bind};
use super::session::{Head, KeyRow, NAME_BYTES_MAX};
use super::succession;
use super::version;

/// Starts a session, or binds to the one its key names.
pub(super) fn start(view: &impl View, start: &Start, now: TimeMs) -> Result<Decision, Rejection> {
    check_length("namespace", &start.namespace, NAME_BYTES_MAX)?;
    check_length("workflow name", &start.workflow, NAME_BYTES_MAX)?;
    if !start.version.is_empty() || start.system || start.lease.is_some() || start.descent.is_some() {
        check_length("workflow version", &start.version, NAME_BYTES_MAX)?;
    }
    budget::check_start(&start.budget)?;
    label::check(&start.labels)?;
    if start.system && start.lease.is_some() {
        return Err(invalid("a system session is run by nobody; start it without a lease"));
    }
    if let Some(descent) = &start.descent {
        return Ok(match succession::placed(view, start, descent) {
            Ok((key, generation)) => create(start, key, generation, now),
            Err(exists) => exists,
        });
    }
    let known = start.key.as_ref().and_then(|key| {
        let row = view.session_key(&key.digest)?;
        Some((key, row))
    });
    if let Some((key, row)) = known {
        return named(view, start, key, &row, now);
    }
    if view.head(start.session).is_some() {
        return Err(invalid("this session id is taken; mint another one"));
    }
    version::check_open(view, start)?;
    Ok(create(start, start.key.as_ref(), first_generation(start), now))
}

/// What becomes of a start whose key names a session.
fn named(
    view: &impl View,
    start: &Start,
    key: &StartKey,
    row: &KeyRow,
    now: TimeMs,
) -> Result<Decision, Rejection> {
    if row.input_digest != key.input_digest {
        let message = format!(
            "this key names session {}, which was started with another input; use another key or the same input",
            row.session
        );
        return Err(Rejection::new(Code::KeyConflict, message)); // K2
    }
    let Some(head) = view.head(row.session) else {
        let message = format!("session {} of this key is not here; restore it first", row.session);
        return Err(Rejection::new(Code::SessionNotFound, message));
    };
    // A session that is being continued has not ended for its callers (N4).
    if start.if_ended_restart && head.status.is_terminal() && head.continued_to.is_none() {
        version::check_open(view, start)?;
        return Ok(create(start, start.key.as_ref(), row.generation.saturating_add(1), now)); // K3
    }
    bind(&head, start, now)
}

fn bind(head: &Head, start: &Start, now: TimeMs) -> Result<Decision, Rejection> {
    let Some(lease) = &start.lease else {
        let reply = Reply::Bound { created: false, epoch: None };
        return Ok(nothing(head.session, reply)); // K1
    };
    let ask = Bind { lease, held: None, version: Some(&start.version) };
    lease::bind(head, &ask, now)
}

fn create(start: &Start, key: Option<&StartKey>, generation: u32, now: TimeMs) -> Decision {
    let mut draft = Draft::first(start.session, now);
    let descent = start.descent.as_ref();
    let started = SessionStarted {
        session: start.session,
        namespace: start.namespace.clone(),
        workflow: start.workflow.clone(),
        version: start.version.clone(),
        generation,
        key: key.map(|key| key.payload.clone()),
        input: start.input.clone(),
        lineage: start.lineage,
        root: start.session,
        forked_from: None,
        budget: start.budget.clone(),
        system: start.system,
        parent: descent.and_then(|descent| descent.parent.clone()),
        top: descent.map_or(start.session, |descent| descent.top),
        depth: descent.map_or(0, |descent| descent.depth),
        continued_from: descent.and_then(|descent| descent.continues),
        labels: start.labels.clone(),
        incarnation: Some(start.incarnation),
        deadline: start.timeout_ms.map(|timeout_ms| now.plus(timeout_ms)),
    };
    match descent {
        None => draft.push(Author::Client(start.dedupe), Body::SessionStarted(started)),
        Some(descent) => draft.push_start(descent, Body::SessionStarted(started)),
    };
    let epoch = start.lease.as_ref().map(|lease| {
        let granted = LeaseGranted {
            epoch: Epoch(1),
            instance: lease.instance,
            takeover: false,
            incarnation: lease.incarnation,
        };
        draft.push(Author::Driver, Body::LeaseGranted(granted)); // K4
        Epoch(1)
    });
    draft.answer(Reply::Bound { created: true, epoch })
}

/// Generations count the sessions of a key from 1; without a key there is none.
fn first_generation(start: &Start) -> u32 {
    u32::from(start.key.is_some())
}
