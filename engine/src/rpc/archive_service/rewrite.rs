//! What must go from the archive: erased payloads, and lineages past their retention; and holds, which keep both away.
//!
//! 1. What is decided on is read here and named in the command: the sessions of a lineage, their keys, what is kept for them.
//! 2. An erasure gives dead bytes back at once, not when their segment closes: somebody asked for them to be gone.

use std::sync::Arc;

use cellaflow_proto::v1;

use super::{Service, claim_id, convert, gone, invalid, journal, lineage_id};
use crate::graph::archive::{ArchiveRow, Ask, Erase, Fate, Gone, Rewrite, RewrittenLineage};
use crate::graph::command::Rejection;
use crate::graph::ids::{LineageId, Seq, SessionId, TimeMs};
use crate::graph::session::Head;
use crate::ledger::{NamespaceInfo, ReadError, Reader, Refused};
use crate::rpc::auth::Principal;
use crate::storage::keys::Segment;

/// Rows of the archive looked at for one page.
const LIST_ROWS: usize = 512;
/// What is kept for keys and read in one go.
const KEPT_ROWS: usize = 1_024;
/// Longest reason in bytes.
const REASON_BYTES_MAX: usize = 1_024;

impl Service {
    pub(super) async fn going(
        &self,
        caller: &Principal,
        request: v1::ListGoingRequest,
    ) -> Result<v1::ListGoingResponse, Refused> {
        let info = self.namespace(caller, &request.namespace).await?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(lineage_id(token).map_err(Refused::Rejected)?),
        };
        // Idempotency keys outlive the archive of their sessions.
        let least_ms = self.context.ledger.settings().guard_retention_ms;
        let age_ms = request.keep_ms.map(|keep_ms| keep_ms.max(least_ms));
        let before = age_ms.map(|age_ms| TimeMs(self.context.clock.wall_ms().saturating_sub(age_ms)));
        let reader = self.context.ledger.reader().clone();
        let page = journal::blocking(move || going(&reader, &info, before, after)).await;
        page.map_err(Refused::Failed)
    }

    pub(super) async fn rewrite(
        &self,
        caller: &Principal,
        request: v1::CommitRewriteRequest,
    ) -> Result<v1::CommitRewriteResponse, Refused> {
        let info = self.namespace(caller, &request.namespace).await?;
        let rewrite = self.asked(&info, request).await?;
        let dropped = rewrite.lineages.iter().filter(|lineage| !lineage.gone.is_empty()).count();
        self.submit(&info, Ask::Rewrite(Arc::new(rewrite))).await?;
        Ok(v1::CommitRewriteResponse { dropped: u32::try_from(dropped).unwrap_or(u32::MAX) })
    }

    async fn asked(
        &self,
        info: &Arc<NamespaceInfo>,
        request: v1::CommitRewriteRequest,
    ) -> Result<Rewrite, Refused> {
        let replaces = request.replaces.unwrap_or_default();
        let manifest_digest = <[u8; 32]>::try_from(request.manifest_digest.as_ref())
            .map_err(|_| Refused::Rejected(invalid("manifest_digest must be a blake3 hash: 32 bytes")))?;
        let (reader, info) = (self.context.ledger.reader().clone(), Arc::clone(info));
        let lineages = request.lineages;
        let read = journal::blocking(move || {
            let one = |lineage: &v1::RewrittenLineage| rewritten(&reader, &info, lineage);
            lineages.iter().map(one).collect::<Result<Result<Vec<_>, _>, _>>()
        });
        Ok(Rewrite {
            claim: claim_id(&request.claim_id).map_err(Refused::Rejected)?,
            epoch: Seq(request.epoch),
            replaces: (claim_id(&replaces.claim_id).map_err(Refused::Rejected)?, Seq(replaces.epoch)),
            manifest: request.manifest.into(),
            manifest_digest,
            lineages: read.await.map_err(Refused::Failed)?.map_err(Refused::Rejected)?,
        })
    }

    pub(super) async fn erase(
        &self,
        caller: &Principal,
        request: v1::EraseLineageRequest,
    ) -> Result<v1::EraseLineageResponse, Refused> {
        let reason = reason(&request.reason)?;
        let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
        let head = self.context.visible(caller, session)?;
        let info = self.context.ledger.namespace(&head.namespace).await?;
        let lineage = head.lineage;
        let (reader, of) = (self.context.ledger.reader().clone(), Arc::clone(&info));
        let sessions = journal::blocking(move || {
            members(&reader, &of, lineage)?.iter().map(|head| keys_of(&reader, &of, head, false)).collect()
        });
        let sessions: Vec<Arc<Gone>> = sessions.await.map_err(Refused::Failed)?;
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        let erase = Erase { lineage, by: Arc::clone(&caller.name), reason, sessions };
        self.submit(&info, Ask::Erase(Arc::new(erase))).await?;
        let row = self.context.ledger.reader().archive_row(lineage).map_err(Refused::Failed)?;
        let erasing = row.is_some_and(|row| row.erasing);
        Ok(v1::EraseLineageResponse { lineage_id: lineage.to_string(), sessions: count, erasing })
    }

    pub(super) async fn hold(
        &self,
        caller: &Principal,
        request: v1::HoldLineageRequest,
    ) -> Result<v1::HoldLineageResponse, Refused> {
        let reason = reason(&request.reason)?;
        let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
        let head = self.context.visible(caller, session)?;
        let info = self.context.ledger.namespace(&head.namespace).await?;
        let (lineage, held, by) = (head.lineage, request.held, Arc::clone(&caller.name));
        self.submit(&info, Ask::Hold { lineage, held, by, reason }).await?;
        Ok(v1::HoldLineageResponse { lineage_id: lineage.to_string() })
    }

    /// 2.
    pub(super) async fn give_back(&self, erased: Vec<(Segment, LineageId)>) {
        let reader = self.context.ledger.reader().clone();
        let given = journal::blocking(move || {
            erased.into_iter().try_for_each(|(segment, lineage)| reader.squeeze_lineage(segment, lineage))
        });
        if let Err(error) = given.await {
            tracing::warn!(%error, "the space of erased sessions could not be given back; the segment's turn comes");
        }
    }
}

fn reason(text: &str) -> Result<Arc<str>, Refused> {
    if text.trim().is_empty() || text.len() > REASON_BYTES_MAX {
        let message = format!("reason must be set, with at most {REASON_BYTES_MAX} bytes: it is journaled");
        return Err(Refused::Rejected(invalid(&message)));
    }
    Ok(text.into())
}

fn going(
    reader: &Reader,
    info: &NamespaceInfo,
    before: Option<TimeMs>,
    after: Option<LineageId>,
) -> Result<v1::ListGoingResponse, ReadError> {
    let page = reader.archive_rows(after, LIST_ROWS)?;
    let mut lineages = Vec::new();
    for (lineage, row) in page.rows {
        let Some(away) = row.away.as_ref().filter(|away| away.namespace == info.name) else { continue };
        let whole = !row.held && before.is_some_and(|before| away.ended <= before);
        if whole || (row.erasing && !row.held) {
            let parts = row.parts.iter().map(part).collect();
            lineages.push(v1::GoingLineage { lineage_id: lineage.to_string(), parts, whole });
        }
    }
    let next_page_token = page.next.map(|lineage| lineage.to_string()).unwrap_or_default();
    Ok(v1::ListGoingResponse { lineages, next_page_token })
}

/// A commit that holds events of a lineage.
pub(super) fn part(part: &crate::graph::archive::Part) -> v1::ArchivePart {
    v1::ArchivePart { claim_id: part.claim.to_string(), epoch: part.epoch.0, bare: part.bare }
}

fn rewritten(
    reader: &Reader,
    info: &NamespaceInfo,
    written: &v1::RewrittenLineage,
) -> Result<Result<RewrittenLineage, Rejection>, ReadError> {
    let lineage = match lineage_id(&written.lineage_id) {
        Ok(lineage) => lineage,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let fate = match written.fate() {
        v1::LineageFate::Kept => Fate::Kept,
        v1::LineageFate::Bare => Fate::Bare,
        v1::LineageFate::Dropped => Fate::Dropped,
        v1::LineageFate::Unspecified => return Ok(Err(invalid("fate must be set: say what became of it"))),
    };
    let row: Option<ArchiveRow> = reader.archive_row(lineage)?;
    // Of a lineage with other parts the sessions stay until the last one goes.
    let last = row.is_some_and(|row| row.parts.len() == 1);
    let mut gone = Vec::new();
    for session in written.session_ids.iter().filter(|_| fate == Fate::Dropped && last) {
        let session = match convert::session_id(session) {
            Ok(session) => session,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let Some(head) = reader.head(session)?.filter(|head| head.lineage == lineage) else {
            return Ok(Err(self::gone(lineage)));
        };
        let kept = keys_of(reader, info, &head, true)?;
        if !kept.guards.rows.is_empty() {
            return Ok(Err(invalid(
                "idempotency keys of the lineage are still kept: it goes when they have gone",
            )));
        }
        gone.push(kept);
    }
    Ok(Ok(RewrittenLineage { lineage, fate, gone }))
}

/// All sessions of a lineage; one that is archived has none of its own rows any more, so its namespace's list is walked
/// from its root on.
fn members(reader: &Reader, info: &NamespaceInfo, lineage: LineageId) -> Result<Vec<Arc<Head>>, ReadError> {
    if let Some(found) = reader.lineage_info(lineage)? {
        return reader.lineage_sessions(found.segment, lineage);
    }
    let Some(away) = reader.archive_row(lineage)?.and_then(|row| row.away) else { return Ok(Vec::new()) };
    let wanted = usize::try_from(away.sessions).unwrap_or(usize::MAX);
    let mut found: Vec<Arc<Head>> = reader.head(away.root)?.into_iter().collect();
    let mut after = Some(away.root);
    while found.len() < wanted {
        let (heads, next) = reader.oldest(info.system, after, LIST_ROWS)?;
        found.extend(heads.into_iter().filter(|head| head.lineage == lineage));
        if next.is_none() {
            break;
        }
        after = next;
    }
    Ok(found)
}

/// What of a session goes (1).
fn keys_of(reader: &Reader, info: &NamespaceInfo, head: &Head, whole: bool) -> Result<Arc<Gone>, ReadError> {
    let session: SessionId = head.session;
    let mut guards = reader.kept_keys(session, TimeMs(0), Seq(0), KEPT_ROWS)?;
    while !guards.last {
        let after = guards.rows.len();
        guards = reader.kept_keys(session, TimeMs(0), Seq(0), after.saturating_add(KEPT_ROWS))?;
    }
    // The driver of retention finds nothing more, and takes its own row away.
    guards.last = false;
    let key = reader.key_of(head)?.map(|key| reader.key_digest(info, &head.workflow, &key));
    Ok(Arc::new(Gone { key, guards, whole }))
}
