//! The stored form of what the archive does: its events, and its rows.

use bytes::Bytes;
use cellaflow_proto::disk;
use disk::archive_changed::Change;

use super::fields::{
    Malformed, bytes_of, bytes_or_empty, digest_or_none, exact, exact_or_none, malformed, present,
};
use crate::graph::archive::{
    ArchiveEvent, ArchiveRow, ArchivedLineage, Away, Claim, Claimed, CommitRow, Committed, Fate, Part,
    Purpose, Rewritten, StubRow,
};
use crate::graph::ids::{ClaimId, Hash, LineageId, Seq, SessionId, TimeMs};

/// What of a segment is dead and not given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentRow {
    pub dead_bytes: u64,
}

pub(super) fn event_to(event: &ArchiveEvent) -> disk::ArchiveChanged {
    let (claim, change) = match event {
        ArchiveEvent::Claimed(claimed) => {
            let (purpose, segment) = purpose_to(claimed.purpose);
            let change = disk::ArchiveClaimed {
                epoch: claimed.epoch.0,
                expires_ms: claimed.expires.0,
                purpose,
                lineage_ids: ids_to(&claimed.lineages),
                by: claimed.by.to_string(),
                segment,
            };
            (Some(claimed.claim), Change::Claimed(change))
        }
        ArchiveEvent::Dropped { claim, lineages } => {
            (Some(*claim), Change::Dropped(disk::ArchiveDropped { lineage_ids: ids_to(lineages) }))
        }
        ArchiveEvent::Committed(committed) => {
            let lineages = committed.lineages.iter().map(|moved| disk::ArchivedLineage {
                lineage_id: bytes_of(&moved.lineage.0),
                segment: moved.segment,
                events: moved.events,
                dead_bytes: moved.dead_bytes,
            });
            let change = disk::ArchiveCommitted {
                epoch: committed.epoch.0,
                lineages: lineages.collect(),
                manifest_digest: bytes_of(&committed.manifest_digest),
                manifest: committed.manifest.to_string(),
            };
            (Some(committed.claim), Change::Committed(change))
        }
        ArchiveEvent::Published { claim } => (Some(*claim), Change::Published(disk::ArchivePublished {})),
        ArchiveEvent::Restored { claim, lineage, segment } => {
            let (lineage_id, segment) = (bytes_of(&lineage.0), *segment);
            (Some(*claim), Change::Restored(disk::ArchiveRestored { lineage_id, segment }))
        }
        ArchiveEvent::Erased { lineage, by, reason } => {
            let (lineage_id, by, reason) = (bytes_of(&lineage.0), by.to_string(), reason.to_string());
            (None, Change::Erased(disk::ArchiveErased { lineage_id, by, reason }))
        }
        ArchiveEvent::Rewritten(rewritten) => {
            (Some(rewritten.claim), Change::Rewritten(rewritten_to(rewritten)))
        }
        ArchiveEvent::Held { lineage, held, by, reason } => {
            let (by, reason) = (by.to_string(), reason.to_string());
            let change = disk::ArchiveHeld { lineage_id: bytes_of(&lineage.0), held: *held, by, reason };
            (None, Change::Held(change))
        }
        ArchiveEvent::Reclaimed { segment, dead_bytes } => {
            let (segment, dead_bytes) = (*segment, *dead_bytes);
            (None, Change::Reclaimed(disk::SpaceReclaimed { segment, dead_bytes }))
        }
    };
    disk::ArchiveChanged { claim_id: bytes_or_empty(claim.map(|claim| claim.0)), change: Some(change) }
}

pub(super) fn event_from(stored: disk::ArchiveChanged) -> Result<ArchiveEvent, Malformed> {
    let claim = || Ok(ClaimId(exact(&stored.claim_id, "archive_changed.claim_id")?));
    Ok(match present(stored.change, "archive_changed.change")? {
        Change::Claimed(claimed) => ArchiveEvent::Claimed(Claimed {
            claim: claim()?,
            epoch: Seq(claimed.epoch),
            expires: TimeMs(claimed.expires_ms),
            purpose: purpose_from(claimed.purpose, claimed.segment)?,
            lineages: ids_from(&claimed.lineage_ids)?,
            by: claimed.by.into(),
        }),
        Change::Dropped(dropped) => {
            ArchiveEvent::Dropped { claim: claim()?, lineages: ids_from(&dropped.lineage_ids)? }
        }
        Change::Committed(committed) => ArchiveEvent::Committed(Committed {
            claim: claim()?,
            epoch: Seq(committed.epoch),
            lineages: committed.lineages.iter().map(moved_from).collect::<Result<_, _>>()?,
            manifest: committed.manifest.into(),
            manifest_digest: exact(&committed.manifest_digest, "archive_committed.manifest_digest")?,
        }),
        Change::Published(disk::ArchivePublished {}) => ArchiveEvent::Published { claim: claim()? },
        Change::Restored(restored) => ArchiveEvent::Restored {
            claim: claim()?,
            lineage: lineage(&restored.lineage_id)?,
            segment: restored.segment,
        },
        Change::Erased(erased) => ArchiveEvent::Erased {
            lineage: lineage(&erased.lineage_id)?,
            by: erased.by.into(),
            reason: erased.reason.into(),
        },
        Change::Rewritten(rewritten) => ArchiveEvent::Rewritten(rewritten_from(claim()?, rewritten)?),
        Change::Held(held) => ArchiveEvent::Held {
            lineage: lineage(&held.lineage_id)?,
            held: held.held,
            by: held.by.into(),
            reason: held.reason.into(),
        },
        Change::Reclaimed(reclaimed) => {
            ArchiveEvent::Reclaimed { segment: reclaimed.segment, dead_bytes: reclaimed.dead_bytes }
        }
    })
}

fn rewritten_to(rewritten: &Rewritten) -> disk::ArchiveRewritten {
    let lineages = rewritten.lineages.iter().map(|(lineage, fate)| disk::RewrittenLineage {
        lineage_id: bytes_of(&lineage.0),
        fate: match fate {
            Fate::Kept => disk::ArchiveFate::Kept,
            Fate::Bare => disk::ArchiveFate::Bare,
            Fate::Cut => disk::ArchiveFate::Cut,
            Fate::Dropped => disk::ArchiveFate::Dropped,
        }
        .into(),
    });
    disk::ArchiveRewritten {
        epoch: rewritten.epoch.0,
        replaces_claim_id: bytes_of(&rewritten.replaces.0.0),
        replaces_epoch: rewritten.replaces.1.0,
        lineages: lineages.collect(),
        manifest_digest: bytes_of(&rewritten.manifest_digest),
        manifest: rewritten.manifest.to_string(),
    }
}

fn rewritten_from(claim: ClaimId, rewritten: disk::ArchiveRewritten) -> Result<Rewritten, Malformed> {
    let one = |stored: &disk::RewrittenLineage| {
        let fate = match disk::ArchiveFate::try_from(stored.fate) {
            Ok(disk::ArchiveFate::Kept) => Fate::Kept,
            Ok(disk::ArchiveFate::Bare) => Fate::Bare,
            Ok(disk::ArchiveFate::Cut) => Fate::Cut,
            Ok(disk::ArchiveFate::Dropped) => Fate::Dropped,
            Ok(disk::ArchiveFate::Unspecified) | Err(_) => {
                let problem = format!("has the unknown value {}", stored.fate);
                return Err(malformed("rewritten_lineage.fate", problem));
            }
        };
        Ok((lineage(&stored.lineage_id)?, fate))
    };
    let replaced = exact(&rewritten.replaces_claim_id, "archive_rewritten.replaces_claim_id")?;
    Ok(Rewritten {
        claim,
        epoch: Seq(rewritten.epoch),
        replaces: (ClaimId(replaced), Seq(rewritten.replaces_epoch)),
        lineages: rewritten.lineages.iter().map(one).collect::<Result<_, _>>()?,
        manifest_digest: exact(&rewritten.manifest_digest, "archive_rewritten.manifest_digest")?,
        manifest: rewritten.manifest.into(),
    })
}

fn moved_from(moved: &disk::ArchivedLineage) -> Result<ArchivedLineage, Malformed> {
    Ok(ArchivedLineage {
        lineage: lineage(&moved.lineage_id)?,
        segment: moved.segment,
        events: moved.events,
        dead_bytes: moved.dead_bytes,
    })
}

pub(super) fn row_to(row: &ArchiveRow) -> disk::ArchiveRow {
    let (purpose, segment) = row.claim.map_or((0, 0), |claim| purpose_to(claim.purpose));
    let parts = row.parts.iter();
    disk::ArchiveRow {
        claim_id: bytes_or_empty(row.claim.map(|claim| claim.id.0)),
        epoch: row.claim.map_or(0, |claim| claim.epoch.0),
        expires_ms: row.claim.map_or(0, |claim| claim.expires.0),
        purpose,
        segment,
        parts: parts
            .map(|part| disk::ArchivePart {
                claim_id: bytes_of(&part.claim.0),
                epoch: part.epoch.0,
                bare: part.bare,
            })
            .collect(),
        archived: row.away.as_ref().map(|away| disk::ArchivedAway {
            salt: bytes_or_empty(away.salt),
            root_id: bytes_of(&away.root.0),
            namespace: away.namespace.to_string(),
            at_ms: away.at.0,
            segment: away.segment,
            sessions: away.sessions,
            ended_ms: away.ended.0,
        }),
        held: row.held,
        erasing: row.erasing,
        manifest: row.manifest.to_string(),
        restored_ms: row.restored.map_or(0, |at| at.0),
    }
}

pub(super) fn row_from(row: disk::ArchiveRow) -> Result<ArchiveRow, Malformed> {
    let claim = match exact_or_none(&row.claim_id, "archive_row.claim_id")? {
        Some(id) => Some(Claim {
            id: ClaimId(id),
            epoch: Seq(row.epoch),
            expires: TimeMs(row.expires_ms),
            purpose: purpose_from(row.purpose, row.segment)?,
        }),
        None => None,
    };
    let part = |part: &disk::ArchivePart| {
        let claim = ClaimId(exact(&part.claim_id, "archive_part.claim_id")?);
        Ok(Part { claim, epoch: Seq(part.epoch), bare: part.bare })
    };
    Ok(ArchiveRow {
        claim,
        parts: row.parts.iter().map(part).collect::<Result<_, _>>()?,
        away: row.archived.map(away_from).transpose()?,
        held: row.held,
        erasing: row.erasing,
        manifest: row.manifest.into(),
        restored: Some(TimeMs(row.restored_ms)).filter(|at| at.0 > 0),
    })
}

fn away_from(away: disk::ArchivedAway) -> Result<Away, Malformed> {
    Ok(Away {
        salt: exact_or_none(&away.salt, "archived_away.salt")?,
        root: SessionId(exact(&away.root_id, "archived_away.root_id")?),
        namespace: away.namespace.into(),
        at: TimeMs(away.at_ms),
        segment: away.segment,
        sessions: away.sessions,
        ended: TimeMs(away.ended_ms),
    })
}

pub(super) fn stub_to(row: &StubRow) -> disk::StubRow {
    disk::StubRow {
        key: row.key.clone(),
        result_digest: bytes_or_empty(row.result.map(|digest| digest.0)),
        seq: row.seq.0,
        hash: bytes_of(&row.hash.0),
    }
}

pub(super) fn stub_from(row: disk::StubRow) -> Result<StubRow, Malformed> {
    Ok(StubRow {
        result: digest_or_none(&row.result_digest, "stub_row.result_digest")?,
        seq: Seq(row.seq),
        hash: Hash(exact(&row.hash, "stub_row.hash")?),
        key: row.key,
    })
}

pub(super) fn commit_to(row: &CommitRow) -> disk::CommitRow {
    disk::CommitRow {
        system_session_id: bytes_of(&row.system.0),
        manifest: row.manifest.to_string(),
        manifest_digest: bytes_of(&row.manifest_digest),
        epoch: row.epoch.0,
    }
}

pub(super) fn commit_from(row: disk::CommitRow) -> Result<CommitRow, Malformed> {
    Ok(CommitRow {
        system: SessionId(exact(&row.system_session_id, "commit_row.system_session_id")?),
        epoch: Seq(row.epoch),
        manifest_digest: exact(&row.manifest_digest, "commit_row.manifest_digest")?,
        manifest: row.manifest.into(),
    })
}

pub(super) fn segment_to(row: &SegmentRow) -> disk::SegmentRow {
    disk::SegmentRow { dead_bytes: row.dead_bytes }
}

pub(super) fn segment_from(row: disk::SegmentRow) -> Result<SegmentRow, Malformed> {
    Ok(SegmentRow { dead_bytes: row.dead_bytes })
}

fn purpose_to(purpose: Purpose) -> (i32, u32) {
    let (purpose, segment) = match purpose {
        Purpose::Archive => (disk::ClaimPurpose::Archive, 0),
        Purpose::Restore(segment) => (disk::ClaimPurpose::Restore, segment),
        Purpose::Rewrite => (disk::ClaimPurpose::Rewrite, 0),
    };
    (purpose as i32, segment)
}

fn purpose_from(purpose: i32, segment: u32) -> Result<Purpose, Malformed> {
    match disk::ClaimPurpose::try_from(purpose) {
        Ok(disk::ClaimPurpose::Archive) => Ok(Purpose::Archive),
        Ok(disk::ClaimPurpose::Restore) => Ok(Purpose::Restore(segment)),
        Ok(disk::ClaimPurpose::Rewrite) => Ok(Purpose::Rewrite),
        Ok(disk::ClaimPurpose::Unspecified) | Err(_) => {
            Err(malformed("claim.purpose", format!("has the unknown value {purpose}")))
        }
    }
}

fn ids_to(lineages: &[LineageId]) -> Vec<Bytes> {
    lineages.iter().map(|lineage| bytes_of(&lineage.0)).collect()
}

fn ids_from(ids: &[Bytes]) -> Result<Vec<LineageId>, Malformed> {
    ids.iter().map(lineage).collect()
}

fn lineage(id: &Bytes) -> Result<LineageId, Malformed> {
    Ok(LineageId(exact(id, "archive_changed.lineage_id")?))
}
