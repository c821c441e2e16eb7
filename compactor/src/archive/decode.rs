//! What a stored header says, as far as columns need it. Strict about bytes, lenient about meaning: a kind of event that
//! this version does not know keeps its row, with its raw bytes and without a name.

use bytes::Bytes;
use cellaflow_proto::disk;
use disk::event_header::Body;
use prost::Message as _;

/// Why a stored event is not one.
#[derive(Debug, thiserror::Error)]
#[error("a stored event cannot be read: {0}")]
pub struct Unreadable(pub String);

/// What a payload of an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Writes to the conversation.
    Conversation,
    /// Output of a step, zone or session.
    Output,
    /// A failure.
    Failure,
    /// Record of a zone.
    Record,
    /// Request of this model call.
    Request(usize),
    /// Response of this model call.
    Response(usize),
    /// Something that no column needs.
    Other,
}

/// A payload of an event, and its bytes if they lie in the record.
pub struct Piece {
    /// What it is.
    pub part: Part,
    /// What the header says of it.
    pub payload: disk::PayloadRef,
    /// `None`: it lies beside the event.
    pub inline: Option<Bytes>,
}

/// An event, taken apart.
pub struct Event {
    /// Its header.
    pub header: disk::EventHeader,
    /// Its payloads, in the header's order.
    pub pieces: Vec<Piece>,
}

/// Takes a stored event apart.
///
/// # Errors
/// `Unreadable` if header and payloads do not fit.
pub fn event(header: &Bytes, payloads: &Bytes) -> Result<Event, Unreadable> {
    let header = disk::EventHeader::decode(header.clone()).map_err(|error| Unreadable(error.to_string()))?;
    let mut rest = payloads.clone();
    // Of an erased lineage the header is all there is.
    let erased = payloads.is_empty();
    let mut pieces = Vec::new();
    for (part, payload) in refs(&header) {
        let inline = match payload.inline {
            true if erased && payload.size_bytes > 0 => None,
            true => {
                let size = usize::try_from(payload.size_bytes).unwrap_or(usize::MAX);
                if size > rest.len() {
                    return Err(Unreadable(format!("event {} ends within a payload", header.seq)));
                }
                Some(rest.split_to(size))
            }
            false => None,
        };
        pieces.push(Piece { part, payload: payload.clone(), inline });
    }
    if !rest.is_empty() {
        return Err(Unreadable(format!("event {} has {} bytes too many", header.seq, rest.len())));
    }
    Ok(Event { header, pieces })
}

/// The payloads of a header, in the order in which inline bytes follow it.
fn refs(header: &disk::EventHeader) -> Vec<(Part, &disk::PayloadRef)> {
    let mut found: Vec<(Part, &disk::PayloadRef)> = Vec::new();
    found.extend(header.state_delta.iter().map(|payload| (Part::Other, payload)));
    found.extend(header.conversation_delta.iter().map(|payload| (Part::Conversation, payload)));
    if let Some(body) = &header.body {
        of_body(body, &mut found);
    }
    found
}

fn of_body<'a>(body: &'a Body, found: &mut Vec<(Part, &'a disk::PayloadRef)>) {
    let mut add = |part, payload: &'a Option<disk::PayloadRef>| {
        found.extend(payload.iter().map(|payload| (part, payload)));
    };
    match body {
        Body::SessionStarted(started) => {
            add(Part::Other, &started.key);
            add(Part::Other, &started.input);
        }
        Body::SessionPaused(paused) => add(Part::Other, &paused.details),
        Body::SessionCompleted(done) => add(Part::Output, &done.output),
        Body::SessionFailed(failed) => add(Part::Failure, &failed.failure),
        Body::SessionContinued(continued) => {
            add(Part::Other, &continued.input);
            add(Part::Other, &continued.state);
            add(Part::Other, &continued.conversation);
        }
        Body::ChildSpawned(child) => add(Part::Other, &child.input),
        Body::ChildEnded(ended) => {
            add(Part::Output, &ended.output);
            add(Part::Failure, &ended.failure);
        }
        Body::StepCompleted(step) => {
            add(Part::Other, &step.input);
            add(Part::Output, &step.output);
            if let Some(call) = &step.llm {
                add(Part::Request(0), &call.request);
                add(Part::Response(0), &call.response);
            }
        }
        Body::StepFailed(step) => add(Part::Failure, &step.failure),
        Body::StepHeartbeat(beat) => add(Part::Other, &beat.details),
        Body::GuardIntent(intent) => add(Part::Other, &intent.idempotency_key),
        Body::GuardUnknown(unknown) => add(Part::Failure, &unknown.failure),
        Body::GuardResolved(resolved) => {
            let part = match resolved.resolution() {
                disk::Resolution::Output => Part::Output,
                _ => Part::Failure,
            };
            add(part, &resolved.payload);
        }
        Body::ZoneCommitted(zone) => {
            add(Part::Output, &zone.output);
            add(Part::Record, &zone.record);
            for (n, call) in zone.llm_calls.iter().enumerate() {
                add(Part::Request(n), &call.request);
                add(Part::Response(n), &call.response);
            }
        }
        Body::ZoneFailed(zone) => add(Part::Failure, &zone.failure),
        Body::ForkEdited(edited) => {
            add(Part::Other, &edited.input);
            add(Part::Output, &edited.output);
            add(Part::Failure, &edited.failure);
        }
        Body::SignalReceived(signal) => add(Part::Other, &signal.value),
        Body::ApprovalRequested(request) => add(Part::Other, &request.call),
        Body::ApprovalDecided(decided) => add(Part::Other, &decided.comment),
        Body::LeaseGranted(_)
        | Body::LeaseReleased(_)
        | Body::SessionResumed(_)
        | Body::SessionCancelled(_)
        | Body::CancelRequested(_)
        | Body::ZoneEntered(_)
        | Body::ZoneRolledBack(_)
        | Body::TimerStarted(_)
        | Body::TimerFired(_)
        | Body::SignalAwaited(_)
        | Body::SignalDelivered(_)
        | Body::WaitDropped(_)
        | Body::ChildCancelRequested(_)
        | Body::BudgetReserved(_)
        | Body::BudgetRaised(_)
        | Body::BudgetReleased(_)
        | Body::LabelsSet(_)
        | Body::SessionReleased(_)
        | Body::TokenCreated(_)
        | Body::TokenRevoked(_)
        | Body::DivergenceAccepted(_)
        | Body::WorkflowRegistered(_)
        | Body::WorkflowDrained(_)
        | Body::ArchiveChanged(_) => {}
    }
}

/// The name of a kind of event.
#[must_use]
pub fn name(body: &Body) -> &'static str {
    match body {
        Body::SessionStarted(_) => "session_started",
        Body::LeaseGranted(_) => "lease_granted",
        Body::LeaseReleased(_) => "lease_released",
        Body::SessionPaused(_) => "session_paused",
        Body::SessionResumed(_) => "session_resumed",
        Body::SessionCompleted(_) => "session_completed",
        Body::SessionFailed(_) => "session_failed",
        Body::SessionCancelled(_) => "session_cancelled",
        Body::SessionContinued(_) => "session_continued",
        Body::CancelRequested(_) => "cancel_requested",
        Body::StepCompleted(_) => "step_completed",
        Body::StepFailed(_) => "step_failed",
        Body::StepHeartbeat(_) => "step_heartbeat",
        Body::GuardIntent(_) => "guard_intent",
        Body::GuardUnknown(_) => "guard_unknown",
        Body::GuardResolved(_) => "guard_resolved",
        Body::ZoneEntered(_) => "zone_entered",
        Body::ZoneCommitted(_) => "zone_committed",
        Body::ZoneFailed(_) => "zone_failed",
        Body::ZoneRolledBack(_) => "zone_rolled_back",
        Body::TimerStarted(_) => "timer_started",
        Body::TimerFired(_) => "timer_fired",
        Body::SignalReceived(_) => "signal_received",
        Body::SignalAwaited(_) => "signal_awaited",
        Body::SignalDelivered(_) => "signal_delivered",
        Body::WaitDropped(_) => "wait_dropped",
        Body::ApprovalRequested(_) => "approval_requested",
        Body::ApprovalDecided(_) => "approval_decided",
        Body::ChildSpawned(_) => "child_spawned",
        Body::ChildEnded(_) => "child_ended",
        Body::ChildCancelRequested(_) => "child_cancel_requested",
        Body::BudgetReserved(_) => "budget_reserved",
        Body::BudgetRaised(_) => "budget_raised",
        Body::BudgetReleased(_) => "budget_released",
        Body::LabelsSet(_) => "labels_set",
        Body::SessionReleased(_) => "session_released",
        Body::TokenCreated(_) => "token_created",
        Body::TokenRevoked(_) => "token_revoked",
        Body::ForkEdited(_) => "fork_edited",
        Body::DivergenceAccepted(_) => "divergence_accepted",
        Body::WorkflowRegistered(_) => "workflow_registered",
        Body::WorkflowDrained(_) => "workflow_drained",
        Body::ArchiveChanged(_) => "archive_changed",
    }
}

/// The link of the hash chain after `previous`.
#[must_use]
pub fn chain(previous: &[u8; 32], header: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous).update(header);
    *hasher.finalize().as_bytes()
}

/// The stored record: header length, header, inline payloads.
#[must_use]
pub fn record(header: &[u8], payloads: &[u8]) -> Vec<u8> {
    let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), header, payloads].concat()
}

/// Header and inline payloads of a stored record.
#[must_use]
pub fn split(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = record.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
