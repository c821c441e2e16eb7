//! The point reads that a command needs, made before it is queued so that the decider does not wait for a disk.
//!
//! 1. Reads are made under a ticket: what changes after them is in the overlay when the command is decided.

use std::sync::Arc;

use super::overlay::{Row, RowName};
use super::reader::{self, ReadError, Reader};
use super::watermark::Ticket;
use super::{HeadCache, StoredHead, Watermark, digest, guards};
use crate::graph::command::Command;
use crate::graph::ids::{Digest, LineageId, SessionId};
use crate::graph::session::{GuardRow, KeyRow, SignalRow};
use crate::graph::version::WorkflowRow;
use crate::storage::heads::Row as _;
use crate::storage::keys::{Item, LedgerKey, RowKey};
use crate::storage::{Snapshot, Table};

/// What was read for a command; a name without a row was looked up and is not there.
#[derive(Debug)]
pub(super) struct Lookups {
    rows: Vec<(RowName, Option<Row>)>,
    /// Held until the command is decided (1).
    _ticket: Ticket,
}

impl Lookups {
    /// Reads what `command` needs.
    pub(super) fn fetch(
        command: &Command,
        reader: &Reader,
        watermark: &Arc<Watermark>,
        cache: &HeadCache,
    ) -> Result<Self, ReadError> {
        let ticket = watermark.ticket();
        let mut fetch = Fetch { reader, cache, snapshot: None, rows: Vec::new() };
        fetch.command(command)?;
        Ok(Self { rows: fetch.rows, _ticket: ticket })
    }

    /// `None`: was not looked up. `Some(None)`: is not there.
    pub(super) fn get(&self, name: &RowName) -> Option<Option<&Row>> {
        self.rows.iter().find(|(known, _)| known == name).map(|(_, row)| row.as_ref())
    }
}

struct Fetch<'a> {
    reader: &'a Reader,
    cache: &'a HeadCache,
    snapshot: Option<Box<dyn Snapshot + 'a>>,
    rows: Vec<(RowName, Option<Row>)>,
}

impl<'a> Fetch<'a> {
    fn command(&mut self, command: &Command) -> Result<(), ReadError> {
        let needed = command.lookups();
        if let Some(digest) = needed.session_key {
            self.session_key(digest)?;
        }
        if let Some(digest) = needed.guard {
            self.guard(digest)?;
        }
        if let Command::ForgetKeys(forget) = command {
            guards::keys(forget).try_for_each(|key| self.guard(key))?;
        }
        if let Some((namespace, workflow, version)) = needed.workflow {
            self.workflow(digest::workflow(namespace, workflow, version))?;
        }
        match command {
            Command::Fork(fork) => self.archive(fork.base.lineage)?,
            Command::PutContext(put) => self.context(put.session)?,
            Command::Archive(asked) => {
                asked.lineages().into_iter().try_for_each(|lineage| self.archive(lineage))?;
                asked.sessions().into_iter().try_for_each(|session| self.head(session))?;
            }
            _ => {}
        }
        // The session of a client's start is about to be minted: there is nothing to read of it.
        let minted = match command {
            Command::Start(start) => start.descent.is_none(),
            Command::Fork(_) => true,
            _ => false,
        };
        let Some(session) = needed.session.filter(|_| !minted) else {
            return Ok(());
        };
        self.head(session)?;
        if let Some(id) = needed.signal {
            self.signal(session, id)?;
        }
        match needed.step {
            Some(step_key) => self.step(session, step_key),
            None => Ok(()),
        }
    }

    fn snapshot(&mut self) -> &dyn Snapshot {
        let reader = self.reader;
        &**self.snapshot.get_or_insert_with(|| reader.ahead())
    }

    fn head(&mut self, session: SessionId) -> Result<(), ReadError> {
        if let Some(known) = self.cache.get(&session) {
            return self.budgets(&known);
        }
        let found = reader::read_head(self.snapshot(), session)?;
        if let Some(found) = &found {
            self.budgets(found)?;
        }
        self.rows.push((RowName::Head(session), found.map(Row::Head)));
        Ok(())
    }

    /// The budgets that a session is under; which ones they are never changes.
    fn budgets(&mut self, stored: &StoredHead) -> Result<(), ReadError> {
        for owner in &stored.head.budget.owners {
            let found = reader::read_budget(self.snapshot(), owner.session)?;
            self.rows.push((RowName::Budget(owner.session), found.map(Row::Budget)));
        }
        Ok(())
    }

    fn step(&mut self, session: SessionId, step_key: &str) -> Result<(), ReadError> {
        let (hash, reader) = (digest::step_key_hash(step_key), self.reader);
        let found = reader.step_row(self.snapshot(), session, hash)?;
        self.rows.push((RowName::Step(session, hash), found.map(Row::Step)));
        Ok(())
    }

    fn signal(&mut self, session: SessionId, id: &str) -> Result<(), ReadError> {
        let hash = digest::signal_id_hash(id);
        let Some(place) = self.reader.place(session)? else { return Ok(()) };
        let item = Item::SignalId { session, id: hash };
        let key = LedgerKey::new(place.segment, place.lineage, item).bytes();
        let row = reader::read_row(self.snapshot(), Table::Ledger, &key)?;
        let found = row.map(|row| SignalRow::from_bytes(&row)).transpose()?;
        self.rows.push((RowName::Signal(session, hash), found.map(Row::Signal)));
        Ok(())
    }

    fn workflow(&mut self, digest: Digest) -> Result<(), ReadError> {
        let row = reader::read_row(self.snapshot(), Table::Rows, &RowKey::Workflow(digest).bytes())?;
        let found = row.map(|row| WorkflowRow::from_bytes(&row)).transpose()?;
        self.rows.push((RowName::Workflow(digest), found.map(Row::Workflow)));
        Ok(())
    }

    fn archive(&mut self, lineage: LineageId) -> Result<(), ReadError> {
        let found = reader::read_archive(self.snapshot(), lineage)?;
        self.rows.push((RowName::Archive(lineage), found.map(Row::Archive)));
        Ok(())
    }

    fn context(&mut self, session: SessionId) -> Result<(), ReadError> {
        let Some(place) = self.reader.place(session)? else { return Ok(()) };
        let found = reader::read_context(self.snapshot(), &place, session)?;
        self.rows.push((RowName::Context(session), found.map(Row::Context)));
        Ok(())
    }

    fn guard(&mut self, digest: Digest) -> Result<(), ReadError> {
        let row = reader::read_row(self.snapshot(), Table::Rows, &RowKey::Guard(digest).bytes())?;
        let found = row.map(|row| GuardRow::from_bytes(&row)).transpose()?;
        if let Some(row) = &found {
            self.head(row.session)?;
            let outcome = guards::read(self.snapshot(), (row.session, row.step_key_hash))?;
            self.rows.push((guards::name(row), outcome.map(|row| guards::row(row.outcome))));
        }
        self.rows.push((RowName::Guard(digest), found.map(Row::Guard)));
        Ok(())
    }

    fn session_key(&mut self, digest: Digest) -> Result<(), ReadError> {
        let row = reader::read_row(self.snapshot(), Table::Rows, &RowKey::SessionKey(digest).bytes())?;
        let found = row.map(|row| KeyRow::from_bytes(&row)).transpose()?;
        if let Some(row) = &found {
            self.head(row.session)?;
        }
        self.rows.push((RowName::SessionKey(digest), found.map(Row::SessionKey)));
        Ok(())
    }
}

/// A head that a lookup found, for the view.
pub(super) fn as_head(row: &Row) -> Option<&StoredHead> {
    match row {
        Row::Head(head) => Some(head),
        Row::Step(_)
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
