//! Stored events, as callers read them.
//!
//! 1. A payload of at most `PIECE_BYTES_MAX` bytes lies in the event, up to `EVENT_DATA_BYTES_MAX` together; any other
//!    comes before it as pieces under an id that is unique on its stream.
//! 2. Without payload bytes (`Detail::Headers`) every payload still says its format, size and digest.

use bytes::Bytes;
use cellaflow_proto::v1;

use super::budget;
use super::enums;
use super::limits::{EVENT_DATA_BYTES_MAX, PIECE_BYTES_MAX};
use super::tree;
use super::waits;
use crate::graph::archive::ArchiveEvent;
use crate::graph::event::{
    Author, Body, Edit, ForkEdited, GuardIntent, GuardResolved, Labels, LeaseGranted, LlmCall, PayloadRef,
    Resolution, Resource, SessionStarted, StepCompleted, StepFailed, TokenCreated, Usage, ZoneCommitted,
    ZoneFailed, ZoneRolledBack,
};
use crate::graph::ids::{Digest, LineageId, SessionId};
use crate::ledger::{ReadError, Reader, StoredEvent};

/// Gives the bytes of payloads that do not follow their event's header.
pub trait PayloadSource {
    /// Returns the whole content.
    ///
    /// # Errors
    /// The ledger's: bytes that are missing or damaged, or a store that cannot be read.
    fn payload(&self, session: SessionId, payload: &PayloadRef) -> Result<Bytes, ReadError>;
}

impl PayloadSource for Reader {
    fn payload(&self, session: SessionId, payload: &PayloadRef) -> Result<Bytes, ReadError> {
        Self::payload(self, session, payload)
    }
}

/// Numbers the transfers of one stream.
#[derive(Debug, Default)]
pub struct TransferIds(u64);

impl TransferIds {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// How much of an event is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// With the bytes of its payloads.
    Full,
    /// Without them.
    Headers,
}

/// Writes an event, and before it the pieces of its large payloads, to be sent in this order.
///
/// # Errors
/// The source's, and `Corrupt` for an event whose inline bytes are not those it names.
pub fn event_to_wire(
    stored: &StoredEvent,
    source: &dyn PayloadSource,
    transfers: &mut TransferIds,
    detail: Detail,
) -> Result<(Vec<v1::PayloadPiece>, v1::Event), ReadError> {
    let mut out = Outgoing { stored, source, transfers, detail, pieces: Vec::new(), data_bytes: 0 };
    let event = &stored.event;
    let wire = v1::Event {
        seq: event.seq.0,
        time_ms: event.time.0,
        author: enums::author_to_wire(event.author).into(),
        epoch: epoch(event.author),
        after: event.after.map(|seen| v1::After { seq: seen.seq.0, requests: seen.requests }),
        hash: stored.hash.0.to_vec().into(),
        state_delta: out.optional(event.state_delta.as_ref())?,
        conversation_delta: out.optional(event.conversation_delta.as_ref())?,
        body: Some(body(&event.body, &mut out)?),
    };
    Ok((out.pieces, wire))
}

/// Writes one payload with its bytes inside, whatever its size; for unary answers.
///
/// # Errors
/// The source's.
pub fn payload_to_wire(
    stored: &StoredEvent,
    payload: &PayloadRef,
    source: &dyn PayloadSource,
) -> Result<v1::Payload, ReadError> {
    let bytes = bytes_of(stored, payload, source)?;
    Ok(described(payload, v1::payload::Body::Data(bytes)))
}

const fn epoch(author: Author) -> u64 {
    match author {
        Author::Worker(epoch) => epoch.0,
        Author::Client(_) | Author::Driver | Author::Operator(_) => 0,
    }
}

fn bytes_of(
    stored: &StoredEvent,
    payload: &PayloadRef,
    source: &dyn PayloadSource,
) -> Result<Bytes, ReadError> {
    let bytes = match (payload.inline, stored.inline_bytes(payload)) {
        (true, Some(bytes)) => bytes.clone(),
        (true, None) => return Err(damaged(stored, "lacks inline bytes that its header names")),
        (false, _) => source.payload(stored.session, payload)?,
    };
    if bytes.len() as u64 != payload.size {
        return Err(damaged(stored, "has a payload of another size than its header says"));
    }
    Ok(bytes)
}

fn damaged(stored: &StoredEvent, what: &str) -> ReadError {
    ReadError::Corrupt(format!("event {} of session {} {what}", stored.event.seq, stored.session))
}

fn described(payload: &PayloadRef, body: v1::payload::Body) -> v1::Payload {
    v1::Payload {
        format: enums::format_to_wire(payload.format).into(),
        codec: payload.codec.to_string(),
        size_bytes: payload.size,
        body: Some(body),
        digest: payload.digest.0.to_vec().into(),
    }
}

pub(super) struct Outgoing<'a> {
    stored: &'a StoredEvent,
    source: &'a dyn PayloadSource,
    transfers: &'a mut TransferIds,
    detail: Detail,
    pieces: Vec<v1::PayloadPiece>,
    data_bytes: usize,
}

impl Outgoing<'_> {
    pub(super) fn optional(
        &mut self,
        payload: Option<&PayloadRef>,
    ) -> Result<Option<v1::Payload>, ReadError> {
        payload.map(|payload| self.payload(payload)).transpose()
    }

    pub(super) fn required(&mut self, payload: &PayloadRef) -> Result<Option<v1::Payload>, ReadError> {
        self.payload(payload).map(Some)
    }

    fn payload(&mut self, payload: &PayloadRef) -> Result<v1::Payload, ReadError> {
        let body = match self.detail {
            Detail::Headers => v1::payload::Body::Absent(true),
            Detail::Full => {
                let bytes = bytes_of(self.stored, payload, self.source)?;
                self.carry(bytes)
            }
        };
        Ok(described(payload, body))
    }

    fn carry(&mut self, bytes: Bytes) -> v1::payload::Body {
        let together = self.data_bytes.saturating_add(bytes.len());
        if bytes.len() <= PIECE_BYTES_MAX && together <= EVENT_DATA_BYTES_MAX {
            self.data_bytes = together;
            return v1::payload::Body::Data(bytes);
        }
        let transfer_id = self.transfers.next();
        let mut rest = bytes;
        loop {
            let data = rest.split_to(rest.len().min(PIECE_BYTES_MAX));
            let last = rest.is_empty();
            self.pieces.push(v1::PayloadPiece { transfer_id, data, last });
            if last {
                return v1::payload::Body::TransferId(transfer_id);
            }
        }
    }

    fn llm_call(&mut self, call: &LlmCall) -> Result<v1::LlmCall, ReadError> {
        Ok(v1::LlmCall {
            request: self.optional(call.request.as_ref())?,
            response: self.optional(call.response.as_ref())?,
            usage: Some(usage(&call.usage)),
        })
    }
}

fn body(body: &Body, out: &mut Outgoing<'_>) -> Result<v1::event::Body, ReadError> {
    Ok(match body {
        Body::SessionStarted(started) => v1::event::Body::SessionStarted(session_started(started, out)?),
        Body::LeaseGranted(granted) => v1::event::Body::LeaseGranted(lease_granted(granted)),
        Body::LeaseReleased { epoch, reason } => v1::event::Body::LeaseReleased(v1::LeaseReleased {
            epoch: epoch.0,
            reason: enums::release_reason_to_wire(*reason).into(),
        }),
        Body::SessionPaused { reason, step_key, details } => {
            v1::event::Body::SessionPaused(v1::SessionPaused {
                reason: enums::pause_reason_to_wire(*reason).into(),
                step_key: step_key.as_deref().unwrap_or_default().to_owned(),
                details: out.optional(details.as_ref())?,
            })
        }
        Body::SessionResumed { by, retry } => {
            v1::event::Body::SessionResumed(v1::SessionResumed { by: by.to_string(), retry: *retry })
        }
        Body::SessionCompleted { output } => {
            v1::event::Body::SessionCompleted(v1::SessionCompleted { output: out.required(output)? })
        }
        Body::SessionFailed { failure } => {
            v1::event::Body::SessionFailed(v1::SessionFailed { failure: out.required(failure)? })
        }
        Body::SessionCancelled(cancelled) => {
            v1::event::Body::SessionCancelled(tree::session_cancelled(cancelled))
        }
        Body::SessionContinued(continued) => {
            v1::event::Body::SessionContinued(tree::session_continued(continued, out)?)
        }
        Body::CancelRequested { reason, by } => v1::event::Body::CancelRequested(v1::CancelRequested {
            reason: reason.to_string(),
            by: by.to_string(),
        }),
        Body::ForkEdited(edited) => v1::event::Body::ForkEdited(fork_edited(edited, out)?),
        Body::DivergenceAccepted(accepted) => v1::event::Body::DivergenceAccepted(v1::DivergenceAccepted {
            step_key: accepted.step_key.to_string(),
            input_digest: digest(accepted.input_digest.as_ref()),
            drop: accepted.drop,
            by: accepted.by.to_string(),
        }),
        Body::StepCompleted(step) => v1::event::Body::StepCompleted(step_completed(step, out)?),
        Body::StepFailed(step) => v1::event::Body::StepFailed(step_failed(step, out)?),
        Body::StepHeartbeat { step_key, attempt, details } => {
            v1::event::Body::StepHeartbeat(v1::StepHeartbeat {
                step_key: step_key.to_string(),
                attempt: *attempt,
                details: out.required(details)?,
            })
        }
        Body::GuardIntent(intent) => v1::event::Body::GuardIntent(guard_intent(intent, out)?),
        Body::GuardUnknown { step_key, attempt, reason, failure } => {
            v1::event::Body::GuardUnknown(v1::GuardUnknown {
                step_key: step_key.to_string(),
                attempt: *attempt,
                reason: enums::unknown_reason_to_wire(*reason).into(),
                failure: out.optional(failure.as_ref())?,
            })
        }
        Body::GuardResolved(resolved) => v1::event::Body::GuardResolved(guard_resolved(resolved, out)?),
        Body::ZoneEntered { zone_key, name, attempt, input_digest } => {
            v1::event::Body::ZoneEntered(v1::ZoneEntered {
                zone_key: zone_key.to_string(),
                name: name.to_string(),
                attempt: *attempt,
                input_digest: digest(input_digest.as_ref()),
            })
        }
        Body::ZoneCommitted(zone) => v1::event::Body::ZoneCommitted(zone_committed(zone, out)?),
        Body::ZoneFailed(zone) => v1::event::Body::ZoneFailed(zone_failed(zone, out)?),
        Body::ZoneRolledBack(zone) => v1::event::Body::ZoneRolledBack(zone_rolled_back(zone)),
        Body::TimerStarted { step_key, name, due } => v1::event::Body::TimerStarted(v1::TimerStarted {
            step_key: step_key.to_string(),
            name: name.to_string(),
            due_ms: due.0,
            delay_ms: 0,
        }),
        Body::TimerFired { step_key } => {
            v1::event::Body::TimerFired(v1::TimerFired { step_key: step_key.to_string() })
        }
        Body::SignalReceived(signal) => v1::event::Body::SignalReceived(v1::SignalReceived {
            name: signal.name.to_string(),
            signal_id: signal.id.as_deref().unwrap_or_default().to_owned(),
            value: out.required(&signal.value)?,
            by: signal.by.to_string(),
        }),
        Body::SignalAwaited { step_key, name, due } => v1::event::Body::SignalAwaited(v1::SignalAwaited {
            step_key: step_key.to_string(),
            name: name.to_string(),
            due_ms: waits::due_ms(*due),
            timeout_ms: 0,
        }),
        Body::SignalDelivered { step_key, signal } => v1::event::Body::SignalDelivered(v1::SignalDelivered {
            step_key: step_key.to_string(),
            signal_seq: signal.map_or(0, |seq| seq.0),
        }),
        Body::ChildSpawned(child) => v1::event::Body::ChildSpawned(tree::child_spawned(child, out)?),
        Body::ChildEnded(ended) => v1::event::Body::ChildEnded(tree::child_ended(ended, out)?),
        Body::ChildCancelRequested { step_key, reason } => {
            v1::event::Body::ChildCancelRequested(v1::ChildCancelRequested {
                step_key: step_key.to_string(),
                reason: reason.to_string(),
            })
        }
        Body::WaitDropped { step_key } => {
            v1::event::Body::WaitDropped(v1::WaitDropped { step_key: step_key.to_string() })
        }
        Body::ApprovalRequested(request) => v1::event::Body::ApprovalRequested(v1::ApprovalRequested {
            step_key: request.step_key.to_string(),
            name: request.name.to_string(),
            call: out.required(&request.call)?,
            args_digest: digest(Some(&request.args_digest)),
            due_ms: waits::due_ms(request.due),
            expires_in_ms: 0,
        }),
        Body::ApprovalDecided(decided) => v1::event::Body::ApprovalDecided(v1::ApprovalDecided {
            step_key: decided.step_key.to_string(),
            decision: enums::decision_to_wire(decided.decision).into(),
            by: decided.by.to_string(),
            comment: out.optional(decided.comment.as_ref())?,
        }),
        Body::BudgetReserved { step_key, attempt, call, amounts } => {
            v1::event::Body::BudgetReserved(budget::reserved_to_wire(step_key, *attempt, *call, *amounts))
        }
        Body::BudgetRaised { limits, by } => v1::event::Body::BudgetRaised(v1::BudgetRaised {
            limits: Some(budget::limits_to_wire(limits)),
            by: by.to_string(),
        }),
        Body::BudgetReleased { step_key, attempt } => v1::event::Body::BudgetReleased(v1::BudgetReleased {
            step_key: step_key.to_string(),
            attempt: *attempt,
        }),
        Body::LabelsSet(change) => v1::event::Body::LabelsSet(v1::LabelsSet {
            set: labels(&change.set),
            removed: change.removed.iter().map(ToString::to_string).collect(),
            by: change.by.to_string(),
        }),
        Body::SessionReleased { incarnation, by } => v1::event::Body::SessionReleased(v1::SessionReleased {
            incarnation: incarnation.to_string(),
            by: by.to_string(),
        }),
        Body::TokenCreated(token) => v1::event::Body::TokenCreated(token_created(token)),
        Body::TokenRevoked { token } => {
            v1::event::Body::TokenRevoked(v1::TokenRevoked { token_id: token.to_string() })
        }
        Body::WorkflowRegistered(code) => v1::event::Body::WorkflowRegistered(v1::WorkflowRegistered {
            workflow: code.workflow.to_string(),
            version: code.version.to_string(),
            compatible: code.compatible.iter().map(ToString::to_string).collect(),
        }),
        Body::WorkflowDrained(drained) => v1::event::Body::WorkflowDrained(v1::WorkflowDrained {
            workflow: drained.workflow.to_string(),
            version: drained.version.to_string(),
            draining: drained.draining,
            by: drained.by.to_string(),
        }),
        Body::Archive(event) => v1::event::Body::ArchiveChanged(archive_changed(event)),
    })
}

fn archive_changed(event: &ArchiveEvent) -> v1::ArchiveChanged {
    let one = |lineage: &LineageId| vec![lineage.to_string()];
    let many = |lineages: &[LineageId]| lineages.iter().map(ToString::to_string).collect();
    let (what, claim, lineage_ids) = match event {
        ArchiveEvent::Claimed(claimed) => ("claimed", Some(claimed.claim), many(&claimed.lineages)),
        ArchiveEvent::Dropped { claim, lineages } => ("dropped", Some(*claim), many(lineages)),
        ArchiveEvent::Committed(committed) => {
            let lineages = committed.lineages.iter().map(|moved| moved.lineage.to_string());
            ("committed", Some(committed.claim), lineages.collect())
        }
        ArchiveEvent::Published { claim } => ("published", Some(*claim), Vec::new()),
        ArchiveEvent::Restored { claim, lineage, .. } => ("restored", Some(*claim), one(lineage)),
        ArchiveEvent::Erased { lineage, .. } => ("erased", None, one(lineage)),
        ArchiveEvent::Rewritten(rewritten) => {
            let lineages = rewritten.lineages.iter().map(|(lineage, _)| lineage.to_string()).collect();
            ("rewritten", Some(rewritten.claim), lineages)
        }
        ArchiveEvent::Held { lineage, held: true, .. } => ("held", None, one(lineage)),
        ArchiveEvent::Held { lineage, held: false, .. } => ("lifted", None, one(lineage)),
        ArchiveEvent::Reclaimed { .. } => ("reclaimed", None, Vec::new()),
    };
    let manifest = match event {
        ArchiveEvent::Committed(committed) => committed.manifest.to_string(),
        ArchiveEvent::Rewritten(rewritten) => rewritten.manifest.to_string(),
        _ => String::new(),
    };
    let claim_id = claim.map(|claim| claim.to_string()).unwrap_or_default();
    v1::ArchiveChanged { what: what.to_owned(), claim_id, lineage_ids, manifest }
}

fn session_started(
    started: &SessionStarted,
    out: &mut Outgoing<'_>,
) -> Result<v1::SessionStarted, ReadError> {
    Ok(v1::SessionStarted {
        namespace: started.namespace.to_string(),
        workflow: started.workflow.to_string(),
        version: started.version.to_string(),
        generation: started.generation,
        key: out.optional(started.key.as_ref())?,
        input: out.required(&started.input)?,
        lineage_id: started.lineage.to_string(),
        root_id: started.root.to_string(),
        forked_from_session: started.forked_from.map(|from| from.parent.to_string()).unwrap_or_default(),
        forked_from_seq: started.forked_from.map_or(0, |from| from.seq.0),
        effects_live: started.forked_from.is_some_and(|from| from.live),
        parent_id: started.parent.as_ref().map(|parent| parent.session.to_string()).unwrap_or_default(),
        parent_step_key: started
            .parent
            .as_ref()
            .map(|parent| parent.step_key.to_string())
            .unwrap_or_default(),
        top_id: started.top.to_string(),
        continued_from: started.continued_from.map(|session| session.to_string()).unwrap_or_default(),
        labels: labels(&started.labels),
        deadline_ms: started.deadline.map_or(0, |deadline| deadline.0),
        depth: started.depth,
        abandoned: started.parent.as_ref().is_some_and(|parent| parent.abandoned),
        budget: budget::of_start(started.session, &started.budget),
    })
}

fn fork_edited(edited: &ForkEdited, out: &mut Outgoing<'_>) -> Result<v1::ForkEdited, ReadError> {
    let payload = out.payload(edited.edit.payload())?;
    Ok(v1::ForkEdited {
        step_key: edited.edit.step_key().map(ToString::to_string).unwrap_or_default(),
        edit: Some(match &edited.edit {
            Edit::Input(_) => v1::fork_edited::Edit::Input(payload),
            Edit::Output { .. } => v1::fork_edited::Edit::Output(payload),
            Edit::Failure { .. } => v1::fork_edited::Edit::Failure(payload),
        }),
        replaces_seq: edited.replaces.map_or(0, |seq| seq.0),
    })
}

fn lease_granted(granted: &LeaseGranted) -> v1::LeaseGranted {
    v1::LeaseGranted {
        epoch: granted.epoch.0,
        instance: granted.instance.to_string(),
        takeover: granted.takeover,
        incarnation: granted.incarnation.to_string(),
    }
}

fn step_completed(step: &StepCompleted, out: &mut Outgoing<'_>) -> Result<v1::StepCompleted, ReadError> {
    let owner = step.deduplicated_from.as_ref();
    Ok(v1::StepCompleted {
        step_key: step.step_key.to_string(),
        name: step.name.to_string(),
        attempt: step.attempt,
        input_digest: digest(step.input_digest.as_ref()),
        input: out.optional(step.input.as_ref())?,
        output: out.required(&step.output)?,
        llm: step.llm.as_ref().map(|call| out.llm_call(call)).transpose()?,
        resources: step.resources.iter().map(resource).collect(),
        cost_nanos: step.cost.0,
        duration_us: step.duration_us,
        deduplicated_from: owner.map(|(session, seq)| format!("{session}:{seq}")).unwrap_or_default(),
        guarded: step.guarded,
    })
}

fn step_failed(step: &StepFailed, out: &mut Outgoing<'_>) -> Result<v1::StepFailed, ReadError> {
    Ok(v1::StepFailed {
        step_key: step.step_key.to_string(),
        name: step.name.to_string(),
        attempt: step.attempt,
        input_digest: digest(step.input_digest.as_ref()),
        failure: out.required(&step.failure)?,
        r#final: step.is_final,
        retry_at_ms: step.retry_at.map_or(0, |at| at.0),
        usage: step.usage.as_ref().map(usage),
        duration_us: step.duration_us,
        guarded: step.guarded,
    })
}

fn guard_intent(intent: &GuardIntent, out: &mut Outgoing<'_>) -> Result<v1::GuardIntent, ReadError> {
    Ok(v1::GuardIntent {
        step_key: intent.step_key.to_string(),
        name: intent.name.to_string(),
        attempt: intent.attempt,
        input_digest: digest(Some(&intent.input_digest)),
        attempt_ms: intent.attempt_ms,
        grace_ms: intent.grace_ms,
        policy: enums::guard_policy_to_wire(intent.policy).into(),
        idempotency_key: out.required(&intent.idempotency_key)?,
        input_hash: Bytes::new(),
        refuse_in_flight: false,
    })
}

fn guard_resolved(resolved: &GuardResolved, out: &mut Outgoing<'_>) -> Result<v1::GuardResolved, ReadError> {
    let (resolution, output, failure) = match &resolved.resolution {
        Resolution::Output(output) => (v1::Resolution::Output, Some(output), None),
        Resolution::Failure(failure) => (v1::Resolution::Failure, None, failure.as_ref()),
        Resolution::NotApplied(failure) => (v1::Resolution::NotApplied, None, failure.as_ref()),
        Resolution::Retry => (v1::Resolution::Retry, None, None),
    };
    Ok(v1::GuardResolved {
        step_key: resolved.step_key.to_string(),
        attempt: resolved.attempt,
        resolution: resolution.into(),
        output: out.optional(output)?,
        failure: out.optional(failure)?,
        by: resolved.by.to_string(),
    })
}

fn zone_committed(zone: &ZoneCommitted, out: &mut Outgoing<'_>) -> Result<v1::ZoneCommitted, ReadError> {
    Ok(v1::ZoneCommitted {
        zone_key: zone.zone_key.to_string(),
        attempt: zone.attempt,
        output: out.optional(zone.output.as_ref())?,
        record: out.required(&zone.record)?,
        llm_calls: zone.llm_calls.iter().map(|call| out.llm_call(call)).collect::<Result<_, _>>()?,
        duration_us: zone.duration_us,
        cost_nanos: zone.cost.0,
    })
}

fn zone_failed(zone: &ZoneFailed, out: &mut Outgoing<'_>) -> Result<v1::ZoneFailed, ReadError> {
    Ok(v1::ZoneFailed {
        zone_key: zone.zone_key.to_string(),
        attempt: zone.attempt,
        failure: out.required(&zone.failure)?,
        r#final: zone.is_final,
        usage: zone.usage.iter().map(usage).collect(),
        retry_at_ms: zone.retry_at.map_or(0, |at| at.0),
    })
}

fn zone_rolled_back(zone: &ZoneRolledBack) -> v1::ZoneRolledBack {
    v1::ZoneRolledBack {
        zone_key: zone.zone_key.to_string(),
        attempt: zone.attempt,
        reason: enums::rollback_reason_to_wire(zone.reason).into(),
        evidence_bytes: zone.evidence_bytes,
        wasted_tokens: zone.wasted_tokens,
    }
}

fn token_created(token: &TokenCreated) -> v1::TokenCreated {
    v1::TokenCreated {
        token_id: token.token.to_string(),
        name: token.name.to_string(),
        role: enums::role_to_wire(token.role).into(),
        namespace: token.namespace.to_string(),
        expires_ms: token.expires.map_or(0, |at| at.0),
    }
}

fn usage(used: &Usage) -> v1::Usage {
    v1::Usage {
        provider: used.provider.to_string(),
        model: used.model.to_string(),
        input_tokens: used.input_tokens,
        cached_read_tokens: used.cached_read_tokens,
        cache_write_tokens: used.cache_write_tokens,
        output_tokens: used.output_tokens,
        estimated: used.estimated,
        cost_nanos: used.cost.map(|cost| cost.0),
        price_date: used.price_date.to_string(),
    }
}

fn resource(used: &Resource) -> v1::Resource {
    v1::Resource {
        kind: used.kind.to_string(),
        id: used.id.to_string(),
        mode: enums::resource_mode_to_wire(used.mode).into(),
        range: used.range.to_string(),
    }
}

fn digest(digest: Option<&Digest>) -> Bytes {
    digest.map(|digest| Bytes::copy_from_slice(&digest.0)).unwrap_or_default()
}

/// Labels as the wire has them.
pub(super) fn labels(labels: &Labels) -> std::collections::HashMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}
