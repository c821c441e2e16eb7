//! The way in: submit a command, get its durable answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use crossbeam_channel::{Sender, TrySendError};
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::bell::Bell;
use super::decider::Queued;
use super::lookups::Lookups;
use super::place::{NamespaceInfo, NewLineage, Place};
use super::{
    Blobs, Committed, HeadCache, Identity, Observer, Origin, PayloadIn, ReadError, Reader, Refused,
    Responder, Settings, Submission, Watermark,
};
use crate::graph::budget::BudgetStart;
use crate::graph::command::{Command, Start};
use crate::graph::event::Format;

use crate::graph::ids::SessionId;
use crate::ids::Mint;

/// What a caller is told when the queue is full.
const RETRY_AFTER_MS: u64 = 50;

/// Submits commands and reads; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: Reader,
}

pub(super) struct Shared {
    pub(super) queue: RwLock<Option<Inlet>>,
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) watermark: Arc<Watermark>,
    pub(super) cache: Arc<HeadCache>,
    pub(super) observers: Arc<ArcSwap<Vec<Arc<dyn Observer>>>>,
    pub(super) settings: Settings,
    pub(super) mint: Mint,
    pub(super) identity: Identity,
    pub(super) namespaces: tokio::sync::Mutex<()>,
    pub(super) poisoned: Arc<AtomicBool>,
}

/// The queue's end where commands come in.
pub(super) struct Inlet {
    /// `None` only while it is dropped.
    queue: Option<Sender<Queued>>,
    decider: Arc<Bell>,
}

impl Inlet {
    pub(super) fn new(queue: Sender<Queued>, decider: Arc<Bell>) -> Self {
        Self { queue: Some(queue), decider }
    }

    #[expect(clippy::result_large_err, reason = "as `Handle::enqueue`")]
    fn try_send(&self, queued: Queued) -> Result<(), TrySendError<Queued>> {
        let Some(queue) = &self.queue else { return Err(TrySendError::Disconnected(queued)) };
        queue.try_send(queued)?;
        self.decider.ring();
        Ok(())
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // First closed, then rung for: the decider ends when it finds the queue closed.
        drop(self.queue.take());
        self.decider.ring();
    }
}

impl Handle {
    /// Submits a command and calls `responder` once it is durable or refused. Never blocks: a full queue is refused.
    ///
    /// Commands of one caller are decided in the order of its calls.
    pub fn submit_with(&self, submission: Submission, responder: Responder) {
        if self.is_poisoned() {
            return responder(Err(Refused::Closed));
        }
        let lookups =
            Lookups::fetch(&submission.command, &self.reader, &self.shared.watermark, &self.shared.cache);
        let lookups = match lookups {
            Ok(lookups) => lookups,
            Err(error) => return responder(Err(Refused::Failed(error))),
        };
        let bytes = submission.blobs.bytes() + submission.evidence.as_ref().map_or(0, bytes::Bytes::len);
        let queued = Queued { submission, lookups, responder, bytes };
        if let Err((refused, queued)) = self.enqueue(queued) {
            (queued.responder)(Err(refused));
        }
    }

    // The queued command is large and comes back whole, so that its responder can be called.
    #[expect(clippy::result_large_err, reason = "the error path is rare and moves once")]
    fn enqueue(&self, queued: Queued) -> Result<(), (Refused, Queued)> {
        let overloaded = Refused::Overloaded { retry_after_ms: RETRY_AFTER_MS };
        let before = self.shared.queued_bytes.fetch_add(queued.bytes, Ordering::AcqRel);
        let bytes = queued.bytes;
        // One command is always let in, or a payload as large as the whole queue could never be taken.
        if before > 0 && before + bytes > self.shared.settings.queue_bytes_max {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err((overloaded, queued));
        }
        let queue = self.shared.queue.read();
        let Some(inlet) = queue.as_ref() else { return Err((Refused::Closed, queued)) };
        inlet.try_send(queued).map_err(|error| {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            match error {
                TrySendError::Full(queued) => (overloaded, queued),
                TrySendError::Disconnected(queued) => (Refused::Closed, queued),
            }
        })
    }

    /// Submits a command and waits for its durable answer.
    ///
    /// # Errors
    /// See `Refused`.
    pub async fn submit(&self, submission: Submission) -> Result<Committed, Refused> {
        let (sender, receiver) = oneshot::channel();
        // A caller that is gone does not want the answer.
        self.submit_with(submission, Box::new(move |result| drop(sender.send(result))));
        receiver.await.unwrap_or(Err(Refused::Closed))
    }

    /// The read path.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Where a session lies and under which salt; `None`: no such session.
    ///
    /// # Errors
    /// As every read.
    pub fn lineage(&self, session: SessionId) -> Result<Option<Arc<Place>>, ReadError> {
        self.reader.place(session)
    }

    /// Starts collecting a session's payload bytes.
    #[must_use]
    pub fn blobs(&self, salt: &super::digest::Salt) -> Blobs {
        Blobs::new(salt, &self.shared.settings.payload)
    }

    /// The write path's limits.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Ledger id and incarnation.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// True once a commit has failed and the process is about to end.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.shared.poisoned.load(Ordering::Acquire)
    }

    /// Mints ids and salt for a session that a start may create, at the top of a tree of its own.
    #[must_use]
    pub fn mint_lineage(&self) -> NewLineage {
        let session = self.shared.mint.top();
        let lineage = self.shared.mint.lineage(session);
        NewLineage { session, lineage, salt: self.shared.mint.salt(), system_of: None }
    }

    /// Mints lineage and salt for a session whose id another session's event has named.
    #[must_use]
    pub fn lineage_of(&self, session: SessionId) -> NewLineage {
        let lineage = self.shared.mint.lineage(session);
        NewLineage { session, lineage, salt: self.shared.mint.salt(), system_of: None }
    }

    /// Adds an observer of everything that becomes durable from now on.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.shared.observers.rcu(|known| {
            let mut observers = Vec::clone(known);
            observers.push(Arc::clone(&observer));
            observers
        });
    }

    /// A namespace; creates it, with its system session, on first use.
    ///
    /// # Errors
    /// As `submit`.
    pub async fn namespace(&self, name: &str) -> Result<Arc<NamespaceInfo>, Refused> {
        if let Some(info) = self.reader.namespace_cached(name).map_err(Refused::Failed)? {
            return Ok(info);
        }
        let _one_at_a_time = self.shared.namespaces.lock().await;
        match self.reader.namespace_cached(name).map_err(Refused::Failed)? {
            Some(info) => Ok(info),
            None => self.create_namespace(name).await,
        }
    }

    async fn create_namespace(&self, name: &str) -> Result<Arc<NamespaceInfo>, Refused> {
        let lineage = self.mint_lineage();
        let info = Arc::new(NamespaceInfo {
            name: name.into(),
            salt: self.shared.mint.salt(),
            system: lineage.session,
        });
        let mut blobs = self.blobs(&lineage.salt);
        let input = PayloadIn { format: Format::Json, codec: "".into(), bytes: "null".into() };
        let input = blobs.add(input).map_err(Refused::Rejected)?;
        let start = Start {
            session: lineage.session,
            lineage: lineage.lineage,
            namespace: Arc::clone(&info.name),
            workflow: SYSTEM_WORKFLOW.into(),
            version: "1".into(),
            input,
            key: None,
            if_ended_restart: false,
            system: true,
            lease: None,
            dedupe: None,
            descent: None,
            budget: BudgetStart::default(),
            labels: Vec::new(),
            incarnation: self.shared.identity.incarnation,
            timeout_ms: None,
        };
        self.submit(Submission {
            command: Command::Start(start),
            blobs,
            evidence: None,
            new_lineage: Some(NewLineage { system_of: Some(Arc::clone(&info)), ..lineage }),
            origin: Origin::default(),
        })
        .await?;
        Ok(info)
    }

    /// Takes no further command; what is queued is still decided and answered. Idempotent.
    pub fn close(&self) {
        drop(self.shared.queue.write().take());
    }
}

/// Workflow name of system sessions.
pub const SYSTEM_WORKFLOW: &str = "cellaflow.system";
