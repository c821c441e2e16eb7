//! Archived: a lineage that has ended is moved into files under a claim, and can be brought back.
//!
//! Owns claims on lineages, what the ledger keeps of an archived lineage, and who may do what to it meanwhile. Never
//! looks at files: what is committed is what the holder of the claim says it has written and read again.
//!
//! AR1. A claim holds lineages of one namespace. It is journaled in the namespace's system session, its epoch is the
//!      seq of that event, and it ends by itself. A lineage has at most one claim at a time.
//! AR2. Only what is under a claim that is current may be archived, restored or erased; a claim that is over, or that
//!      another one took a lineage from, is refused with `claim_lost` whatever it has done in the meantime.
//! AR3. A lineage is committed as it is: every session of it is named with its last event, and all have ended.
//! AR4. A fork of a claimed lineage is refused until the claim ends, and one that comes after that voids the claim; so
//!      nothing of a lineage changes between its claim and its commit.
//! AR5. A commit deletes the lineage's rows and leaves a stub of every session, in one frame. Heads, session keys and
//!      idempotency keys stay.
//! AR6. A restored lineage lies in a segment in which it never was before. Its commits stay known: archiving it again
//!      adds only what came later.
//! AR7. What is under a legal hold is neither archived nor erased, nor dropped at the end of its retention.
//! AR8. From the moment somebody asks to erase a lineage nobody reads, forks or restores it, its keys are free, and no claim
//!      from before holds. Its payloads go when the compactor has written it without them: what it reads has none any more.
//!      Headers, and with them the chain, stay.
//! AR9. Files are written again only under a claim on all lineages of their commit. The new commit takes the old one's
//!      place in one frame, so a worker that stalls with an older manifest in its hands can publish nothing.

mod rewrite;
mod row;

use std::sync::Arc;

use super::command::{Code, Rejection, Reply};
use super::decide::{Decision, View, invalid, nothing};
use super::draft::Draft;
use super::event::{Author, Body};
use super::ids::{ClaimId, LineageId, Namespace, Seq, SessionId, TimeMs};
use super::session::Head;

pub use rewrite::{Erase, Fate, Gone, Rewrite, RewrittenLineage};
pub use row::{ArchiveRow, Away, Claim, CommitRow, Part, RowChange, StubRow};

pub(super) use row::changes;

/// Most lineages of one claim.
pub const LINEAGES_MAX: usize = 256;
/// Longest path of a manifest in bytes.
pub const MANIFEST_BYTES_MAX: usize = 1_024;
/// Longest time a claim may be asked for, in ms.
pub const CLAIM_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// A segment of the key space, by its number.
pub type SegmentNo = u32;

/// What happened; journaled in the system session of the lineages' namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArchiveEvent {
    Claimed(Claimed),
    Dropped {
        claim: ClaimId,
        lineages: Vec<LineageId>,
    },
    Committed(Committed),
    /// The manifest of a commit is where readers look.
    Published {
        claim: ClaimId,
    },
    Restored {
        claim: ClaimId,
        lineage: LineageId,
        segment: SegmentNo,
    },
    /// Its payloads are to go (AR8).
    Erased {
        lineage: LineageId,
        by: Arc<str>,
        reason: Arc<str>,
    },
    Rewritten(Rewritten),
    Held {
        lineage: LineageId,
        held: bool,
        by: Arc<str>,
        reason: Arc<str>,
    },
    /// Dead bytes of a segment were given back to the file system.
    Reclaimed {
        segment: SegmentNo,
        dead_bytes: u64,
    },
}

/// Lineages were claimed, or their claim was renewed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    pub claim: ClaimId,
    pub epoch: Seq,
    pub expires: TimeMs,
    pub purpose: Purpose,
    pub lineages: Vec<LineageId>,
    /// A token's name.
    pub by: Arc<str>,
}

/// What lineages are claimed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Archive,
    /// Into this segment.
    Restore(SegmentNo),
    /// To write its files again.
    Rewrite,
}

/// Claimed lineages were moved into the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    pub claim: ClaimId,
    pub epoch: Seq,
    pub lineages: Vec<ArchivedLineage>,
    /// Relative to the archive's root.
    pub manifest: Arc<str>,
    /// blake3.
    pub manifest_digest: [u8; 32],
}

/// The files of a commit were written again, without what was erased or is past its retention.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rewritten {
    pub claim: ClaimId,
    pub epoch: Seq,
    /// Claim and epoch of the commit whose place it takes.
    pub replaces: (ClaimId, Seq),
    pub lineages: Vec<(LineageId, Fate)>,
    /// Relative to the archive's root.
    pub manifest: Arc<str>,
    /// blake3.
    pub manifest_digest: [u8; 32],
}

/// A lineage that was moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchivedLineage {
    pub lineage: LineageId,
    /// Where it lay.
    pub segment: SegmentNo,
    /// Events that were moved.
    pub events: u64,
    /// Bytes of keys and values that died.
    pub dead_bytes: u64,
}

/// What is asked for; the session concerned is the system session of the lineages' namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchiveCommand {
    /// The system session.
    pub system: SessionId,
    pub ask: Ask,
}

/// See `ArchiveCommand`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Claims what of `lineages` can be; renews `claim` if it is known already.
    Claim {
        claim: ClaimId,
        lineages: Vec<LineageId>,
        claim_ms: u64,
        purpose: Purpose,
        by: Arc<str>,
        /// Only what the claim holds already is meant.
        renews: bool,
    },
    Drop {
        claim: ClaimId,
        lineages: Vec<LineageId>,
    },
    Commit(Arc<Commit>),
    Published {
        claim: ClaimId,
    },
    /// Rows of a lineage that is being restored; becomes no event.
    RestorePage {
        claim: ClaimId,
        lineage: LineageId,
    },
    Restored(Arc<Restore>),
    Hold {
        lineage: LineageId,
        held: bool,
        by: Arc<str>,
        reason: Arc<str>,
    },
    Erase(Arc<Erase>),
    Rewrite(Arc<Rewrite>),
    Reclaimed {
        segment: SegmentNo,
        dead_bytes: u64,
    },
}

/// A commit, with what the edge has read of the lineages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    pub claim: ClaimId,
    pub epoch: Seq,
    pub manifest: Arc<str>,
    pub manifest_digest: [u8; 32],
    pub lineages: Vec<Leaving>,
}

/// A lineage that is to be archived, as the edge read it under the claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    pub lineage: LineageId,
    pub segment: SegmentNo,
    pub salt: Option<[u8; 32]>,
    pub root: SessionId,
    pub namespace: Namespace,
    /// All its sessions, and what is left of them.
    pub sessions: Vec<(SessionId, StubRow)>,
    /// When the last of them ended.
    pub ended: TimeMs,
    /// It is being erased: what was read of it had no payloads.
    pub bare: bool,
    /// Events that the archive did not have before.
    pub events: u64,
    pub dead_bytes: u64,
}

/// A lineage that is to be live again: all its rows are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restore {
    pub claim: ClaimId,
    pub lineage: LineageId,
    pub segment: SegmentNo,
    pub sessions: Vec<SessionId>,
    pub salt: [u8; 32],
    pub root: SessionId,
    pub namespace: Namespace,
}

impl ArchiveCommand {
    /// The lineages whose rows the decision looks at.
    #[must_use]
    pub fn lineages(&self) -> Vec<LineageId> {
        match &self.ask {
            Ask::Claim { lineages, .. } | Ask::Drop { lineages, .. } => lineages.clone(),
            Ask::Commit(commit) => commit.lineages.iter().map(|leaving| leaving.lineage).collect(),
            Ask::RestorePage { lineage, .. } | Ask::Hold { lineage, .. } => vec![*lineage],
            Ask::Restored(restore) => vec![restore.lineage],
            Ask::Erase(erase) => vec![erase.lineage],
            Ask::Rewrite(rewrite) => rewrite.lineages.iter().map(|lineage| lineage.lineage).collect(),
            Ask::Published { .. } | Ask::Reclaimed { .. } => Vec::new(),
        }
    }

    /// The sessions whose heads the decision looks at, the system session aside.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        match &self.ask {
            Ask::Commit(commit) => {
                let sessions = commit.lineages.iter().flat_map(|leaving| &leaving.sessions);
                sessions.map(|(session, _)| *session).collect()
            }
            Ask::Restored(restore) => restore.sessions.clone(),
            Ask::Erase(erase) => erase.sessions.iter().map(|gone| gone.session()).collect(),
            Ask::Rewrite(rewrite) => {
                let gone = rewrite.lineages.iter().flat_map(|lineage| &lineage.gone);
                gone.map(|gone| gone.session()).collect()
            }
            Ask::Claim { .. }
            | Ask::Drop { .. }
            | Ask::RestorePage { .. }
            | Ask::Hold { .. }
            | Ask::Published { .. }
            | Ask::Reclaimed { .. } => Vec::new(),
        }
    }
}

/// Judges what the archive asks for.
pub(super) fn decide(
    view: &impl View,
    head: &Head,
    command: &ArchiveCommand,
    now: TimeMs,
) -> Result<Decision, Rejection> {
    if !head.system {
        return Err(invalid("claims are kept in a namespace's system session; name that one"));
    }
    let draft = Draft::after(head, now);
    let now = now.max(head.time);
    match &command.ask {
        Ask::Claim { claim, lineages, claim_ms, purpose, by, renews } => {
            let (claim, claim_ms, purpose) = (*claim, *claim_ms, *purpose);
            let fresh = (!renews).then(|| head.seq.next());
            let wanted = Wanted { claim, claim_ms, purpose, by, lineages, fresh };
            take(view, draft, &wanted, now)
        }
        Ask::Drop { claim, lineages } => {
            Ok(append(draft, ArchiveEvent::Dropped { claim: *claim, lineages: lineages.clone() }))
        }
        Ask::Commit(asked) => commit(view, draft, asked, now),
        Ask::Published { claim } => Ok(append(draft, ArchiveEvent::Published { claim: *claim })),
        Ask::RestorePage { claim, lineage } => {
            holds(view, *lineage, *claim, now)?;
            Ok(nothing(head.session, Reply::Done { entry: None }))
        }
        Ask::Restored(asked) => restored(view, draft, asked, now),
        Ask::Erase(asked) => rewrite::erase(view, draft, asked),
        Ask::Rewrite(asked) => rewrite::rewrite(view, draft, asked, now),
        Ask::Hold { lineage, held, by, reason } => {
            if *held && view.archive(*lineage).is_some_and(|row| row.is_erased()) {
                return Err(invalid("the lineage was erased, or is being erased: there is nothing to hold"));
            }
            let (by, reason) = (by.clone(), reason.clone());
            Ok(append(draft, ArchiveEvent::Held { lineage: *lineage, held: *held, by, reason }))
        }
        Ask::Reclaimed { segment, dead_bytes } => {
            Ok(append(draft, ArchiveEvent::Reclaimed { segment: *segment, dead_bytes: *dead_bytes }))
        }
    }
}

struct Wanted<'a> {
    claim: ClaimId,
    claim_ms: u64,
    purpose: Purpose,
    by: &'a Arc<str>,
    lineages: &'a [LineageId],
    /// Epoch of a claim that begins now; `None`: only what it holds already is renewed.
    fresh: Option<Seq>,
}

/// Claims what can be claimed (AR1).
fn take(view: &impl View, draft: Draft, wanted: &Wanted<'_>, now: TimeMs) -> Result<Decision, Rejection> {
    if wanted.lineages.len() > LINEAGES_MAX || wanted.claim_ms > CLAIM_MS_MAX {
        return Err(invalid(format!(
            "a claim has at most {LINEAGES_MAX} lineages and lasts at most {CLAIM_MS_MAX} ms; ask for less"
        )));
    }
    let mut epoch = None;
    let mut granted = Vec::new();
    for lineage in wanted.lineages {
        let row = view.archive(*lineage).unwrap_or_default();
        match row.current(now) {
            // Its work counts on its epoch: what is begun afresh would get a new one (AR2).
            Some(claim) if claim.id == wanted.claim && wanted.fresh.is_none() => epoch = Some(claim.epoch),
            None if wanted.fresh.is_some() => epoch = wanted.fresh,
            Some(_) | None => continue,
        }
        let fits = match wanted.purpose {
            Purpose::Archive => row.away.is_none() && !row.held,
            Purpose::Restore(segment) => {
                !row.is_erased() && row.away.is_some_and(|away| segment > away.segment)
            }
            Purpose::Rewrite => !row.parts.is_empty(),
        };
        granted.extend(fits.then_some(*lineage));
    }
    let Some(epoch) = epoch.filter(|_| !granted.is_empty()) else {
        return Ok(draft.answer(Reply::Done { entry: None }));
    };
    Ok(append(
        draft,
        ArchiveEvent::Claimed(Claimed {
            claim: wanted.claim,
            epoch,
            expires: now.plus(wanted.claim_ms),
            purpose: wanted.purpose,
            lineages: granted,
            by: wanted.by.clone(),
        }),
    ))
}

/// AR2, AR3.
fn commit(view: &impl View, draft: Draft, asked: &Commit, now: TimeMs) -> Result<Decision, Rejection> {
    if asked.lineages.is_empty() || asked.manifest.is_empty() || asked.manifest.len() > MANIFEST_BYTES_MAX {
        return Err(invalid("a commit names at least one lineage, and a manifest"));
    }
    for leaving in &asked.lineages {
        let claim = holds(view, leaving.lineage, asked.claim, now)?;
        if claim.epoch != asked.epoch || claim.purpose != Purpose::Archive {
            return Err(lost());
        }
        for (session, stub) in &leaving.sessions {
            let head = view.head(*session).filter(|head| head.lineage == leaving.lineage);
            let same = head.is_some_and(|head| {
                head.status.is_terminal() && head.seq == stub.seq && head.hash == stub.hash
            });
            if !same {
                return Err(invalid(format!(
                    "session {session} does not end as the commit says; read its lineage again"
                )));
            }
        }
    }
    let moved = asked.lineages.iter().map(|leaving| ArchivedLineage {
        lineage: leaving.lineage,
        segment: leaving.segment,
        events: leaving.events,
        dead_bytes: leaving.dead_bytes,
    });
    Ok(append(
        draft,
        ArchiveEvent::Committed(Committed {
            claim: asked.claim,
            epoch: asked.epoch,
            lineages: moved.collect(),
            manifest: asked.manifest.clone(),
            manifest_digest: asked.manifest_digest,
        }),
    ))
}

fn restored(view: &impl View, draft: Draft, asked: &Restore, now: TimeMs) -> Result<Decision, Rejection> {
    let claim = holds(view, asked.lineage, asked.claim, now)?;
    if claim.purpose != Purpose::Restore(asked.segment) {
        return Err(lost());
    }
    let Restore { claim, lineage, segment, .. } = *asked;
    Ok(append(draft, ArchiveEvent::Restored { claim, lineage, segment }))
}

/// The claim, if it holds the lineage now (AR2).
fn holds(view: &impl View, lineage: LineageId, claim: ClaimId, now: TimeMs) -> Result<Claim, Rejection> {
    let row = view.archive(lineage);
    let current = row.as_ref().and_then(|row| row.current(now)).filter(|known| known.id == claim);
    current.copied().ok_or_else(lost)
}

fn lost() -> Rejection {
    Rejection::new(
        Code::ClaimLost,
        "the claim is over or another one took the lineage: drop what was written under it and claim again",
    )
}

fn append(mut draft: Draft, event: ArchiveEvent) -> Decision {
    let seq = draft.push(Author::Operator(None), Body::Archive(event));
    draft.appended(seq)
}

/// Refuses a fork of a lineage that is claimed or away (AR4).
pub(super) fn check_fork(view: &impl View, lineage: LineageId, now: TimeMs) -> Result<(), Rejection> {
    let Some(row) = view.archive(lineage) else { return Ok(()) };
    if row.is_erased() {
        return Err(Rejection::new(Code::Erased, ERASED));
    }
    if row.away.is_some() {
        return Err(Rejection::new(Code::Archived, away(&row.manifest)));
    }
    match row.current(now) {
        Some(claim) => Err(Rejection {
            retry_after_ms: Some(claim.expires.0.saturating_sub(now.0).clamp(1, RETRY_MS_MAX)),
            ..Rejection::new(Code::LineageClaimed, "the session is being archived: try again in a moment")
        }),
        None => Ok(()),
    }
}

/// Longest wait that a caller is told, in ms: most claims are given back long before they expire.
const RETRY_MS_MAX: u64 = 5_000;

/// What a caller is told who wants to read what was erased.
pub const ERASED: &str = "the session was erased on request: its payloads are gone for good, do without it; its headers are in the archive";

/// What a caller is told who wants events that are in the archive.
#[must_use]
pub fn away(manifest: &str) -> String {
    format!(
        "the session is archived (manifest {manifest}): restore it with `cellaflow-compactor restore SESSION`, or query the archive"
    )
}
