//! What a run says about waits, and what clients say to sessions that wait.

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::worker_message::Body;
use cellaflow_proto::v1::{
    self, Ack, ApprovalDecision, ApprovalRequested, DecideApprovalRequest, Release, ReleaseReason,
    SignalAwaited, SignalSessionRequest, SignalSessionResponse, TimerStarted,
};
use tonic::Status;

use super::{Answered, Pending, Worker};
use crate::client::{Client, by_id};
use crate::payload;

/// Digest of the arguments that the approvals here are about.
pub const ARGS: [u8; 32] = [7; 32];

/// A timer whose key is its name.
pub fn timer(name: &str, delay_ms: u64) -> Op {
    Op::TimerStarted(TimerStarted { step_key: name.into(), name: name.into(), due_ms: 0, delay_ms })
}

/// A timer that fires at a ledger time.
pub fn timer_at(name: &str, due_ms: u64) -> Op {
    Op::TimerStarted(TimerStarted { step_key: name.into(), name: name.into(), due_ms, delay_ms: 0 })
}

/// Awaits the signal `name` under `step_key`; 0: for ever.
pub fn awaited(step_key: &str, name: &str, timeout_ms: u64) -> Op {
    Op::SignalAwaited(SignalAwaited { step_key: step_key.into(), name: name.into(), due_ms: 0, timeout_ms })
}

/// Asks for an approval of arguments with the digest [`ARGS`]; 0: it never expires.
pub fn approval(name: &str, expires_in_ms: u64) -> Op {
    Op::ApprovalRequested(ApprovalRequested {
        step_key: name.into(),
        name: name.into(),
        call: Some(payload::literal(r#"{"toolCall":"pay","args":{"eur":5}}"#)),
        args_digest: ARGS.to_vec().into(),
        due_ms: 0,
        expires_in_ms,
    })
}

/// A decision by the token itself.
pub fn decision(session_id: &str, name: &str, decision: ApprovalDecision) -> DecideApprovalRequest {
    DecideApprovalRequest {
        session: by_id(session_id),
        step_key: name.into(),
        decision: decision.into(),
        comment: Some(payload::literal(r#""as agreed""#)),
        args_digest: ARGS.to_vec().into(),
        ..DecideApprovalRequest::default()
    }
}

impl Worker {
    /// Gives a lease back because only waits are left.
    ///
    /// # Errors
    /// A nack, or the stream's end.
    pub async fn release_waiting(&self, session_id: &str, epoch: u64, seen_seq: u64) -> Answered<Ack> {
        let (request_id, answered) = self.ask();
        let (session_id, reason) = (session_id.to_owned(), ReleaseReason::Waiting.into());
        self.send(Body::Release(Release { request_id, session_id, epoch, reason, seen_seq }));
        Pending(answered).answer().await
    }

    /// Says how many further sessions this worker takes.
    pub fn takes(&self, free: u32) {
        self.send(Body::Capacity(v1::Capacity { free }));
    }
}

impl Client {
    /// Sends a signal with a JSON value; an empty id: none.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn signal(
        &self,
        session_id: &str,
        name: &str,
        json: &str,
        id: &str,
    ) -> Result<SignalSessionResponse, Status> {
        let request = SignalSessionRequest {
            session: by_id(session_id),
            name: name.into(),
            value: Some(payload::literal(json)),
            signal_id: id.into(),
        };
        self.sessions().signal_session(request).await.map(tonic::Response::into_inner)
    }

    /// Decides an approval.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn decide(&self, request: DecideApprovalRequest) -> Result<v1::Session, Status> {
        let answer = self.sessions().decide_approval(request).await?.into_inner();
        Ok(answer.session.expect("an answer has it"))
    }
}
