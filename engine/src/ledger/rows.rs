//! From what changed in the graph to rows of the store, and back from row keys to ids.

mod archived;

use bytes::Bytes;

use super::digest;
use super::evidence::EvidenceLog;
use super::overlay::{Row, RowName};
use super::place::{NamespaceInfo, NewLineage};
use super::reader::{DueRow, ReadError};
use super::view::View;
use super::{Blobs, Reader, StoredHead, guards};
use crate::graph::archive::ArchiveRow;
use crate::graph::budget::{BudgetChange, BudgetRow};
use crate::graph::decide::View as _;
use crate::graph::event::{Body, Event};
use crate::graph::ids::{Digest, Hash, Seq, SessionId, TimeMs};
use crate::graph::index::{DueEntry, DueKind, IndexChange};
use crate::graph::session::Head;
use crate::graph::version::WorkflowRow;
use crate::storage::heads::{self, LineageRow, NamespaceRow, Row as _};
use crate::storage::keys::{BadKey, Due, Item, LedgerKey, RowKey, Segment};
use crate::storage::{KeyRange, Op, Table, codec, events};

/// Rows that one command changes.
pub(super) struct Changes {
    segment: Segment,
    pub(super) ops: Vec<Op>,
    pub(super) rows: Vec<(RowName, Row)>,
    /// Heads of other sessions than the command's, whose lineage lies elsewhere now.
    pub(super) heads: Vec<StoredHead>,
    /// Sessions that are not where they were.
    pub(super) moved: Vec<SessionId>,
    /// Sessions that are no more.
    pub(super) vanished: Vec<SessionId>,
}

impl Changes {
    pub(super) fn new(segment: Segment) -> Self {
        Self {
            segment,
            ops: Vec::new(),
            rows: Vec::new(),
            heads: Vec::new(),
            moved: Vec::new(),
            vanished: Vec::new(),
        }
    }

    /// Registers the lineage of a session that is being created, and its namespace if it is a system session.
    pub(super) fn new_lineage(
        &mut self,
        minted: Option<&NewLineage>,
        events: &[Event],
        now: TimeMs,
    ) -> Result<(), ReadError> {
        let Some(Body::SessionStarted(started)) = events.first().map(|event| &event.body) else {
            return Err(ReadError::Corrupt("the first event of a session does not start it".to_owned()));
        };
        let minted = minted
            .filter(|minted| minted.lineage == started.lineage && minted.session == started.session)
            .ok_or_else(|| ReadError::Fault("a start came without its lineage".to_owned()))?;
        let lineage =
            LineageRow { salt: Some(minted.salt), root: started.root, namespace: started.namespace.clone() };
        let key = LedgerKey::new(self.segment, started.lineage, Item::Lineage).bytes();
        self.row(Table::Ledger, key, &lineage);
        let locator = codec::seal(codec::Format::Row, &self.segment.0.to_be_bytes());
        self.ops.push(Op::put(Table::Rows, RowKey::Locator(started.lineage).bytes(), locator));
        if let Some(info) = &minted.system_of {
            let row =
                NamespaceRow { name: info.name.clone(), salt: info.salt, system: info.system, created: now };
            self.row(Table::Rows, RowKey::Namespace(&info.name).bytes(), &row);
        }
        Ok(())
    }

    /// Takes in a change of an index.
    pub(super) fn index(
        &mut self,
        after: &Head,
        change: IndexChange,
        context: &Context<'_>,
    ) -> Result<(), ReadError> {
        let session = after.session;
        match change {
            IndexChange::Step { key, row } => {
                let hash = digest::step_key_hash(&key);
                let item = Item::Step { session, step: Digest(hash) };
                let at = LedgerKey::new(self.segment, after.lineage, item).bytes();
                self.row(Table::Ledger, at, &row);
                self.rows.push((RowName::Step(session, hash), Row::Step(row)));
            }
            IndexChange::Guard { digest, row } => {
                self.ops.push(guards::owned((session, row.step_key_hash), digest));
                self.row(Table::Rows, RowKey::Guard(digest).bytes(), &row);
                self.rows.push((RowName::Guard(digest), Row::Guard(row)));
            }
            IndexChange::GuardOutcome { step_key, outcome, output } => {
                let place = (session, digest::step_key_hash(&step_key));
                self.ops.extend(guards::keep(place, &outcome, output.as_ref(), context.blobs)?);
                self.rows.push((RowName::GuardOutcome(place.0, place.1), guards::row(outcome)));
            }
            IndexChange::KeysEnded { at, seq } => {
                let due = at.plus(context.guard_retention_ms);
                self.mark(due_key(session, &DueEntry { due, kind: DueKind::Retention, seq }));
            }
            IndexChange::Signal { id, row } => {
                let hash = digest::signal_id_hash(&id);
                let item = Item::SignalId { session, id: hash };
                let at = LedgerKey::new(self.segment, after.lineage, item).bytes();
                self.row(Table::Ledger, at, &row);
                self.rows.push((RowName::Signal(session, hash), Row::Signal(row)));
            }
            IndexChange::Key { digest, row } => {
                self.row(Table::Rows, RowKey::SessionKey(digest).bytes(), &row);
                self.rows.push((RowName::SessionKey(digest), Row::SessionKey(row)));
            }
            IndexChange::LivePut => self.mark(RowKey::Live(session).bytes()),
            IndexChange::LiveDelete => {
                self.ops.push(Op::delete(Table::Rows, RowKey::Live(session).bytes()));
                if !after.system {
                    self.mark(RowKey::Ended { system: context.system_of(after)?, session }.bytes());
                }
            }
            IndexChange::ListPut => {
                let system = context.system_of(after)?;
                self.mark(RowKey::List { system, session }.bytes());
            }
            IndexChange::StartPut { session: to_start } => {
                self.mark(RowKey::ToStart { by: session, session: to_start }.bytes());
            }
            IndexChange::StartDelete { by, session: started } => {
                let key = RowKey::ToStart { by, session: started }.bytes();
                self.ops.push(Op::delete(Table::Rows, key));
            }
            IndexChange::DuePut(due) => self.mark(due_key(session, &due)),
            IndexChange::DueDelete(due) => self.ops.push(Op::delete(Table::Rows, due_key(session, &due))),
            IndexChange::Budget { owner, change } => self.budget(owner, change, context),
            IndexChange::EvidenceDelete { entry, attempt } => {
                self.delete_evidence(after, entry, attempt, context.evidence);
            }
            IndexChange::LabelPut { key, value } => {
                let (system, label) = (context.system_of(after)?, digest::label(&key, &value));
                self.mark(RowKey::Label { system, label, session }.bytes());
            }
            IndexChange::LabelDelete { key, value } => {
                let (system, label) = (context.system_of(after)?, digest::label(&key, &value));
                let key = RowKey::Label { system, label, session };
                self.ops.push(Op::delete(Table::Rows, key.bytes()));
            }
            IndexChange::Archive { lineage, change } => self.archive(lineage, &change, context),
            IndexChange::Commit { claim, row } => {
                let key = RowKey::Commit(claim).bytes();
                match row {
                    Some(row) => self.row(Table::Rows, key, &row),
                    None => self.ops.push(Op::delete(Table::Rows, key)),
                }
            }
            IndexChange::Stub { session, row } => {
                // What the archive does is journaled in the namespace's system session.
                let ended = RowKey::Ended { system: after.session, session };
                self.ops.push(Op::delete(Table::Rows, ended.bytes()));
                self.row(Table::Rows, RowKey::Stub(session).bytes(), &row);
                self.moved.push(session);
            }
            IndexChange::Forget(gone) => self.forget(&gone, context)?,
            IndexChange::Vanish { lineage } => {
                self.ops.push(Op::delete(Table::Rows, RowKey::Archive(lineage).bytes()));
                self.ops.push(Op::delete(Table::Rows, RowKey::Locator(lineage).bytes()));
                self.rows.push((RowName::Archive(lineage), Row::Archive(ArchiveRow::default())));
            }
            IndexChange::Leave { lineage, segment } => {
                let range = KeyRange::lineage(Segment(segment), lineage);
                self.ops.push(Op::delete_range(Table::Ledger, range));
            }
            IndexChange::Return(restore) => {
                for session in &restore.sessions {
                    self.mark(RowKey::Ended { system: after.session, session: *session }.bytes());
                }
                self.come_back(&restore, context)?;
            }
            IndexChange::Dead { segment, bytes, back } => self.dead(Segment(segment), bytes, back, context),
            IndexChange::TokenPut { secret_hash, row } => {
                self.row(Table::Rows, RowKey::Token(secret_hash).bytes(), &row);
            }
            IndexChange::TokenRevoked { token, at } => {
                let (hash, mut row) = context.token(token)?;
                row.revoked = Some(at);
                self.row(Table::Rows, RowKey::Token(Digest(hash)).bytes(), &row);
            }
            IndexChange::Workflow { namespace, workflow, version, change } => {
                let digest = digest::workflow(&namespace, &workflow, &version);
                let before = context.view.workflow(&namespace, &workflow, &version);
                let before = before.unwrap_or_else(|| WorkflowRow::unknown(namespace, workflow, version));
                let row = before.changed(change);
                self.row(Table::Rows, RowKey::Workflow(digest).bytes(), &row);
                self.rows.push((RowName::Workflow(digest), Row::Workflow(row)));
            }
        }
        Ok(())
    }

    /// Budget rows are sums over several sessions: what this command adds goes on top of what is known.
    fn budget(&mut self, owner: SessionId, change: BudgetChange, context: &Context<'_>) {
        let name = RowName::Budget(owner);
        let own = self.rows.iter().rev().find(|(known, _)| *known == name).map(|(_, row)| row);
        let before = match own {
            Some(Row::Budget(row)) => Some(*row),
            Some(_) | None => context.view.budget(owner),
        };
        let row = BudgetRow::changed(before, change);
        self.row(Table::Rows, RowKey::Budget(owner).bytes(), &row);
        self.rows.push((name, Row::Budget(row)));
    }

    fn delete_evidence(&mut self, head: &Head, entry: Seq, attempt: u32, log: &EvidenceLog) {
        let session = head.session;
        match log.known(session, entry) {
            Some(rows) => self.ops.extend(rows.iter().map(|n| {
                let item = Item::Evidence { session, entry, attempt, n: *n };
                Op::delete(Table::Ledger, LedgerKey::new(self.segment, head.lineage, item).bytes())
            })),
            None => {
                let range = KeyRange::evidence(self.segment, head.lineage, session, entry, attempt);
                self.ops.push(Op::delete_range(Table::Ledger, range));
            }
        }
    }

    fn row(&mut self, table: Table, key: Bytes, row: &impl heads::Row) {
        self.ops.push(Op::put(table, key, seal_row(row)));
    }

    fn mark(&mut self, key: Bytes) {
        self.ops.push(Op::put(Table::Rows, key, codec::seal(codec::Format::Mark, &[])));
    }
}

/// What index rows need beside the event.
pub(super) struct Context<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) reader: &'a Reader,
    pub(super) evidence: &'a EvidenceLog,
    /// Payloads that came with the command.
    pub(super) blobs: &'a Blobs,
    pub(super) guard_retention_ms: u64,
}

impl Context<'_> {
    fn system_of(&self, head: &Head) -> Result<SessionId, ReadError> {
        let info = self.reader.namespace_cached(&head.namespace)?;
        info.map(|info| info.system)
            .ok_or_else(|| ReadError::Fault(format!("namespace {} is not registered yet", head.namespace)))
    }

    fn token(
        &self,
        wanted: crate::graph::ids::TokenId,
    ) -> Result<([u8; 32], crate::graph::session::TokenRow), ReadError> {
        let known = self.reader.tokens()?;
        known
            .into_iter()
            .find(|(_, row)| row.token == wanted)
            .ok_or_else(|| ReadError::Fault(format!("token {wanted} is revoked but has no row")))
    }
}

pub(super) fn due_key(session: SessionId, entry: &DueEntry) -> Bytes {
    let what = match entry.kind {
        DueKind::Intent => Due::Intent,
        DueKind::Timer => Due::Timer,
        DueKind::Wait => Due::Wait,
        DueKind::Budget => Due::Budget,
        DueKind::Deadline => Due::Deadline,
        DueKind::Retention => Due::Retention,
    };
    RowKey::Due { at: entry.due, session, what, seq: entry.seq }.bytes()
}

/// A row in its envelope.
pub(super) fn seal_row(row: &impl heads::Row) -> Bytes {
    codec::seal(codec::Format::Row, &row.to_bytes())
}

/// The row of a head.
pub(super) fn put_head(session: SessionId, stored: &StoredHead) -> Op {
    let row = heads::StoredHead { head: Head::clone(&stored.head), segment: stored.segment };
    Op::put(Table::Rows, RowKey::Head(session).bytes(), seal_row(&row))
}

/// A head from its row.
pub(super) fn stored_head(row: &Bytes) -> Result<StoredHead, ReadError> {
    let heads::StoredHead { head, segment } = heads::StoredHead::from_bytes(row)?;
    Ok(StoredHead { head: std::sync::Arc::new(head), segment })
}

/// An event's row: its hash, so that one event can be read without the ones before, and its record.
pub(super) struct EventRow {
    pub(super) hash: Hash,
    pub(super) decoded: events::Decoded,
}

/// Puts an event into its envelope: chain hash (32 bytes), record.
pub(super) fn seal_event(hash: Hash, record: &[u8]) -> Bytes {
    codec::seal_parts(codec::Format::Event, &[&hash.0, record])
}

/// Takes an event out of its envelope's body.
pub(super) fn open_event(body: &Bytes) -> Result<EventRow, ReadError> {
    let hash = body.first_chunk::<32>().ok_or_else(|| {
        ReadError::Corrupt(format!("an event has {} bytes, less than its hash", body.len()))
    })?;
    Ok(EventRow { hash: Hash(*hash), decoded: events::decode(&body.slice(hash.len()..))? })
}

pub(super) fn namespace_info(row: &NamespaceRow) -> NamespaceInfo {
    NamespaceInfo { name: row.name.clone(), salt: row.salt, system: row.system }
}

/// The session that a list key names.
pub(super) fn listed(key: &[u8]) -> Result<SessionId, ReadError> {
    match parse(key)? {
        RowKey::List { session, .. } | RowKey::Ended { session, .. } => Ok(session),
        other => Err(misplaced(&other)),
    }
}

/// The session that a label key names.
pub(super) fn labelled(key: &[u8]) -> Result<SessionId, ReadError> {
    match parse(key)? {
        RowKey::Label { session, .. } => Ok(session),
        other => Err(misplaced(&other)),
    }
}

/// The session that a live key names.
pub(super) fn live(key: &[u8]) -> Result<SessionId, ReadError> {
    match parse(key)? {
        RowKey::Live(session) => Ok(session),
        other => Err(misplaced(&other)),
    }
}

/// Who names a session that has not begun, and which.
pub(super) fn to_start(key: &[u8]) -> Result<(SessionId, SessionId), ReadError> {
    match parse(key)? {
        RowKey::ToStart { by, session } => Ok((by, session)),
        other => Err(misplaced(&other)),
    }
}

/// What a due key says.
pub(super) fn due(key: &[u8]) -> Result<DueRow, ReadError> {
    let RowKey::Due { at, session, what, seq } = parse(key)? else {
        return Err(ReadError::Corrupt("a key of another index stands among what is due".to_owned()));
    };
    let kind = match what {
        Due::Intent => DueKind::Intent,
        Due::Timer => DueKind::Timer,
        Due::Wait => DueKind::Wait,
        Due::Budget => DueKind::Budget,
        Due::Deadline => DueKind::Deadline,
        Due::Retention => DueKind::Retention,
        Due::Retry | Due::Archive => {
            return Err(ReadError::Corrupt(format!("{what:?} is due, which this version never writes")));
        }
    };
    Ok(DueRow { due: at, session, kind, seq })
}

/// The step and part that a key of what is kept of a guarded step names.
pub(super) fn guarded(key: &[u8]) -> Result<([u8; 32], u32), ReadError> {
    match parse(key)? {
        RowKey::Guarded { step, part, .. } => Ok((step.0, part)),
        other => Err(misplaced(&other)),
    }
}

/// The hash that a token key names.
pub(super) fn token_hash(key: &[u8]) -> Result<[u8; 32], ReadError> {
    match parse(key)? {
        RowKey::Token(digest) => Ok(digest.0),
        other => Err(misplaced(&other)),
    }
}

fn parse(key: &[u8]) -> Result<RowKey<'_>, ReadError> {
    RowKey::parse(key).map_err(|bad: BadKey| ReadError::Corrupt(bad.to_string()))
}

fn misplaced(key: &RowKey<'_>) -> ReadError {
    ReadError::Corrupt(format!("key {key:?} stands in another index's range"))
}
