//! What the ledger keeps beside heads of lineages that the archive has to do with, and how events change it.

use std::sync::Arc;

use bytes::Bytes;

use super::rewrite::Fate;
use super::{ArchiveEvent, Ask, Claimed, Leaving, Purpose, SegmentNo};
use crate::graph::ids::{ClaimId, Digest, Hash, Namespace, Seq, SessionId, TimeMs};
use crate::graph::index::IndexChange;
use crate::graph::session::Head;

/// What the ledger keeps of a lineage that the archive has to do with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ArchiveRow {
    pub claim: Option<Claim>,
    /// Commits that hold its events, oldest first.
    pub parts: Vec<Part>,
    /// `None`: its events are here.
    pub away: Option<Away>,
    pub held: bool,
    /// Somebody asked for its erasure: nobody reads it any more, and the compactor takes its payloads out of all parts.
    pub erasing: bool,
    /// Manifest of the last commit; empty before.
    pub manifest: Arc<str>,
    /// When it came back from the archive last; `None`: never, or it has left again.
    pub restored: Option<TimeMs>,
}

/// A claim in force, until it expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    pub id: ClaimId,
    pub epoch: Seq,
    pub expires: TimeMs,
    pub purpose: Purpose,
}

/// A commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub claim: ClaimId,
    pub epoch: Seq,
    /// It holds no payloads of the lineage: that was erased.
    pub bare: bool,
}

impl Part {
    /// The same commit, with payloads or without.
    #[must_use]
    pub fn is(&self, other: &Part) -> bool {
        self.claim == other.claim && self.epoch == other.epoch
    }
}

/// What is left of a lineage's own row while it is archived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Away {
    /// `None`: erased.
    pub salt: Option<[u8; 32]>,
    pub root: SessionId,
    pub namespace: Namespace,
    pub at: TimeMs,
    /// Where it lay last; nothing may be written there again.
    pub segment: SegmentNo,
    /// How many it has.
    pub sessions: u32,
    /// When the last of them ended.
    pub ended: TimeMs,
}

/// What is left of a session that is or was archived, beside its head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StubRow {
    /// The caller's key; empty: none, or erased.
    pub key: Bytes,
    /// Of its result or failure.
    pub result: Option<Digest>,
    /// Last event that the archive has.
    pub seq: Seq,
    /// Of that event.
    pub hash: Hash,
}

/// A commit whose manifest is not published yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitRow {
    pub system: SessionId,
    pub epoch: Seq,
    pub manifest: Arc<str>,
    pub manifest_digest: [u8; 32],
}

/// A change of a lineage's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowChange {
    Claimed(Claim),
    /// Given up, or used up.
    Unclaimed(ClaimId),
    /// The lineage was forked: no claim holds any more (AR4).
    Voided,
    Archived {
        part: Part,
        manifest: Arc<str>,
        away: Away,
        /// The commit holds events of it; false: all were archived before.
        adds: bool,
    },
    Restored(TimeMs),
    /// Nobody reads it any more; claims from before do not hold (AR8).
    Erasing,
    /// The files of a part were written again, under another claim.
    Rewritten {
        from: Part,
        to: Part,
        manifest: Arc<str>,
    },
    /// A part is past its retention; others are left.
    Cut(Part),
    Held(bool),
}

impl ArchiveRow {
    /// The row after a change; `None`: there is and was nothing to say.
    #[must_use]
    pub fn changed(before: Option<&Self>, change: &RowChange) -> Option<Self> {
        let mut row = match (before, change) {
            (None, RowChange::Voided | RowChange::Unclaimed(_)) => return None,
            (row, _) => row.cloned().unwrap_or_default(),
        };
        match change {
            RowChange::Claimed(claim) => row.claim = Some(*claim),
            RowChange::Unclaimed(claim) => row.claim = row.claim.filter(|known| known.id != *claim),
            RowChange::Voided => row.claim = None,
            RowChange::Archived { part, manifest, away, adds } => {
                row.claim = None;
                row.parts.extend(adds.then_some(Part { bare: row.erasing, ..*part }));
                row.manifest.clone_from(manifest);
                row.restored = None;
                let salt = away.salt.filter(|_| !row.erasing);
                row.away = Some(Away { salt, ..away.clone() });
                row.settle();
            }
            RowChange::Restored(at) => {
                row.claim = None;
                row.away = None;
                row.restored = Some(*at);
            }
            RowChange::Erasing => {
                row.claim = None;
                row.erasing = true;
                row.away = row.away.map(|away| Away { salt: None, ..away });
            }
            RowChange::Rewritten { from, to, manifest } => {
                row.claim = None;
                if row.parts.last().is_some_and(|last| last.is(from)) {
                    row.manifest.clone_from(manifest);
                }
                row.parts.iter_mut().filter(|part| part.is(from)).for_each(|part| *part = *to);
                row.settle();
            }
            RowChange::Cut(from) => {
                row.claim = None;
                row.parts.retain(|part| !part.is(from));
            }
            RowChange::Held(held) => row.held = *held,
        }
        Some(row)
    }

    /// An erasure is over when no part has payloads any more, and the ledger has none.
    fn settle(&mut self) {
        self.erasing = self.erasing && !(self.away.is_some() && self.parts.iter().all(|part| part.bare));
    }

    /// It was erased, or is being erased.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.erasing || self.away.as_ref().is_some_and(|away| away.salt.is_none())
    }

    pub(super) fn current(&self, now: TimeMs) -> Option<&Claim> {
        self.claim.as_ref().filter(|claim| now < claim.expires)
    }
}

/// The rows that the archive's events change.
pub(in crate::graph) fn changes(
    event: &ArchiveEvent,
    at: (Seq, TimeMs),
    head: &Head,
    ask: Option<&Ask>,
    out: &mut Vec<IndexChange>,
) {
    let put =
        |out: &mut Vec<IndexChange>, lineage, change| out.push(IndexChange::Archive { lineage, change });
    match event {
        ArchiveEvent::Claimed(claimed) => {
            let Claimed { claim: id, epoch, expires, purpose, .. } = *claimed;
            for lineage in &claimed.lineages {
                put(out, *lineage, RowChange::Claimed(Claim { id, epoch, expires, purpose }));
            }
        }
        ArchiveEvent::Dropped { claim, lineages } => {
            lineages.iter().for_each(|lineage| put(out, *lineage, RowChange::Unclaimed(*claim)));
        }
        ArchiveEvent::Committed(committed) => {
            let part = Part { claim: committed.claim, epoch: committed.epoch, bare: false };
            if let Some(Ask::Commit(asked)) = ask {
                asked
                    .lineages
                    .iter()
                    .for_each(|leaving| leave(leaving, part, &committed.manifest, at.1, out));
            }
            let row = CommitRow {
                system: head.session,
                epoch: committed.epoch,
                manifest: committed.manifest.clone(),
                manifest_digest: committed.manifest_digest,
            };
            out.push(IndexChange::Commit { claim: committed.claim, row: Some(row) });
        }
        ArchiveEvent::Published { claim } => out.push(IndexChange::Commit { claim: *claim, row: None }),
        ArchiveEvent::Restored { lineage, .. } => {
            put(out, *lineage, RowChange::Restored(at.1));
            if let Some(Ask::Restored(asked)) = ask {
                out.push(IndexChange::Return(asked.clone()));
            }
        }
        ArchiveEvent::Erased { lineage, .. } => {
            put(out, *lineage, RowChange::Erasing);
            if let Some(Ask::Erase(asked)) = ask {
                out.extend(asked.sessions.iter().cloned().map(IndexChange::Forget));
            }
        }
        ArchiveEvent::Rewritten(rewritten) => {
            let from = Part { claim: rewritten.replaces.0, epoch: rewritten.replaces.1, bare: false };
            let to = Part { claim: rewritten.claim, epoch: rewritten.epoch, bare: false };
            for (lineage, fate) in &rewritten.lineages {
                let bare = *fate == Fate::Bare;
                match fate {
                    Fate::Kept | Fate::Bare => {
                        let manifest = rewritten.manifest.clone();
                        put(out, *lineage, RowChange::Rewritten { from, to: Part { bare, ..to }, manifest });
                    }
                    Fate::Cut => put(out, *lineage, RowChange::Cut(from)),
                    Fate::Dropped => out.push(IndexChange::Vanish { lineage: *lineage }),
                }
            }
            if let Some(Ask::Rewrite(asked)) = ask {
                let dropped = |lineage| rewritten.lineages.contains(&(lineage, Fate::Dropped));
                let whole = asked.lineages.iter().filter(|asked| dropped(asked.lineage));
                out.extend(whole.flat_map(|asked| &asked.gone).cloned().map(IndexChange::Forget));
            }
            let row = CommitRow {
                system: head.session,
                epoch: rewritten.epoch,
                manifest: rewritten.manifest.clone(),
                manifest_digest: rewritten.manifest_digest,
            };
            out.push(IndexChange::Commit { claim: rewritten.claim, row: Some(row) });
        }
        ArchiveEvent::Held { lineage, held, .. } => put(out, *lineage, RowChange::Held(*held)),
        ArchiveEvent::Reclaimed { segment, dead_bytes } => {
            out.push(IndexChange::Dead { segment: *segment, bytes: *dead_bytes, back: true });
        }
    }
}

/// AR5.
fn leave(leaving: &Leaving, part: Part, manifest: &Arc<str>, at: TimeMs, out: &mut Vec<IndexChange>) {
    let away = Away {
        salt: leaving.salt,
        root: leaving.root,
        namespace: leaving.namespace.clone(),
        at,
        segment: leaving.segment,
        sessions: u32::try_from(leaving.sessions.len()).unwrap_or(u32::MAX),
        ended: leaving.ended,
    };
    let change = RowChange::Archived { part, manifest: manifest.clone(), away, adds: leaving.events > 0 };
    out.push(IndexChange::Archive { lineage: leaving.lineage, change });
    for (session, stub) in &leaving.sessions {
        out.push(IndexChange::Stub { session: *session, row: stub.clone() });
    }
    out.push(IndexChange::Leave { lineage: leaving.lineage, segment: leaving.segment });
    out.push(IndexChange::Dead { segment: leaving.segment, bytes: leaving.dead_bytes, back: false });
}
