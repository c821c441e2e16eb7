//! Stored events of children, both ways.

use cellaflow_proto::disk;

use crate::graph::event::{Body, ChildEnd, ChildEnded, ChildSpawned};
use crate::graph::ids::SessionId;
use crate::storage::fields::{
    Malformed, bytes_of, bytes_or_empty, digest_or_none, exact, malformed, payload_required, payload_to, top,
    top_to,
};

pub(super) fn child_spawned(child: &ChildSpawned) -> disk::ChildSpawned {
    disk::ChildSpawned {
        step_key: child.step_key.to_string(),
        name: child.name.to_string(),
        child_id: bytes_of(&child.child.0),
        workflow: child.workflow.to_string(),
        version: child.version.to_string(),
        input: Some(payload_to(&child.input)),
        abandoned: child.abandoned,
        input_digest: bytes_or_empty(child.input_digest.map(|digest| digest.0)),
    }
}

pub(super) fn child_spawned_from(child: disk::ChildSpawned) -> Result<Body, Malformed> {
    Ok(Body::ChildSpawned(ChildSpawned {
        child: SessionId(exact(&child.child_id, "child_spawned.child_id")?),
        input: payload_required(child.input.as_ref(), "child_spawned.input")?,
        input_digest: digest_or_none(&child.input_digest, "child_spawned.input_digest")?,
        abandoned: child.abandoned,
        step_key: child.step_key.into(),
        name: child.name.into(),
        workflow: child.workflow.into(),
        version: child.version.into(),
    }))
}

pub(super) fn child_ended(ended: &ChildEnded) -> disk::ChildEnded {
    let (status, output, failure, reason) = match &ended.end {
        ChildEnd::Completed(output) => (disk::Status::Completed, Some(output), None, String::new()),
        ChildEnd::Failed(failure) => (disk::Status::Failed, None, Some(failure), String::new()),
        ChildEnd::Cancelled(reason) => (disk::Status::Cancelled, None, None, reason.to_string()),
    };
    disk::ChildEnded {
        step_key: ended.step_key.to_string(),
        child_id: bytes_of(&ended.child.0),
        status: status as i32,
        output: output.map(payload_to),
        failure: failure.map(payload_to),
        ended_id: top_to(ended.ended, ended.child),
        reason,
    }
}

pub(super) fn child_ended_from(ended: disk::ChildEnded) -> Result<Body, Malformed> {
    let end = match (disk::Status::try_from(ended.status), &ended.output, &ended.failure) {
        (Ok(disk::Status::Completed), output, None) => {
            ChildEnd::Completed(payload_required(output.as_ref(), "child_ended.output")?)
        }
        (Ok(disk::Status::Failed), None, failure) => {
            ChildEnd::Failed(payload_required(failure.as_ref(), "child_ended.failure")?)
        }
        (Ok(disk::Status::Cancelled), None, None) => ChildEnd::Cancelled(ended.reason.into()),
        (status, _, _) => {
            let problem = format!("does not fit its payloads: {status:?}");
            return Err(malformed("child_ended.status", problem));
        }
    };
    Ok(Body::ChildEnded(ChildEnded {
        child: SessionId(exact(&ended.child_id, "child_ended.child_id")?),
        ended: top(&ended.ended_id, &ended.child_id, "child_ended.ended_id")?,
        step_key: ended.step_key.into(),
        end,
    }))
}
