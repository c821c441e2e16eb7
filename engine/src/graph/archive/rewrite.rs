//! Erasures, and files that are written again: without what was erased, or is past its retention (AR7 to AR9).

use std::sync::Arc;

use super::{
    ArchiveEvent, ArchiveRow, LINEAGES_MAX, MANIFEST_BYTES_MAX, Part, Purpose, Rewritten, append, holds, lost,
};
use crate::graph::command::{Code, ForgetKeys, Rejection};
use crate::graph::decide::{Decision, View, invalid};
use crate::graph::draft::Draft;
use crate::graph::ids::{ClaimId, Digest, LineageId, Seq, SessionId, TimeMs};

/// A lineage that is to be erased, with what the edge has read of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Erase {
    pub lineage: LineageId,
    /// A token's name.
    pub by: Arc<str>,
    pub reason: Arc<str>,
    /// All its sessions, and what goes of them at once: keys, and what was kept of guarded steps.
    pub sessions: Vec<Arc<Gone>>,
}

/// What of a session goes with an erasure or at the end of its retention.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Of the caller's key, if it has one; the row goes if it still names this session.
    pub key: Option<Digest>,
    /// What is kept of its guarded steps.
    pub guards: ForgetKeys,
    /// The session itself goes: head, stub, places in lists.
    pub whole: bool,
}

impl Gone {
    /// Whose.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.guards.session
    }
}

/// The files of a commit that were written again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rewrite {
    pub claim: ClaimId,
    pub epoch: Seq,
    /// Claim and epoch of the commit whose place it takes.
    pub replaces: (ClaimId, Seq),
    pub manifest: Arc<str>,
    pub manifest_digest: [u8; 32],
    pub lineages: Vec<RewrittenLineage>,
}

/// What became of a lineage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RewrittenLineage {
    pub lineage: LineageId,
    /// `Dropped` becomes `Cut` while the lineage has other parts.
    pub fate: Fate,
    /// All its sessions, if it is dropped.
    pub gone: Vec<Arc<Gone>>,
}

/// What became of a lineage in files that were written again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is as it was.
    Kept,
    /// Its payloads are gone.
    Bare,
    /// All of it in these files is gone, and other commits have more of it.
    Cut,
    /// All of it is gone, and the ledger forgets it.
    Dropped,
}

/// AR7, AR8.
pub(super) fn erase(view: &impl View, draft: Draft, asked: &Erase) -> Result<Decision, Rejection> {
    let row = view.archive(asked.lineage).unwrap_or_default();
    if row.held {
        return Err(under_hold());
    }
    if row.is_erased() {
        return Err(Rejection::new(Code::Erased, super::ERASED));
    }
    for gone in &asked.sessions {
        let head = view.head(gone.session()).filter(|head| head.lineage == asked.lineage);
        if !head.is_some_and(|head| head.status.is_terminal()) {
            return Err(invalid(format!(
                "session {} of the lineage has not ended: cancel it, and erase the lineage when it has",
                gone.session()
            )));
        }
    }
    let Erase { lineage, by, reason, .. } = asked.clone();
    Ok(append(draft, ArchiveEvent::Erased { lineage, by, reason }))
}

/// AR2, AR7, AR9.
pub(super) fn rewrite(
    view: &impl View,
    draft: Draft,
    asked: &Rewrite,
    now: TimeMs,
) -> Result<Decision, Rejection> {
    let names = 1..=LINEAGES_MAX;
    if !names.contains(&asked.lineages.len()) || !(1..=MANIFEST_BYTES_MAX).contains(&asked.manifest.len()) {
        return Err(invalid("a commit names at least one lineage, and a manifest"));
    }
    let mut fates = Vec::with_capacity(asked.lineages.len());
    for lineage in &asked.lineages {
        let claim = holds(view, lineage.lineage, asked.claim, now)?;
        if claim.epoch != asked.epoch || claim.purpose != Purpose::Rewrite {
            return Err(lost());
        }
        let row = view.archive(lineage.lineage).unwrap_or_default();
        fates.push((lineage.lineage, fate(view, &row, lineage, asked.replaces)?));
    }
    Ok(append(
        draft,
        ArchiveEvent::Rewritten(Rewritten {
            claim: asked.claim,
            epoch: asked.epoch,
            replaces: asked.replaces,
            lineages: fates,
            manifest: asked.manifest.clone(),
            manifest_digest: asked.manifest_digest,
        }),
    ))
}

fn fate(
    view: &impl View,
    row: &ArchiveRow,
    lineage: &RewrittenLineage,
    replaces: (ClaimId, Seq),
) -> Result<Fate, Rejection> {
    let replaced = Part { claim: replaces.0, epoch: replaces.1, bare: false };
    let Some(part) = row.parts.iter().find(|part| part.is(&replaced)) else {
        return Err(invalid("the commit that is replaced does not hold this lineage: list again"));
    };
    match lineage.fate {
        Fate::Kept if part.bare => Ok(Fate::Bare),
        Fate::Kept => Ok(Fate::Kept),
        Fate::Bare if row.is_erased() => Ok(Fate::Bare),
        Fate::Bare => Err(invalid("nobody asked to erase this lineage: keep it as it is")),
        Fate::Cut | Fate::Dropped if row.held => Err(under_hold()),
        Fate::Cut | Fate::Dropped if row.away.is_none() => {
            Err(invalid("the lineage was restored: it is archived again before it is dropped"))
        }
        Fate::Cut | Fate::Dropped if row.parts.len() > 1 => Ok(Fate::Cut),
        Fate::Cut | Fate::Dropped => {
            let of_it = |gone: &Arc<super::Gone>| {
                view.head(gone.session()).is_some_and(|head| head.lineage == lineage.lineage)
            };
            let known = lineage.gone.iter().filter(|gone| of_it(gone)).count();
            let all = row.away.as_ref().map_or(0, |away| away.sessions);
            match u32::try_from(known) {
                Ok(known) if known == all => Ok(Fate::Dropped),
                _ => Err(invalid(format!("{known} of the lineage's {all} sessions are named: name all"))),
            }
        }
    }
}

fn under_hold() -> Rejection {
    Rejection::new(
        Code::LegalHold,
        "the lineage is under a legal hold: whoever set it lifts it with `cellaflow sessions hold --lift`",
    )
}
