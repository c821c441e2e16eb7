//! Forks and acceptances, parsed. What only the ledger knows (the parent's events) is added by who submits.

use std::sync::Arc;

use cellaflow_proto::v1;

use super::fields::{self, Field};
use super::payload::{self, Fits};
use crate::graph::command::{Accept, Command, Rejection};
use crate::graph::ids::{DedupeId, Seq, StepKey};
use crate::ledger::PayloadIn;

/// A fork, as the caller asks for it.
#[derive(Clone, Debug)]
pub struct Fork {
    /// Last event wanted; `None`: as much as fits.
    pub from: Option<Seq>,
    /// What is different.
    pub edits: Vec<ForkEdit>,
    /// Guarded effects are performed.
    pub live: bool,
    /// Key of the fork.
    pub key: Option<Arc<str>>,
    /// Version to pin; `None`: the parent's.
    pub version: Option<Arc<str>>,
    /// Makes a retry safe where there is no key.
    pub dedupe: Option<DedupeId>,
}

/// What is different in a fork.
#[derive(Clone, Debug)]
pub enum ForkEdit {
    /// The session's input.
    Input(PayloadIn),
    /// Output of a step or zone.
    Output(StepKey, PayloadIn),
    /// Failure of a step or zone.
    Failure(StepKey, PayloadIn),
}

/// Reads a fork; the session it names is the caller's to find.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn fork(request: v1::ForkSessionRequest) -> Result<Fork, Rejection> {
    let version = request.version;
    Ok(Fork {
        from: (request.from_seq != 0).then_some(Seq(request.from_seq)),
        edits: request.edits.into_iter().map(edit).collect::<Result<_, _>>()?,
        live: request.effects_live,
        key: fields::session_key(request.key)?,
        version: (!version.is_empty()).then(|| fields::version(version)).transpose()?,
        dedupe: fields::dedupe_id(&request.dedupe_id)?,
    })
}

fn edit(edit: v1::ForkEdit) -> Result<ForkEdit, Rejection> {
    const AT: &str = "edits";
    let none = &mut |_| None;
    let step_key = |key| fields::step_key(Field(AT, "step_key"), key);
    Ok(match Field(AT, "edit").set(edit.edit)? {
        v1::fork_edit::Edit::Input(input) if edit.step_key.is_empty() => {
            ForkEdit::Input(payload::parse(Field(AT, "input"), input, Fits::Value, none)?)
        }
        v1::fork_edit::Edit::Input(_) => {
            return Err(Field(AT, "step_key").must("be empty where the session's input is edited"));
        }
        v1::fork_edit::Edit::Output(output) => ForkEdit::Output(
            step_key(edit.step_key)?,
            payload::parse(Field(AT, "output"), output, Fits::Outcome, none)?,
        ),
        v1::fork_edit::Edit::Failure(failure) => ForkEdit::Failure(
            step_key(edit.step_key)?,
            payload::parse(Field(AT, "failure"), failure, Fits::Failure, none)?,
        ),
    })
}

/// Reads the acceptance of a nondeterminism; `by` is the name of the token.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn accept(request: v1::AcceptDivergenceRequest, by: Arc<str>) -> Result<Command, Rejection> {
    let also = |key| fields::step_key(Field("", "also_drop"), key);
    Ok(Command::Accept(Accept {
        session: fields::session_id(&request.session_id)?,
        step_key: fields::step_key(Field("", "step_key"), request.step_key)?,
        input_digest: fields::optional_digest(Field("", "input_digest"), &request.input_digest)?,
        drop: request.drop,
        also_drop: request.also_drop.into_iter().map(also).collect::<Result<_, _>>()?,
        by,
        dedupe: fields::dedupe_id(&request.dedupe_id)?,
    }))
}
