//! What operators do to sessions from outside their runs: pause, resume, retry, cancel, terminate; to one, or to all that
//! a filter selects.
//!
//! 1. A session is never acted on that the caller does not see.
//! 2. A batch looks at the sessions page by page and acts on one after the other: it never holds more than a page, and
//!    what a filter selects is decided when the session is looked at. Ended sessions are never selected.
//! 3. A batch whose filter restricts nothing is refused: everything in a namespace is nobody's intention.
//! 4. A dry run submits nothing; it says of each session what its present state allows.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::auth::Principal;
use super::context::{Context, not_found};
use super::convert;
use super::journal::{self, Ended, Outlet};
use super::status;
use crate::graph::command::{Cancel, Code, Command, Pause, Rejection, ReleaseHold, Resume};
use crate::graph::event::{Author, Format};
use crate::graph::ids::{DedupeId, Incarnation, Namespace, SessionId};
use crate::graph::session::{Head, Status};
use crate::ledger::{Origin, PayloadIn, ReadError, Refused, Submission};

/// Sessions of a batch that are in memory at a time.
const PAGE_SESSIONS: usize = 256;
/// How often a session of a batch is tried while the queue is full.
const TRIES_MAX: u32 = 100;

/// What is done to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Pause,
    Resume,
    Retry,
    Cancel,
    Terminate,
    /// After a restore.
    Release,
}

/// An action on one session.
#[derive(Clone, Debug)]
pub struct Request {
    pub action: Action,
    pub session: SessionId,
    pub reason: Arc<str>,
    pub dedupe: Option<DedupeId>,
}

impl Request {
    /// Reads the fields that all of these requests have.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn parse(
        action: Action,
        session_id: &str,
        reason: String,
        dedupe_id: &Bytes,
    ) -> Result<Self, Rejection> {
        Ok(Self {
            action,
            session: convert::session_id(session_id)?,
            reason: convert::reason(reason)?,
            dedupe: convert::dedupe_id(dedupe_id)?,
        })
    }
}

/// Acts on one session and returns it as it is then.
///
/// # Errors
/// As the decision: `session_not_found`, `session_ended`, `session_not_paused`, ….
pub async fn act(context: &Context, caller: &Principal, request: Request) -> Result<v1::Session, Refused> {
    let head = context.visible(caller, request.session)?; // 1
    let submission = submission(context, caller, &head, &request)?;
    let committed = context.ledger.submit(submission).await?;
    let head = match committed.head {
        Some(head) => head,
        None => {
            context.ledger.reader().head(request.session).map_err(Refused::Failed)?.ok_or_else(not_found)?
        }
    };
    context.session(&head).map_err(Refused::Failed)
}

fn submission(
    context: &Context,
    caller: &Principal,
    head: &Head,
    request: &Request,
) -> Result<Submission, Refused> {
    let session = head.session;
    let place = context.ledger.lineage(session).map_err(Refused::Failed)?.ok_or_else(not_found)?;
    let mut blobs = context.ledger.blobs(&place.salt);
    let (by, dedupe) = (Arc::clone(&caller.name), request.dedupe);
    let cancel = || Cancel {
        session,
        reason: Arc::clone(&request.reason),
        by: Arc::clone(&by),
        author: Author::Operator(dedupe),
    };
    let resume = |retry| Resume { session, by: Arc::clone(&by), dedupe, retry };
    let command = match request.action {
        Action::Pause => {
            let details = (!request.reason.is_empty()).then(|| blobs.add(said(&request.reason, &by)));
            let details = details.transpose().map_err(Refused::Rejected)?;
            Command::Pause(Pause { session, details, dedupe })
        }
        Action::Resume => Command::Resume(resume(false)),
        Action::Retry => Command::Resume(resume(true)),
        Action::Cancel => Command::Cancel(cancel()),
        Action::Terminate => Command::Terminate(cancel()),
        Action::Release => Command::ReleaseHold(ReleaseHold {
            session,
            incarnation: context.ledger.identity().incarnation,
            by: Arc::clone(&by),
            dedupe,
        }),
    };
    Ok(Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() })
}

/// Why and by whom, as a pause shows it.
fn said(reason: &str, by: &str) -> PayloadIn {
    let said = serde_json::json!({ "reason": reason, "by": by });
    PayloadIn { format: Format::Json, codec: "".into(), bytes: said.to_string().into() }
}

/// A batch, checked.
#[derive(Clone, Debug)]
pub struct Batch {
    action: Action,
    namespace: Namespace,
    filter: v1::SessionFilter,
    reason: Arc<str>,
    dry_run: bool,
}

/// Reads a batch.
///
/// # Errors
/// `permission_denied` for another namespace, `invalid_argument` for a filter that restricts nothing (3).
pub fn batch(caller: &Principal, request: v1::BatchSessionsRequest) -> Result<Batch, Rejection> {
    let filter = request.filter.unwrap_or_default();
    let namespace = caller.namespace_for(&filter.namespace).map_err(|refusal| status::denied(&refusal))?;
    let unfiltered =
        v1::SessionFilter { namespace: filter.namespace.clone(), ..v1::SessionFilter::default() };
    // Releasing all that is held is what one means after a restore.
    if filter == unfiltered && request.action != i32::from(v1::SessionAction::Release) {
        return Err(invalid("filter must restrict something: name a workflow, a status, a time or a label"));
    }
    let action = match v1::SessionAction::try_from(request.action) {
        Ok(v1::SessionAction::Pause) => Action::Pause,
        Ok(v1::SessionAction::Resume) => Action::Resume,
        Ok(v1::SessionAction::Retry) => Action::Retry,
        Ok(v1::SessionAction::Cancel) => Action::Cancel,
        Ok(v1::SessionAction::Terminate) => Action::Terminate,
        Ok(v1::SessionAction::Release) => Action::Release,
        Ok(v1::SessionAction::Unspecified) | Err(_) => {
            return Err(invalid("action must be one of SessionAction"));
        }
    };
    let reason = convert::reason(request.reason)?;
    Ok(Batch { action, namespace, filter, reason, dry_run: request.dry_run })
}

/// Carries a batch out, oldest session first, and says what became of each.
pub async fn run(
    context: Context,
    caller: Principal,
    batch: Batch,
    outlet: Outlet<v1::BatchSessionsResponse>,
) {
    let ended = tokio::select! {
        ended = batch.each(&context, &caller, &outlet) => ended,
        () = outlet.gone() => return,
        () = context.stopped() => return outlet.fail(status::stopping()).await,
    };
    outlet.end(ended).await;
}

impl Batch {
    async fn each(
        &self,
        context: &Context,
        caller: &Principal,
        outlet: &Outlet<v1::BatchSessionsResponse>,
    ) -> Result<(), Ended> {
        let mut summary = v1::BatchSummary::default();
        // Live sessions only; their ids are few against the sessions of all time, and heads are read page by page (2).
        let reader = context.ledger.reader().clone();
        let live = journal::blocking(move || reader.live()).await?;
        for page in live.chunks(PAGE_SESSIONS) {
            for head in self.selected(context, page.to_vec()).await? {
                let result = self.one(context, caller, &head).await?;
                summary.matched += 1;
                match result.code.is_empty() {
                    true => summary.done += 1,
                    false => summary.refused += 1,
                }
                outlet.send(message(v1::batch_sessions_response::Body::Result(result))).await?;
            }
        }
        outlet.send(message(v1::batch_sessions_response::Body::Summary(summary))).await
    }

    async fn selected(
        &self,
        context: &Context,
        sessions: Vec<SessionId>,
    ) -> Result<Vec<Arc<Head>>, ReadError> {
        let (reader, batch) = (context.ledger.reader().clone(), self.clone());
        let incarnation = context.ledger.identity().incarnation;
        journal::blocking(move || {
            let mut heads = Vec::new();
            for session in sessions {
                heads.extend(reader.head(session)?.filter(|head| batch.selects(head, incarnation)));
            }
            Ok(heads)
        })
        .await
    }

    fn selects(&self, head: &Head, incarnation: Incarnation) -> bool {
        let held = self.filter.held || self.action == Action::Release;
        head.is_live()
            && head.namespace == self.namespace
            && (!held || head.is_held(incarnation))
            && convert::filter_fits(&self.filter, head)
    }

    async fn one(
        &self,
        context: &Context,
        caller: &Principal,
        head: &Head,
    ) -> Result<v1::BatchResult, ReadError> {
        let refused = |session, refusal: v1::Refusal| v1::BatchResult {
            session: Some(session),
            code: refusal.code,
            message: refusal.message,
        };
        let done = |session| v1::BatchResult { session: Some(session), ..v1::BatchResult::default() };
        if self.dry_run {
            let session = context.session(head)?;
            return Ok(match would_refuse(self.action, head) {
                Some(rejection) => refused(session, convert::refusal(&rejection)),
                None => done(session),
            });
        }
        let request = Request {
            action: self.action,
            session: head.session,
            reason: Arc::clone(&self.reason),
            dedupe: Some(context.mint.dedupe()),
        };
        for _ in 0..TRIES_MAX {
            return match act(context, caller, request.clone()).await {
                Ok(session) => Ok(done(session)),
                Err(Refused::Rejected(rejection)) => {
                    Ok(refused(context.session(head)?, convert::refusal(&rejection)))
                }
                Err(Refused::Overloaded { retry_after_ms }) => {
                    tokio::time::sleep(std::time::Duration::from_millis(retry_after_ms)).await;
                    continue;
                }
                Err(Refused::Failed(error)) => Err(error),
                Err(Refused::Closed) => Err(ReadError::Fault("the engine is stopping".to_owned())),
            };
        }
        let message = "the engine's queue stayed full; run the batch again: what was done is not done twice";
        let rejection = Rejection::new(Code::Unavailable, message);
        Ok(refused(context.session(head)?, convert::refusal(&rejection)))
    }
}

/// What the session's present state refuses; a dry run's word only (4).
fn would_refuse(action: Action, head: &Head) -> Option<Rejection> {
    let paused = matches!(head.status, Status::Paused { .. });
    match action {
        Action::Resume | Action::Retry if !paused => {
            let message = "the session is not paused; there is nothing to resume";
            Some(Rejection::new(Code::SessionNotPaused, message))
        }
        Action::Pause
        | Action::Resume
        | Action::Retry
        | Action::Cancel
        | Action::Terminate
        | Action::Release => None,
    }
}

const fn message(body: v1::batch_sessions_response::Body) -> v1::BatchSessionsResponse {
    v1::BatchSessionsResponse { body: Some(body) }
}

fn invalid(message: &str) -> Rejection {
    Rejection::new(Code::InvalidArgument, message)
}
