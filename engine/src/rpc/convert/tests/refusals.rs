//! What is refused, and that the refusal names the field (V1, V2).

use super::*;
use crate::graph::command::Code;

/// Something wrong with an append, and the field the refusal must name.
type Case = (&'static str, fn(&mut v1::Append));

fn step(change: fn(&mut v1::StepCompleted), append: &mut v1::Append) {
    let mut step = step_completed();
    change(&mut step);
    append.op = Some(v1::append::Op::StepCompleted(step));
}

fn intent(change: fn(&mut v1::GuardIntent), append: &mut v1::Append) {
    let mut intent = guard_intent();
    change(&mut intent);
    append.op = Some(v1::append::Op::GuardIntent(intent));
}

fn op(append: &mut v1::Append, op: v1::append::Op) {
    append.op = Some(op);
}

const CASES: &[Case] = &[
    ("session_id", |a| a.session_id = "not-a-uuid".into()),
    ("epoch", |a| a.epoch = 0),
    ("op", |a| a.op = None),
    ("state_delta", |a| a.state_delta = value("not a delta")),
    ("conversation_delta", |a| a.conversation_delta = payload(v1::PayloadFormat::StateDelta, "x")),
    ("step_completed.step_key", |a| step(|s| s.step_key.clear(), a)),
    ("step_completed.step_key", |a| step(|s| s.step_key = "k".repeat(1_025), a)),
    ("step_completed.name", |a| step(|s| s.name = "n".repeat(257), a)),
    ("step_completed.name", |a| step(|s| s.name = "a\nb".into(), a)),
    ("step_completed.attempt", |a| step(|s| s.attempt = 0, a)),
    ("step_completed.attempt", |a| step(|s| s.attempt = u32::MAX, a)),
    ("step_completed.input_digest", |a| step(|s| s.input_digest = vec![0; 31].into(), a)),
    ("step_completed.input", |a| step(|s| s.input = failure(), a)),
    ("step_completed.output", |a| step(|s| s.output = None, a)),
    ("step_completed.output", |a| step(|s| s.output = failure(), a)),
    ("step_completed.output", |a| step(|s| s.output = payload(v1::PayloadFormat::Unspecified, "x"), a)),
    ("step_completed.output", |a| step(|s| s.output.as_mut().unwrap().format = 99, a)),
    ("step_completed.output", |a| step(|s| s.output.as_mut().unwrap().body = None, a)),
    ("step_completed.output", |a| {
        step(|s| s.output.as_mut().unwrap().body = Some(v1::payload::Body::Absent(true)), a);
    }),
    ("step_completed.output", |a| {
        step(|s| s.output.as_mut().unwrap().body = Some(v1::payload::Body::TransferId(1)), a);
    }),
    ("step_completed.output", |a| step(|s| s.output.as_mut().unwrap().codec = "c".repeat(65), a)),
    ("step_completed.llm.request", |a| step(|s| s.llm.as_mut().unwrap().request = value("x"), a)),
    ("step_completed.llm.usage", |a| step(|s| s.llm.as_mut().unwrap().usage = None, a)),
    ("step_completed.llm.output_tokens", |a| {
        step(|s| s.llm.as_mut().unwrap().usage.as_mut().unwrap().output_tokens = u64::MAX, a);
    }),
    ("step_completed.llm.cost_nanos", |a| {
        step(|s| s.llm.as_mut().unwrap().usage.as_mut().unwrap().cost_nanos = Some(-1), a);
    }),
    ("step_completed.resources", |a| step(|s| s.resources = vec![v1::Resource::default(); 257], a)),
    ("step_completed.resources.mode", |a| step(|s| s.resources[0].mode = 0, a)),
    ("step_completed.resources.kind", |a| step(|s| s.resources[0].kind.clear(), a)),
    ("step_completed.cost_nanos", |a| step(|s| s.cost_nanos = i64::MAX, a)),
    ("step_completed.deduplicated_from", |a| step(|s| s.deduplicated_from = "x".into(), a)),
    ("step_failed.failure", |a| {
        op(a, v1::append::Op::StepFailed(v1::StepFailed { failure: value("x"), ..step_failed() }));
    }),
    ("step_failed.retry_at_ms", |a| {
        op(a, v1::append::Op::StepFailed(v1::StepFailed { r#final: true, ..step_failed() }));
    }),
    ("guard_intent.input_digest", |a| intent(|i| i.input_digest = Bytes::new(), a)),
    ("guard_intent.input_hash", |a| intent(|i| i.input_hash = Bytes::new(), a)),
    ("guard_intent.attempt_ms", |a| intent(|i| i.attempt_ms = 0, a)),
    ("guard_intent.attempt_ms", |a| intent(|i| i.attempt_ms = u64::MAX, a)),
    ("guard_intent.grace_ms", |a| intent(|i| i.grace_ms = u64::MAX, a)),
    ("guard_intent.policy", |a| intent(|i| i.policy = 77, a)),
    ("guard_intent.idempotency_key", |a| intent(|i| i.idempotency_key = None, a)),
    ("guard_intent.idempotency_key", |a| intent(|i| i.idempotency_key = value("x"), a)),
    ("guard_intent.idempotency_key", |a| {
        intent(|i| i.idempotency_key = payload(v1::PayloadFormat::Bytes, ""), a);
    }),
    ("guard_intent.idempotency_key", |a| {
        intent(|i| i.idempotency_key = payload(v1::PayloadFormat::Bytes, &"k".repeat(513)), a);
    }),
    ("guard_unknown.reason", |a| {
        let reason = v1::UnknownReason::NoOutcome.into();
        op(a, v1::append::Op::GuardUnknown(v1::GuardUnknown { reason, ..v1::GuardUnknown::default() }));
    }),
    ("guard_reconciliation.finding", |a| {
        op(a, v1::append::Op::GuardReconciliation(v1::GuardReconciliation::default()));
    }),
    ("guard_reconciliation.unknown", |a| {
        op(a, finding(v1::guard_reconciliation::Finding::Unknown(false), true));
    }),
    ("guard_reconciliation.reconciled", |a| {
        op(a, finding(v1::guard_reconciliation::Finding::Unknown(true), false));
    }),
    ("zone_committed.record", |a| {
        op(a, v1::append::Op::ZoneCommitted(v1::ZoneCommitted { record: None, ..zone_committed() }));
    }),
    ("zone_committed.llm_calls", |a| {
        let llm_calls = vec![v1::LlmCall::default(); 1_025];
        op(a, v1::append::Op::ZoneCommitted(v1::ZoneCommitted { llm_calls, ..zone_committed() }));
    }),
    ("zone_rolled_back.reason", |a| {
        let reason = v1::RollbackReason::Takeover.into();
        op(a, v1::append::Op::ZoneRolledBack(v1::ZoneRolledBack { reason, ..v1::ZoneRolledBack::default() }));
    }),
    ("zone_evidence.data", |a| {
        op(a, v1::append::Op::ZoneEvidence(v1::ZoneEvidence { attempt: 1, ..v1::ZoneEvidence::default() }));
    }),
    ("session_completed.output", |a| {
        op(a, v1::append::Op::SessionCompleted(v1::SessionCompleted { output: failure() }));
    }),
    ("session_failed.failure", |a| op(a, v1::append::Op::SessionFailed(v1::SessionFailed { failure: None }))),
    ("session_paused.reason", |a| {
        let reason = v1::PauseReason::Requested.into();
        op(a, v1::append::Op::SessionPaused(v1::SessionPaused { reason, ..v1::SessionPaused::default() }));
    }),
];

#[test]
fn v2_every_refusal_names_its_field_and_what_it_must_be() {
    for (field, spoil) in CASES {
        let mut sent = append(v1::append::Op::StepCompleted(step_completed()));
        spoil(&mut sent);
        let refused = convert(sent, &mut blobs()).expect_err(field);
        assert_eq!(refused.code, Code::InvalidArgument, "{field}");
        let named = format!("{field} must ");
        assert!(refused.message.starts_with(&named), "{named}… expected, got: {}", refused.message);
    }
}

#[test]
fn v2_a_transfer_of_another_size_than_announced_is_refused() {
    let mut step = step_completed();
    let output = step.output.as_mut().unwrap();
    output.body = Some(v1::payload::Body::TransferId(4));
    output.size_bytes = 2;
    let mut blobs = blobs();
    let mut transfers = |_| Some(Bytes::from_static(b"three"));
    let mut intake = Intake { blobs: &mut blobs, namespace_salt: &NAMESPACE_SALT, transfers: &mut transfers };
    let refused = to_append(append(v1::append::Op::StepCompleted(step)), &mut intake).unwrap_err();
    assert!(refused.message.contains("size_bytes is 2 and 5 bytes came"), "{}", refused.message);
}

#[test]
fn v1_starts_are_bounded() {
    let good = || v1::StartSessionRequest {
        workflow: "w".into(),
        version: "1".into(),
        input: value("in"),
        ..v1::StartSessionRequest::default()
    };
    assert!(start(good(), &mut |_| None).is_ok());
    type Spoil = fn(&mut v1::StartSessionRequest);
    let cases: [(&str, Spoil); 9] = [
        ("workflow", |r| r.workflow.clear()),
        ("workflow", |r| r.workflow = "w".repeat(257)),
        ("version", |r| r.version = "1".repeat(65)),
        ("key", |r| r.key = "k".repeat(513)),
        ("input", |r| r.input = None),
        ("input_digest", |r| r.input_digest = vec![1; 33].into()),
        ("if_ended", |r| r.if_ended = 9),
        ("instance", |r| r.instance = "worker-1".into()),
        ("dedupe_id", |r| r.dedupe_id = vec![1; 15].into()),
    ];
    for (field, spoil) in cases {
        let mut request = good();
        spoil(&mut request);
        let refused = start(request, &mut |_| None).expect_err(field);
        assert!(refused.message.starts_with(&format!("{field} must ")), "{field}: {}", refused.message);
    }
}
