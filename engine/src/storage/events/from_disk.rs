//! Stored header → event, strictly (R3).

use bytes::Bytes;
use cellaflow_proto::disk::{self, event_header};

use super::{tree, waits};
use crate::graph::event::{
    After, Author, Body, DivergenceAccepted, Edit, Event, ForkEdited, ForkedFrom, GuardIntent, GuardResolved,
    LabelsSet, LeaseGranted, LlmCall, PayloadRef, Resolution, Resource, SessionCancelled, SessionContinued,
    SessionStarted, StepCompleted, StepFailed, TokenCreated, Usage, WorkflowDrained, WorkflowRegistered,
    ZoneCommitted, ZoneFailed, ZoneRolledBack,
};
use crate::graph::ids::{
    DedupeId, Digest, Epoch, Incarnation, InstanceId, LineageId, NanoDollars, Seq, SessionId, TimeMs, TokenId,
};
use crate::storage::archives;
use crate::storage::budgets;
use crate::storage::fields::{
    Malformed, digest_or_none, epoch, exact, exact_or_none, guard_policy_from, labels_from, malformed,
    parent, pause_reason_from, payload_from, payload_optional, payload_required, present,
    release_reason_from, resource_mode_from, role_from, rollback_reason_from, seq, text_or_none, top,
    unknown_reason_from,
};

pub(super) fn event(header: disk::EventHeader) -> Result<Event, Malformed> {
    let after = match header.after_seq {
        Some(seq) => Some(After { seq: Seq(seq), requests: header.after_requests }),
        None if header.after_requests == 0 => None,
        None => return Err(malformed("after_seq", "is missing beside after_requests")),
    };
    Ok(Event {
        seq: seq(header.seq, "seq")?,
        time: TimeMs(header.time_ms),
        author: author(&header)?,
        after,
        state_delta: payload_optional(header.state_delta.as_ref())?,
        conversation_delta: payload_optional(header.conversation_delta.as_ref())?,
        body: body(present(header.body, "body")?)?,
    })
}

fn author(header: &disk::EventHeader) -> Result<Author, Malformed> {
    let id = exact_or_none(&header.dedupe_id, "dedupe_id")?.map(DedupeId);
    match (disk::Author::try_from(header.author), header.epoch, id) {
        (Ok(disk::Author::Worker), 1.., None) => Ok(Author::Worker(Epoch(header.epoch))),
        (Ok(disk::Author::Client), 0, id) => Ok(Author::Client(id)),
        (Ok(disk::Author::Driver), 0, None) => Ok(Author::Driver),
        (Ok(disk::Author::Operator), 0, id) => Ok(Author::Operator(id)),
        (Ok(disk::Author::Unspecified) | Err(_), _, _) => {
            let value = header.author;
            Err(malformed("author", format!("has the unknown value {value}")))
        }
        (Ok(author), epoch, _) => {
            let problem = format!("{author:?} does not fit epoch {epoch} and dedupe_id");
            Err(malformed("author", problem))
        }
    }
}

fn body(body: event_header::Body) -> Result<Body, Malformed> {
    use event_header::Body as Stored;
    Ok(match body {
        Stored::SessionStarted(started) => Body::SessionStarted(session_started(&started)?),
        Stored::LeaseGranted(granted) => Body::LeaseGranted(lease_granted(&granted)?),
        Stored::LeaseReleased(released) => Body::LeaseReleased {
            epoch: epoch(released.epoch, "lease_released.epoch")?,
            reason: release_reason_from(released.reason)?,
        },
        Stored::SessionPaused(paused) => Body::SessionPaused {
            reason: pause_reason_from(paused.reason)?,
            step_key: text_or_none(&paused.step_key),
            details: payload_optional(paused.details.as_ref())?,
        },
        Stored::SessionResumed(resumed) => {
            Body::SessionResumed { by: resumed.by.into(), retry: resumed.retry }
        }
        Stored::SessionCompleted(done) => Body::SessionCompleted {
            output: payload_required(done.output.as_ref(), "session_completed.output")?,
        },
        Stored::SessionFailed(failed) => Body::SessionFailed {
            failure: payload_required(failed.failure.as_ref(), "session_failed.failure")?,
        },
        Stored::SessionCancelled(cancelled) => Body::SessionCancelled(SessionCancelled {
            reason: cancelled.reason.into(),
            by: cancelled.by.into(),
            terminated: cancelled.terminated,
            unknown: cancelled.unknown_step_keys.into_iter().map(Into::into).collect(),
        }),
        Stored::SessionContinued(continued) => Body::SessionContinued(session_continued(continued)?),
        Stored::CancelRequested(request) => {
            Body::CancelRequested { reason: request.reason.into(), by: request.by.into() }
        }
        Stored::ForkEdited(edited) => Body::ForkEdited(fork_edited(&edited)?),
        Stored::DivergenceAccepted(accepted) => Body::DivergenceAccepted(DivergenceAccepted {
            input_digest: digest_or_none(&accepted.input_digest, "divergence_accepted.input_digest")?,
            drop: accepted.drop,
            step_key: accepted.step_key.into(),
            by: accepted.by.into(),
        }),
        Stored::StepCompleted(step) => Body::StepCompleted(step_completed(step)?),
        Stored::StepFailed(step) => Body::StepFailed(step_failed(step)?),
        Stored::StepHeartbeat(beat) => Body::StepHeartbeat {
            details: payload_required(beat.details.as_ref(), "step_heartbeat.details")?,
            attempt: beat.attempt,
            step_key: beat.step_key.into(),
        },
        Stored::GuardIntent(intent) => Body::GuardIntent(guard_intent(intent)?),
        Stored::GuardUnknown(unknown) => Body::GuardUnknown {
            reason: unknown_reason_from(unknown.reason)?,
            failure: payload_optional(unknown.failure.as_ref())?,
            attempt: unknown.attempt,
            step_key: unknown.step_key.into(),
        },
        Stored::GuardResolved(resolved) => Body::GuardResolved(guard_resolved(resolved)?),
        Stored::ZoneEntered(zone) => Body::ZoneEntered {
            input_digest: digest_or_none(&zone.input_digest, "zone_entered.input_digest")?,
            attempt: zone.attempt,
            zone_key: zone.zone_key.into(),
            name: zone.name.into(),
        },
        Stored::ZoneCommitted(zone) => Body::ZoneCommitted(zone_committed(zone)?),
        Stored::ZoneFailed(zone) => Body::ZoneFailed(zone_failed(zone)?),
        Stored::ZoneRolledBack(zone) => Body::ZoneRolledBack(ZoneRolledBack {
            reason: rollback_reason_from(zone.reason)?,
            attempt: zone.attempt,
            evidence_bytes: zone.evidence_bytes,
            wasted_tokens: zone.wasted_tokens,
            zone_key: zone.zone_key.into(),
        }),
        Stored::TimerStarted(timer) => Body::TimerStarted {
            due: TimeMs(timer.due_ms),
            step_key: timer.step_key.into(),
            name: timer.name.into(),
        },
        Stored::TimerFired(timer) => Body::TimerFired { step_key: timer.step_key.into() },
        Stored::SignalReceived(signal) => waits::signal_received_from(signal)?,
        Stored::SignalAwaited(wait) => Body::SignalAwaited {
            due: wait.due_ms.map(TimeMs),
            step_key: wait.step_key.into(),
            name: wait.name.into(),
        },
        Stored::SignalDelivered(delivered) => waits::signal_delivered_from(delivered),
        Stored::ChildSpawned(child) => tree::child_spawned_from(child)?,
        Stored::ChildEnded(ended) => tree::child_ended_from(ended)?,
        Stored::ChildCancelRequested(request) => {
            Body::ChildCancelRequested { step_key: request.step_key.into(), reason: request.reason.into() }
        }
        Stored::WaitDropped(dropped) => Body::WaitDropped { step_key: dropped.step_key.into() },
        Stored::ApprovalRequested(request) => waits::approval_requested_from(request)?,
        Stored::ApprovalDecided(decided) => waits::approval_decided_from(decided)?,
        Stored::BudgetReserved(reserved) => Body::BudgetReserved {
            amounts: budgets::amounts_from(present(reserved.amounts, "budget_reserved.amounts")?),
            attempt: reserved.attempt,
            call: reserved.call,
            step_key: reserved.step_key.into(),
        },
        Stored::BudgetRaised(raised) => {
            Body::BudgetRaised { limits: budgets::limits_from(raised.limits.as_ref()), by: raised.by.into() }
        }
        Stored::BudgetReleased(released) => {
            Body::BudgetReleased { attempt: released.attempt, step_key: released.step_key.into() }
        }
        Stored::LabelsSet(change) => Body::LabelsSet(LabelsSet {
            set: labels_from(change.set),
            removed: change.removed.into_iter().map(Into::into).collect(),
            by: change.by.into(),
        }),
        Stored::SessionReleased(released) => Body::SessionReleased {
            incarnation: Incarnation(exact(&released.incarnation, "session_released.incarnation")?),
            by: released.by.into(),
        },
        Stored::TokenCreated(token) => Body::TokenCreated(token_created(token)?),
        Stored::TokenRevoked(revoked) => {
            Body::TokenRevoked { token: TokenId(exact(&revoked.token_id, "token_revoked.token_id")?) }
        }
        Stored::WorkflowRegistered(code) => Body::WorkflowRegistered(WorkflowRegistered {
            workflow: code.workflow.into(),
            version: code.version.into(),
            compatible: code.compatible.into_iter().map(Into::into).collect(),
        }),
        Stored::WorkflowDrained(drained) => Body::WorkflowDrained(WorkflowDrained {
            workflow: drained.workflow.into(),
            version: drained.version.into(),
            draining: drained.draining,
            by: drained.by.into(),
        }),
        Stored::ArchiveChanged(changed) => Body::Archive(archives::event_from(changed)?),
    })
}

fn session_started(started: &disk::SessionStarted) -> Result<SessionStarted, Malformed> {
    Ok(SessionStarted {
        session: SessionId(exact(&started.session_id, "session_started.session_id")?),
        namespace: started.namespace.as_str().into(),
        workflow: started.workflow.as_str().into(),
        version: started.version.as_str().into(),
        generation: started.generation,
        key: payload_optional(started.key.as_ref())?,
        input: payload_required(started.input.as_ref(), "session_started.input")?,
        lineage: LineageId(exact(&started.lineage_id, "session_started.lineage_id")?),
        root: SessionId(exact(&started.root_id, "session_started.root_id")?),
        forked_from: forked_from(started)?,
        system: started.system,
        parent: parent(
            &started.spawned_by,
            &started.spawned_by_step_key,
            started.abandoned,
            "session_started.spawned_by",
        )?,
        top: top(&started.top_id, &started.session_id, "session_started.top_id")?,
        depth: started.depth,
        budget: budgets::start_from(started.budget.as_ref())?,
        continued_from: exact_or_none(&started.continued_from, "session_started.continued_from")?
            .map(SessionId),
        labels: labels_from(started.labels.clone()),
        incarnation: exact_or_none(&started.incarnation, "session_started.incarnation")?.map(Incarnation),
        deadline: started.deadline_ms.map(TimeMs),
    })
}

fn session_continued(continued: disk::SessionContinued) -> Result<SessionContinued, Malformed> {
    Ok(SessionContinued {
        successor: SessionId(exact(&continued.successor_id, "session_continued.successor_id")?),
        input: payload_required(continued.input.as_ref(), "session_continued.input")?,
        state: payload_optional(continued.state.as_ref())?,
        conversation: payload_optional(continued.conversation.as_ref())?,
        version: continued.version.into(),
    })
}

fn forked_from(started: &disk::SessionStarted) -> Result<Option<ForkedFrom>, Malformed> {
    const FIELD: &str = "session_started.parent_id";
    match place(&started.parent_id, started.parent_seq, FIELD)? {
        Some((parent, seq)) => Ok(Some(ForkedFrom { parent, seq, live: started.effects_live })),
        None if started.effects_live => Err(malformed(FIELD, "is missing beside effects_live")),
        None => Ok(None),
    }
}

fn fork_edited(edited: &disk::ForkEdited) -> Result<ForkEdited, Malformed> {
    const FIELD: &str = "fork_edited.edit";
    let input = payload_optional(edited.input.as_ref())?;
    let output = payload_optional(edited.output.as_ref())?;
    let failure = payload_optional(edited.failure.as_ref())?;
    let step_key = text_or_none(&edited.step_key);
    let edit = match (step_key, input, output, failure) {
        (None, Some(input), None, None) => Edit::Input(input),
        (Some(step_key), None, Some(output), None) => Edit::Output { step_key, output },
        (Some(step_key), None, None, Some(failure)) => Edit::Failure { step_key, failure },
        _ => return Err(malformed(FIELD, "is not one of input, output and failure, each with its step")),
    };
    Ok(ForkEdited { edit, replaces: (edited.replaces_seq != 0).then_some(Seq(edited.replaces_seq)) })
}

/// A position in another session: both parts or none.
fn place(id: &Bytes, at: u64, field: &'static str) -> Result<Option<(SessionId, Seq)>, Malformed> {
    match exact_or_none(id, field)? {
        Some(id) => Ok(Some((SessionId(id), Seq(at)))),
        None if at == 0 => Ok(None),
        None => Err(malformed(field, "is missing beside its seq")),
    }
}

fn lease_granted(granted: &disk::LeaseGranted) -> Result<LeaseGranted, Malformed> {
    Ok(LeaseGranted {
        epoch: epoch(granted.epoch, "lease_granted.epoch")?,
        instance: InstanceId(exact(&granted.instance, "lease_granted.instance")?),
        takeover: granted.takeover,
        incarnation: Incarnation(exact(&granted.incarnation, "lease_granted.incarnation")?),
    })
}

fn step_completed(step: disk::StepCompleted) -> Result<StepCompleted, Malformed> {
    Ok(StepCompleted {
        input_digest: digest_or_none(&step.input_digest, "step_completed.input_digest")?,
        input: payload_optional(step.input.as_ref())?,
        output: payload_required(step.output.as_ref(), "step_completed.output")?,
        llm: step.llm.map(llm_call).transpose()?,
        resources: each(step.resources, resource)?,
        cost: NanoDollars(step.cost_nanos),
        duration_us: step.duration_us,
        deduplicated_from: place(
            &step.deduplicated_from_session,
            step.deduplicated_from_seq,
            "step_completed.deduplicated_from_session",
        )?,
        guarded: step.guarded,
        attempt: step.attempt,
        step_key: step.step_key.into(),
        name: step.name.into(),
    })
}

fn step_failed(step: disk::StepFailed) -> Result<StepFailed, Malformed> {
    Ok(StepFailed {
        input_digest: digest_or_none(&step.input_digest, "step_failed.input_digest")?,
        failure: payload_required(step.failure.as_ref(), "step_failed.failure")?,
        is_final: step.r#final,
        retry_at: step.retry_at_ms.map(TimeMs),
        usage: step.usage.map(usage),
        duration_us: step.duration_us,
        guarded: step.guarded,
        attempt: step.attempt,
        step_key: step.step_key.into(),
        name: step.name.into(),
    })
}

fn llm_call(call: disk::LlmCall) -> Result<LlmCall, Malformed> {
    Ok(LlmCall {
        request: payload_optional(call.request.as_ref())?,
        response: payload_optional(call.response.as_ref())?,
        usage: usage(present(call.usage, "llm.usage")?),
    })
}

fn usage(usage: disk::Usage) -> Usage {
    Usage {
        provider: usage.provider.into(),
        model: usage.model.into(),
        input_tokens: usage.input_tokens,
        cached_read_tokens: usage.cached_read_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        output_tokens: usage.output_tokens,
        estimated: usage.estimated,
        cost: usage.cost_nanos.map(NanoDollars),
        price_date: usage.price_date.into(),
    }
}

fn resource(resource: disk::Resource) -> Result<Resource, Malformed> {
    Ok(Resource {
        mode: resource_mode_from(resource.mode)?,
        kind: resource.kind.into(),
        id: resource.id.into(),
        range: resource.range.into(),
    })
}

fn guard_intent(intent: disk::GuardIntent) -> Result<GuardIntent, Malformed> {
    let key = intent.idempotency_key.as_ref();
    Ok(GuardIntent {
        input_digest: Digest(exact(&intent.input_digest, "guard_intent.input_digest")?),
        attempt_ms: intent.attempt_ms,
        grace_ms: intent.grace_ms,
        policy: guard_policy_from(intent.policy)?,
        idempotency_key: payload_required(key, "guard_intent.idempotency_key")?,
        attempt: intent.attempt,
        step_key: intent.step_key.into(),
        name: intent.name.into(),
    })
}

fn guard_resolved(resolved: disk::GuardResolved) -> Result<GuardResolved, Malformed> {
    Ok(GuardResolved {
        resolution: resolution(resolved.resolution, resolved.payload.as_ref())?,
        attempt: resolved.attempt,
        step_key: resolved.step_key.into(),
        by: resolved.by.into(),
    })
}

fn resolution(value: i32, payload: Option<&disk::PayloadRef>) -> Result<Resolution, Malformed> {
    let payload: Option<PayloadRef> = payload.map(payload_from).transpose()?;
    match (disk::Resolution::try_from(value), payload) {
        (Ok(disk::Resolution::Output), Some(output)) => Ok(Resolution::Output(output)),
        (Ok(disk::Resolution::Failure), failure) => Ok(Resolution::Failure(failure)),
        (Ok(disk::Resolution::NotApplied), thrown) => Ok(Resolution::NotApplied(thrown)),
        (Ok(disk::Resolution::Retry), None) => Ok(Resolution::Retry),
        (Ok(disk::Resolution::Output), None) => Err(malformed("guard_resolved.payload", "is missing")),
        (Ok(disk::Resolution::Retry), Some(_)) => {
            Err(malformed("guard_resolved.payload", "does not belong to a retry"))
        }
        (Ok(disk::Resolution::Unspecified) | Err(_), _) => {
            Err(malformed("guard_resolved.resolution", format!("has the unknown value {value}")))
        }
    }
}

fn zone_committed(zone: disk::ZoneCommitted) -> Result<ZoneCommitted, Malformed> {
    Ok(ZoneCommitted {
        output: payload_optional(zone.output.as_ref())?,
        record: payload_required(zone.record.as_ref(), "zone_committed.record")?,
        llm_calls: each(zone.llm_calls, llm_call)?,
        duration_us: zone.duration_us,
        cost: NanoDollars(zone.cost_nanos),
        attempt: zone.attempt,
        zone_key: zone.zone_key.into(),
    })
}

fn zone_failed(zone: disk::ZoneFailed) -> Result<ZoneFailed, Malformed> {
    Ok(ZoneFailed {
        failure: payload_required(zone.failure.as_ref(), "zone_failed.failure")?,
        is_final: zone.r#final,
        usage: zone.usage.into_iter().map(usage).collect(),
        retry_at: zone.retry_at_ms.map(TimeMs),
        attempt: zone.attempt,
        zone_key: zone.zone_key.into(),
    })
}

fn token_created(token: disk::TokenCreated) -> Result<TokenCreated, Malformed> {
    Ok(TokenCreated {
        token: TokenId(exact(&token.token_id, "token_created.token_id")?),
        role: role_from(token.role)?,
        expires: token.expires_ms.map(TimeMs),
        secret_hash: Digest(exact(&token.secret_hash, "token_created.secret_hash")?),
        name: token.name.into(),
        namespace: token.namespace.into(),
    })
}

fn each<S, T>(stored: Vec<S>, convert: impl Fn(S) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    stored.into_iter().map(convert).collect()
}
