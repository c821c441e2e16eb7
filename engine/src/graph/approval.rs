//! Approvals: a run asks before it makes a call; a person or program answers, once, for exactly these arguments.
//!
//! Owns requesting, deciding and expiring. Never reads the call, and never says who may decide (that is the token's).
//!
//! A1. A decision names the digest of the arguments that were shown; another digest than the request's is refused.
//! A2. An approval is decided once; a second decision is refused, the same one sent again (dedupe id) is a duplicate.
//! A3. After its time an approval is expired, whether or not that is journaled yet.
//! A4. Who decided is recorded with the decision.

use super::command::{ApprovalAsked, Code, DecideApproval, Rejection};
use super::decide::{Decision, Run, invalid};
use super::draft::{Draft, ledger_time};
use super::end;
use super::event::{ApprovalDecided, ApprovalDecision, ApprovalRequested, Author, Body};
use super::ids::TimeMs;
use super::session::{Head, OpenWait, StepRow, StepState, WaitKind};
use super::wait::{self, Asked};

/// The run asks for an approval.
pub(super) fn requested(run: &Run<'_>, asked: &ApprovalAsked) -> Result<Decision, Rejection> {
    let ApprovalAsked { step_key: key, name, call, args_digest, expires_in_ms } = asked;
    let kind = WaitKind::Approval { args_digest: *args_digest };
    if let Some(answer) = wait::opened_before(run, &Asked { key, name, kind })? {
        return Ok(answer);
    }
    let due = wait::due_after(run, *expires_in_ms)?;
    let mut draft = run.draft();
    let body = Body::ApprovalRequested(ApprovalRequested {
        step_key: key.clone(),
        name: name.clone(),
        call: call.clone(),
        args_digest: *args_digest,
        due,
    });
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

/// A person or program decides.
pub(super) fn decided(
    head: &Head,
    decided: &DecideApproval,
    row: Option<StepRow>,
    now: TimeMs,
) -> Result<Decision, Rejection> {
    if let Some(seq) = end::seen(head, decided.dedupe) {
        return Ok(end::seen_before(head, seq)); // A2
    }
    let key = &decided.step_key;
    if row.is_some_and(|row| matches!(row.state, StepState::Completed | StepState::Failed)) {
        let message =
            format!("approval {key} was decided or is not wanted any more; read its outcome instead");
        return Err(Rejection::new(Code::ApprovalDecided, message)); // A2
    }
    wait::check_takes(head)?;
    let wait = head.wait(key).ok_or_else(|| wait::not_found(key))?;
    let WaitKind::Approval { args_digest } = wait.kind else {
        return Err(invalid(format!("{key} is no approval; look at the session's open waits")));
    };
    if decided.decision == ApprovalDecision::Expired {
        return Err(invalid("only time expires an approval; approve or reject it"));
    }
    if wait.due.is_some_and(|due| due <= ledger_time(head, now)) {
        let message = format!("nobody decided approval {key} in time; the run goes on without it");
        return Err(Rejection::new(Code::ApprovalExpired, message)); // A3
    }
    if args_digest != decided.args_digest {
        let message = format!(
            "approval {key} is for other arguments than those that were decided on; show the present ones and decide again"
        );
        return Err(Rejection::new(Code::ApprovalMismatch, message)); // A1
    }
    let mut draft = Draft::after(head, now);
    let body = Body::ApprovalDecided(ApprovalDecided {
        step_key: key.clone(),
        decision: decided.decision,
        by: decided.by.clone(), // A4
        comment: decided.comment.clone(),
    });
    let seq = draft.push(Author::Client(decided.dedupe), body);
    Ok(draft.appended(seq))
}

/// What is journaled when nobody decided in time.
pub(super) fn expired(wait: &OpenWait) -> Body {
    Body::ApprovalDecided(ApprovalDecided {
        step_key: wait.step_key.clone(),
        decision: ApprovalDecision::Expired,
        by: "".into(),
        comment: None,
    })
}
