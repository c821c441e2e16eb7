//! Sessions that were run elsewhere.

use cellaflow_proto::v1;

use super::bodies;
use super::fields::Field;
use super::payload::{Fits, Intake};
use crate::graph::command::{Import, ImportedStep, Rejection, Start};
use crate::graph::ids::TimeMs;

/// Reads the outcomes of an imported session; `start` has been read before.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn import(
    start: Start,
    request: v1::ImportSessionRequest,
    intake: &mut Intake<'_>,
) -> Result<Import, Rejection> {
    let steps = request.steps.into_iter().map(|sent| step(sent, intake)).collect::<Result<_, _>>()?;
    Ok(Import {
        start,
        started: TimeMs(request.started_ms),
        steps,
        output: intake.required(Field("", "output"), request.output, Fits::Value)?,
        conversation_delta: intake.optional(
            Field("", "conversation_delta"),
            request.conversation_delta,
            Fits::ConversationDelta,
        )?,
        ended: TimeMs(request.ended_ms),
    })
}

fn step(sent: v1::ImportedStep, intake: &mut Intake<'_>) -> Result<ImportedStep, Rejection> {
    Ok(ImportedStep {
        time: TimeMs(sent.time_ms),
        done: bodies::step_completed(Field("steps", "step").set(sent.step)?, intake)?,
        conversation_delta: intake.optional(
            Field("steps", "conversation_delta"),
            sent.conversation_delta,
            Fits::ConversationDelta,
        )?,
    })
}
