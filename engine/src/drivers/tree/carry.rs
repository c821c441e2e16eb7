//! What an errand comes to: both sessions are looked at, and what is missing becomes one command, its payloads copied by
//! value into the lineage of the session that it goes to.

use std::sync::Arc;

use bytes::Bytes;

use super::errands::Errand;
use crate::graph::budget::{BudgetStart, Limits};
use crate::graph::child;
use crate::graph::command::{Cancel, Command, Descent, Rejection, Start, StartKey};
use crate::graph::event::{
    Author, Body, ChildEnd, ChildEnded, ChildSpawned, Format, Parent, PayloadRef, SessionContinued,
};
use crate::graph::ids::{Seq, SessionId};
use crate::graph::session::Head;
use crate::ledger::digest::{Purpose, keyed};
use crate::ledger::{
    Blobs, Handle, NewLineage, Origin, PayloadIn, ReadError, Reader, StoredEvent, Submission,
};

/// Continuations followed in one go; a child that was continued more often is asked via one of them.
const CONTINUATIONS_MAX: usize = 4_096;
/// Bytes of events read in one go where a spawn has to be searched.
const PAGE_BYTES: usize = 256 * 1024;
/// By whom a session is cancelled that its parent cancels.
const BY_PARENT: &str = "parent";

/// The command that is missing; `None`: nothing is.
pub fn submission(handle: &Handle, errand: Errand) -> Result<Option<Submission>, ReadError> {
    match errand {
        Errand::Start { by, session } => start(handle, by, session),
        Errand::Settle { child } => settle(handle, child),
    }
}

fn start(handle: &Handle, by: SessionId, session: SessionId) -> Result<Option<Submission>, ReadError> {
    let reader = handle.reader();
    if reader.head(session)?.is_some() {
        return Ok(None);
    }
    let head = reader.head(by)?.ok_or_else(|| gone(by))?;
    if head.continued_to == Some(session) {
        return succeed(handle, &head, session).map(Some);
    }
    let (event, child) = spawned(reader, &head, session)?;
    let lineage = handle.lineage_of(session);
    let mut copy = Copy { reader, from: &event, to: handle.blobs(&lineage.salt) };
    let parent = Parent { session: by, step_key: child.step_key.clone(), abandoned: child.abandoned };
    let command = Command::Start(Start {
        input: copy.payload(&child.input)?,
        version: Arc::clone(&child.version),
        descent: Some(Descent {
            parent: Some(parent),
            top: head.top,
            depth: head.depth.saturating_add(1),
            continues: None,
            state: None,
            conversation: None,
        }),
        ..named(handle, &head, &lineage, (&child.workflow, &child.input))
    });
    Ok(Some(plain(command, copy.to, Some(lineage))))
}

/// Starts the session that continues another one.
fn succeed(handle: &Handle, head: &Head, session: SessionId) -> Result<Submission, ReadError> {
    let reader = handle.reader();
    let event = reader.event(head.session, head.seq)?.ok_or_else(|| gone(head.session))?;
    let Body::SessionContinued(end) = &event.event.body else {
        return Err(ReadError::Corrupt(format!("session {} is continued without saying so", head.session)));
    };
    let SessionContinued { version, input, state, conversation, successor: _ } = end;
    let lineage = handle.lineage_of(session);
    let mut copy = Copy { reader, from: &event, to: handle.blobs(&lineage.salt) };
    let descent = Descent {
        parent: head.parent.clone(),
        top: head.top,
        depth: head.depth,
        continues: Some(head.session),
        state: state.as_ref().map(|payload| copy.payload(payload)).transpose()?,
        conversation: conversation.as_ref().map(|payload| copy.payload(payload)).transpose()?,
    };
    let own_input = copy.payload(input)?;
    let key = key(handle, head, &mut copy.to)?;
    let command = Command::Start(Start {
        input: own_input,
        version: Arc::clone(version),
        key,
        descent: Some(descent),
        // What is left of the time that the whole of it was given.
        timeout_ms: head.deadline.map(|deadline| deadline.0.saturating_sub(head.time.0).max(1)),
        ..named(handle, head, &lineage, (&head.workflow, input))
    });
    Ok(plain(command, copy.to, Some(lineage)))
}

/// The start of a session that `by` named, before its payloads are copied.
///
/// It spends from the budgets that `by` spends from, its own included; and if `by` is held after a restore, so is what
/// it named before.
fn named(
    handle: &Handle,
    by: &Head,
    lineage: &NewLineage,
    (workflow, input): (&Arc<str>, &PayloadRef),
) -> Start {
    Start {
        session: lineage.session,
        lineage: lineage.lineage,
        namespace: by.namespace.clone(),
        workflow: Arc::clone(workflow),
        version: "".into(),
        input: input.clone(),
        key: None,
        if_ended_restart: false,
        system: false,
        lease: None,
        dedupe: None,
        descent: None,
        budget: BudgetStart { limits: Limits::default(), inherited: by.budget.owners.clone() },
        labels: by.labels.clone(),
        incarnation: by.incarnation.unwrap_or(handle.identity().incarnation),
        timeout_ms: None,
    }
}

/// The key that goes over to the successor, with the input that callers use it with (N3).
fn key(handle: &Handle, head: &Head, blobs: &mut Blobs) -> Result<Option<StartKey>, ReadError> {
    if head.generation == 0 {
        return Ok(None);
    }
    let reader = handle.reader();
    let first = reader.event(head.session, reader.first_own(head.session)?)?;
    let first = first.ok_or_else(|| gone(head.session))?;
    let Body::SessionStarted(started) = &first.event.body else { return Ok(None) };
    let Some(payload) = &started.key else { return Ok(None) };
    let text = reader.bytes_of(&first, payload)?;
    let Some(info) = reader.namespace(&head.namespace)? else { return Ok(None) };
    // A start that only a dedupe id names has an empty key: its successor needs none.
    if text.is_empty() {
        return Ok(None);
    }
    let digest = keyed(&info.salt, Purpose::SessionKey, &[head.workflow.as_bytes(), &text]);
    let Some(row) = reader.key_row(digest)? else { return Ok(None) };
    let payload = take(blobs, Format::Bytes, "".into(), text)?;
    Ok(Some(StartKey { digest, input_digest: row.input_digest, payload }))
}

/// The event that names a child: its wait says which, unless its parent has ended before it began.
fn spawned(
    reader: &Reader,
    head: &Head,
    session: SessionId,
) -> Result<(Arc<StoredEvent>, ChildSpawned), ReadError> {
    let names = |event: &StoredEvent| match &event.event.body {
        Body::ChildSpawned(child) if child.child == session => Some(child.clone()),
        _ => None,
    };
    if let Some(wait) = head.waits.iter().find(|wait| wait.child() == Some(session)) {
        let event = reader.event(head.session, wait.seq)?.ok_or_else(|| gone(head.session))?;
        if let Some(child) = names(&event) {
            return Ok((event, child));
        }
    }
    let mut from = Seq(1);
    loop {
        let page = reader.events(head.session, from, PAGE_BYTES)?;
        for event in &page.events {
            if let Some(child) = names(event) {
                return Ok((Arc::clone(event), child));
            }
        }
        if page.events.is_empty() {
            let (by, problem) = (head.session, "is to be started and nothing names it");
            return Err(ReadError::Corrupt(format!("session {session} {problem} in {by}")));
        }
        from = page.next;
    }
}

/// Looks at a child and its parent.
fn settle(handle: &Handle, child: SessionId) -> Result<Option<Submission>, ReadError> {
    let reader = handle.reader();
    let Some(head) = last(reader, child)? else { return Ok(None) };
    let Some(parent) = &head.parent else { return Ok(None) };
    let Some(above) = reader.head(parent.session)? else { return Ok(None) };
    if head.status.is_terminal() {
        // Its successor has not begun: that one reports.
        if head.continued_to.is_some() {
            return Ok(None);
        }
        return report(handle, &head, parent, &above);
    }
    Ok(request(reader, &head, parent, &above)?.map(|command| plain(command, handle.blobs(&[0; 32]), None)))
}

/// The session that goes on now, if the child was continued.
fn last(reader: &Reader, child: SessionId) -> Result<Option<Arc<Head>>, ReadError> {
    let Some(mut head) = reader.head(child)? else { return Ok(None) };
    for _ in 0..CONTINUATIONS_MAX {
        let Some(next) = head.continued_to else { break };
        match reader.head(next)? {
            Some(successor) => head = successor,
            None => break,
        }
    }
    Ok(Some(head))
}

/// What a live child is asked for its parent's sake.
fn request(
    reader: &Reader,
    head: &Head,
    parent: &Parent,
    above: &Head,
) -> Result<Option<Command>, ReadError> {
    let cancel = |reason: Arc<str>| Cancel {
        session: head.session,
        reason,
        by: BY_PARENT.into(),
        author: Author::Driver,
    };
    if above.status.is_terminal() {
        // Only a terminated session ends before its children (H3).
        let reason = || format!("session {} was terminated", above.session).into();
        return Ok((!parent.abandoned).then(|| Command::Terminate(cancel(reason()))));
    }
    let to_cancel = above.wait(&parent.step_key).is_some_and(|wait| child::is_to_cancel(above, wait));
    if !to_cancel || head.cancel_requested.is_some() {
        return Ok(None);
    }
    Ok(Some(Command::Cancel(cancel(why(reader, above)?))))
}

/// Why a parent cancels its child, in words.
fn why(reader: &Reader, above: &Head) -> Result<Arc<str>, ReadError> {
    let Some(seq) = above.cancel_requested else {
        return Ok(format!("session {} does not want it any more", above.session).into());
    };
    match reader.event(above.session, seq)?.map(|event| event.event.body.clone()) {
        Some(Body::CancelRequested { reason, .. }) => Ok(reason),
        _ => Ok(format!("session {} is being cancelled", above.session).into()),
    }
}

/// Brings the end of a child back, if it is waited for.
fn report(
    handle: &Handle,
    head: &Head,
    parent: &Parent,
    above: &Head,
) -> Result<Option<Submission>, ReadError> {
    let reader = handle.reader();
    let child = above.wait(&parent.step_key).and_then(|wait| wait.child());
    let Some(child) = child.filter(|_| !above.status.is_terminal()) else { return Ok(None) };
    let place = reader.place(above.session)?.ok_or_else(|| gone(above.session))?;
    let event = reader.event(head.session, head.seq)?.ok_or_else(|| gone(head.session))?;
    let mut copy = Copy { reader, from: &event, to: handle.blobs(&place.salt) };
    let end = match &event.event.body {
        Body::SessionCompleted { output } => ChildEnd::Completed(copy.payload(output)?),
        Body::SessionFailed { failure } => ChildEnd::Failed(copy.payload(failure)?),
        Body::SessionCancelled(cancelled) => ChildEnd::Cancelled(cancelled.reason.clone()),
        _ => return Err(ReadError::Corrupt(format!("session {} has ended without an end", head.session))),
    };
    let ended = ChildEnded { step_key: parent.step_key.clone(), child, ended: head.session, end };
    Ok(Some(plain(Command::ChildEnded { session: above.session, ended }, copy.to, None)))
}

/// Copies payloads of an event by value.
struct Copy<'a> {
    reader: &'a Reader,
    from: &'a StoredEvent,
    to: Blobs,
}

impl Copy<'_> {
    fn payload(&mut self, payload: &PayloadRef) -> Result<PayloadRef, ReadError> {
        let bytes = self.reader.bytes_of(self.from, payload)?;
        take(&mut self.to, payload.format, payload.codec.clone(), bytes)
    }
}

fn take(blobs: &mut Blobs, format: Format, codec: Arc<str>, bytes: Bytes) -> Result<PayloadRef, ReadError> {
    let refused = |no: Rejection| ReadError::Fault(format!("a payload cannot be carried over: {no}"));
    blobs.add(PayloadIn { format, codec, bytes }).map_err(refused)
}

fn plain(command: Command, blobs: Blobs, new_lineage: Option<NewLineage>) -> Submission {
    Submission { command, blobs, evidence: None, new_lineage, origin: Origin::default() }
}

fn gone(session: SessionId) -> ReadError {
    ReadError::Corrupt(format!("session {session} is named by another one and is not there"))
}
