//! Restores: stored events and chunks are written where the lineage never was, checked there, and then shown.
//!
//! R1. Nobody sees a page: heads name another segment until the restore has finished.
//! R2. Pages are idempotent: a restore that was broken off is begun again in the same segment while its claim is known.
//! R3. A restore finishes only if every session's events fold to the head that was kept, hashes included, and every
//!     payload has its digest. Rows that events have beside them are made again from the events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::{Service, check_claim, claim_id, gone, invalid, lineage_id};
use crate::graph::archive::{ArchiveRow, Ask, Away, Purpose, Restore};
use crate::graph::command::Rejection;
use crate::graph::evolve::evolve;
use crate::graph::ids::{ClaimId, Digest, Hash, LineageId, Seq, SessionId, StepKey, TimeMs};
use crate::graph::index::{self, Digests, IndexChange};
use crate::graph::session::{Head, StepRow};
use crate::ledger::{
    Blobs, CHAIN_START, NamespaceInfo, ReadError, Reader, Refused, digest, prefix, restored_rows,
};
use crate::rpc::auth::Principal;
use crate::rpc::convert;
use crate::rpc::journal;
use crate::storage::keys::{Item, LedgerKey, Segment};
use crate::storage::{codec, events};

/// Bytes of events read back in one go.
const PAGE_BYTES: usize = 512 * 1024;

/// A lineage that is being restored.
struct Target {
    claim: ClaimId,
    lineage: LineageId,
    segment: Segment,
    away: Away,
    salt: [u8; 32],
}

impl Service {
    fn target(&self, caller: &Principal, claim: &str, lineage: &str) -> Result<Target, Refused> {
        let claim = claim_id(claim).map_err(Refused::Rejected)?;
        let lineage = lineage_id(lineage).map_err(Refused::Rejected)?;
        let row = self.context.ledger.reader().archive_row(lineage).map_err(Refused::Failed)?;
        let row: ArchiveRow = row.ok_or_else(|| Refused::Rejected(gone(lineage)))?;
        check_claim(Some(&row), claim).map_err(Refused::Rejected)?;
        let away = row.away.filter(|away| caller.sees(&away.namespace));
        let away = away.ok_or_else(|| Refused::Rejected(gone(lineage)))?;
        let Some(Purpose::Restore(segment)) = row.claim.map(|claim| claim.purpose) else {
            return Err(Refused::Rejected(invalid("the claim is for something else; claim to restore")));
        };
        let present =
            Segment::at(TimeMs(self.context.clock.wall_ms()), self.context.ledger.settings().segment_ms);
        if segment < present.0 {
            // Closed segments are given back: what was begun there begins again where it is safe.
            return Err(Refused::Rejected(invalid(
                "the restore took too long; give its claim up and begin again",
            )));
        }
        let erased = || Refused::Rejected(invalid("the lineage was erased: there is nothing to restore"));
        let salt = away.salt.ok_or_else(erased)?;
        Ok(Target { claim, lineage, segment: Segment(segment), away, salt })
    }

    pub(super) async fn write_page(
        &self,
        caller: &Principal,
        request: v1::RestorePageRequest,
    ) -> Result<(), Refused> {
        let info = self.namespace(caller, &request.namespace).await?;
        let target = self.target(caller, &request.claim_id, &request.lineage_id)?;
        let mut blobs = Blobs::new(&target.salt, &self.context.ledger.settings().payload);
        let at = |item| LedgerKey::new(target.segment, target.lineage, item).bytes();
        if !request.events.is_empty() {
            let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
            for event in &request.events {
                let hash = <[u8; 32]>::try_from(event.hash.as_ref())
                    .map_err(|_| Refused::Rejected(invalid("an event's hash must have 32 bytes")))?;
                let record = events::record(&event.header, &event.payloads);
                let value = restored_rows::event(Hash(hash), &record);
                blobs.add_row(at(Item::Event { session, seq: Seq(event.seq) }), value);
            }
        }
        for chunk in &request.chunks {
            let digest = <[u8; 32]>::try_from(chunk.digest.as_ref())
                .map_err(|_| Refused::Rejected(invalid("a chunk's digest must have 32 bytes")))?;
            let item = Item::Chunk { digest: Digest(digest), n: chunk.n };
            blobs.add_row(at(item), codec::seal_chunk(&chunk.data));
        }
        self.page(&info, &target, blobs).await
    }

    async fn page(&self, info: &NamespaceInfo, target: &Target, blobs: Blobs) -> Result<(), Refused> {
        let ask = Ask::RestorePage { claim: target.claim, lineage: target.lineage };
        self.submit_with(info, ask, blobs).await.map(drop)
    }

    pub(super) async fn finish(
        &self,
        caller: &Principal,
        request: v1::FinishRestoreRequest,
    ) -> Result<v1::FinishRestoreResponse, Refused> {
        let info = self.namespace(caller, &request.namespace).await?;
        let target = Arc::new(self.target(caller, &request.claim_id, &request.lineage_id)?);
        let reader = self.context.ledger.reader().clone();
        let (segment, lineage) = (target.segment, target.lineage);
        let heads = journal::blocking(move || reader.lineage_sessions(segment, lineage)).await;
        let heads = heads.map_err(Refused::Failed)?;
        let mut events = 0;
        for head in &heads {
            let reading = Rebuild {
                reader: self.context.ledger.reader().clone(),
                target: Arc::clone(&target),
                heads: heads.iter().map(|head| (head.session, Arc::clone(head))).collect(),
            };
            let head = Arc::clone(head);
            events += head.seq.0 + 1 - first_own(&head).0;
            let limits = self.context.ledger.settings().payload;
            let rebuilt = journal::blocking(move || reading.session(&head, &limits)).await;
            let pages = rebuilt.map_err(Refused::Failed)?.map_err(Refused::Rejected)?;
            for blobs in pages {
                self.page(&info, &target, blobs).await?;
            }
        }
        let restore = Restore {
            claim: target.claim,
            lineage: target.lineage,
            segment: target.segment.0,
            sessions: heads.iter().map(|head| head.session).collect(),
            salt: target.salt,
            root: target.away.root,
            namespace: target.away.namespace.clone(),
        };
        if restore.sessions.len() != usize::try_from(target.away.sessions).unwrap_or(usize::MAX) {
            let problem = format!("{} of {} sessions are there", heads.len(), target.away.sessions);
            return Err(Refused::Rejected(incomplete(&problem)));
        }
        self.submit(&info, Ask::Restored(Arc::new(restore))).await?;
        Ok(v1::FinishRestoreResponse { sessions: u32::try_from(heads.len()).unwrap_or(u32::MAX), events })
    }
}

fn first_own(head: &Head) -> Seq {
    head.forked.as_ref().map_or(Seq(1), |forked| forked.from.seq.next())
}

fn incomplete(problem: &str) -> Rejection {
    invalid(&format!(
        "what was written back is not the lineage: {problem}; restore it again from the archive"
    ))
}

/// Reads written rows of a lineage back.
struct Rebuild {
    reader: Reader,
    target: Arc<Target>,
    heads: HashMap<SessionId, Arc<Head>>,
}

/// The fold of a session up to somewhere, and the rows of its steps there.
#[derive(Default)]
struct Folded {
    head: Option<Head>,
    steps: BTreeMap<StepKey, StepRow>,
}

impl Rebuild {
    /// Checks a session (R3) and makes its rows.
    fn session(
        &self,
        head: &Head,
        limits: &crate::ledger::payload::Limits,
    ) -> Result<Result<Vec<Blobs>, Rejection>, ReadError> {
        let mut pages = vec![Blobs::new(&self.target.salt, limits)];
        let Some(before) = self.inherited(head)? else { return Ok(Err(incomplete("a parent is missing"))) };
        let mut digests =
            Digests { inherited: prefix::unsettled(&before.steps).collect(), ..Digests::default() };
        let mut folded = before.head;
        let mut own = false;
        let mut problem = None;
        self.each(head.session, first_own(head), head.seq, |event, hash, header, payloads| {
            let previous = folded.as_ref().map_or(CHAIN_START, |head| head.hash);
            if events::chain(previous, header) != hash {
                problem = problem.take().or_else(|| Some(format!("event {} has another hash", event.seq)));
            }
            if let Err(wrong) = self.payloads(event, payloads)? {
                problem = problem.take().or(Some(wrong));
            }
            let after = evolve(folded.as_ref(), event, hash)
                .map_err(|corrupt| ReadError::Corrupt(corrupt.to_string()))?;
            let known = folded.as_ref().filter(|_| own);
            for change in index::changes(known, event, &after, &digests) {
                self.row(head.session, change, &mut pages, limits);
            }
            (own, digests) = (true, Digests::default());
            folded = Some(after);
            Ok(())
        })?;
        if folded.as_ref() != Some(head) {
            problem = problem.or_else(|| Some(format!("session {} does not fold to its head", head.session)));
        }
        Ok(problem.map_or(Ok(pages), |problem| Err(incomplete(&problem))))
    }

    fn row(
        &self,
        session: SessionId,
        change: IndexChange,
        pages: &mut Vec<Blobs>,
        limits: &crate::ledger::payload::Limits,
    ) {
        let row = restored_rows::beside((self.target.segment, self.target.lineage), session, change);
        let Some((key, value)) = row else { return };
        if pages.last().is_none_or(|page| page.bytes() > PAGE_BYTES) {
            pages.push(Blobs::new(&self.target.salt, limits));
        }
        if let Some(page) = pages.last_mut() {
            page.add_row(key, value);
        }
    }

    /// What a fork has from its parent; `None`: that is not there.
    fn inherited(&self, head: &Head) -> Result<Option<Folded>, ReadError> {
        let Some(forked) = &head.forked else { return Ok(Some(Folded::default())) };
        let Some(parent) = self.heads.get(&forked.from.parent) else { return Ok(None) };
        let Some(mut folded) = self.inherited(parent)? else { return Ok(None) };
        self.each(parent.session, first_own(parent), forked.from.seq, |event, hash, _, _| {
            let after = evolve(folded.head.as_ref(), event, hash)
                .map_err(|corrupt| ReadError::Corrupt(corrupt.to_string()))?;
            for change in index::changes(folded.head.as_ref(), event, &after, &Digests::default()) {
                if let IndexChange::Step { key, row } = change {
                    folded.steps.insert(key, row);
                }
            }
            folded.head = Some(after);
            Ok(())
        })?;
        Ok(Some(folded))
    }

    fn each(
        &self,
        session: SessionId,
        first: Seq,
        last: Seq,
        mut visit: impl FnMut(&crate::graph::event::Event, Hash, &[u8], &Bytes) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let place = (self.target.segment, self.target.lineage);
        let mut next = first;
        while next <= last {
            let records = self.reader.stored_records(place, session, next, PAGE_BYTES)?;
            let Some(end) = records.last().map(|record| record.seq) else { return Ok(()) };
            for record in records.iter().take_while(|record| record.seq <= last) {
                visit(&record.event, record.hash, &record.header, &record.payloads)?;
            }
            next = end.next();
        }
        Ok(())
    }

    /// R3.
    fn payloads(
        &self,
        event: &crate::graph::event::Event,
        inline: &Bytes,
    ) -> Result<Result<(), String>, ReadError> {
        let mut rest = inline.clone();
        for payload in event.payloads() {
            let size = usize::try_from(payload.size).unwrap_or(usize::MAX);
            let found = if payload.inline {
                if size > rest.len() {
                    return Ok(Err(format!("a payload of event {} is short", event.seq)));
                }
                digest::content(&self.target.salt, &rest.split_to(size))
            } else {
                let place = (self.target.segment, self.target.lineage);
                match self.reader.digest_of_chunks(place, payload, &self.target.salt)? {
                    Some(found) => found,
                    None => return Ok(Err(format!("a payload of event {} is incomplete", event.seq))),
                }
            };
            if found != payload.digest {
                return Ok(Err(format!("a payload of event {} has other bytes", event.seq)));
            }
        }
        Ok(Ok(()))
    }
}
