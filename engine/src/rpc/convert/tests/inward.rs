//! Appends, read: what comes back as an event says what was sent (V4).

use super::*;
use crate::graph::budget::{Amounts, Ask};
use crate::graph::command::{Command, Finding, Fires, GuardKey, Op};
use crate::graph::event::{
    ApprovalRequested, Author, Body, Event, RollbackReason, SessionCancelled, ZoneRolledBack,
};
use crate::graph::ids::{Epoch, Hash, Seq, TimeMs};
use crate::ledger::StoredEvent;
use crate::ledger::digest::{Purpose, keyed, step_key_hash};

/// The event an op becomes in the plainest case, or `None` for what becomes another event or none.
fn event_body(op: Op) -> Option<Body> {
    Some(match op {
        Op::StepCompleted(step) => Body::StepCompleted(step),
        Op::StepFailed(step) => Body::StepFailed(step),
        Op::StepHeartbeat { step_key, attempt, details } => {
            Body::StepHeartbeat { step_key, attempt, details }
        }
        Op::GuardIntent { intent, .. } => Body::GuardIntent(intent),
        Op::GuardUnknown { step_key, attempt, reason, failure } => {
            Body::GuardUnknown { step_key, attempt, reason, failure }
        }
        Op::BudgetReserved(Ask { step_key, attempt, call, cost, tokens, steps }) => {
            let amounts = Amounts { cost: cost.unwrap_or_default(), tokens, steps };
            Body::BudgetReserved { step_key, attempt, call, amounts }
        }
        Op::BudgetReleased { step_key, attempt } => Body::BudgetReleased { step_key, attempt },
        Op::GuardFinding { .. } | Op::GuardStub { .. } => return None,
        Op::ZoneEntered { zone_key, name, attempt, input_digest } => {
            Body::ZoneEntered { zone_key, name, attempt, input_digest }
        }
        Op::ZoneCommitted(zone) => Body::ZoneCommitted(zone),
        Op::ZoneFailed(zone) => Body::ZoneFailed(zone),
        Op::ZoneAborted { zone_key, attempt, evidence_bytes, wasted_tokens } => {
            let reason = RollbackReason::Abort;
            Body::ZoneRolledBack(ZoneRolledBack { zone_key, attempt, reason, evidence_bytes, wasted_tokens })
        }
        Op::Complete { output } => Body::SessionCompleted { output },
        Op::Fail { failure } => Body::SessionFailed { failure },
        Op::Continue(continued) => Body::SessionContinued(continued),
        Op::Cancelled { reason } => Body::SessionCancelled(SessionCancelled {
            reason,
            by: "".into(),
            terminated: false,
            unknown: Vec::new(),
        }),
        Op::Pause { reason, step_key, details } => Body::SessionPaused { reason, step_key, details },
        Op::TimerStarted { step_key, name, fires: Fires::At(due) } => {
            Body::TimerStarted { step_key, name, due }
        }
        Op::TimerStarted { fires: Fires::After(_), .. } => return None,
        Op::SignalAwaited { step_key, name, timeout_ms: _ } => {
            Body::SignalAwaited { step_key, name, due: None }
        }
        Op::ApprovalRequested(asked) => Body::ApprovalRequested(ApprovalRequested {
            step_key: asked.step_key,
            name: asked.name,
            call: asked.call,
            args_digest: asked.args_digest,
            due: None,
        }),
        Op::SpawnChild(child) => Body::ChildSpawned(child),
        Op::CancelChild { step_key, reason } => Body::ChildCancelRequested { step_key, reason },
        Op::WaitDropped { step_key } => Body::WaitDropped { step_key },
    })
}

/// Sends an append, stores it as an event and reads that event.
fn there_and_back(sent: v1::Append) -> Option<v1::Event> {
    let mut blobs = blobs();
    let command = convert(sent, &mut blobs).unwrap().command;
    let Command::Append(append) = command else { return None };
    let event = Event {
        seq: Seq(8),
        time: TimeMs(9),
        author: Author::Worker(append.epoch),
        after: append.after,
        state_delta: append.state_delta,
        conversation_delta: append.conversation_delta,
        body: event_body(append.op)?,
    };
    let inline =
        event.payloads().iter().map(|payload| blobs.inline(&payload.digest).unwrap().clone()).collect();
    let stored = StoredEvent { session: append.session, event, hash: Hash([1; 32]), inline };
    let (pieces, wire) = event_to_wire(&stored, &Nothing, &mut TransferIds::default(), Detail::Full).unwrap();
    assert_eq!(pieces, []);
    Some(wire)
}

/// Takes out what the engine adds: sizes and digests.
fn plain(payload: &mut Option<v1::Payload>) {
    if let Some(payload) = payload {
        assert_eq!(payload.digest.len(), 32);
        payload.size_bytes = 0;
        payload.digest = Bytes::new();
    }
}

fn plain_call(call: &mut v1::LlmCall) {
    plain(&mut call.request);
    plain(&mut call.response);
}

/// The op that an event's body looks like, without what the engine adds.
fn as_op(body: v1::event::Body) -> v1::append::Op {
    use v1::append::Op;
    use v1::event::Body;
    match body {
        Body::StepCompleted(mut step) => {
            plain(&mut step.input);
            plain(&mut step.output);
            step.llm.iter_mut().for_each(plain_call);
            Op::StepCompleted(step)
        }
        Body::StepFailed(mut step) => {
            plain(&mut step.failure);
            Op::StepFailed(step)
        }
        Body::StepHeartbeat(mut beat) => {
            plain(&mut beat.details);
            Op::StepHeartbeat(beat)
        }
        Body::GuardIntent(mut intent) => {
            plain(&mut intent.idempotency_key);
            assert!(intent.input_hash.is_empty(), "the input's hash is for the engine alone");
            intent.input_hash = digest(9);
            Op::GuardIntent(intent)
        }
        Body::GuardUnknown(mut unknown) => {
            plain(&mut unknown.failure);
            Op::GuardUnknown(unknown)
        }
        Body::ZoneEntered(zone) => Op::ZoneEntered(zone),
        Body::ZoneCommitted(mut zone) => {
            plain(&mut zone.output);
            plain(&mut zone.record);
            zone.llm_calls.iter_mut().for_each(plain_call);
            Op::ZoneCommitted(zone)
        }
        Body::ZoneFailed(mut zone) => {
            plain(&mut zone.failure);
            Op::ZoneFailed(zone)
        }
        Body::ZoneRolledBack(zone) => Op::ZoneRolledBack(zone),
        Body::SessionCompleted(mut end) => {
            plain(&mut end.output);
            Op::SessionCompleted(end)
        }
        Body::SessionFailed(mut end) => {
            plain(&mut end.failure);
            Op::SessionFailed(end)
        }
        Body::SessionContinued(mut end) => {
            plain(&mut end.input);
            plain(&mut end.state);
            plain(&mut end.conversation);
            end.successor_id.clear(); // minted by whoever submits
            Op::SessionContinued(end)
        }
        Body::SessionCancelled(end) => Op::SessionCancelled(end),
        Body::BudgetReserved(reserved) => Op::BudgetReserved(reserved),
        Body::BudgetReleased(released) => Op::BudgetReleased(released),
        Body::SessionPaused(mut pause) => {
            plain(&mut pause.details);
            Op::SessionPaused(pause)
        }
        Body::TimerStarted(timer) => Op::TimerStarted(timer),
        Body::SignalAwaited(wait) => Op::SignalAwaited(wait),
        Body::ApprovalRequested(mut request) => {
            plain(&mut request.call);
            Op::ApprovalRequested(request)
        }
        Body::ChildSpawned(mut child) => {
            plain(&mut child.input);
            child.child_id.clear(); // minted by whoever submits
            Op::ChildSpawned(child)
        }
        Body::ChildCancelRequested(request) => Op::ChildCancelRequested(request),
        Body::WaitDropped(dropped) => Op::WaitDropped(dropped),
        other => panic!("no append becomes {other:?}"),
    }
}

#[test]
fn v4_every_append_reads_back_as_it_was_sent() {
    let mut back = 0;
    for op in ops() {
        let sent = append(op.clone());
        let Some(mut event) = there_and_back(sent.clone()) else { continue };
        back += 1;
        assert_eq!((event.seq, event.epoch, event.author), (8, 7, v1::Author::Worker.into()));
        assert_eq!(event.after, sent.after);
        plain(&mut event.state_delta);
        plain(&mut event.conversation_delta);
        assert_eq!(
            (&event.state_delta, &event.conversation_delta),
            (&sent.state_delta, &sent.conversation_delta)
        );
        assert_eq!(as_op(event.body.unwrap()), op);
    }
    assert_eq!(back, 22, "all but findings and evidence become an event of their own");
}

fn op_of(sent: v1::append::Op) -> Op {
    match convert(append(sent), &mut blobs()).unwrap().command {
        Command::Append(append) => append.op,
        other => panic!("an append became {other:?}"),
    }
}

#[test]
fn v4_findings_say_what_was_found_and_by_whom() {
    use v1::guard_reconciliation::Finding as Sent;
    let found = |sent, reconciled| match op_of(finding(sent, reconciled)) {
        Op::GuardFinding { finding, by, .. } => (finding, by.to_string()),
        other => panic!("a finding became {other:?}"),
    };
    let applied = found(Sent::Applied(value("sent").unwrap()), true);
    assert!(matches!(applied, (Finding::Applied(_), by) if by == "reconcile"));
    let threw = found(Sent::NotApplied(failure().unwrap()), false);
    assert!(matches!(threw, (Finding::NotApplied(Some(_)), by) if by == "tool"));
    let nothing = v1::Payload { body: Some(v1::payload::Body::Absent(true)), ..v1::Payload::default() };
    assert_eq!(found(Sent::NotApplied(nothing), true), (Finding::NotApplied(None), "reconcile".into()));
    assert_eq!(found(Sent::Unknown(true), true), (Finding::Unknown, "reconcile".into()));
}

#[test]
fn an_idempotency_key_is_compared_under_the_namespaces_salt_and_an_input_hash_never_stored() {
    let Op::GuardIntent { intent, guard, .. } = op_of(v1::append::Op::GuardIntent(guard_intent())) else {
        panic!()
    };
    let expected = GuardKey {
        digest: keyed(&NAMESPACE_SALT, Purpose::Guard, &[b"mail", b"report-1"]),
        input_digest: keyed(&NAMESPACE_SALT, Purpose::Input, &[&[9; 32]]),
        refuse_in_flight: false,
        output_gone: false,
        former: None,
        step_key_hash: step_key_hash("root/mail#1"),
    };
    assert_eq!(guard, expected);
    assert_eq!(intent.input_digest.0, [2; 32], "the lineage's own digest is stored as it was sent");
}

#[test]
fn evidence_carries_its_bytes_beside_the_command() {
    let sent = ops().into_iter().find(|op| matches!(op, v1::append::Op::ZoneEvidence(_))).unwrap();
    let converted = convert(append(sent), &mut blobs()).unwrap();
    let Command::Evidence(evidence) = converted.command else { panic!() };
    assert_eq!((evidence.epoch, evidence.offset, evidence.bytes), (Epoch(7), 22, 6));
    assert_eq!(converted.evidence.as_deref(), Some(&b"tokens"[..]));
}

#[test]
fn a_commit_of_a_thin_client_is_the_same_append() {
    let request = v1::CommitStepRequest {
        session_id: SESSION.into(),
        epoch: 7,
        after: Some(v1::After { seq: 5, requests: 6 }),
        outcome: Some(v1::commit_step_request::Outcome::Completed(step_completed())),
        state_delta: payload(v1::PayloadFormat::StateDelta, "state"),
    };
    let mut thin = blobs();
    let mut intake = Intake { blobs: &mut thin, namespace_salt: &NAMESPACE_SALT, transfers: &mut |_| None };
    let command = commit_step(request, &mut intake).unwrap();
    let mut same = append(v1::append::Op::StepCompleted(step_completed()));
    same.conversation_delta = None;
    assert_eq!(command, convert(same, &mut blobs()).unwrap().command);
}

#[test]
fn large_payloads_come_from_the_transfer_they_name() {
    let mut step = step_completed();
    let output = step.output.as_mut().unwrap();
    output.body = Some(v1::payload::Body::TransferId(4));
    output.size_bytes = 100_000;
    let mut blobs = blobs();
    let mut transfers = |id| (id == 4).then(|| Bytes::from(vec![1; 100_000]));
    let mut intake = Intake { blobs: &mut blobs, namespace_salt: &NAMESPACE_SALT, transfers: &mut transfers };
    let converted = to_append(append(v1::append::Op::StepCompleted(step)), &mut intake).unwrap();
    let Command::Append(append) = converted.command else { panic!() };
    let Op::StepCompleted(step) = append.op else { panic!() };
    assert_eq!((step.output.size, blobs.inline(&step.output.digest).unwrap().len()), (100_000, 100_000));
}

#[test]
fn v4_a_start_keeps_every_field() {
    let request = v1::StartSessionRequest {
        namespace: "prod".into(),
        workflow: "audit".into(),
        version: "3".into(),
        key: "k".into(),
        input: value("in"),
        input_digest: digest(8),
        if_ended: v1::IfEnded::Restart.into(),
        instance: SESSION.into(),
        dedupe_id: vec![6; 16].into(),
        budget: Some(v1::Budget { cost_nanos: 5, tokens: 0, steps: 6, wall_ms: 7 }),
        labels: [("customer".to_owned(), "42".to_owned())].into(),
        timeout_ms: 7,
    };
    let start = start(request, &mut |_| None).unwrap();
    assert_eq!((&*start.namespace, &*start.workflow, &*start.version), ("prod", "audit", "3"));
    assert_eq!((start.key.as_deref(), &start.input.bytes[..]), (Some("k"), &b"in"[..]));
    assert_eq!(start.input_digest.unwrap().0, [8; 32]);
    assert!(start.if_ended_restart);
    assert_eq!(start.instance.unwrap().to_string(), SESSION);
    assert_eq!(start.dedupe.unwrap().0, [6; 16]);
    let limits = start.limits;
    assert_eq!(
        (limits.cost.unwrap().0, limits.tokens, limits.steps, limits.wall_ms),
        (5, None, Some(6), Some(7))
    );
}
