//! What a worker says, made in a line.

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::{self, StartSessionRequest};

/// A start of workflow `test`, version 1, under a key.
pub fn start(key: &str) -> StartSessionRequest {
    StartSessionRequest {
        workflow: "test".to_owned(),
        version: "1".to_owned(),
        key: key.to_owned(),
        input: Some(crate::payload::literal("{}")),
        ..StartSessionRequest::default()
    }
}

/// An append.
pub fn append(session_id: &str, epoch: u64, op: Op) -> v1::Append {
    v1::Append { session_id: session_id.to_owned(), epoch, op: Some(op), ..v1::Append::default() }
}

/// The completion of an unguarded step whose key is its name.
pub fn completed(step: &str, output: v1::Payload) -> Op {
    Op::StepCompleted(v1::StepCompleted {
        step_key: step.to_owned(),
        name: step.to_owned(),
        attempt: 1,
        output: Some(output),
        ..v1::StepCompleted::default()
    })
}

/// The end of a session with a result.
pub fn session_completed(output: v1::Payload) -> Op {
    Op::SessionCompleted(v1::SessionCompleted { output: Some(output) })
}
