//! `ContextService`: compacted contexts, between those who make them and those who prompt with them.
//!
//! 1. Texts are opaque here: they are stored and given back byte-equal, under the hash their maker gave them.
//! 2. A wait ends early: with a version that covers enough, with a reason why there is none, or because nobody is there
//!    who would make one.

use std::sync::Arc;
use std::time::Duration;

use cellaflow_proto::v1;
use tonic::{Request, Response, Status};

use super::auth::{Principal, Role};
use super::context::{Context, caller};
use super::{convert, journal, status};
use crate::config::Limits;
use crate::graph::command::{Code, Command, Rejection};
use crate::graph::context::{ContextRow, PutContext};
use crate::graph::ids::{Namespace, Seq, SessionId, TimeMs};
use crate::graph::session::Head;
use crate::ledger::contexts::Rows;
use crate::ledger::{Origin, ReadError, Reader, Refused, Submission};
use crate::stale::{Due, Stale, Why};
use crate::storage::contexts::{ContextText, ContextVersionRow};

/// Sessions looked at for one page of those that are behind.
const LIST_ROWS: usize = 512;
/// Sessions handed out in one answer to who names no number.
const HANDED_OUT: usize = 64;
/// Bytes of the names of passes, and of a reason.
const PASSES_BYTES_MAX: usize = 4_096;

/// See the module.
pub struct Service {
    /// What every service works with.
    pub context: Context,
    /// What is to be folded.
    pub stale: Arc<Stale>,
    /// Sizes and times.
    pub limits: Limits,
}

impl Service {
    /// Makes a server of it.
    #[must_use]
    pub fn into_server(self) -> v1::context_service_server::ContextServiceServer<Self> {
        let message_bytes_max = self.context.message_bytes_max();
        v1::context_service_server::ContextServiceServer::new(self)
            .max_decoding_message_size(message_bytes_max)
    }
}

#[tonic::async_trait]
impl v1::context_service_server::ContextService for Service {
    async fn get_context(
        &self,
        request: Request<v1::GetContextRequest>,
    ) -> Result<Response<v1::GetContextResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let head = self.head(&caller, &request.session_id).map_err(status::refused)?;
        let unattended = if request.wait_ms > 0 && request.at_least_seq > 0 {
            may_wait(&caller).map_err(|no| status::rejected(&no))?;
            self.wait(&head, &request).await.map_err(|error| status::unreadable(&error))?
        } else {
            self.stale.unattended(&head.namespace)
        };
        let reader = self.context.ledger.reader().clone();
        let answer = journal::blocking(move || answer(&reader, &head, &request)).await;
        let answer = answer.map_err(|error| status::unreadable(&error))?;
        Ok(Response::new(v1::GetContextResponse { unattended, ..answer }))
    }

    async fn list_contexts(
        &self,
        request: Request<v1::ListContextsRequest>,
    ) -> Result<Response<v1::ListContextsResponse>, Status> {
        let caller = caller(&request)?;
        let head = self.head(&caller, &request.into_inner().session_id).map_err(status::refused)?;
        let reader = self.context.ledger.reader().clone();
        let answer = journal::blocking(move || {
            let row = reader.context_row(head.session)?.unwrap_or_default();
            let versions = reader.context_versions(head.session)?;
            Ok(v1::ListContextsResponse {
                versions: versions.into_iter().map(|(version, row)| version_to_wire(version, row)).collect(),
                watermark_seq: row.watermark.0,
            })
        });
        answer.await.map(Response::new).map_err(|error| status::unreadable(&error))
    }

    async fn load_context(
        &self,
        request: Request<v1::LoadContextRequest>,
    ) -> Result<Response<v1::LoadContextResponse>, Status> {
        let caller = caller(&request)?;
        let head = self.head(&caller, &request.into_inner().session_id).map_err(status::refused)?;
        let context = self.context.clone();
        let answer = journal::blocking(move || {
            let (row, state) = context.ledger.reader().context_state(head.session)?.unwrap_or_default();
            Ok(v1::LoadContextResponse {
                session: Some(context.session(&head)?),
                version: row.version,
                watermark_seq: row.watermark.0,
                passes: row.passes.to_string(),
                state,
            })
        });
        answer.await.map(Response::new).map_err(|error| status::unreadable(&error))
    }

    async fn put_context(
        &self,
        request: Request<v1::PutContextRequest>,
    ) -> Result<Response<v1::PutContextResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let head = self.head(&caller, &request.session_id).map_err(status::refused)?;
        let version = self.put(head.session, request).await.map_err(status::refused)?;
        self.stale.stored();
        Ok(Response::new(v1::PutContextResponse { version }))
    }

    async fn list_stale(
        &self,
        request: Request<v1::ListStaleRequest>,
    ) -> Result<Response<v1::ListStaleResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let namespace = namespace(&caller, &request.namespace).map_err(|no| status::rejected(&no))?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(convert::session_id(token).map_err(|no| status::rejected(&no))?),
        };
        let reader = self.context.ledger.reader().clone();
        let page = journal::blocking(move || reader.behind(&namespace, after, LIST_ROWS)).await;
        let page = page.map_err(|error| status::unreadable(&error))?;
        let sessions = page.behind.iter().map(|behind| v1::StaleSession {
            session_id: behind.session.to_string(),
            seq: behind.seq.0,
            reason: v1::StaleReason::Behind.into(),
            budget_tokens: 0,
        });
        let sessions = sessions.collect();
        let next_page_token = page.next.map(|session| session.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListStaleResponse { sessions, next_page_token }))
    }

    async fn await_stale(
        &self,
        request: Request<v1::AwaitStaleRequest>,
    ) -> Result<Response<v1::AwaitStaleResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let namespace = namespace(&caller, &request.namespace).map_err(|no| status::rejected(&no))?;
        let patience = self.patience(request.wait_ms);
        let max = match request.sessions_max {
            0 => HANDED_OUT,
            asked => usize::try_from(asked).unwrap_or(HANDED_OUT).min(LIST_ROWS),
        };
        let (due, missed) = tokio::select! {
            taken = self.stale.take(&namespace, max, patience) => taken,
            () = self.context.stopped() => return Err(status::stopping()),
        };
        Ok(Response::new(v1::AwaitStaleResponse {
            sessions: due.into_iter().map(due_to_wire).collect(),
            missed,
        }))
    }
}

impl Service {
    fn head(&self, caller: &Principal, session: &str) -> Result<Arc<Head>, Refused> {
        self.context.visible(caller, convert::session_id(session).map_err(Refused::Rejected)?)
    }

    fn patience(&self, wait_ms: u64) -> Duration {
        Duration::from_millis(wait_ms.min(self.limits.context_wait_ms_max))
    }

    /// Waits as the request says; true: nobody is there who would make a version (2).
    async fn wait(&self, head: &Head, request: &v1::GetContextRequest) -> Result<bool, ReadError> {
        let (reader, wanted) = (self.context.ledger.reader(), Seq(request.at_least_seq));
        let mut stored = self.stale.watch();
        let covers = |row: Option<ContextRow>| row.is_some_and(|row| row.version > 0 && row.covers >= wanted);
        if covers(reader.context_row(head.session)?) {
            return Ok(false);
        }
        if self.stale.unattended(&head.namespace) {
            return Ok(true);
        }
        self.stale.ask(head.session, &head.namespace, head.seq, request.budget_tokens);
        let mut over = std::pin::pin!(tokio::time::sleep(self.patience(request.wait_ms)));
        loop {
            tokio::select! {
                // An error means that the service is gone.
                changed = stored.changed() => if changed.is_err() { return Ok(true) },
                () = &mut over => return Ok(false),
                () = self.context.stopped() => return Ok(true),
            }
            let row = reader.context_row(head.session)?;
            let given_up = row.as_ref().is_some_and(|row| !row.refused.is_empty() && row.watermark >= wanted);
            if given_up || covers(row) {
                return Ok(false);
            }
        }
    }

    async fn put(&self, session: SessionId, sent: v1::PutContextRequest) -> Result<u32, Refused> {
        self.check(&sent).map_err(Refused::Rejected)?;
        let reader = self.context.ledger.reader();
        let place = reader.place(session).map_err(Refused::Failed)?.ok_or_else(super::context::not_found)?;
        let before = reader.context_row(session).map_err(Refused::Failed)?.unwrap_or_default();
        let mut rows = Rows::new(&place, session, &self.context.ledger.settings().payload);
        let mut row = ContextRow {
            version: sent.expected_version,
            watermark: Seq(sent.watermark_seq),
            covers: before.covers,
            passes: sent.passes.into(),
            state_pieces: 0,
            refused: sent.refused.into(),
        };
        if let Some(version) = sent.version {
            row.version = version.version;
            row.covers = Seq(version.covers_seq);
            let (mut stored, texts) = self.version(version, sent.blocks).map_err(Refused::Rejected)?;
            rows.version(row.version, &mut stored, &texts);
            self.give_up(session, row.version, &mut rows).map_err(Refused::Failed)?;
        }
        rows.folded(&mut row, &sent.state, before.state_pieces);
        let version = row.version;
        let expected = (sent.expected_version, Seq(sent.expected_watermark_seq));
        let submission = Submission {
            command: Command::PutContext(PutContext { session, expected, row }),
            blobs: rows.into_blobs(),
            evidence: None,
            new_lineage: None,
            origin: Origin::default(),
        };
        self.context.ledger.submit(submission).await?;
        Ok(version)
    }

    /// Texts of the version that is now one too many.
    fn give_up(&self, session: SessionId, newest: u32, rows: &mut Rows<'_>) -> Result<(), ReadError> {
        let kept = u32::try_from(self.limits.context_versions_max).unwrap_or(u32::MAX);
        let Some(old) = newest.checked_sub(kept).filter(|old| *old > 0) else { return Ok(()) };
        if let Some(row) = self.context.ledger.reader().context_version(session, old)? {
            rows.give_up(old, row.pieces);
        }
        Ok(())
    }

    fn check(&self, sent: &v1::PutContextRequest) -> Result<(), Rejection> {
        let texts: usize = sent.blocks.iter().map(|block| block.text.len()).sum();
        for (what, bytes, max, limit) in [
            ("state", sent.state.len(), self.limits.context_state_bytes_max, "context_state_bytes_max"),
            ("blocks", texts, self.limits.context_bytes_max, "context_bytes_max"),
            ("refused", sent.refused.len(), PASSES_BYTES_MAX as u64, "the limit of reasons"),
            ("passes", sent.passes.len(), PASSES_BYTES_MAX as u64, "the limit of names of passes"),
        ] {
            if bytes as u64 > max {
                return Err(invalid(&format!(
                    "{what} has {bytes} bytes and {limit} is {max}: fold with a smaller preset"
                )));
            }
        }
        Ok(())
    }

    fn version(
        &self,
        sent: v1::ContextVersion,
        blocks: Vec<v1::ContextBlock>,
    ) -> Result<(ContextVersionRow, Vec<ContextText>), Rejection> {
        let hash = <[u8; 32]>::try_from(sent.hash.as_ref())
            .map_err(|_| invalid("version.hash must be a blake3 hash: 32 bytes"))?;
        if sent.reason() == v1::SealReason::Unspecified {
            return Err(invalid("version.reason must be set: say why it was made"));
        }
        let row = ContextVersionRow {
            covers: Seq(sent.covers_seq),
            covers_messages: sent.covers_messages,
            tokens: sent.tokens,
            history_tokens: sent.history_tokens,
            hash,
            reason: u32::try_from(sent.reason).unwrap_or(0),
            upto: sent.upto,
            limit_tokens: sent.limit_tokens,
            removed: sent.removed.into_iter().map(|removed| (removed.pass, removed.tokens)).collect(),
            passes: sent.passes,
            time: TimeMs(self.context.clock.wall_ms()),
            pieces: 0,
        };
        let texts = blocks.into_iter().map(|block| ContextText {
            kind: u32::try_from(block.kind).unwrap_or(0),
            text: block.text,
            tokens: block.tokens,
            breakpoint: block.breakpoint,
        });
        Ok((row, texts.collect()))
    }
}

fn answer(
    reader: &Reader,
    head: &Head,
    asked: &v1::GetContextRequest,
) -> Result<v1::GetContextResponse, ReadError> {
    let Some(row) = reader.context_row(head.session)? else { return Ok(v1::GetContextResponse::default()) };
    let wanted = if asked.version == 0 { row.version } else { asked.version };
    let refused = row.refused.to_string();
    let known = wanted == asked.known_version;
    let found = if known {
        reader.context_version(head.session, wanted)?.map(|row| (row, Vec::new()))
    } else {
        reader.context_texts(head.session, wanted)?
    };
    let Some((version, texts)) = found else {
        return Ok(v1::GetContextResponse { refused, ..v1::GetContextResponse::default() });
    };
    let blocks = texts.into_iter().map(|text| v1::ContextBlock {
        kind: i32::try_from(text.kind).unwrap_or(0),
        text: text.text,
        tokens: text.tokens,
        breakpoint: text.breakpoint,
    });
    Ok(v1::GetContextResponse {
        blocks: blocks.collect(),
        version: Some(version_to_wire(wanted, version)),
        refused,
        unattended: false,
    })
}

fn may_wait(caller: &Principal) -> Result<(), Rejection> {
    match caller.role {
        Role::Worker | Role::Client | Role::Admin => Ok(()),
        Role::Compactor | Role::Viewer => Err(Rejection::new(
            Code::PermissionDenied,
            "only tokens that run sessions may have a context made; ask without wait_ms",
        )),
    }
}

fn namespace(caller: &Principal, asked: &str) -> Result<Namespace, Rejection> {
    caller.namespace_for(asked).map_err(|no| status::denied(&no))
}

fn version_to_wire(version: u32, row: ContextVersionRow) -> v1::ContextVersion {
    let removed = row.removed.into_iter();
    v1::ContextVersion {
        version,
        covers_seq: row.covers.0,
        covers_messages: row.covers_messages,
        tokens: row.tokens,
        history_tokens: row.history_tokens,
        hash: bytes::Bytes::copy_from_slice(&row.hash),
        reason: i32::try_from(row.reason).unwrap_or(0),
        upto: row.upto,
        limit_tokens: row.limit_tokens,
        removed: removed.map(|(pass, tokens)| v1::PassTokens { pass, tokens }).collect(),
        passes: row.passes,
        time_ms: row.time.0,
    }
}

fn due_to_wire(due: Due) -> v1::StaleSession {
    let reason = match due.why {
        Why::Asked => v1::StaleReason::Asked,
        Why::Suspended => v1::StaleReason::Suspended,
        Why::Gap => v1::StaleReason::Gap,
        Why::HighMark => v1::StaleReason::HighMark,
    };
    v1::StaleSession {
        session_id: due.session.to_string(),
        seq: due.seq.0,
        reason: reason.into(),
        budget_tokens: due.budget_tokens,
    }
}

fn invalid(message: &str) -> Rejection {
    Rejection::new(Code::InvalidArgument, message)
}
