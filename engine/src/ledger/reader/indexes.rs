//! What the indexes say: namespaces, lists, live sessions, what is due, tokens.

use std::sync::Arc;

use super::{ReadError, Reader, read_budget, read_head, read_row};
use crate::graph::budget::BudgetRow;
use crate::graph::ids::{Digest, Seq, SessionId, TimeMs};
use crate::graph::index::DueKind;
use crate::graph::session::{Head, TokenRow};
use crate::graph::version::WorkflowRow;
use crate::ledger::place::NamespaceInfo;
use crate::ledger::{digest, rows};
use crate::storage::heads::{NamespaceRow, Row as _};
use crate::storage::keys::RowKey;
use crate::storage::{KeyRange, Scan, Table, codec};

/// Where a list goes on: the last session of the page before.
pub type ListCursor = SessionId;

/// Which sessions are listed, as far as an index tells.
#[derive(Clone, Copy, Debug)]
pub struct Among<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// A label they have: key and value.
    pub label: Option<(&'a str, &'a str)>,
}

/// Some sessions of a namespace, newest first.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Heads.
    pub heads: Vec<Arc<Head>>,
    /// For the next page; `None`: no more.
    pub next: Option<ListCursor>,
}

/// Something that becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// When.
    pub due: TimeMs,
    /// Session.
    pub session: SessionId,
    /// What.
    pub kind: DueKind,
    /// The event that opened it.
    pub seq: Seq,
}

/// What is due, earliest first.
#[derive(Clone, Debug, Default)]
pub struct DuePage {
    /// The rows.
    pub rows: Vec<DueRow>,
    /// When what comes after them is due; `None`: nothing does.
    pub next: Option<TimeMs>,
}

impl Reader {
    /// All namespaces, by name.
    ///
    /// # Errors
    /// As every read.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>, ReadError> {
        let mut found = Vec::new();
        self.each(Table::Rows, &KeyRange::namespaces(), |row| {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            found.push(rows::namespace_info(&NamespaceRow::from_bytes(&body)?));
            Ok(())
        })?;
        Ok(found)
    }

    /// Sessions of a namespace, newest first, system session left out; with a label only those that have it.
    ///
    /// # Errors
    /// As every read.
    pub fn list(
        &self,
        among: &Among<'_>,
        before: Option<ListCursor>,
        max: usize,
    ) -> Result<ListPage, ReadError> {
        let Some(info) = self.namespace(among.namespace)? else { return Ok(ListPage::default()) };
        let snapshot = self.snapshot()?;
        let label = among.label.map(|(key, value)| digest::label(key, value));
        let range =
            label.map_or_else(|| KeyRange::list(info.system), |label| KeyRange::label(info.system, label));
        let after = before.map(|session| match label {
            Some(label) => RowKey::Label { system: info.system, label, session }.bytes(),
            None => RowKey::List { system: info.system, session }.bytes(),
        });
        let scan = Scan { after: after.as_deref(), rows_max: max, ..Scan::backward(Table::Rows, &range) };
        let page = snapshot.scan(&scan)?;
        let mut heads = Vec::with_capacity(page.rows.len());
        let mut last = None;
        for row in &page.rows {
            let session = if label.is_some() { rows::labelled(&row.key) } else { rows::listed(&row.key) }?;
            last = Some(session);
            let stored = read_head(snapshot.as_ref(), session)?
                .ok_or_else(|| ReadError::Corrupt(format!("listed session {session} has no head")))?;
            if !stored.head.system {
                heads.push(stored.head);
            }
        }
        Ok(ListPage { heads, next: page.next.and(last) })
    }

    /// Sessions that have not ended, system sessions left out.
    ///
    /// # Errors
    /// As every read.
    pub fn live(&self) -> Result<Vec<SessionId>, ReadError> {
        let mut sessions = Vec::new();
        self.each(Table::Rows, &KeyRange::live(), |row| {
            sessions.push(rows::live(&row.key)?);
            Ok(())
        })?;
        Ok(sessions)
    }

    /// Sessions that were named by a spawn or a continuation and have not begun: (by whom, which), at most `max`.
    ///
    /// # Errors
    /// As every read.
    pub fn to_start(&self, max: usize) -> Result<Vec<(SessionId, SessionId)>, ReadError> {
        let snapshot = self.snapshot()?;
        let range = KeyRange::to_start();
        let page = snapshot.scan(&Scan { rows_max: max, ..Scan::forward(Table::Rows, &range) })?;
        page.rows.iter().map(|row| rows::to_start(&row.key)).collect()
    }

    /// What is due from `from` to `until`, both included: earliest first, at most `max`.
    ///
    /// # Errors
    /// As every read.
    pub fn due(&self, from: TimeMs, until: TimeMs, max: usize) -> Result<DuePage, ReadError> {
        let snapshot = self.snapshot()?;
        let scan = |range: &KeyRange, rows_max| -> Result<Vec<DueRow>, ReadError> {
            let page = snapshot.scan(&Scan { rows_max, ..Scan::forward(Table::Rows, range) })?;
            page.rows.iter().map(|row| rows::due(&row.key)).collect()
        };
        let mut found = scan(&KeyRange::due(from, until), max.saturating_add(1))?;
        if found.len() > max {
            let next = found.pop().map(|row| row.due);
            return Ok(DuePage { rows: found, next });
        }
        let later = scan(&KeyRange::due(TimeMs(until.0.saturating_add(1)), TimeMs(u64::MAX)), 1)?;
        Ok(DuePage { rows: found, next: later.first().map(|row| row.due) })
    }

    /// How a budget stands; `None`: the session owns none.
    ///
    /// # Errors
    /// As every read.
    pub fn budget(&self, owner: SessionId) -> Result<Option<BudgetRow>, ReadError> {
        read_budget(self.snapshot()?.as_ref(), owner)
    }

    /// What is known of the versions of a namespace's workflows.
    ///
    /// # Errors
    /// As every read.
    pub fn workflows(&self, namespace: &str) -> Result<Vec<WorkflowRow>, ReadError> {
        let mut found = Vec::new();
        self.each(Table::Rows, &KeyRange::workflows(), |row| {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            let row = WorkflowRow::from_bytes(&body)?;
            if &*row.namespace == namespace {
                found.push(row);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A token by the hash of its secret.
    ///
    /// # Errors
    /// As every read.
    pub fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, ReadError> {
        let snapshot = self.snapshot()?;
        let key = RowKey::Token(Digest(*hash)).bytes();
        let row = read_row(snapshot.as_ref(), Table::Rows, &key)?;
        Ok(row.map(|row| TokenRow::from_bytes(&row)).transpose()?)
    }

    /// All tokens, with the hashes of their secrets.
    ///
    /// # Errors
    /// As every read.
    pub fn tokens(&self) -> Result<Vec<([u8; 32], TokenRow)>, ReadError> {
        let mut found = Vec::new();
        self.each(Table::Rows, &KeyRange::tokens(), |row| {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            found.push((rows::token_hash(&row.key)?, TokenRow::from_bytes(&body)?));
            Ok(())
        })?;
        Ok(found)
    }
}
