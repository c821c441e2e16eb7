//! The border, field by field (V1 to V4).

mod coverage;
mod inward;
mod outward;
mod refusals;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::*;
use crate::graph::command::Rejection;
use crate::graph::event::PayloadRef;
use crate::graph::ids::SessionId;
use crate::ledger::payload::Limits;
use crate::ledger::{Blobs, ReadError};

const SALT: [u8; 32] = [3; 32];
const NAMESPACE_SALT: [u8; 32] = [5; 32];
const SESSION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// Blobs whose payloads are all inline, so that no store is needed to read them back.
fn blobs() -> Blobs {
    Blobs::new(&SALT, &Limits { inline_bytes_max: usize::MAX, ..Limits::default() })
}

fn payload(format: v1::PayloadFormat, content: &str) -> Option<v1::Payload> {
    Some(v1::Payload {
        format: format.into(),
        codec: "aes".into(),
        size_bytes: 0,
        body: Some(v1::payload::Body::Data(Bytes::copy_from_slice(content.as_bytes()))),
        digest: Bytes::new(),
    })
}

fn value(content: &str) -> Option<v1::Payload> {
    payload(v1::PayloadFormat::Value, content)
}

fn failure() -> Option<v1::Payload> {
    payload(v1::PayloadFormat::Failure, "failed")
}

fn usage() -> v1::Usage {
    v1::Usage {
        provider: "openai".into(),
        model: "gpt-5-mini".into(),
        input_tokens: 10,
        cached_read_tokens: 11,
        cache_write_tokens: 12,
        output_tokens: 13,
        estimated: true,
        cost_nanos: Some(14),
        price_date: "2026-11-01".into(),
    }
}

fn llm_call() -> v1::LlmCall {
    v1::LlmCall {
        request: payload(v1::PayloadFormat::LlmRequest, "request"),
        response: payload(v1::PayloadFormat::LlmResponse, "response"),
        usage: Some(usage()),
    }
}

fn digest(byte: u8) -> Bytes {
    vec![byte; 32].into()
}

fn step_completed() -> v1::StepCompleted {
    v1::StepCompleted {
        step_key: "root/charge#1".into(),
        name: "charge".into(),
        attempt: 2,
        input_digest: digest(1),
        input: value("in"),
        output: payload(v1::PayloadFormat::LlmResponse, "out"),
        llm: Some(llm_call()),
        resources: vec![v1::Resource {
            kind: "file".into(),
            id: "src/main.rs".into(),
            mode: v1::ResourceMode::Write.into(),
            range: "10-40".into(),
        }],
        cost_nanos: 15,
        duration_us: 16,
        deduplicated_from: String::new(),
        guarded: true,
    }
}

fn step_failed() -> v1::StepFailed {
    v1::StepFailed {
        step_key: "root/charge#1".into(),
        name: "charge".into(),
        attempt: 1,
        input_digest: digest(1),
        failure: failure(),
        r#final: false,
        retry_at_ms: 99,
        usage: Some(usage()),
        duration_us: 17,
        guarded: false,
    }
}

fn guard_intent() -> v1::GuardIntent {
    v1::GuardIntent {
        step_key: "root/mail#1".into(),
        name: "mail".into(),
        attempt: 1,
        input_digest: digest(2),
        attempt_ms: 30_000,
        grace_ms: 5_000,
        policy: v1::GuardPolicy::Reconcile.into(),
        idempotency_key: payload(v1::PayloadFormat::Bytes, "report-1"),
        input_hash: digest(9),
        refuse_in_flight: false,
    }
}

fn finding(finding: v1::guard_reconciliation::Finding, reconciled: bool) -> v1::append::Op {
    v1::append::Op::GuardReconciliation(v1::GuardReconciliation {
        step_key: "root/mail#1".into(),
        attempt: 1,
        finding: Some(finding),
        reconciled,
    })
}

fn zone_committed() -> v1::ZoneCommitted {
    v1::ZoneCommitted {
        zone_key: "root/audit#1".into(),
        attempt: 1,
        output: value("zone"),
        record: payload(v1::PayloadFormat::ZoneRecord, "record"),
        llm_calls: vec![llm_call(), llm_call()],
        duration_us: 18,
        cost_nanos: 19,
    }
}

/// One or more samples of every arm of `Append.op`, every field set; `coverage` checks that none is missing.
fn ops() -> Vec<v1::append::Op> {
    use v1::append::Op;
    use v1::guard_reconciliation::Finding;
    vec![
        Op::StepCompleted(step_completed()),
        Op::StepFailed(step_failed()),
        Op::StepHeartbeat(v1::StepHeartbeat {
            step_key: "root/crawl#1".into(),
            attempt: 1,
            details: value("page 7"),
        }),
        Op::GuardIntent(guard_intent()),
        Op::GuardUnknown(v1::GuardUnknown {
            step_key: "root/mail#1".into(),
            attempt: 1,
            reason: v1::UnknownReason::TimedOut.into(),
            failure: failure(),
        }),
        finding(Finding::Applied(value("sent").unwrap()), true),
        finding(Finding::NotApplied(failure().unwrap()), false),
        finding(Finding::NotApplied(v1::Payload::default()), true),
        finding(Finding::Unknown(true), true),
        Op::ZoneEntered(v1::ZoneEntered {
            zone_key: "root/audit#1".into(),
            name: "audit".into(),
            attempt: 1,
            input_digest: digest(4),
        }),
        Op::ZoneCommitted(zone_committed()),
        Op::ZoneFailed(v1::ZoneFailed {
            zone_key: "root/audit#1".into(),
            attempt: 1,
            failure: failure(),
            r#final: true,
            usage: vec![usage()],
            retry_at_ms: 0,
        }),
        Op::ZoneRolledBack(v1::ZoneRolledBack {
            zone_key: "root/audit#1".into(),
            attempt: 1,
            reason: v1::RollbackReason::Abort.into(),
            evidence_bytes: 20,
            wasted_tokens: 21,
        }),
        Op::ZoneEvidence(v1::ZoneEvidence {
            zone_key: "root/audit#1".into(),
            attempt: 1,
            offset: 22,
            data: Bytes::from_static(b"tokens"),
        }),
        Op::SessionCompleted(v1::SessionCompleted { output: value("done") }),
        Op::SessionFailed(v1::SessionFailed { failure: failure() }),
        Op::BudgetReserved(v1::BudgetReserved {
            step_key: "root/ask#1".into(),
            attempt: 1,
            call: 2,
            cost_nanos: Some(30),
            tokens: 31,
            steps: 1,
        }),
        Op::BudgetReleased(v1::BudgetReleased { step_key: "root/ask#1".into(), attempt: 1 }),
        Op::SessionPaused(v1::SessionPaused {
            reason: v1::PauseReason::Nondeterminism.into(),
            step_key: "root/charge#1".into(),
            details: value("both sides"),
        }),
        Op::TimerStarted(v1::TimerStarted {
            step_key: "nap".into(),
            name: "nap".into(),
            due_ms: 9_000,
            delay_ms: 0,
        }),
        Op::SignalAwaited(v1::SignalAwaited {
            step_key: "answer".into(),
            name: "answer".into(),
            due_ms: 0,
            timeout_ms: 0,
        }),
        Op::ApprovalRequested(v1::ApprovalRequested {
            step_key: "pay".into(),
            name: "pay".into(),
            call: value("{toolCall, args}"),
            args_digest: vec![9; 32].into(),
            due_ms: 0,
            expires_in_ms: 0,
        }),
        Op::ChildSpawned(v1::ChildSpawned {
            step_key: "child".into(),
            name: "child".into(),
            child_id: String::new(),
            workflow: "audit".into(),
            version: "2".into(),
            input: value("for the child"),
            abandoned: true,
            input_digest: digest(6),
        }),
        Op::ChildCancelRequested(v1::ChildCancelRequested {
            step_key: "child".into(),
            reason: "lost the race".into(),
        }),
        Op::WaitDropped(v1::WaitDropped { step_key: "nap".into() }),
        Op::SessionContinued(v1::SessionContinued {
            successor_id: String::new(),
            input: value("again"),
            version: "2".into(),
            state: payload(v1::PayloadFormat::StateDelta, "whole state"),
            conversation: payload(v1::PayloadFormat::ConversationDelta, "whole conversation"),
        }),
        Op::SessionCancelled(v1::SessionCancelled {
            reason: "cleaned up".into(),
            ..v1::SessionCancelled::default()
        }),
    ]
}

fn append(op: v1::append::Op) -> v1::Append {
    v1::Append {
        request_id: 1,
        session_id: SESSION.into(),
        epoch: 7,
        after: Some(v1::After { seq: 5, requests: 6 }),
        state_delta: payload(v1::PayloadFormat::StateDelta, "state"),
        conversation_delta: payload(v1::PayloadFormat::ConversationDelta, "conversation"),
        op: Some(op),
    }
}

fn convert(append: v1::Append, blobs: &mut Blobs) -> Result<Converted, Rejection> {
    to_append(append, &mut Intake { blobs, namespace_salt: &NAMESPACE_SALT, transfers: &mut |_| None })
}

/// A source that has nothing: everything these tests store is inline.
struct Nothing;

impl PayloadSource for Nothing {
    fn payload(&self, session: SessionId, payload: &PayloadRef) -> Result<Bytes, ReadError> {
        Err(ReadError::Corrupt(format!("{session} has no payload {}", payload.digest)))
    }
}
