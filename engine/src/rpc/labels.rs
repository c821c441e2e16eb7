//! Changing a session's labels.

use std::sync::Arc;

use cellaflow_proto::v1;

use super::auth::Principal;
use super::context::{Context, not_found};
use super::convert;
use crate::graph::command::{Command, SetLabels};
use crate::graph::event::LabelsSet;
use crate::ledger::{Origin, Refused, Submission};

/// Changes a session's labels and returns it as it is then.
///
/// # Errors
/// `session_not_found`, `session_ended`, `invalid_argument` for labels beyond the limits.
pub async fn set(
    context: &Context,
    caller: &Principal,
    request: v1::SetLabelsRequest,
) -> Result<v1::Session, Refused> {
    let session = context.find(caller, request.session)?.session;
    let place = context.ledger.lineage(session).map_err(Refused::Failed)?.ok_or_else(not_found)?;
    let labels = LabelsSet {
        set: convert::labels(request.set),
        removed: request.removed.into_iter().map(Into::into).collect(),
        by: Arc::clone(&caller.name),
    };
    let dedupe = convert::dedupe_id(&request.dedupe_id).map_err(Refused::Rejected)?;
    let committed = context
        .ledger
        .submit(Submission {
            command: Command::SetLabels(SetLabels { session, labels, dedupe }),
            blobs: context.ledger.blobs(&place.salt),
            evidence: None,
            new_lineage: None,
            origin: Origin::default(),
        })
        .await?;
    let head = match committed.head {
        Some(head) => head,
        None => context.ledger.reader().head(session).map_err(Refused::Failed)?.ok_or_else(not_found)?,
    };
    context.session(&head).map_err(Refused::Failed)
}
