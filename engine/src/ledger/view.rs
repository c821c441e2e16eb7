//! What a decision sees: the overlay first, then heads in memory, then what was read before the queue.

use std::cell::RefCell;
use std::sync::Arc;

use super::lookups::{Lookups, as_head};
use super::overlay::{Overlay, Row, RowName};
use super::reader::{ReadError, Reader};
use super::{HeadCache, StoredHead, digest, guards};
use crate::graph::archive::ArchiveRow;
use crate::graph::budget::BudgetRow;
use crate::graph::context::ContextRow;
use crate::graph::decide;
use crate::graph::ids::{Digest, LineageId, SessionId};
use crate::graph::session::{GuardOutcome, GuardRow, Head, KeyRow, SignalRow, StepRow};
use crate::graph::version::WorkflowRow;
use crate::storage::keys::Segment;

pub(super) struct View<'a> {
    pub(super) overlay: &'a Overlay,
    pub(super) cache: &'a HeadCache,
    pub(super) lookups: &'a Lookups,
    pub(super) reader: &'a Reader,
    /// A read that failed; the decision made without it is thrown away.
    pub(super) error: RefCell<Option<ReadError>>,
}

impl View<'_> {
    pub(super) fn stored_head(&self, session: SessionId) -> Option<StoredHead> {
        let name = RowName::Head(session);
        if let Some(head) = self.overlay.get(&name).and_then(as_head) {
            return Some(head.clone());
        }
        if let Some(head) = self.cache.get(&session) {
            return Some(head);
        }
        match self.lookups.get(&name) {
            Some(found) => found.and_then(as_head).cloned(),
            // The head was in the cache when the command was queued and has been evicted since: read it now.
            None => self.reader.head_ahead(session).unwrap_or_else(|error| {
                self.error.replace(Some(error));
                None
            }),
        }
    }

    /// Dead bytes of a segment. Read now where nobody has looked it up: only the archive asks.
    pub(super) fn dead_bytes(&self, segment: Segment) -> u64 {
        match self.overlay.get(&RowName::Segment(segment.0)) {
            Some(Row::Segment(bytes)) => *bytes,
            _ => self.now(self.reader.dead_bytes_ahead(segment).map(Some)).unwrap_or_default(),
        }
    }

    /// Who owns an idempotency key. Read now where nobody has looked it up: only erasures ask.
    pub(super) fn guard_now(&self, digest: &Digest) -> Option<GuardRow> {
        match self.overlay.get(&RowName::Guard(*digest)) {
            Some(Row::Guard(row)) => Some(row.clone()),
            _ => self.now(self.reader.guard_ahead(digest)),
        }
    }

    /// The session that a caller's key names. Read now, as `guard_now`.
    pub(super) fn session_key_now(&self, digest: &Digest) -> Option<KeyRow> {
        match self.overlay.get(&RowName::SessionKey(*digest)) {
            Some(Row::SessionKey(row)) => Some(row.clone()),
            _ => self.now(self.reader.key_ahead(digest)),
        }
    }

    /// What was read by the decider itself.
    fn now<T>(&self, read: Result<Option<T>, ReadError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.error.replace(Some(error));
            None
        })
    }

    fn row(&self, name: &RowName) -> Option<&Row> {
        self.overlay.get(name).or_else(|| self.lookups.get(name).flatten())
    }
}

impl decide::View for View<'_> {
    fn head(&self, session: SessionId) -> Option<Arc<Head>> {
        self.stored_head(session).map(|stored| stored.head)
    }

    fn step(&self, session: SessionId, step_key: &str) -> Option<StepRow> {
        match self.row(&RowName::Step(session, digest::step_key_hash(step_key)))? {
            Row::Step(row) => Some(row.clone()),
            Row::Head(_)
            | Row::Guard(_)
            | Row::GuardOutcome(_)
            | Row::Signal(_)
            | Row::SessionKey(_)
            | Row::Budget(_)
            | Row::Archive(_)
            | Row::Context(_)
            | Row::Segment(_)
            | Row::Workflow(_) => None,
        }
    }

    fn guard_outcome(&self, guard: &GuardRow) -> Option<GuardOutcome> {
        match self.row(&guards::name(guard))? {
            Row::GuardOutcome(outcome) => Some(outcome.clone()),
            Row::Head(_)
            | Row::Step(_)
            | Row::Guard(_)
            | Row::Signal(_)
            | Row::SessionKey(_)
            | Row::Budget(_)
            | Row::Archive(_)
            | Row::Context(_)
            | Row::Segment(_)
            | Row::Workflow(_) => None,
        }
    }

    fn guard(&self, digest: &Digest) -> Option<GuardRow> {
        match self.row(&RowName::Guard(*digest))? {
            Row::Guard(row) => Some(row.clone()),
            Row::Head(_)
            | Row::Step(_)
            | Row::GuardOutcome(_)
            | Row::Signal(_)
            | Row::SessionKey(_)
            | Row::Budget(_)
            | Row::Archive(_)
            | Row::Context(_)
            | Row::Segment(_)
            | Row::Workflow(_) => None,
        }
    }

    fn signal(&self, session: SessionId, id: &str) -> Option<SignalRow> {
        match self.row(&RowName::Signal(session, digest::signal_id_hash(id)))? {
            Row::Signal(row) => Some(row.clone()),
            Row::Head(_)
            | Row::Step(_)
            | Row::GuardOutcome(_)
            | Row::Guard(_)
            | Row::SessionKey(_)
            | Row::Budget(_)
            | Row::Archive(_)
            | Row::Context(_)
            | Row::Segment(_)
            | Row::Workflow(_) => None,
        }
    }

    fn session_key(&self, digest: &Digest) -> Option<KeyRow> {
        match self.row(&RowName::SessionKey(*digest))? {
            Row::SessionKey(row) => Some(row.clone()),
            Row::Head(_)
            | Row::Step(_)
            | Row::GuardOutcome(_)
            | Row::Guard(_)
            | Row::Signal(_)
            | Row::Budget(_)
            | Row::Workflow(_)
            | Row::Context(_)
            | Row::Archive(_)
            | Row::Segment(_) => None,
        }
    }

    fn workflow(&self, namespace: &str, workflow: &str, version: &str) -> Option<WorkflowRow> {
        match self.row(&RowName::Workflow(digest::workflow(namespace, workflow, version)))? {
            Row::Workflow(row) => Some(row.clone()),
            Row::Head(_)
            | Row::Step(_)
            | Row::GuardOutcome(_)
            | Row::Guard(_)
            | Row::Signal(_)
            | Row::SessionKey(_)
            | Row::Budget(_)
            | Row::Archive(_)
            | Row::Context(_)
            | Row::Segment(_) => None,
        }
    }

    fn archive(&self, lineage: LineageId) -> Option<ArchiveRow> {
        let name = RowName::Archive(lineage);
        let known = match self.overlay.get(&name) {
            Some(row) => Some(row),
            None => match self.lookups.get(&name) {
                Some(found) => found,
                None => return self.now(self.reader.archive_ahead(lineage)),
            },
        };
        match known? {
            Row::Archive(row) => Some(row.clone()),
            Row::Head(_)
            | Row::Step(_)
            | Row::Guard(_)
            | Row::GuardOutcome(_)
            | Row::Signal(_)
            | Row::SessionKey(_)
            | Row::Budget(_)
            | Row::Workflow(_)
            | Row::Context(_)
            | Row::Segment(_) => None,
        }
    }

    fn budget(&self, owner: SessionId) -> Option<BudgetRow> {
        match self.row(&RowName::Budget(owner))? {
            Row::Budget(row) => Some(*row),
            Row::Head(_)
            | Row::Step(_)
            | Row::GuardOutcome(_)
            | Row::Guard(_)
            | Row::Signal(_)
            | Row::SessionKey(_)
            | Row::Archive(_)
            | Row::Context(_)
            | Row::Segment(_)
            | Row::Workflow(_) => None,
        }
    }

    fn context(&self, session: SessionId) -> Option<ContextRow> {
        match self.row(&RowName::Context(session))? {
            Row::Context(row) => Some(row.clone()),
            Row::Head(_)
            | Row::Step(_)
            | Row::GuardOutcome(_)
            | Row::Guard(_)
            | Row::Signal(_)
            | Row::SessionKey(_)
            | Row::Budget(_)
            | Row::Archive(_)
            | Row::Segment(_)
            | Row::Workflow(_) => None,
        }
    }
}
