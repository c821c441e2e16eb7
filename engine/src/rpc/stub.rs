//! Guarded steps of a fork that performs nothing: what its lineage recorded takes the place of the effect.
//!
//! 1. A record is an outcome of the same step key in the session that was forked, or in one that it was forked from,
//!    even if it came after the cut. Inputs are not compared: they may differ because of the fork.
//! 2. Without a record the intent is journaled with no time to be carried out in, and its policy is to pause: the driver
//!    says at once that the outcome is unknown, and a person or program answers in place of the effect.

use super::convert::Converted;
use crate::graph::command::{Append, Command, Op, Rejection, StubOutcome};
use crate::graph::event::{GuardIntent, GuardPolicy, Resolution};
use crate::graph::fork::STUB_ATTEMPT_MS;
use crate::graph::ids::SessionId;
use crate::ledger::prefix::StepOutcome;
use crate::ledger::{Blobs, Place, ReadError, Reader};

/// Makes the intent of a guarded step what it is in its session: itself, or the outcome that stands for it.
///
/// # Errors
/// As the ledger's reads, and as taking a payload in.
pub fn stubbed(
    converted: Converted,
    place: &Place,
    reader: &Reader,
    blobs: &mut Blobs,
) -> Result<Result<Converted, Rejection>, ReadError> {
    let Converted { command: Command::Append(Append { op: Op::GuardIntent { .. }, .. }), .. } = &converted
    else {
        return Ok(Ok(converted));
    };
    if !place.stubs_effects {
        return Ok(Ok(converted));
    }
    let Converted { command: Command::Append(mut append), evidence } = converted else {
        return Ok(Ok(converted));
    };
    if let Op::GuardIntent { intent, guard, taken } = append.op {
        append.op = match recorded(reader, append.session, &intent, blobs)? {
            Ok(Some(outcome)) => Op::GuardStub { intent, outcome },
            Ok(None) => Op::GuardIntent { intent: never_called(intent), guard, taken },
            Err(rejection) => return Ok(Err(rejection)),
        };
    }
    Ok(Ok(Converted { command: Command::Append(append), evidence }))
}

/// 1.
fn recorded(
    reader: &Reader,
    session: SessionId,
    intent: &GuardIntent,
    blobs: &mut Blobs,
) -> Result<Result<Option<StubOutcome>, Rejection>, ReadError> {
    let mut at = session;
    while let Some((parent, _)) = reader.place(at)?.and_then(|place| place.forked_from) {
        at = parent;
        let Some(outcome) = StepOutcome::read(reader, parent, &intent.step_key)? else { continue };
        let result = match &outcome.resolution {
            Resolution::Output(output) => Ok(output.clone()),
            Resolution::Failure(Some(failure)) => Err(failure.clone()),
            // A failure by policy says that nobody knew; so does this.
            Resolution::Failure(None) | Resolution::NotApplied(_) | Resolution::Retry => continue,
        };
        if let Err(rejection) = outcome.copy(reader, blobs)? {
            return Ok(Err(rejection));
        }
        return Ok(Ok(Some(StubOutcome { from: outcome.place(), result })));
    }
    Ok(Ok(None))
}

/// 2.
fn never_called(intent: GuardIntent) -> GuardIntent {
    GuardIntent { attempt_ms: STUB_ATTEMPT_MS, grace_ms: 0, policy: GuardPolicy::Pause, ..intent }
}
