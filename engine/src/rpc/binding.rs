//! Starts and lease requests, made ready to submit: what the wire cannot know (ids, salts, who is alive) is added here.
//!
//! 1. A holder is called dead only by name: if the lease has moved on when the command is decided, the verdict is void.
//! 2. A start without a key but with a dedupe id is looked up by that id, so that a retry finds the same session.

use std::sync::Arc;

use bytes::Bytes;

use super::auth::Principal;
use super::context::Context;
use super::convert;
use super::{status, workflows};
use crate::dispatch::lease_request;
use crate::graph::budget::BudgetStart;
use crate::graph::command::{Acquire, Code, Command, LeaseRequest, Rejection, Start, StartKey};
use crate::graph::event::Format;
use crate::graph::ids::{Epoch, InstanceId, SessionId};
use crate::graph::session::Head;
use crate::ledger::digest::{Purpose, keyed};
use crate::ledger::{Blobs, NamespaceInfo, Origin, PayloadIn, ReadError, Refused, Submission};

/// Who asks for the lease of a session, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who.
    pub instance: InstanceId,
    /// Epoch held before a lost connection.
    pub held: Option<Epoch>,
    /// Version it would run; `None`: not compared.
    pub version: Option<Arc<str>>,
}

/// Makes a start ready to submit, in the caller's namespace or the one it may name.
///
/// # Errors
/// `permission_denied` for another namespace, `disk_low`, and as the ledger's reads.
pub async fn start(
    context: &Context,
    caller: &Principal,
    start: convert::Start,
    origin: Origin,
) -> Result<Submission, Refused> {
    let namespace = caller.namespace_for(&start.namespace);
    let namespace = namespace.map_err(|refusal| Refused::Rejected(status::denied(&refusal)))?;
    let info = context.ledger.namespace(&namespace).await?;
    let known = known_session(context, &info, &start)?;
    if known.is_none() && context.vitals.disk_low() {
        return Err(Refused::Rejected(disk_low()));
    }
    let lease = match start.instance {
        Some(instance) => {
            context.fleet.called(instance, &namespace).map_err(Refused::Rejected)?;
            let head = known.map(|session| context.ledger.reader().head(session)).transpose();
            let head = head.map_err(Refused::Failed)?.flatten();
            Some(lease(context, head.as_deref(), instance).map_err(Refused::Failed)?)
        }
        None => None,
    };
    let version = match &*start.version {
        "" => workflows::newest(context, &namespace, &start.workflow).map_err(Refused::Failed)?,
        _ => Arc::clone(&start.version),
    };
    let lineage = context.ledger.mint_lineage();
    let mut blobs = context.ledger.blobs(&lineage.salt);
    let key = start_key(&info, &start, &mut blobs).map_err(Refused::Rejected)?;
    let command = Command::Start(Start {
        session: lineage.session,
        lineage: lineage.lineage,
        namespace,
        workflow: start.workflow,
        version,
        input: blobs.add(start.input).map_err(Refused::Rejected)?,
        key,
        if_ended_restart: start.if_ended_restart,
        system: false,
        lease,
        dedupe: start.dedupe,
        descent: None,
        budget: BudgetStart { limits: start.limits, inherited: Vec::new() },
        labels: start.labels,
        incarnation: context.ledger.identity().incarnation,
        timeout_ms: start.timeout_ms,
    });
    Ok(Submission { command, blobs, evidence: None, new_lineage: Some(lineage), origin })
}

fn known_session(
    context: &Context,
    info: &NamespaceInfo,
    start: &convert::Start,
) -> Result<Option<SessionId>, Refused> {
    let Some(key) = &start.key else { return Ok(None) };
    context.ledger.reader().session_by_key(info, &start.workflow, key).map_err(Refused::Failed)
}

fn start_key(
    info: &NamespaceInfo,
    start: &convert::Start,
    blobs: &mut Blobs,
) -> Result<Option<StartKey>, Rejection> {
    let (digest, text) = match (&start.key, &start.dedupe) {
        (Some(key), _) => {
            let parts: [&[u8]; 2] = [start.workflow.as_bytes(), key.as_bytes()];
            (keyed(&info.salt, Purpose::SessionKey, &parts), Bytes::copy_from_slice(key.as_bytes()))
        }
        (None, Some(dedupe)) => (keyed(&info.salt, Purpose::Start, &[&dedupe.0]), Bytes::new()), // 2
        (None, None) => return Ok(None),
    };
    let input: &[u8] = start.input_digest.as_ref().map_or(&start.input.bytes, |digest| &digest.0);
    let payload = blobs.add(PayloadIn { format: Format::Bytes, codec: "".into(), bytes: text })?;
    Ok(Some(StartKey { digest, input_digest: keyed(&info.salt, Purpose::Input, &[input]), payload }))
}

pub(super) fn disk_low() -> Rejection {
    Rejection {
        code: Code::DiskLow,
        message:
            "the engine's disk is nearly full and running sessions come first: free space, then start again"
                .to_owned(),
        retry_after_ms: Some(DISK_RETRY_MS),
    }
}

/// When to try a start again while the disk is low, in ms: space does not come back by the second.
const DISK_RETRY_MS: u64 = 30_000;

/// Makes a lease request ready to submit; `head` is the session's.
///
/// # Errors
/// As the ledger's reads.
pub fn acquire(context: &Context, head: &Head, ask: Ask, origin: Origin) -> Result<Submission, Refused> {
    let place = context.ledger.lineage(head.session).map_err(Refused::Failed)?;
    let place = place.ok_or_else(super::context::not_found)?;
    let lease = lease(context, Some(head), ask.instance).map_err(Refused::Failed)?;
    let command =
        Command::Acquire(Acquire { session: head.session, lease, held: ask.held, version: ask.version });
    Ok(Submission {
        command,
        blobs: context.ledger.blobs(&place.salt),
        evidence: None,
        new_lineage: None,
        origin,
    })
}

fn lease(context: &Context, head: Option<&Head>, instance: InstanceId) -> Result<LeaseRequest, ReadError> {
    let alive = |holder| context.fleet.holder_alive(holder); // 1
    lease_request(&context.ledger, instance, head, alive)
}
