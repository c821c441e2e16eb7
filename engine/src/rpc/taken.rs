//! What an idempotency key has recorded elsewhere, copied by value into the session that asks for it.
//!
//! 1. A copy is made only of an output whose owner, input and place the decision compares again: what has changed
//!    meanwhile is answered with a hint to ask again.
//! 2. Which key a step's earlier attempts used is read where they were made durable: an attempt is asked for only after the
//!    outcome of the one before was acknowledged.
//! 3. The copy's digest is made with the asking lineage's salt, so erasing the owner's lineage does not touch it.

use crate::graph::command::{Command, Op, Rejection, Taken};
use crate::graph::session::StepState;
use crate::ledger::{Blobs, ReadError, Reader};

/// Puts the output that the command's idempotency key has recorded beside the command, if another step or session has
/// recorded one.
///
/// # Errors
/// As the ledger's reads, and as taking a payload in.
pub fn bring(
    command: &mut Command,
    reader: &Reader,
    blobs: &mut Blobs,
) -> Result<Result<(), Rejection>, ReadError> {
    let Command::Append(append) = command else { return Ok(Ok(())) };
    let session = append.session;
    let Op::GuardIntent { intent, guard, taken } = &mut append.op else { return Ok(Ok(())) };
    if intent.attempt > 1 {
        guard.former = reader.owned_key(session, guard.step_key_hash)?; // 2
    }
    let Some(row) = reader.guard(&guard.digest)? else { return Ok(Ok(())) };
    let own = row.session == session && row.step_key_hash == guard.step_key_hash;
    if own || row.input_digest != guard.input_digest {
        return Ok(Ok(()));
    }
    let outcome = reader.guard_outcome(&row)?;
    let Some(outcome) = outcome.filter(|row| row.outcome.state == StepState::Completed) else {
        return Ok(Ok(()));
    };
    let Some(copy) = reader.guard_output(&row, &outcome)? else {
        guard.output_gone = true;
        return Ok(Ok(()));
    };
    let from = (row.session, outcome.outcome.seq);
    Ok(blobs.add(copy).map(|output| *taken = Some(Taken { from, output }))) // 3
}
