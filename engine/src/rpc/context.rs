//! What every service shares: who asks, which session is meant, and how it is shown.
//!
//! 1. A session of another namespace is `session_not_found`, exactly as one that does not exist.
//! 2. System sessions are the engine's own; no service shows or changes one by its id.

use std::sync::Arc;

use cellaflow_proto::v1;
use tokio::sync::watch;
use tonic::Request;
use tonic::Status as GrpcStatus;

use super::auth::Principal;
use super::convert;
use super::fleet::SharedFleet;
use super::status;
use super::vitals::Vitals;
use crate::clock::Clock;
use crate::graph::command::{Code, Rejection};
use crate::graph::event::Body;
use crate::graph::ids::{Digest, SessionId};
use crate::graph::session::{Head, Status};
use crate::ids::Mint;
use crate::ledger::{Handle, ReadError, Refused};

/// What services work with; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The ledger.
    pub ledger: Handle,
    /// Workers and leases.
    pub fleet: SharedFleet,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and secrets.
    pub mint: Mint,
    /// Process and disk.
    pub vitals: Arc<Vitals>,
    /// Where backups go.
    pub backup_dir: Arc<std::path::Path>,
    /// Tokens of the configuration, which cannot be revoked at run time.
    pub configured: Arc<[Principal]>,
    /// Becomes true when the engine stops; open streams end then.
    pub stopping: watch::Receiver<bool>,
}

/// Bytes of a request besides its one large payload.
const MESSAGE_BYTES_EXTRA: usize = 1024 * 1024;

/// Continuations followed in one go.
const CONTINUATIONS_MAX: usize = 4_096;

/// A session with its result, as `GetSession` and its like show it.
#[derive(Debug, Default)]
pub struct Shown {
    /// The session.
    pub session: v1::Session,
    /// Result, if it has completed.
    pub output: Option<v1::Payload>,
    /// `StepFailure`, if it has failed.
    pub failure: Option<v1::Payload>,
}

/// Who asks.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Principal, GrpcStatus> {
    request.extensions().get::<Principal>().cloned().ok_or_else(status::unauthenticated)
}

/// The session does not exist, or the caller may not know that it does (1).
pub(super) fn not_found() -> Refused {
    Refused::Rejected(Rejection {
        code: Code::SessionNotFound,
        message: "no such session in the token's namespace: check id or key, and which token you use"
            .to_owned(),
        retry_after_ms: None,
    })
}

impl Context {
    /// Bytes of the largest request that a service takes.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.ledger.settings().payload.payload_bytes_max.saturating_add(MESSAGE_BYTES_EXTRA)
    }

    /// The head of a session that the caller may see.
    pub(super) fn visible(&self, caller: &Principal, session: SessionId) -> Result<Arc<Head>, Refused> {
        let head = self.ledger.reader().head(session).map_err(Refused::Failed)?;
        head.filter(|head| caller.sees(&head.namespace) && !head.system).ok_or_else(not_found)
    }

    /// The session that a request names, by id or by key.
    pub(super) fn find(
        &self,
        caller: &Principal,
        named: Option<v1::SessionRef>,
    ) -> Result<Arc<Head>, Refused> {
        match named.and_then(|named| named.by) {
            Some(v1::session_ref::By::SessionId(id)) => {
                self.visible(caller, convert::session_id(&id).map_err(Refused::Rejected)?)
            }
            Some(v1::session_ref::By::Key(key)) => self.find_key(caller, key),
            None => Err(Refused::Rejected(Rejection {
                code: Code::InvalidArgument,
                message: "session must be set: name it by session_id or by key".to_owned(),
                retry_after_ms: None,
            })),
        }
    }

    fn find_key(&self, caller: &Principal, key: v1::SessionKey) -> Result<Arc<Head>, Refused> {
        let namespace = caller.namespace_for(&key.namespace);
        let namespace = namespace.map_err(|refusal| Refused::Rejected(status::denied(&refusal)))?;
        let workflow = convert::workflow(key.workflow).map_err(Refused::Rejected)?;
        let key = convert::session_key(key.key).map_err(Refused::Rejected)?.ok_or_else(not_found)?;
        let reader = self.ledger.reader();
        let info = reader.namespace(&namespace).map_err(Refused::Failed)?.ok_or_else(not_found)?;
        let session = reader.session_by_key(&info, &workflow, &key).map_err(Refused::Failed)?;
        self.visible(caller, session.ok_or_else(not_found)?)
    }

    /// The last session of those that continue `head`; `None`: it is not continued, or its successor has not begun.
    ///
    /// Followed a bounded number of steps in one go; the caller asks again.
    pub(super) fn continued(&self, head: &Head) -> Result<Option<Arc<Head>>, Refused> {
        let mut last: Option<Arc<Head>> = None;
        for _ in 0..CONTINUATIONS_MAX {
            let next = last.as_deref().unwrap_or(head).continued_to;
            let Some(next) = next else { break };
            match self.ledger.reader().head(next).map_err(Refused::Failed)? {
                Some(successor) => last = Some(successor),
                None => break,
            }
        }
        Ok(last)
    }

    /// A session, without its result.
    pub(super) fn session(&self, head: &Head) -> Result<v1::Session, ReadError> {
        if head.is_held(self.ledger.identity().incarnation) {
            let hint = "somebody to let it go on after the restore: `cellaflow sessions release`";
            let session = convert::session(head, &self.key(head)?, Some(hint));
            return Ok(v1::Session { held: true, waiting_for: hint.to_owned(), ..session });
        }
        let hint = self.fleet.waiting_for(head);
        let session = convert::session(head, &self.key(head)?, Some(&hint));
        Ok(v1::Session { archived: self.manifest(head)?, ..session })
    }

    /// A session with its result.
    pub(super) fn show(&self, head: &Head) -> Result<Shown, ReadError> {
        let (output, failure) = self.result(head)?;
        Ok(Shown { session: self.session(head)?, output, failure })
    }

    /// The manifest that holds a session's events; empty: they are here.
    fn manifest(&self, head: &Head) -> Result<String, ReadError> {
        if !head.status.is_terminal() {
            return Ok(String::new());
        }
        let row = self.ledger.reader().archive_row(head.lineage)?.filter(|row| row.away.is_some());
        Ok(row.map(|row| row.manifest.to_string()).unwrap_or_default())
    }

    pub(super) fn key(&self, head: &Head) -> Result<String, ReadError> {
        // A session without a key has no generation either.
        if head.generation == 0 {
            return Ok(String::new());
        }
        Ok(self.ledger.reader().key_of(head)?.unwrap_or_default())
    }

    /// The digest of a session's result or failure; `None`: it ended without.
    pub(super) fn result_digest(&self, head: &Head) -> Result<Option<Digest>, ReadError> {
        let end = self.ledger.reader().event(head.session, head.seq)?;
        Ok(end.and_then(|end| match &end.event.body {
            Body::SessionCompleted { output: payload } | Body::SessionFailed { failure: payload } => {
                Some(payload.digest)
            }
            _ => None,
        }))
    }

    /// A session with its result; of an archived one, what is left of it.
    pub(super) fn show_or_stub(&self, head: &Head) -> Result<Shown, ReadError> {
        match self.show(head) {
            Err(ReadError::Archived(_) | ReadError::Erased) => {
                Ok(Shown { session: self.session(head)?, ..Shown::default() })
            }
            shown => shown,
        }
    }

    fn result(&self, head: &Head) -> Result<(Option<v1::Payload>, Option<v1::Payload>), ReadError> {
        match head.status {
            Status::Completed | Status::Failed => {}
            Status::Pending
            | Status::Running
            | Status::Waiting
            | Status::Paused { .. }
            | Status::Cancelled => {
                return Ok((None, None));
            }
        }
        let reader = self.ledger.reader();
        let missing = || ReadError::Corrupt(format!("session {} has ended without an end", head.session));
        // Nothing follows an end, so it is the last event.
        let end = reader.event(head.session, head.seq)?.ok_or_else(missing)?;
        match &end.event.body {
            // Its result is the successor's.
            Body::SessionContinued(_) => Ok((None, None)),
            Body::SessionCompleted { output } => {
                Ok((Some(convert::payload_to_wire(&end, output, reader)?), None))
            }
            Body::SessionFailed { failure } => {
                Ok((None, Some(convert::payload_to_wire(&end, failure, reader)?)))
            }
            _ => Err(missing()),
        }
    }

    /// Resolves when the engine stops.
    pub(super) async fn stopped(&self) {
        // An error means that the sender is gone, which also means stop.
        let _gone = self.stopping.clone().wait_for(|stop| *stop).await.is_err();
    }
}
