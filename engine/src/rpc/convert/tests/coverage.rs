//! Walks the compiled descriptors, so that an arm added to a oneof tomorrow is noticed here today (V3).

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;

use super::*;

/// Names of the arms of a oneof, as the proto spells them.
fn arms(message: &str, oneof: &str) -> BTreeSet<String> {
    let pool = DescriptorPool::decode(cellaflow_proto::DESCRIPTORS).unwrap();
    let message = pool.get_message_by_name(message).unwrap();
    let oneof = message.oneofs().find(|known| known.name() == oneof).unwrap();
    oneof.fields().map(|field| field.name().to_owned()).collect()
}

fn op_name(op: &v1::append::Op) -> &'static str {
    use v1::append::Op;
    match op {
        Op::StepCompleted(_) => "step_completed",
        Op::StepFailed(_) => "step_failed",
        Op::StepHeartbeat(_) => "step_heartbeat",
        Op::GuardIntent(_) => "guard_intent",
        Op::GuardUnknown(_) => "guard_unknown",
        Op::GuardReconciliation(_) => "guard_reconciliation",
        Op::ZoneEntered(_) => "zone_entered",
        Op::ZoneCommitted(_) => "zone_committed",
        Op::ZoneFailed(_) => "zone_failed",
        Op::ZoneRolledBack(_) => "zone_rolled_back",
        Op::ZoneEvidence(_) => "zone_evidence",
        Op::SessionCompleted(_) => "session_completed",
        Op::SessionFailed(_) => "session_failed",
        Op::SessionPaused(_) => "session_paused",
        Op::TimerStarted(_) => "timer_started",
        Op::SignalAwaited(_) => "signal_awaited",
        Op::ApprovalRequested(_) => "approval_requested",
        Op::ChildSpawned(_) => "child_spawned",
        Op::ChildCancelRequested(_) => "child_cancel_requested",
        Op::WaitDropped(_) => "wait_dropped",
        Op::SessionContinued(_) => "session_continued",
        Op::SessionCancelled(_) => "session_cancelled",
        Op::BudgetReserved(_) => "budget_reserved",
        Op::BudgetReleased(_) => "budget_released",
    }
}

#[test]
fn v3_every_arm_of_an_append_is_read() {
    let sampled: BTreeSet<String> = ops().iter().map(|op| op_name(op).to_owned()).collect();
    assert_eq!(sampled, arms("cellaflow.v1.Append", "op"));
    for op in ops() {
        let name = op_name(&op);
        convert(append(op), &mut blobs()).unwrap_or_else(|refused| panic!("{name}: {}", refused.message));
    }
}

#[test]
fn v3_every_arm_of_an_event_is_written() {
    let written: BTreeSet<String> =
        super::outward::bodies().into_iter().map(|body| super::outward::wire_name(body).to_owned()).collect();
    assert_eq!(written, arms("cellaflow.v1.Event", "body"));
}
