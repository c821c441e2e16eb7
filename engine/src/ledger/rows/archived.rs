//! Rows that the archive changes: of lineages that leave, come back, are erased or past their retention.

use bytes::Bytes;

use super::{Changes, Context};
use crate::graph::archive::{ArchiveRow, Gone, Restore, RowChange, StubRow};
use crate::graph::decide::View as _;
use crate::graph::ids::LineageId;
use crate::ledger::overlay::{Row, RowName};
use crate::ledger::reader::ReadError;
use crate::ledger::{StoredHead, digest, guards};
use crate::storage::archives::SegmentRow;
use crate::storage::heads::LineageRow;
use crate::storage::keys::{Item, LedgerKey, RowKey, Segment};
use crate::storage::{Op, Table, codec};

impl Changes {
    /// Like a budget's: a change goes on top of what is known.
    pub(super) fn archive(&mut self, lineage: LineageId, change: &RowChange, context: &Context<'_>) {
        let name = RowName::Archive(lineage);
        let own = self.rows.iter().rev().find(|(known, _)| *known == name).map(|(_, row)| row);
        let before = match own {
            Some(Row::Archive(row)) => Some(row.clone()),
            Some(_) | None => context.view.archive(lineage),
        };
        if let Some(row) = ArchiveRow::changed(before.as_ref(), change) {
            self.row(Table::Rows, RowKey::Archive(lineage).bytes(), &row);
            self.rows.push((name, Row::Archive(row)));
        }
    }

    /// Keys go if they still name this session; the heads of sessions that go whole are forgotten by whoever keeps them.
    pub(super) fn forget(&mut self, gone: &Gone, context: &Context<'_>) -> Result<(), ReadError> {
        let session = gone.session();
        if let Some(digest) = gone.key
            && context.view.session_key_now(&digest).is_some_and(|row| row.session == session)
        {
            self.ops.push(Op::delete(Table::Rows, RowKey::SessionKey(digest).bytes()));
        }
        self.ops.extend(guards::dropped(&gone.guards, |key| context.view.guard_now(key)));
        self.moved.push(session);
        if !gone.whole {
            if let Some(stub) = context.reader.stub(session)? {
                let stub = StubRow { key: Bytes::new(), ..stub };
                self.row(Table::Rows, RowKey::Stub(session).bytes(), &stub);
            }
            return Ok(());
        }
        let Some(head) = context.view.stored_head(session).map(|stored| stored.head) else { return Ok(()) };
        let system = context.system_of(&head)?;
        for (key, value) in &head.labels {
            let label = digest::label(key, value);
            self.ops.push(Op::delete(Table::Rows, RowKey::Label { system, label, session }.bytes()));
        }
        for key in [RowKey::Head(session), RowKey::Stub(session), RowKey::Budget(session)] {
            self.ops.push(Op::delete(Table::Rows, key.bytes()));
        }
        self.ops.push(Op::delete(Table::Rows, RowKey::List { system, session }.bytes()));
        self.vanished.push(session);
        Ok(())
    }

    pub(super) fn dead(&mut self, segment: Segment, bytes: u64, back: bool, context: &Context<'_>) {
        let name = RowName::Segment(segment.0);
        let own = self.rows.iter().rev().find(|(known, _)| *known == name).map(|(_, row)| row);
        let before = match own {
            Some(Row::Segment(bytes)) => *bytes,
            Some(_) | None => context.view.dead_bytes(segment),
        };
        let dead_bytes = if back { before.saturating_sub(bytes) } else { before.saturating_add(bytes) };
        self.row(Table::Rows, RowKey::Segment(segment).bytes(), &SegmentRow { dead_bytes });
        self.rows.push((name, Row::Segment(dead_bytes)));
    }

    /// The rows of a restored lineage are written: its own row, locator and heads name where.
    pub(super) fn come_back(&mut self, restore: &Restore, context: &Context<'_>) -> Result<(), ReadError> {
        let segment = Segment(restore.segment);
        let lineage =
            LineageRow { salt: Some(restore.salt), root: restore.root, namespace: restore.namespace.clone() };
        let key = LedgerKey::new(segment, restore.lineage, Item::Lineage).bytes();
        self.row(Table::Ledger, key, &lineage);
        let locator = codec::seal(codec::Format::Row, &segment.0.to_be_bytes());
        self.ops.push(Op::put(Table::Rows, RowKey::Locator(restore.lineage).bytes(), locator));
        for session in &restore.sessions {
            let missing = || ReadError::Corrupt(format!("restored session {session} has no head"));
            let head = context.view.stored_head(*session).ok_or_else(missing)?.head;
            self.heads.push(StoredHead { head, segment });
        }
        Ok(())
    }
}
