//! Event → stored header.

use bytes::Bytes;
use cellaflow_proto::disk::{self, event_header};

use super::{tree, waits};
use crate::graph::event::{
    Author, Body, Edit, Event, ForkEdited, GuardIntent, GuardResolved, LeaseGranted, LlmCall, PayloadRef,
    Resolution, Resource, SessionContinued, SessionStarted, StepCompleted, StepFailed, TokenCreated, Usage,
    ZoneCommitted, ZoneFailed, ZoneRolledBack,
};
use crate::graph::ids::{Digest, Epoch};
use crate::storage::archives;
use crate::storage::budgets;
use crate::storage::fields::{
    bytes_of, bytes_or_empty, guard_policy_to, labels_to, parent_step_key, pause_reason_to, payload_to,
    release_reason_to, resource_mode_to, role_to, rollback_reason_to, top_to, unknown_reason_to,
};

pub(super) fn header(event: &Event) -> disk::EventHeader {
    let (author, epoch, dedupe) = match event.author {
        Author::Worker(epoch) => (disk::Author::Worker, epoch, None),
        Author::Client(id) => (disk::Author::Client, Epoch(0), id),
        Author::Driver => (disk::Author::Driver, Epoch(0), None),
        Author::Operator(id) => (disk::Author::Operator, Epoch(0), id),
    };
    disk::EventHeader {
        seq: event.seq.0,
        time_ms: event.time.0,
        author: author as i32,
        epoch: epoch.0,
        dedupe_id: bytes_or_empty(dedupe.map(|id| id.0)),
        after_seq: event.after.map(|after| after.seq.0),
        after_requests: event.after.map_or(0, |after| after.requests),
        state_delta: event.state_delta.as_ref().map(payload_to),
        conversation_delta: event.conversation_delta.as_ref().map(payload_to),
        body: Some(body(&event.body)),
    }
}

fn body(body: &Body) -> event_header::Body {
    use event_header::Body as Stored;
    match body {
        Body::SessionStarted(started) => Stored::SessionStarted(session_started(started)),
        Body::LeaseGranted(granted) => Stored::LeaseGranted(lease_granted(granted)),
        Body::LeaseReleased { epoch, reason } => {
            Stored::LeaseReleased(disk::LeaseReleased { epoch: epoch.0, reason: release_reason_to(*reason) })
        }
        Body::SessionPaused { reason, step_key, details } => Stored::SessionPaused(disk::SessionPaused {
            reason: pause_reason_to(*reason),
            step_key: step_key.as_deref().unwrap_or_default().to_owned(),
            details: optional(details),
        }),
        Body::SessionResumed { by, retry } => {
            Stored::SessionResumed(disk::SessionResumed { by: by.to_string(), retry: *retry })
        }
        Body::SessionCompleted { output } => {
            Stored::SessionCompleted(disk::SessionCompleted { output: Some(payload_to(output)) })
        }
        Body::SessionFailed { failure } => {
            Stored::SessionFailed(disk::SessionFailed { failure: Some(payload_to(failure)) })
        }
        Body::SessionCancelled(cancelled) => Stored::SessionCancelled(disk::SessionCancelled {
            reason: cancelled.reason.to_string(),
            by: cancelled.by.to_string(),
            terminated: cancelled.terminated,
            unknown_step_keys: cancelled.unknown.iter().map(ToString::to_string).collect(),
        }),
        Body::SessionContinued(continued) => Stored::SessionContinued(session_continued(continued)),
        Body::CancelRequested { reason, by } => {
            Stored::CancelRequested(disk::CancelRequested { reason: reason.to_string(), by: by.to_string() })
        }
        Body::ForkEdited(edited) => Stored::ForkEdited(fork_edited(edited)),
        Body::DivergenceAccepted(accepted) => Stored::DivergenceAccepted(disk::DivergenceAccepted {
            step_key: accepted.step_key.to_string(),
            input_digest: digest(accepted.input_digest),
            drop: accepted.drop,
            by: accepted.by.to_string(),
        }),
        Body::StepCompleted(step) => Stored::StepCompleted(step_completed(step)),
        Body::StepFailed(step) => Stored::StepFailed(step_failed(step)),
        Body::StepHeartbeat { step_key, attempt, details } => Stored::StepHeartbeat(disk::StepHeartbeat {
            step_key: step_key.to_string(),
            attempt: *attempt,
            details: Some(payload_to(details)),
        }),
        Body::GuardIntent(intent) => Stored::GuardIntent(guard_intent(intent)),
        Body::GuardUnknown { step_key, attempt, reason, failure } => {
            Stored::GuardUnknown(disk::GuardUnknown {
                step_key: step_key.to_string(),
                attempt: *attempt,
                reason: unknown_reason_to(*reason),
                failure: optional(failure),
            })
        }
        Body::GuardResolved(resolved) => Stored::GuardResolved(guard_resolved(resolved)),
        Body::ZoneEntered { zone_key, name, attempt, input_digest } => {
            Stored::ZoneEntered(disk::ZoneEntered {
                zone_key: zone_key.to_string(),
                name: name.to_string(),
                attempt: *attempt,
                input_digest: digest(*input_digest),
            })
        }
        Body::ZoneCommitted(zone) => Stored::ZoneCommitted(zone_committed(zone)),
        Body::ZoneFailed(zone) => Stored::ZoneFailed(zone_failed(zone)),
        Body::ZoneRolledBack(zone) => Stored::ZoneRolledBack(zone_rolled_back(zone)),
        Body::TimerStarted { step_key, name, due } => Stored::TimerStarted(disk::TimerStarted {
            step_key: step_key.to_string(),
            name: name.to_string(),
            due_ms: due.0,
        }),
        Body::TimerFired { step_key } => {
            Stored::TimerFired(disk::TimerFired { step_key: step_key.to_string() })
        }
        Body::SignalReceived(signal) => Stored::SignalReceived(waits::signal_received(signal)),
        Body::SignalAwaited { step_key, name, due } => Stored::SignalAwaited(disk::SignalAwaited {
            step_key: step_key.to_string(),
            name: name.to_string(),
            due_ms: due.map(|due| due.0),
        }),
        Body::SignalDelivered { step_key, signal } => Stored::SignalDelivered(disk::SignalDelivered {
            step_key: step_key.to_string(),
            signal_seq: signal.map_or(0, |seq| seq.0),
        }),
        Body::ChildSpawned(child) => Stored::ChildSpawned(tree::child_spawned(child)),
        Body::ChildEnded(ended) => Stored::ChildEnded(tree::child_ended(ended)),
        Body::ChildCancelRequested { step_key, reason } => {
            Stored::ChildCancelRequested(disk::ChildCancelRequested {
                step_key: step_key.to_string(),
                reason: reason.to_string(),
            })
        }
        Body::WaitDropped { step_key } => {
            Stored::WaitDropped(disk::WaitDropped { step_key: step_key.to_string() })
        }
        Body::ApprovalRequested(request) => Stored::ApprovalRequested(waits::approval_requested(request)),
        Body::ApprovalDecided(decided) => Stored::ApprovalDecided(waits::approval_decided(decided)),
        Body::BudgetReserved { step_key, attempt, call, amounts } => {
            Stored::BudgetReserved(disk::BudgetReserved {
                step_key: step_key.to_string(),
                attempt: *attempt,
                call: *call,
                amounts: Some(budgets::amounts_to(*amounts)),
            })
        }
        Body::BudgetRaised { limits, by } => Stored::BudgetRaised(disk::BudgetRaised {
            limits: budgets::limits_to(limits),
            by: by.to_string(),
        }),
        Body::BudgetReleased { step_key, attempt } => {
            Stored::BudgetReleased(disk::BudgetReleased { step_key: step_key.to_string(), attempt: *attempt })
        }
        Body::LabelsSet(change) => Stored::LabelsSet(disk::LabelsSet {
            set: labels_to(&change.set),
            removed: change.removed.iter().map(ToString::to_string).collect(),
            by: change.by.to_string(),
        }),
        Body::SessionReleased { incarnation, by } => Stored::SessionReleased(disk::SessionReleased {
            incarnation: bytes_of(&incarnation.0),
            by: by.to_string(),
        }),
        Body::TokenCreated(token) => Stored::TokenCreated(token_created(token)),
        Body::TokenRevoked { token } => {
            Stored::TokenRevoked(disk::TokenRevoked { token_id: bytes_of(&token.0) })
        }
        Body::WorkflowRegistered(code) => Stored::WorkflowRegistered(disk::WorkflowRegistered {
            workflow: code.workflow.to_string(),
            version: code.version.to_string(),
            compatible: code.compatible.iter().map(ToString::to_string).collect(),
        }),
        Body::WorkflowDrained(drained) => Stored::WorkflowDrained(disk::WorkflowDrained {
            workflow: drained.workflow.to_string(),
            version: drained.version.to_string(),
            draining: drained.draining,
            by: drained.by.to_string(),
        }),
        Body::Archive(event) => Stored::ArchiveChanged(archives::event_to(event)),
    }
}

fn session_started(started: &SessionStarted) -> disk::SessionStarted {
    disk::SessionStarted {
        session_id: bytes_of(&started.session.0),
        namespace: started.namespace.to_string(),
        workflow: started.workflow.to_string(),
        version: started.version.to_string(),
        generation: started.generation,
        key: optional(&started.key),
        input: Some(payload_to(&started.input)),
        lineage_id: bytes_of(&started.lineage.0),
        root_id: bytes_of(&started.root.0),
        parent_id: bytes_or_empty(started.forked_from.map(|from| from.parent.0)),
        parent_seq: started.forked_from.map_or(0, |from| from.seq.0),
        system: started.system,
        effects_live: started.forked_from.is_some_and(|from| from.live),
        spawned_by: bytes_or_empty(started.parent.as_ref().map(|parent| parent.session.0)),
        spawned_by_step_key: parent_step_key(started.parent.as_ref()),
        abandoned: started.parent.as_ref().is_some_and(|parent| parent.abandoned),
        top_id: top_to(started.top, started.session),
        continued_from: bytes_or_empty(started.continued_from.map(|from| from.0)),
        depth: started.depth,
        budget: budgets::start_to(&started.budget),
        labels: labels_to(&started.labels),
        incarnation: bytes_or_empty(started.incarnation.map(|incarnation| incarnation.0)),
        deadline_ms: started.deadline.map(|deadline| deadline.0),
    }
}

fn session_continued(continued: &SessionContinued) -> disk::SessionContinued {
    disk::SessionContinued {
        successor_id: bytes_of(&continued.successor.0),
        input: Some(payload_to(&continued.input)),
        version: continued.version.to_string(),
        state: optional(&continued.state),
        conversation: optional(&continued.conversation),
    }
}

fn fork_edited(edited: &ForkEdited) -> disk::ForkEdited {
    let mut stored = disk::ForkEdited {
        step_key: edited.edit.step_key().map(ToString::to_string).unwrap_or_default(),
        replaces_seq: edited.replaces.map_or(0, |seq| seq.0),
        ..disk::ForkEdited::default()
    };
    let payload = Some(payload_to(edited.edit.payload()));
    match &edited.edit {
        Edit::Input(_) => stored.input = payload,
        Edit::Output { .. } => stored.output = payload,
        Edit::Failure { .. } => stored.failure = payload,
    }
    stored
}

fn lease_granted(granted: &LeaseGranted) -> disk::LeaseGranted {
    disk::LeaseGranted {
        epoch: granted.epoch.0,
        instance: bytes_of(&granted.instance.0),
        takeover: granted.takeover,
        incarnation: bytes_of(&granted.incarnation.0),
    }
}

fn step_completed(step: &StepCompleted) -> disk::StepCompleted {
    disk::StepCompleted {
        step_key: step.step_key.to_string(),
        name: step.name.to_string(),
        attempt: step.attempt,
        input_digest: digest(step.input_digest),
        input: optional(&step.input),
        output: Some(payload_to(&step.output)),
        llm: step.llm.as_ref().map(llm_call),
        resources: step.resources.iter().map(resource).collect(),
        cost_nanos: step.cost.0,
        duration_us: step.duration_us,
        deduplicated_from_session: bytes_or_empty(step.deduplicated_from.map(|(session, _)| session.0)),
        deduplicated_from_seq: step.deduplicated_from.map_or(0, |(_, seq)| seq.0),
        guarded: step.guarded,
    }
}

fn step_failed(step: &StepFailed) -> disk::StepFailed {
    disk::StepFailed {
        step_key: step.step_key.to_string(),
        name: step.name.to_string(),
        attempt: step.attempt,
        input_digest: digest(step.input_digest),
        failure: Some(payload_to(&step.failure)),
        r#final: step.is_final,
        retry_at_ms: step.retry_at.map(|at| at.0),
        usage: step.usage.as_ref().map(usage),
        duration_us: step.duration_us,
        guarded: step.guarded,
    }
}

fn llm_call(call: &LlmCall) -> disk::LlmCall {
    disk::LlmCall {
        request: optional(&call.request),
        response: optional(&call.response),
        usage: Some(usage(&call.usage)),
    }
}

fn usage(usage: &Usage) -> disk::Usage {
    disk::Usage {
        provider: usage.provider.to_string(),
        model: usage.model.to_string(),
        input_tokens: usage.input_tokens,
        cached_read_tokens: usage.cached_read_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        output_tokens: usage.output_tokens,
        estimated: usage.estimated,
        cost_nanos: usage.cost.map(|cost| cost.0),
        price_date: usage.price_date.to_string(),
    }
}

fn resource(resource: &Resource) -> disk::Resource {
    disk::Resource {
        kind: resource.kind.to_string(),
        id: resource.id.to_string(),
        mode: resource_mode_to(resource.mode),
        range: resource.range.to_string(),
    }
}

fn guard_intent(intent: &GuardIntent) -> disk::GuardIntent {
    disk::GuardIntent {
        step_key: intent.step_key.to_string(),
        name: intent.name.to_string(),
        attempt: intent.attempt,
        input_digest: bytes_of(&intent.input_digest.0),
        attempt_ms: intent.attempt_ms,
        grace_ms: intent.grace_ms,
        policy: guard_policy_to(intent.policy),
        idempotency_key: Some(payload_to(&intent.idempotency_key)),
    }
}

fn guard_resolved(resolved: &GuardResolved) -> disk::GuardResolved {
    let resolution = match &resolved.resolution {
        Resolution::Output(_) => disk::Resolution::Output,
        Resolution::Failure(_) => disk::Resolution::Failure,
        Resolution::NotApplied(_) => disk::Resolution::NotApplied,
        Resolution::Retry => disk::Resolution::Retry,
    };
    disk::GuardResolved {
        step_key: resolved.step_key.to_string(),
        attempt: resolved.attempt,
        resolution: resolution as i32,
        payload: resolved.resolution.payload().map(payload_to),
        by: resolved.by.to_string(),
    }
}

fn zone_committed(zone: &ZoneCommitted) -> disk::ZoneCommitted {
    disk::ZoneCommitted {
        zone_key: zone.zone_key.to_string(),
        attempt: zone.attempt,
        output: optional(&zone.output),
        record: Some(payload_to(&zone.record)),
        llm_calls: zone.llm_calls.iter().map(llm_call).collect(),
        duration_us: zone.duration_us,
        cost_nanos: zone.cost.0,
    }
}

fn zone_failed(zone: &ZoneFailed) -> disk::ZoneFailed {
    disk::ZoneFailed {
        zone_key: zone.zone_key.to_string(),
        attempt: zone.attempt,
        failure: Some(payload_to(&zone.failure)),
        r#final: zone.is_final,
        usage: zone.usage.iter().map(usage).collect(),
        retry_at_ms: zone.retry_at.map(|at| at.0),
    }
}

fn zone_rolled_back(zone: &ZoneRolledBack) -> disk::ZoneRolledBack {
    disk::ZoneRolledBack {
        zone_key: zone.zone_key.to_string(),
        attempt: zone.attempt,
        reason: rollback_reason_to(zone.reason),
        evidence_bytes: zone.evidence_bytes,
        wasted_tokens: zone.wasted_tokens,
    }
}

fn token_created(token: &TokenCreated) -> disk::TokenCreated {
    disk::TokenCreated {
        token_id: bytes_of(&token.token.0),
        name: token.name.to_string(),
        role: role_to(token.role),
        namespace: token.namespace.to_string(),
        expires_ms: token.expires.map(|at| at.0),
        secret_hash: bytes_of(&token.secret_hash.0),
    }
}

fn optional(payload: &Option<PayloadRef>) -> Option<disk::PayloadRef> {
    payload.as_ref().map(payload_to)
}

fn digest(digest: Option<Digest>) -> Bytes {
    bytes_or_empty(digest.map(|digest| digest.0))
}
