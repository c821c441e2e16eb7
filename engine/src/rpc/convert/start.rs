//! Starts, parsed. What only the ledger knows (ids, salts, whether a holder lives) is added by who submits.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::budget;
use super::fields::{self, Field};
use super::payload::{self, Fits};
use crate::graph::budget::Limits;
use crate::graph::command::Rejection;
use crate::graph::event::Labels;
use crate::graph::ids::{DedupeId, Digest, InstanceId};
use crate::ledger::PayloadIn;

/// A start, as the caller asks for it.
#[derive(Clone, Debug)]
pub struct Start {
    /// As sent: who may work where is the principal's to say. Empty: the token's.
    pub namespace: String,
    /// Workflow name.
    pub workflow: Arc<str>,
    /// Version to pin.
    pub version: Arc<str>,
    /// Caller's key; `None`: always a new session.
    pub key: Option<Arc<str>>,
    /// Input.
    pub input: PayloadIn,
    /// Digest of the canonical input; `None`: the bytes of `input` are digested.
    pub input_digest: Option<Digest>,
    /// What a key whose session has ended means: true starts a new generation, false returns that session.
    pub if_ended_restart: bool,
    /// Who takes the lease in the same frame.
    pub instance: Option<InstanceId>,
    /// Makes a retry safe where there is no key.
    pub dedupe: Option<DedupeId>,
    /// What it may spend at most.
    pub limits: Limits,
    /// Labels, sorted.
    pub labels: Labels,
    /// Time the session has in ms; `None`: as long as it takes.
    pub timeout_ms: Option<u64>,
}

/// Reads a start. `transfers` gives the bytes that came before as pieces; unary calls have none.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn start(
    request: v1::StartSessionRequest,
    transfers: &mut (dyn FnMut(u64) -> Option<Bytes> + Send),
) -> Result<Start, Rejection> {
    let input = Field("", "input");
    let instance = (!request.instance.is_empty()).then(|| fields::instance(&request.instance)).transpose()?;
    Ok(Start {
        namespace: request.namespace,
        workflow: fields::workflow(request.workflow)?,
        version: version(request.version, instance.is_some())?,
        key: fields::session_key(request.key)?,
        input: payload::parse(input, input.set(request.input)?, Fits::Value, transfers)?,
        input_digest: fields::optional_digest(Field("", "input_digest"), &request.input_digest)?,
        if_ended_restart: if_ended_restart(request.if_ended)?,
        instance,
        dedupe: fields::dedupe_id(&request.dedupe_id)?,
        limits: budget::limits(request.budget.as_ref())?,
        labels: fields::labels(request.labels),
        timeout_ms: (request.timeout_ms > 0).then_some(request.timeout_ms),
    })
}

/// A version may be left to the engine by who does not run the session.
fn version(version: String, runs: bool) -> Result<Arc<str>, Rejection> {
    if version.is_empty() && !runs { Ok("".into()) } else { fields::version(version) }
}

fn if_ended_restart(number: i32) -> Result<bool, Rejection> {
    match v1::IfEnded::try_from(number) {
        Ok(v1::IfEnded::Unspecified | v1::IfEnded::Return) => Ok(false),
        Ok(v1::IfEnded::Restart) => Ok(true),
        Err(_) => Err(Field("", "if_ended").must("be IF_ENDED_RETURN or IF_ENDED_RESTART")),
    }
}
