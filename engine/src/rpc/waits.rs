//! Signals and decisions of approvals: a client's word to a session that runs elsewhere or waits.

use std::sync::Arc;

use cellaflow_proto::v1;

use super::auth::Principal;
use super::context::{Context, not_found};
use super::convert::{self, Intake};
use crate::graph::command::{Command, Rejection, Reply};
use crate::graph::event::Body;
use crate::graph::ids::SessionId;
use crate::ledger::{Committed, Origin, Refused, Submission};

/// Sends a session a signal.
pub(super) async fn signal(
    context: &Context,
    caller: &Principal,
    request: v1::SignalSessionRequest,
) -> Result<v1::SignalSessionResponse, Refused> {
    let session = context.find(caller, request.session.clone())?.session;
    let by = Arc::clone(&caller.name);
    let committed =
        carry_out(context, session, |intake| convert::signal(session, request, by, intake)).await?;
    let delivered =
        committed.events.iter().any(|stored| matches!(stored.event.body, Body::SignalDelivered { .. }));
    let (seq, duplicate) = match committed.reply {
        Reply::Appended { seq, duplicate, .. } => (seq.0, duplicate),
        Reply::Bound { .. } | Reply::Recorded { .. } | Reply::Done { .. } => (0, false),
    };
    Ok(v1::SignalSessionResponse { seq, duplicate, delivered })
}

/// Decides an approval.
pub(super) async fn decide(
    context: &Context,
    caller: &Principal,
    request: v1::DecideApprovalRequest,
) -> Result<v1::Session, Refused> {
    let session = context.find(caller, request.session.clone())?.session;
    let by = &caller.name;
    let committed =
        carry_out(context, session, |intake| convert::decide_approval(session, request, by, intake)).await?;
    let head = committed.head.ok_or_else(not_found)?;
    context.session(&head).map_err(Refused::Failed)
}

async fn carry_out(
    context: &Context,
    session: SessionId,
    parse: impl FnOnce(&mut Intake<'_>) -> Result<Command, Rejection>,
) -> Result<Committed, Refused> {
    let place = context.ledger.lineage(session).map_err(Refused::Failed)?.ok_or_else(not_found)?;
    let namespace = context.ledger.namespace(&place.namespace).await?;
    let mut blobs = context.ledger.blobs(&place.salt);
    let command =
        parse(&mut Intake { blobs: &mut blobs, namespace_salt: &namespace.salt, transfers: &mut |_| None })
            .map_err(Refused::Rejected)?;
    let submission =
        Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() };
    context.ledger.submit(submission).await
}
