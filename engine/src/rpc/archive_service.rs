//! `ArchiveService`: what the compactor needs to move lineages into the archive and back.
//!
//! 1. What is read of a lineage is read under its claim: nothing of it changes until the claim is over.
//! 2. The engine reads sessions, ends and keys for a commit itself; the compactor only says what it has written, and a
//!    difference refuses the commit.

use std::sync::Arc;

use cellaflow_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::auth::Principal;
use super::context::{Context, caller};
use super::journal::{self, Ended, Outlet};
use super::{convert, status};
use crate::graph::archive::{
    ArchiveCommand, ArchiveEvent, ArchiveRow, Ask, Claimed, Commit, Leaving, Purpose, StubRow,
};
use crate::graph::command::{Code, Command, Rejection};
use crate::graph::event::{Body, PayloadRef};
use crate::graph::ids::{ClaimId, LineageId, Seq, SessionId, TimeMs};
use crate::graph::session::Head;
use crate::ledger::{
    Blobs, Committed, NamespaceInfo, Origin, ReadError, Reader, Refused, StoredRecord, Submission,
};
use crate::storage::keys::Segment;

mod import;
mod restore;
mod rewrite;

/// How long a claim lasts that asks for nothing else, in ms.
const CLAIM_MS: u64 = 10 * 60 * 1_000;
/// Sessions looked at for one page of cold lineages.
const LIST_ROWS: usize = 512;
/// Bytes of events or chunks in one message.
const PAGE_BYTES: usize = 512 * 1024;

/// See the module.
pub struct Service {
    /// What every service works with.
    pub context: Context,
    /// How long ago a lineage must have ended, in ms.
    pub archive_after_ms: u64,
}

impl Service {
    /// Makes a server of it.
    #[must_use]
    pub fn into_server(self) -> v1::archive_service_server::ArchiveServiceServer<Self> {
        let message_bytes_max = self.context.message_bytes_max();
        v1::archive_service_server::ArchiveServiceServer::new(self)
            .max_decoding_message_size(message_bytes_max)
    }
}

#[tonic::async_trait]
impl v1::archive_service_server::ArchiveService for Service {
    async fn list_cold(
        &self,
        request: Request<v1::ListColdRequest>,
    ) -> Result<Response<v1::ListColdResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let info = self.namespace(&caller, &request.namespace).await.map_err(status::refused)?;
        let age_ms = request.ended_before_ms.unwrap_or(self.archive_after_ms);
        let before = TimeMs(self.context.clock.wall_ms().saturating_sub(age_ms));
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(convert::session_id(token).map_err(|no| status::rejected(&no))?),
        };
        let reader = self.context.ledger.reader().clone();
        let page = journal::blocking(move || cold(&reader, &info, before, after)).await;
        page.map(Response::new).map_err(|error| status::unreadable(&error))
    }

    async fn claim_lineages(
        &self,
        request: Request<v1::ClaimLineagesRequest>,
    ) -> Result<Response<v1::ClaimLineagesResponse>, Status> {
        let caller = caller(&request)?;
        let claimed = self.claim(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(claimed))
    }

    async fn drop_claim(
        &self,
        request: Request<v1::DropClaimRequest>,
    ) -> Result<Response<v1::DropClaimResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let info = self.namespace(&caller, &request.namespace).await.map_err(status::refused)?;
        let claim = claim_id(&request.claim_id).map_err(|no| status::rejected(&no))?;
        let lineages = lineage_ids(&request.lineage_ids).map_err(|no| status::rejected(&no))?;
        self.submit(&info, Ask::Drop { claim, lineages }).await.map_err(status::refused)?;
        Ok(Response::new(v1::DropClaimResponse {}))
    }

    type ReadLineageStream = ReceiverStream<Result<v1::ReadLineageResponse, Status>>;

    async fn read_lineage(
        &self,
        request: Request<v1::ReadLineageRequest>,
    ) -> Result<Response<Self::ReadLineageStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        self.namespace(&caller, &request.namespace).await.map_err(status::refused)?;
        let claim = claim_id(&request.claim_id).map_err(|no| status::rejected(&no))?;
        let lineage = lineage_id(&request.lineage_id).map_err(|no| status::rejected(&no))?;
        let reading = Reading { context: self.context.clone(), caller, claim, lineage };
        let plan = journal::blocking(move || reading.plan()).await;
        let plan = plan.map_err(|error| status::unreadable(&error))?.map_err(|no| status::rejected(&no))?;
        let (outlet, stream) = journal::stream();
        drop(tokio::spawn(send(self.context.clone(), plan, outlet)));
        Ok(Response::new(stream))
    }

    async fn commit_archive(
        &self,
        request: Request<v1::CommitArchiveRequest>,
    ) -> Result<Response<v1::CommitArchiveResponse>, Status> {
        let caller = caller(&request)?;
        let committed = self.commit(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(committed))
    }

    async fn list_unpublished(
        &self,
        request: Request<v1::ListUnpublishedRequest>,
    ) -> Result<Response<v1::ListUnpublishedResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let info = self.namespace(&caller, &request.namespace).await.map_err(status::refused)?;
        let all = self.context.ledger.reader().unpublished().map_err(|error| status::unreadable(&error))?;
        let commits = all.into_iter().filter(|(_, row)| row.system == info.system);
        let commits = commits.map(|(claim, row)| v1::Unpublished {
            claim_id: claim.to_string(),
            epoch: row.epoch.0,
            manifest: row.manifest.to_string(),
            manifest_digest: bytes::Bytes::copy_from_slice(&row.manifest_digest),
        });
        Ok(Response::new(v1::ListUnpublishedResponse { commits: commits.collect() }))
    }

    async fn mark_published(
        &self,
        request: Request<v1::MarkPublishedRequest>,
    ) -> Result<Response<v1::MarkPublishedResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let info = self.namespace(&caller, &request.namespace).await.map_err(status::refused)?;
        let claim = claim_id(&request.claim_id).map_err(|no| status::rejected(&no))?;
        let known = self.context.ledger.reader().unpublished().map_err(|error| status::unreadable(&error))?;
        if known.iter().any(|(id, row)| *id == claim && row.system == info.system) {
            self.submit(&info, Ask::Published { claim }).await.map_err(status::refused)?;
        }
        Ok(Response::new(v1::MarkPublishedResponse {}))
    }

    async fn get_archived(
        &self,
        request: Request<v1::GetArchivedRequest>,
    ) -> Result<Response<v1::GetArchivedResponse>, Status> {
        let caller = caller(&request)?;
        let session = convert::session_id(&request.into_inner().session_id);
        let session = session.map_err(|no| status::rejected(&no))?;
        let head = self.context.visible(&caller, session).map_err(status::refused)?;
        let context = self.context.clone();
        let answer = journal::blocking(move || archived(&context, &head)).await;
        answer.map(Response::new).map_err(|error| status::unreadable(&error))
    }

    async fn restore_page(
        &self,
        request: Request<v1::RestorePageRequest>,
    ) -> Result<Response<v1::RestorePageResponse>, Status> {
        let caller = caller(&request)?;
        self.write_page(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(v1::RestorePageResponse {}))
    }

    async fn import_session(
        &self,
        request: Request<v1::ImportSessionRequest>,
    ) -> Result<Response<v1::ImportSessionResponse>, Status> {
        let caller = caller(&request)?;
        let imported = self.import(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(imported))
    }

    async fn finish_restore(
        &self,
        request: Request<v1::FinishRestoreRequest>,
    ) -> Result<Response<v1::FinishRestoreResponse>, Status> {
        let caller = caller(&request)?;
        let finished = self.finish(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(finished))
    }

    async fn list_going(
        &self,
        request: Request<v1::ListGoingRequest>,
    ) -> Result<Response<v1::ListGoingResponse>, Status> {
        let caller = caller(&request)?;
        let page = self.going(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(page))
    }

    async fn commit_rewrite(
        &self,
        request: Request<v1::CommitRewriteRequest>,
    ) -> Result<Response<v1::CommitRewriteResponse>, Status> {
        let caller = caller(&request)?;
        let done = self.rewrite(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(done))
    }

    async fn erase_lineage(
        &self,
        request: Request<v1::EraseLineageRequest>,
    ) -> Result<Response<v1::EraseLineageResponse>, Status> {
        let caller = caller(&request)?;
        let erased = self.erase(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(erased))
    }

    async fn hold_lineage(
        &self,
        request: Request<v1::HoldLineageRequest>,
    ) -> Result<Response<v1::HoldLineageResponse>, Status> {
        let caller = caller(&request)?;
        let held = self.hold(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(held))
    }
}

impl Service {
    async fn namespace(&self, caller: &Principal, asked: &str) -> Result<Arc<NamespaceInfo>, Refused> {
        let name = caller.namespace_for(asked).map_err(|no| Refused::Rejected(status::denied(&no)))?;
        self.context.ledger.namespace(&name).await
    }

    async fn submit(&self, info: &NamespaceInfo, ask: Ask) -> Result<Committed, Refused> {
        let blobs = Blobs::new(&info.salt, &self.context.ledger.settings().payload);
        self.submit_with(info, ask, blobs).await
    }

    async fn submit_with(&self, info: &NamespaceInfo, ask: Ask, blobs: Blobs) -> Result<Committed, Refused> {
        let command = Command::Archive(ArchiveCommand { system: info.system, ask });
        let submission =
            Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() };
        self.context.ledger.submit(submission).await
    }

    async fn claim(
        &self,
        caller: &Principal,
        request: v1::ClaimLineagesRequest,
    ) -> Result<v1::ClaimLineagesResponse, Refused> {
        let info = self.namespace(caller, &request.namespace).await?;
        let mut lineages = lineage_ids(&request.lineage_ids).map_err(Refused::Rejected)?;
        lineages.sort();
        lineages.dedup();
        let reader = self.context.ledger.reader();
        let mut own = Vec::with_capacity(lineages.len());
        for lineage in lineages {
            // 1: the claim is journaled where the lineage's namespace keeps its claims.
            let theirs = match reader.lineage_info(lineage).map_err(Refused::Failed)? {
                Some(found) => Some(found.namespace),
                None => {
                    let row = reader.archive_row(lineage).map_err(Refused::Failed)?;
                    row.and_then(|row| row.away).map(|away| away.namespace)
                }
            };
            own.extend(theirs.filter(|theirs| *theirs == info.name).map(|_| lineage));
        }
        let purpose = match request.purpose() {
            v1::ClaimPurpose::Archive => Purpose::Archive,
            v1::ClaimPurpose::Rewrite => Purpose::Rewrite,
            v1::ClaimPurpose::Restore => self.segment_for(&own)?,
            v1::ClaimPurpose::Unspecified => {
                return Err(Refused::Rejected(invalid("purpose must be set: say what the claim is for")));
            }
        };
        let claim = match request.claim_id.as_str() {
            "" => self.context.mint.claim(),
            known => claim_id(known).map_err(Refused::Rejected)?,
        };
        let claim_ms = if request.claim_ms == 0 { CLAIM_MS } else { request.claim_ms };
        let by = Arc::clone(&caller.name);
        let renews = !request.claim_id.is_empty();
        let ask = Ask::Claim { claim, lineages: own, claim_ms, purpose, by, renews };
        let committed = self.submit(&info, ask).await?;
        let claimed = committed.events.first().and_then(|stored| match &stored.event.body {
            Body::Archive(ArchiveEvent::Claimed(claimed)) => Some(claimed.clone()),
            _ => None,
        });
        Ok(claimed.map(|claimed| claimed_to_wire(&claimed)).unwrap_or_default())
    }

    /// Where a lineage is restored to: never where it was before (AR6), and where a restore that was broken off began.
    fn segment_for(&self, lineages: &[LineageId]) -> Result<Purpose, Refused> {
        let [lineage] = lineages else {
            return Err(Refused::Rejected(invalid(
                "one lineage is restored at a time; name one that is archived",
            )));
        };
        let row = self.context.ledger.reader().archive_row(*lineage).map_err(Refused::Failed)?;
        let row = row.unwrap_or_default();
        let now = TimeMs(self.context.clock.wall_ms());
        let present = Segment::at(now, self.context.ledger.settings().segment_ms).0;
        if let Some(claim) = row.claim
            && let Purpose::Restore(segment) = claim.purpose
            && segment >= present
        {
            return Ok(Purpose::Restore(segment));
        }
        let last = row.away.map_or(0, |away| away.segment);
        Ok(Purpose::Restore(present.max(last.saturating_add(1))))
    }

    async fn commit(
        &self,
        caller: &Principal,
        request: v1::CommitArchiveRequest,
    ) -> Result<v1::CommitArchiveResponse, Refused> {
        let info = self.namespace(caller, &request.namespace).await?;
        let claim = claim_id(&request.claim_id).map_err(Refused::Rejected)?;
        let manifest_digest = <[u8; 32]>::try_from(request.manifest_digest.as_ref())
            .map_err(|_| Refused::Rejected(invalid("manifest_digest must be a blake3 hash: 32 bytes")))?;
        let context = self.context.clone();
        let written = request.lineages;
        let read = journal::blocking(move || {
            let reading = Leavings { context: &context, claim };
            written.iter().map(|written| reading.leaving(written)).collect::<Result<Vec<_>, _>>()
        });
        let read = read.await.map_err(Refused::Failed)?;
        let lineages = read.into_iter().collect::<Result<Vec<_>, _>>().map_err(Refused::Rejected)?;
        let erased = lineages.iter().filter(|leaving| leaving.bare);
        let erased: Vec<_> = erased.map(|leaving| (Segment(leaving.segment), leaving.lineage)).collect();
        let counts = (lineages.len(), lineages.iter().map(|leaving| leaving.sessions.len()).sum::<usize>());
        let commit = Commit {
            claim,
            epoch: Seq(request.epoch),
            manifest: request.manifest.into(),
            manifest_digest,
            lineages,
        };
        self.submit(&info, Ask::Commit(Arc::new(commit))).await?;
        self.give_back(erased).await;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(v1::CommitArchiveResponse { lineages: count(counts.0), sessions: count(counts.1) })
    }
}

/// What of a session the archive does not have yet begins here.
fn next_to_archive(reader: &Reader, head: &Head) -> Result<(Seq, Seq), ReadError> {
    let first = head.forked.as_ref().map_or(Seq(1), |forked| forked.from.seq.next());
    let archived = reader.stub(head.session)?.map_or(Seq(0), |stub| stub.seq);
    Ok((first, archived))
}

fn to_archive(reader: &Reader, head: &Head) -> Result<u64, ReadError> {
    let (first, archived) = next_to_archive(reader, head)?;
    Ok((head.seq.0 + 1).saturating_sub(first.0.max(archived.0 + 1)))
}

/// One page of cold lineages.
fn cold(
    reader: &Reader,
    info: &NamespaceInfo,
    before: TimeMs,
    after: Option<SessionId>,
) -> Result<v1::ListColdResponse, ReadError> {
    let (heads, next) = reader.ended(info.system, after, LIST_ROWS)?;
    let mut lineages = Vec::new();
    // Sessions come in the order of their ids. One that was imported may have ended long before those that follow began:
    // there is no first one after which nothing is cold.
    for head in &heads {
        if head.session == head.root && !head.system && head.status.is_terminal() {
            lineages.extend(cold_lineage(reader, head, before)?);
        }
    }
    let next_page_token = next.map(|session| session.to_string()).unwrap_or_default();
    Ok(v1::ListColdResponse { lineages, next_page_token, namespace: info.name.to_string() })
}

fn cold_lineage(reader: &Reader, root: &Head, before: TimeMs) -> Result<Option<v1::ColdLineage>, ReadError> {
    let row = reader.archive_row(root.lineage)?.unwrap_or_default();
    // What is to be erased waits for nothing but the end of its sessions.
    let before = if row.erasing { TimeMs(u64::MAX) } else { before };
    if !is_cold(reader, root, before)? {
        return Ok(None);
    }
    // Who restored it wants to work with it: it is cold again as long after its restore as after its end.
    if row.away.is_some() || row.held || row.restored.is_some_and(|restored| restored > before) {
        return Ok(None);
    }
    let Some(info) = reader.lineage_info(root.lineage)? else { return Ok(None) };
    let sessions = reader.lineage_sessions(info.segment, root.lineage)?;
    let mut events = 0;
    for head in &sessions {
        if !is_cold(reader, head, before)? {
            return Ok(None);
        }
        events += to_archive(reader, head)?;
    }
    Ok(Some(v1::ColdLineage {
        lineage_id: root.lineage.to_string(),
        workflow: root.workflow.to_string(),
        started_ms: root.started.0,
        sessions: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
        events,
    }))
}

/// Ended long enough ago, and nobody is still to be told of the end.
fn is_cold(reader: &Reader, head: &Head, before: TimeMs) -> Result<bool, ReadError> {
    if !head.status.is_terminal() || head.time > before {
        return Ok(false);
    }
    if let Some(successor) = head.continued_to
        && reader.head(successor)?.is_none()
    {
        return Ok(false);
    }
    let Some(parent) = &head.parent else { return Ok(true) };
    Ok(!reader.head(parent.session)?.is_some_and(|above| above.awaits_child(&parent.step_key)))
}

/// Who reads a lineage, under which claim.
struct Reading {
    context: Context,
    caller: Principal,
    claim: ClaimId,
    lineage: LineageId,
}

/// What a reader of a lineage is sent.
struct Plan {
    place: (Segment, LineageId),
    sessions: Vec<Arc<Head>>,
    /// Without payloads: they are being erased (AR8).
    bare: bool,
}

impl Reading {
    fn plan(&self) -> Result<Result<Plan, Rejection>, ReadError> {
        let reader = self.context.ledger.reader();
        let Some(info) = reader.lineage_info(self.lineage)?.filter(|info| self.caller.sees(&info.namespace))
        else {
            return Ok(Err(gone(self.lineage)));
        };
        let row = reader.archive_row(self.lineage)?;
        if let Err(rejection) = check_claim(row.as_ref(), self.claim) {
            return Ok(Err(rejection));
        }
        let sessions = reader.lineage_sessions(info.segment, self.lineage)?;
        if sessions.iter().any(|head| !head.status.is_terminal()) {
            return Ok(Err(gone_on(self.lineage)));
        }
        // The erasure voided every claim from before it: whoever reads without payloads commits without them.
        let bare = row.is_some_and(|row| row.erasing);
        Ok(Ok(Plan { place: (info.segment, self.lineage), sessions, bare }))
    }
}

fn check_claim(row: Option<&ArchiveRow>, claim: ClaimId) -> Result<(), Rejection> {
    match row.and_then(|row| row.claim) {
        Some(known) if known.id == claim => Ok(()),
        Some(_) | None => Err(Rejection {
            code: Code::ClaimLost,
            message: "the claim does not hold this lineage any more: claim it again".to_owned(),
            retry_after_ms: None,
        }),
    }
}

async fn send(context: Context, plan: Plan, outlet: Outlet<v1::ReadLineageResponse>) {
    let sent = journal::blocking(move || {
        let sent = send_all(&context, &plan, &outlet);
        Ok((outlet, sent))
    })
    .await;
    if let Ok((outlet, sent)) = sent {
        outlet.end(sent).await;
    }
}

fn send_all(context: &Context, plan: &Plan, outlet: &Outlet<v1::ReadLineageResponse>) -> Result<(), Ended> {
    use v1::read_lineage_response::Item;
    let reader = context.ledger.reader();
    let give = |item| outlet.send_blocking(v1::ReadLineageResponse { item: Some(item) });
    let mut end = v1::LineageEnd::default();
    for head in &plan.sessions {
        let (first, archived) = next_to_archive(reader, head)?;
        let session = Some(context.session(head)?);
        let begins = v1::LineageSession { session, archived_seq: archived.0, first_seq: first.0 };
        give(Item::Session(begins))?;
        let mut next = first.max(archived.next());
        while next <= head.seq {
            let records = reader.stored_records(plan.place, head.session, next, PAGE_BYTES)?;
            let Some(last) = records.last().map(|record| record.seq) else {
                let problem = format!("session {} lacks event {next}", head.session);
                return Err(ReadError::Corrupt(problem).into());
            };
            end.events += records.len() as u64;
            let mut events = Vec::with_capacity(records.len());
            if plan.bare {
                events.extend(
                    records
                        .into_iter()
                        .map(|record| v1::RawEvent { payloads: bytes::Bytes::new(), ..raw_event(record) }),
                );
                give(Item::Events(v1::RawEvents { events }))?;
                next = last.next();
                continue;
            }
            for record in records {
                let beside: Vec<PayloadRef> =
                    record.event.payloads().into_iter().filter(|payload| !payload.inline).cloned().collect();
                if !beside.is_empty() && !events.is_empty() {
                    give(Item::Events(v1::RawEvents { events: std::mem::take(&mut events) }))?;
                }
                for payload in &beside {
                    end.chunks += send_chunks(reader, plan.place, payload, &give)?;
                }
                events.push(raw_event(record));
            }
            give(Item::Events(v1::RawEvents { events }))?;
            next = last.next();
        }
    }
    give(Item::End(end))
}

/// The parts of a payload that lies beside its event, before the event.
fn send_chunks(
    reader: &Reader,
    place: (Segment, LineageId),
    payload: &PayloadRef,
    give: &impl Fn(v1::read_lineage_response::Item) -> Result<(), Ended>,
) -> Result<u64, Ended> {
    let (mut n, mut sent) = (0, 0);
    while sent < payload.size {
        let missing = || ReadError::Corrupt(format!("chunk {n} of payload {} is missing", payload.digest));
        let data = reader.chunk(place, payload.digest, n)?.ok_or_else(missing)?;
        sent += data.len() as u64;
        let digest = bytes::Bytes::copy_from_slice(&payload.digest.0);
        give(v1::read_lineage_response::Item::Chunk(v1::RawChunk { digest, n, data }))?;
        n += 1;
    }
    Ok(u64::from(n))
}

fn raw_event(record: StoredRecord) -> v1::RawEvent {
    v1::RawEvent {
        seq: record.seq.0,
        header: record.header,
        payloads: record.payloads,
        hash: bytes::Bytes::copy_from_slice(&record.hash.0),
    }
}

/// What a commit says against what the ledger has (2).
struct Leavings<'a> {
    context: &'a Context,
    claim: ClaimId,
}

impl Leavings<'_> {
    fn leaving(&self, written: &v1::CommittedLineage) -> Result<Result<Leaving, Rejection>, ReadError> {
        let lineage = match lineage_id(&written.lineage_id) {
            Ok(lineage) => lineage,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let reader = self.context.ledger.reader();
        let Some(info) = reader.lineage_info(lineage)? else { return Ok(Err(gone(lineage))) };
        let row = reader.archive_row(lineage)?;
        if let Err(rejection) = check_claim(row.as_ref(), self.claim) {
            return Ok(Err(rejection));
        }
        let bare = row.is_some_and(|row| row.erasing);
        let heads = reader.lineage_sessions(info.segment, lineage)?;
        let mut sessions = Vec::with_capacity(heads.len());
        let mut events = 0;
        for head in &heads {
            let said = written.sessions.iter().find(|said| said.session_id == head.session.to_string());
            let same = said.is_some_and(|said| said.seq == head.seq.0 && said.hash[..] == head.hash.0);
            if !same {
                return Ok(Err(gone_on(lineage)));
            }
            events += to_archive(reader, head)?;
            let stub = StubRow {
                key: self.context.key(head)?.into(),
                result: if bare { None } else { self.context.result_digest(head)? },
                seq: head.seq,
                hash: head.hash,
            };
            sessions.push((head.session, stub));
        }
        let dead_bytes = reader.lineage_bytes(info.segment, lineage)?;
        Ok(Ok(Leaving {
            lineage,
            segment: info.segment.0,
            salt: info.salt,
            root: info.root,
            namespace: info.namespace,
            sessions,
            ended: heads.iter().map(|head| head.time).max().unwrap_or_default(),
            bare,
            events,
            dead_bytes,
        }))
    }
}

fn archived(context: &Context, head: &Head) -> Result<v1::GetArchivedResponse, ReadError> {
    let reader = context.ledger.reader();
    let row = reader.archive_row(head.lineage)?.unwrap_or_default();
    let (erased, erasing) = (row.is_erased(), row.erasing);
    Ok(v1::GetArchivedResponse {
        lineage_id: head.lineage.to_string(),
        namespace: head.namespace.to_string(),
        archived: row.away.is_some(),
        sessions: row.away.map_or(0, |away| away.sessions),
        parts: row.parts.iter().map(rewrite::part).collect(),
        held: row.held,
        erased,
        erasing,
    })
}

fn claimed_to_wire(claimed: &Claimed) -> v1::ClaimLineagesResponse {
    v1::ClaimLineagesResponse {
        claim_id: claimed.claim.to_string(),
        epoch: claimed.epoch.0,
        lineage_ids: claimed.lineages.iter().map(ToString::to_string).collect(),
        expires_ms: claimed.expires.0,
    }
}

fn claim_id(text: &str) -> Result<ClaimId, Rejection> {
    text.parse().map_err(|error| invalid(&format!("claim_id is {error}")))
}

fn lineage_id(text: &str) -> Result<LineageId, Rejection> {
    text.parse().map_err(|error| invalid(&format!("lineage_id is {error}")))
}

fn lineage_ids(texts: &[String]) -> Result<Vec<LineageId>, Rejection> {
    texts.iter().map(|text| lineage_id(text)).collect()
}

fn gone(lineage: LineageId) -> Rejection {
    let message =
        format!("lineage {lineage} is not in the ledger, or not in the token's namespace: list again");
    Rejection { code: Code::NotFound, message, retry_after_ms: None }
}

fn gone_on(lineage: LineageId) -> Rejection {
    invalid(&format!("lineage {lineage} is not as it was read: give its claim up and list again"))
}

fn invalid(message: &str) -> Rejection {
    Rejection { code: Code::InvalidArgument, message: message.to_owned(), retry_after_ms: None }
}
