//! Authorises messages inside a worker's channel, one by one.

use cellaflow_proto::v1::{WorkerMessage, append::Op, worker_message::Body};

use super::access::{self, APPEND, WORKER_MESSAGE};
use super::{Principal, Refusal};

/// Checks the role of a message's sender, arm by arm. The namespace of a session it names is the handler's to check,
/// with [`Principal::sees`], because only the ledger knows it.
///
/// # Errors
/// [`Refusal::Role`], or [`Refusal::Unlisted`] for a message without a body: an arm of a newer client arrives as none.
pub fn check_worker_message(principal: &Principal, message: &WorkerMessage) -> Result<(), Refusal> {
    let arm = message.body.as_ref().map_or("(unknown)", body_arm);
    access::may_send(principal.role, WORKER_MESSAGE, arm)?;
    match &message.body {
        Some(Body::Append(append)) => {
            access::may_send(principal.role, APPEND, append.op.as_ref().map_or("(unknown)", op_arm))
        }
        _ => Ok(()),
    }
}

fn body_arm(body: &Body) -> &'static str {
    match body {
        Body::Hello(_) => "hello",
        Body::Start(_) => "start",
        Body::Attach(_) => "attach",
        Body::Append(_) => "append",
        Body::Release(_) => "release",
        Body::Piece(_) => "piece",
        Body::Credit(_) => "credit",
        Body::Capacity(_) => "capacity",
        Body::Goodbye(_) => "goodbye",
    }
}

fn op_arm(op: &Op) -> &'static str {
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

#[cfg(test)]
mod tests {
    use cellaflow_proto::v1::{Append, StepCompleted};

    use super::*;
    use crate::graph::ids::TokenId;
    use crate::rpc::auth::Role;

    fn principal(role: Role) -> Principal {
        Principal {
            token_id: TokenId([0; 16]),
            name: "t".into(),
            role,
            namespace: "n".into(),
            expires_ms: None,
        }
    }

    #[test]
    fn every_message_and_every_append_inside_it_is_checked() {
        let append = |op| WorkerMessage { body: Some(Body::Append(Append { op, ..Append::default() })) };
        let step = append(Some(Op::StepCompleted(StepCompleted::default())));
        for role in Role::ALL {
            let allowed = matches!(role, Role::Worker | Role::Client | Role::Admin);
            assert_eq!(check_worker_message(&principal(role), &step).is_ok(), allowed, "{role}");
        }
        let nothing = [WorkerMessage { body: None }, append(None)];
        for message in nothing {
            let refusal = check_worker_message(&principal(Role::Admin), &message).unwrap_err();
            assert_eq!(refusal.reason(), "unlisted", "A2: an arm we do not know is closed");
        }
    }
}
