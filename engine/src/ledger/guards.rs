//! What is kept of guarded steps beside their lineages: written with their events, read by whoever asks with the same
//! idempotency key, dropped when its time is over or its lineage is erased.
//!
//! 1. Rows of a session are found by the session alone (`KeyRange::guarded`): archiving a lineage leaves them, erasing
//!    it deletes them and the keys that they name (`dropped`).
//! 2. A key that has passed on to another step is not dropped with its former owner.
//! 3. What is dropped is dropped row by row: a range tombstone would slow the reads of its neighbours.

use bytes::{Bytes, BytesMut};

use super::overlay::{Row, RowName};
use super::payload::{Blobs, PayloadIn};
use super::reader::{ReadError, Reader, read_row};
use super::rows;
use crate::graph::command::{ForgetKeys, KeptRow};
use crate::graph::event::PayloadRef;
use crate::graph::guard_key;
use crate::graph::ids::{Digest, Seq, SessionId, TimeMs};
use crate::graph::index::{DueEntry, DueKind};
use crate::graph::session::{GuardOutcome, GuardRow};
use crate::storage::guards::{GuardOutcomeRow, GuardOwnedRow, KeptOutput};
use crate::storage::heads::Row as _;
use crate::storage::keys::{RowKey, guarded};
use crate::storage::{KeyRange, Op, Scan, Snapshot, Table, codec};

/// A step of a session, by blake3 of its key.
pub(super) type Place = (SessionId, [u8; 32]);

fn key((session, step): Place, part: u32) -> Bytes {
    RowKey::Guarded { session, step: Digest(step), part }.bytes()
}

/// Says which key a step owns.
pub(super) fn owned(place: Place, digest: Digest) -> Op {
    Op::put(Table::Rows, key(place, guarded::OWNED), rows::seal_row(&GuardOwnedRow { digest }))
}

/// Keeps what is known of a step, with its output; the bytes came with the command.
pub(super) fn keep(
    place: Place,
    outcome: &GuardOutcome,
    output: Option<&PayloadRef>,
    blobs: &Blobs,
) -> Result<Vec<Op>, ReadError> {
    let missing = || ReadError::Corrupt(format!("an output of session {} came without its bytes", place.0));
    let mut ops = Vec::new();
    let kept = match output {
        None => None,
        Some(output) if output.inline => {
            let content = blobs.inline(&output.digest).ok_or_else(missing)?.clone();
            Some(kept(output, content, 0))
        }
        Some(output) => {
            let pieces: Vec<_> = blobs.chunks().filter(|chunk| chunk.digest == output.digest).collect();
            for piece in &pieces {
                let part = guarded::OUTPUT.saturating_add(piece.n);
                ops.push(Op::put(Table::Rows, key(place, part), piece.value.clone()));
            }
            let count = u32::try_from(pieces.len()).ok().filter(|count| *count > 0).ok_or_else(missing)?;
            Some(kept(output, Bytes::new(), count))
        }
    };
    let row = GuardOutcomeRow { outcome: outcome.clone(), output: kept };
    ops.push(Op::put(Table::Rows, key(place, guarded::OUTCOME), rows::seal_row(&row)));
    Ok(ops)
}

fn kept(output: &PayloadRef, content: Bytes, pieces: u32) -> KeptOutput {
    KeptOutput { format: output.format, codec: output.codec.clone(), size: output.size, content, pieces }
}

/// What is known of a step.
pub(super) fn read(snapshot: &dyn Snapshot, place: Place) -> Result<Option<GuardOutcomeRow>, ReadError> {
    let row = read_row(snapshot, Table::Rows, &key(place, guarded::OUTCOME))?;
    Ok(row.map(|row| GuardOutcomeRow::from_bytes(&row)).transpose()?)
}

/// Rows to delete when what a session's keys have recorded is dropped; `owner` says who owns a key now.
pub(super) fn dropped(forget: &ForgetKeys, owner: impl Fn(&Digest) -> Option<GuardRow>) -> Vec<Op> {
    let mut ops = Vec::new();
    for row in &forget.rows {
        let place = (forget.session, row.step_key_hash);
        ops.push(Op::delete(Table::Rows, key(place, row.part)));
        let still = row.key.filter(|key| guard_key::still_owns(owner(key).as_ref(), &place)); // 2
        ops.extend(still.map(|key| Op::delete(Table::Rows, RowKey::Guard(key).bytes())));
    }
    if forget.last {
        let due = DueEntry { due: forget.due, kind: DueKind::Retention, seq: forget.seq };
        ops.push(Op::delete(Table::Rows, rows::due_key(forget.session, &due)));
    }
    ops
}

/// Names of the rows that `dropped` asks for.
pub(super) fn keys(forget: &ForgetKeys) -> impl Iterator<Item = Digest> {
    forget.rows.iter().filter_map(|row| row.key)
}

/// The name of what is known of a key's owner, as decisions look it up.
pub(super) fn name(guard: &GuardRow) -> RowName {
    RowName::GuardOutcome(guard.session, guard.step_key_hash)
}

/// The row of it.
pub(super) fn row(outcome: GuardOutcome) -> Row {
    Row::GuardOutcome(outcome)
}

impl Reader {
    /// Who owns an idempotency key; `None`: nobody.
    ///
    /// # Errors
    /// As every read.
    pub fn guard(&self, digest: &Digest) -> Result<Option<GuardRow>, ReadError> {
        let row = read_row(self.snapshot()?.as_ref(), Table::Rows, &RowKey::Guard(*digest).bytes())?;
        Ok(row.map(|row| GuardRow::from_bytes(&row)).transpose()?)
    }

    /// Digest of the key that a step claimed last; `None`: it claimed none.
    ///
    /// # Errors
    /// As every read.
    pub fn owned_key(
        &self,
        session: SessionId,
        step_key_hash: [u8; 32],
    ) -> Result<Option<Digest>, ReadError> {
        let key = key((session, step_key_hash), guarded::OWNED);
        let row = read_row(self.snapshot()?.as_ref(), Table::Rows, &key)?;
        Ok(row.map(|row| GuardOwnedRow::from_bytes(&row)).transpose()?.map(|row| row.digest))
    }

    /// What is known of the step that owns an idempotency key; `None`: nothing is kept of it.
    ///
    /// # Errors
    /// As every read.
    pub fn guard_outcome(&self, guard: &GuardRow) -> Result<Option<GuardOutcomeRow>, ReadError> {
        read(self.snapshot()?.as_ref(), (guard.session, guard.step_key_hash))
    }

    /// The output that a key has recorded, from beside the lineage or from the owner's own event; `None`: it is in
    /// neither, because the owner has been archived.
    ///
    /// # Errors
    /// As every read.
    pub fn guard_output(
        &self,
        guard: &GuardRow,
        row: &GuardOutcomeRow,
    ) -> Result<Option<PayloadIn>, ReadError> {
        let Some(kept) = &row.output else { return self.recorded_output(guard.session, row.outcome.seq) };
        let payload = |bytes| PayloadIn { format: kept.format, codec: kept.codec.clone(), bytes };
        if kept.pieces == 0 {
            return Ok(Some(payload(kept.content.clone())));
        }
        let snapshot = self.snapshot()?;
        let mut joined = BytesMut::new();
        for piece in 0..kept.pieces {
            let key = key((guard.session, guard.step_key_hash), guarded::OUTPUT.saturating_add(piece));
            let value = snapshot.get(Table::Rows, &key)?;
            // It was dropped since its row was read.
            let Some(value) = value else { return Ok(None) };
            joined.extend_from_slice(&codec::open_chunk(&key, &value)?);
        }
        Ok(Some(payload(joined.freeze())))
    }

    fn recorded_output(&self, session: SessionId, seq: Seq) -> Result<Option<PayloadIn>, ReadError> {
        let Some(stored) = self.event(session, seq)? else { return Ok(None) };
        let Some(output) = guard_key::output_of(&stored.event.body) else { return Ok(None) };
        let bytes = self.bytes_of(&stored, output)?;
        Ok(Some(PayloadIn { format: output.format, codec: output.codec.clone(), bytes }))
    }

    /// What is kept of a session's guarded steps, to be dropped: a page of it.
    ///
    /// # Errors
    /// As every read.
    pub fn kept_keys(
        &self,
        session: SessionId,
        due: TimeMs,
        seq: Seq,
        rows_max: usize,
    ) -> Result<ForgetKeys, ReadError> {
        let range = KeyRange::guarded(session);
        let snapshot = self.snapshot()?;
        let page = snapshot.scan(&Scan { rows_max, ..Scan::forward(Table::Rows, &range) })?;
        let mut rows = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let (step_key_hash, part) = rows::guarded(&row.key)?;
            let key = match part {
                guarded::OWNED => {
                    let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
                    Some(GuardOwnedRow::from_bytes(&body)?.digest)
                }
                _ => None,
            };
            rows.push(KeptRow { step_key_hash, part, key });
        }
        Ok(ForgetKeys { session, due, seq, rows, last: page.next.is_none() })
    }
}
