//! Forks: the parent's events are folded up to the cut here, so that deciding needs no history.
//!
//! 1. The parent is only read; where a fork is cut follows from the request and from events that do not change.
//! 2. A fork of what a session inherited is a fork of the session that appended it: no chain grows by forking early.
//! 3. The same request under the same key or dedupe id is the same fork.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::{content, v1};
use prost::Message as _;

use super::auth::Principal;
use super::binding;
use super::context::{Context, not_found};
use super::convert::{self, ForkEdit};
use super::journal;
use crate::graph::command::{Code, Command, Fork, Rejection, Reply, StartKey};
use crate::graph::event::{ChildEnd, ChildEnded, Edit, ForkEdited, Format, PayloadRef, Resolution};
use crate::graph::ids::{Seq, StepKey};
use crate::graph::session::{Head, IntentState, StepState, WaitKind};
use crate::ledger::digest::{Purpose, keyed};
use crate::ledger::prefix::{self, Prefix, StepOutcome};
use crate::ledger::{Blobs, NamespaceInfo, Origin, PayloadIn, ReadError, Reader, Refused, Submission};

/// Most forks of forks of forks: each is one more look-up where an inherited event is read.
const FORK_DEPTH_MAX: usize = 32;

/// Makes a fork, or finds the one that the request made before.
///
/// # Errors
/// `invalid_argument` for a cut or an edit that cannot be, `key_conflict`, and as a start.
pub async fn fork(
    context: &Context,
    caller: &Principal,
    request: v1::ForkSessionRequest,
) -> Result<v1::ForkSessionResponse, Refused> {
    let head = context.find(caller, request.session.clone())?;
    if context.vitals.disk_low() {
        return Err(Refused::Rejected(binding::disk_low()));
    }
    let info = context.ledger.namespace(&head.namespace).await?;
    let fingerprint = fingerprint(&head, &request);
    let asked = convert::fork(request).map_err(Refused::Rejected)?;
    let reading = context.clone();
    let planned = journal::blocking(move || {
        let planning = Planning { context: &reading, head: &head, info: &info };
        planning.plan(asked, &fingerprint)
    });
    let submission = planned.await.map_err(Refused::Failed)?.map_err(Refused::Rejected)?;
    let committed = context.ledger.submit(submission).await?;
    let created = matches!(committed.reply, Reply::Bound { created: true, .. });
    let session = committed.head.map(|head| context.session(&head)).transpose().map_err(Refused::Failed)?;
    Ok(v1::ForkSessionResponse { session, created })
}

/// The request without what differs between its retries (3).
fn fingerprint(head: &Head, request: &v1::ForkSessionRequest) -> Vec<u8> {
    let by = Some(v1::session_ref::By::SessionId(head.session.to_string()));
    let same = v1::ForkSessionRequest {
        session: Some(v1::SessionRef { by }),
        dedupe_id: Bytes::new(),
        ..request.clone()
    };
    same.encode_to_vec()
}

/// A read that went well and may still refuse the request.
type Judged<T> = Result<Result<T, Rejection>, ReadError>;

struct Planning<'a> {
    context: &'a Context,
    /// The session that is forked.
    head: &'a Head,
    info: &'a NamespaceInfo,
}

/// Returns early from a function that gives `Judged`.
macro_rules! judged {
    ($judged:expr) => {
        match $judged {
            Ok(value) => value,
            Err(rejection) => return Ok(Err(rejection)),
        }
    };
}

impl Planning<'_> {
    fn reader(&self) -> &Reader {
        self.context.ledger.reader()
    }

    fn plan(&self, asked: convert::Fork, fingerprint: &[u8]) -> Judged<Submission> {
        let session = self.head.session;
        let Some(place) = self.reader().place(session)? else { return Ok(Err(no_session())) };
        let wanted = judged!(self.wanted(asked.from));
        let cut = self.before_edited(wanted, &asked.edits)?;
        let prefix = Prefix::outside_zones(self.reader(), session, cut)?;
        if self.reader().depth(prefix.head.session)? >= FORK_DEPTH_MAX {
            return Ok(Err(too_deep()));
        }
        let mut blobs = self.context.ledger.blobs(&place.salt);
        let (edits, edited_input) = judged!(self.edits(asked.edits, &mut blobs)?);
        let input = match edited_input {
            Some(input) => input,
            None => judged!(self.input(&prefix, &mut blobs)?),
        };
        let is_edited = |key: &StepKey| edits.iter().any(|edited| edited.edit.step_key() == Some(key));
        let later = judged!(self.later(&prefix, &is_edited, &mut blobs)?);
        let children = judged!(self.children(&prefix, &mut blobs)?);
        let inherited = prefix.unsettled().filter(|(key, _)| !is_edited(key)).collect();
        let key = judged!(self.key(&asked.key, &asked.dedupe, fingerprint, &mut blobs));
        let command = Command::Fork(Box::new(Fork {
            session: self.context.mint.related(session),
            version: asked.version.unwrap_or_else(|| prefix.head.version.clone()),
            input,
            live: asked.live,
            edits,
            later,
            children,
            inherited,
            key,
            dedupe: asked.dedupe,
            incarnation: self.context.ledger.identity().incarnation,
            base: Arc::new(prefix.head),
        }));
        Ok(Ok(Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() }))
    }

    /// The last event that may be common: no later than asked for, and before the end.
    fn wanted(&self, from: Option<Seq>) -> Result<Seq, Rejection> {
        let last = self.head.seq;
        if let Some(beyond) = from.filter(|from| *from > last) {
            return Err(invalid(format!(
                "from_seq is {beyond} and the session has {last} events: name one of those, or 0"
            )));
        }
        let open_end = if self.head.status.is_terminal() { Seq(last.0.saturating_sub(1)) } else { last };
        Ok(from.unwrap_or(open_end).min(open_end))
    }

    /// Moves the cut before the outcomes that are edited: what came after them may follow from them.
    fn before_edited(&self, wanted: Seq, edits: &[ForkEdit]) -> Result<Seq, ReadError> {
        let mut cut = wanted;
        for edit in edits {
            if let Some(seq) = self.outcome_seq(edit)? {
                cut = cut.min(Seq(seq.0.saturating_sub(1)));
            }
        }
        Ok(cut)
    }

    fn outcome_seq(&self, edit: &ForkEdit) -> Result<Option<Seq>, ReadError> {
        let key = match edit {
            ForkEdit::Input(_) => return Ok(None),
            ForkEdit::Output(key, _) | ForkEdit::Failure(key, _) => key,
        };
        let row = self.reader().step(self.head.session, key)?;
        Ok(row.filter(|row| matches!(row.state, StepState::Completed | StepState::Failed)).map(|row| row.seq))
    }

    fn edits(
        &self,
        asked: Vec<ForkEdit>,
        blobs: &mut Blobs,
    ) -> Judged<(Vec<ForkEdited>, Option<PayloadRef>)> {
        let mut input = None;
        let mut edits = Vec::with_capacity(asked.len());
        for edit in asked {
            let replaces = self.outcome_seq(&edit)?;
            let edit = match edit {
                ForkEdit::Input(payload) => {
                    let payload = judged!(blobs.add(payload));
                    input = Some(payload.clone());
                    Edit::Input(payload)
                }
                ForkEdit::Output(step_key, payload) => {
                    Edit::Output { step_key, output: judged!(blobs.add(payload)) }
                }
                ForkEdit::Failure(step_key, payload) => {
                    Edit::Failure { step_key, failure: judged!(blobs.add(payload)) }
                }
            };
            edits.push(ForkEdited { edit, replaces });
        }
        Ok(Ok((edits, input)))
    }

    fn input(&self, prefix: &Prefix, blobs: &mut Blobs) -> Judged<PayloadRef> {
        match &prefix.started.event.body {
            crate::graph::event::Body::SessionStarted(started) => {
                prefix::copy(&prefix.started, &started.input, self.reader(), blobs)
            }
            _ => Err(ReadError::Corrupt(format!("session {} has no start", self.head.session))),
        }
    }

    /// What became of the effects that were in flight at the cut.
    fn later(
        &self,
        prefix: &Prefix,
        is_edited: &dyn Fn(&StepKey) -> bool,
        blobs: &mut Blobs,
    ) -> Judged<Vec<(StepKey, Resolution)>> {
        let mut later = Vec::new();
        for open in prefix.head.intents.iter().filter(|open| open.state != IntentState::MayRetry) {
            if is_edited(&open.step_key) {
                continue;
            }
            let outcome = StepOutcome::read(self.reader(), self.head.session, &open.step_key)?;
            if let Some(outcome) = outcome {
                judged!(outcome.copy(self.reader(), blobs)?);
                later.push((open.step_key.clone(), outcome.resolution));
            }
        }
        Ok(Ok(later))
    }

    /// How the children ended that were open at the cut.
    fn children(&self, prefix: &Prefix, blobs: &mut Blobs) -> Judged<Vec<ChildEnded>> {
        let mut children = Vec::new();
        for wait in &prefix.head.waits {
            let WaitKind::Child { session: child, .. } = &wait.kind else { continue };
            let told = prefix::child_end(self.reader(), self.head.session, &wait.step_key)?;
            if let Some((stored, ended)) = told {
                if let Some(payload) = ended.end.payload() {
                    judged!(prefix::copy(&stored, payload, self.reader(), blobs)?);
                }
                children.push(ended);
            } else {
                let failure = judged!(blobs.add(lost()));
                let (step_key, child) = (wait.step_key.clone(), *child);
                let end = ChildEnd::Failed(failure);
                children.push(ChildEnded { step_key, child, ended: child, end });
            }
        }
        Ok(Ok(children))
    }

    fn key(
        &self,
        key: &Option<Arc<str>>,
        dedupe: &Option<crate::graph::ids::DedupeId>,
        fingerprint: &[u8],
        blobs: &mut Blobs,
    ) -> Result<Option<StartKey>, Rejection> {
        let salt = &self.info.salt;
        let (digest, text) = match (key, dedupe) {
            (Some(key), _) => {
                let parts: [&[u8]; 2] = [self.head.workflow.as_bytes(), key.as_bytes()];
                (keyed(salt, Purpose::SessionKey, &parts), Bytes::copy_from_slice(key.as_bytes()))
            }
            (None, Some(dedupe)) => (keyed(salt, Purpose::Start, &[&dedupe.0]), Bytes::new()),
            (None, None) => return Ok(None),
        };
        let payload = blobs.add(PayloadIn { format: Format::Bytes, codec: "".into(), bytes: text })?;
        let input_digest = keyed(salt, Purpose::Input, &[b"fork", fingerprint]);
        Ok(Some(StartKey { digest, input_digest, payload }))
    }
}

/// What a fork is told of a child that it does not share.
fn lost() -> PayloadIn {
    let failure = content::StepFailure {
        name: "ChildLost".to_owned(),
        code: "child_lost".to_owned(),
        message: "the child belongs to the session that this one was forked from and had not ended"
            .to_owned(),
        ..content::StepFailure::default()
    };
    PayloadIn { format: Format::Failure, codec: "".into(), bytes: failure.encode_to_vec().into() }
}

fn no_session() -> Rejection {
    match not_found() {
        Refused::Rejected(rejection) => rejection,
        Refused::Overloaded { .. } | Refused::Failed(_) | Refused::Closed => {
            invalid("no such session".to_owned())
        }
    }
}

fn too_deep() -> Rejection {
    invalid(format!("the session is {FORK_DEPTH_MAX} forks deep: fork an earlier one of its lineage"))
}

fn invalid(message: String) -> Rejection {
    Rejection { code: Code::InvalidArgument, message, retry_after_ms: None }
}
