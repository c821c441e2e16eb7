//! What a head says of waits, and the row of a signal's id.

use cellaflow_proto::disk;

use crate::graph::ids::{Digest, Seq, SessionId, TimeMs};
use crate::graph::session::{OpenWait, SignalRow, WaitKind};
use crate::storage::fields::{Malformed, bytes_of, exact, malformed};

pub(super) fn wait_to(wait: &OpenWait) -> disk::OpenWait {
    let (kind, child_id, args_digest) = match wait.kind {
        WaitKind::Timer => (disk::WaitKind::Timer, None, None),
        WaitKind::Signal => (disk::WaitKind::Signal, None, None),
        WaitKind::Approval { args_digest } => (disk::WaitKind::Approval, None, Some(args_digest)),
        WaitKind::Child { session, .. } => (disk::WaitKind::Child, Some(session), None),
    };
    let (abandoned, cancelling) = match wait.kind {
        WaitKind::Child { abandoned, cancelling, .. } => (abandoned, cancelling),
        WaitKind::Timer | WaitKind::Signal | WaitKind::Approval { .. } => (false, false),
    };
    disk::OpenWait {
        abandoned,
        cancelling,
        step_key: wait.step_key.to_string(),
        kind: kind as i32,
        name: wait.name.to_string(),
        seq: wait.seq.0,
        due_ms: wait.due.map(|due| due.0),
        child_id: child_id.map(|id| bytes_of(&id.0)).unwrap_or_default(),
        args_digest: args_digest.map(|digest| bytes_of(&digest.0)).unwrap_or_default(),
    }
}

pub(super) fn wait_from(wait: disk::OpenWait) -> Result<OpenWait, Malformed> {
    let kind = match disk::WaitKind::try_from(wait.kind) {
        Ok(disk::WaitKind::Timer) => WaitKind::Timer,
        Ok(disk::WaitKind::Signal) => WaitKind::Signal,
        Ok(disk::WaitKind::Approval) => {
            WaitKind::Approval { args_digest: Digest(exact(&wait.args_digest, "open_wait.args_digest")?) }
        }
        Ok(disk::WaitKind::Child) => {
            let session = SessionId(exact(&wait.child_id, "open_wait.child_id")?);
            WaitKind::Child { session, abandoned: wait.abandoned, cancelling: wait.cancelling }
        }
        Ok(disk::WaitKind::Unspecified) | Err(_) => {
            return Err(malformed("wait kind", format!("has the unknown value {}", wait.kind)));
        }
    };
    Ok(OpenWait {
        kind,
        seq: Seq(wait.seq),
        due: wait.due_ms.map(TimeMs),
        step_key: wait.step_key.into(),
        name: wait.name.into(),
    })
}

pub(super) fn buffered_to((name, seq): &(std::sync::Arc<str>, Seq)) -> disk::BufferedSignal {
    disk::BufferedSignal { name: name.to_string(), seq: seq.0 }
}

pub(super) fn buffered_from(signal: disk::BufferedSignal) -> (std::sync::Arc<str>, Seq) {
    (signal.name.into(), Seq(signal.seq))
}

pub(super) fn signal_to(row: &SignalRow) -> disk::SignalRow {
    disk::SignalRow {
        seq: row.seq.0,
        name: row.name.to_string(),
        value_digest: bytes_of(&row.value_digest.0),
    }
}

pub(super) fn signal_from(row: disk::SignalRow) -> Result<SignalRow, Malformed> {
    Ok(SignalRow {
        seq: Seq(row.seq),
        value_digest: Digest(exact(&row.value_digest, "signal_row.value_digest")?),
        name: row.name.into(),
    })
}
