//! One claim: from `claim` to `publish`, or to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cellaflow_proto::v1;
use tokio::sync::{Notify, watch};

use super::manifest::{self, Manifest};
use super::rows::{self, Rows};
use super::spool::{self, Finished};
use super::{Store, store, verify};
use crate::connection::{Archive, Authenticated};
use crate::metrics::Metrics;

/// Why a claim came to nothing. The ledger is as it was, unless the commit's outcome is unknown: then the next run looks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine is gone, or accepts nothing from this worker.
    #[error("{0}")]
    Engine(String),
    /// The engine refused this one request, or cannot read these lineages.
    #[error("the engine refused: {0}")]
    Refused(String),
    /// What the engine says is in the archive is not here.
    #[error("{0} is not in the archive: is --archive the folder or bucket that `run` writes to?")]
    Elsewhere(String),
    /// The claim ended before its work did: another worker may have it.
    #[error("the claim was lost; what was written under it is left to `archive gc`")]
    Lost,
    /// Rows could not be made.
    #[error(transparent)]
    Rows(#[from] rows::Error),
    /// A file could not be written.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A temporary file cannot be read.
    #[error("a temporary file cannot be read: {0}")]
    Temporary(#[from] std::io::Error),
    /// What was written reads back as something else.
    #[error(transparent)]
    Bad(#[from] verify::Bad),
    /// The work takes longer than a claim may.
    #[error("the work under one claim took too long and was given up: look at the speed of engine and store")]
    TooLong,
    /// Asked to stop.
    #[error("stopped before it was done; the claim was given up")]
    Stopped,
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        if status.message().starts_with("claim_lost") {
            return Self::Lost;
        }
        use tonic::Code;
        let answered = !matches!(
            status.code(),
            Code::Unavailable
                | Code::Unauthenticated
                | Code::PermissionDenied
                | Code::Unknown
                | Code::Cancelled
        );
        if answered {
            return Self::Refused(status.message().to_owned());
        }
        Self::Engine(format!("the engine refused or went away: {}", status.message()))
    }
}

/// Lineages that lie in one partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Day on which their roots began, "2026-11-23".
    pub dt: String,
    /// Workflow of their roots.
    pub workflow: String,
    /// The lineages.
    pub lineages: Vec<String>,
}

/// What a claim came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Lineages archived.
    pub lineages: u64,
    /// Sessions in them.
    pub sessions: u64,
    /// Events moved.
    pub events: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// What every claim needs.
#[derive(Clone)]
pub struct Worker {
    /// The engine, for its other services.
    pub channel: Authenticated,
    /// The engine.
    pub engine: Archive,
    /// The archive.
    pub store: Store,
    /// Namespace.
    pub namespace: String,
    /// How long a claim lasts, in ms; it is renewed while its work goes on.
    pub claim_ms: u64,
    /// What it counts.
    pub metrics: Metrics,
    /// Becomes true when the work is to stop.
    pub stop: watch::Receiver<bool>,
}

/// A claim.
pub(super) struct Held {
    pub(super) claim_id: String,
    pub(super) epoch: u64,
    pub(super) lineages: Vec<String>,
    lost: Arc<Notify>,
}

impl Held {
    /// For what no engine knows: nobody else would write it.
    pub(super) fn nobodys(after_claim_id: &str, after_epoch: u64) -> Self {
        let claim_id = format!("{after_claim_id}-without");
        Self { claim_id, epoch: after_epoch, lineages: Vec::new(), lost: Arc::default() }
    }

    /// Ends when the claim holds less than it did: what is done under it could only be refused.
    pub(super) async fn lost(&self) -> Error {
        self.lost.notified().await;
        Error::Lost
    }
}

/// Longest work under one claim: what it has written may be taken for a crash's after the grace of `archive gc`.
pub const WORK_MAX: Duration = Duration::from_secs(6 * 60 * 60);

impl Worker {
    /// Archives the lineages of a partition that can be claimed; `None`: none can.
    ///
    /// # Errors
    /// See `Error`; the claim is given up if the engine can still be told.
    pub async fn archive(&self, partition: &Partition) -> Result<Option<Done>, Error> {
        let held = self.claim(partition.lineages.clone(), v1::ClaimPurpose::Archive).await?;
        let Some(held) = held else { return Ok(None) };
        self.under(&held, v1::ClaimPurpose::Archive, self.work(partition, &held)).await.map(Some)
    }

    /// Claims what of some lineages can be; `None`: nothing.
    pub(super) async fn claim(
        &self,
        lineage_ids: Vec<String>,
        purpose: v1::ClaimPurpose,
    ) -> Result<Option<Held>, Error> {
        let request = v1::ClaimLineagesRequest {
            namespace: self.namespace.clone(),
            lineage_ids,
            claim_ms: self.claim_ms,
            purpose: purpose.into(),
            claim_id: String::new(),
        };
        let claimed = self.engine.clone().claim_lineages(request).await?.into_inner();
        let v1::ClaimLineagesResponse { claim_id, epoch, lineage_ids: lineages, .. } = claimed;
        let held = Held { claim_id, epoch, lineages, lost: Arc::default() };
        Ok(Some(held).filter(|held| !held.claim_id.is_empty()))
    }

    /// Works under a claim, which is renewed meanwhile and given up if the work comes to nothing.
    pub(super) async fn under<T>(
        &self,
        held: &Held,
        purpose: v1::ClaimPurpose,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let renewing = Renewing {
            claim_id: held.claim_id.clone(),
            lineages: held.lineages.clone(),
            purpose,
            lost: Arc::clone(&held.lost),
        };
        let renewing = tokio::spawn(renewing.run(self.clone()));
        let done = tokio::time::timeout(WORK_MAX, work).await.unwrap_or(Err(Error::TooLong));
        renewing.abort();
        if done.is_err() {
            // Of a claim that was lost some lineages may be held still; those of others it does not touch.
            self.give_up(held).await;
        }
        done
    }

    /// Gives a claim up.
    pub(super) async fn give_up(&self, held: &Held) {
        let dropped = v1::DropClaimRequest {
            namespace: self.namespace.clone(),
            claim_id: held.claim_id.clone(),
            lineage_ids: held.lineages.clone(),
        };
        // An engine that is gone ends the claim by itself.
        let _gone = self.engine.clone().drop_claim(dropped).await.is_err();
    }

    async fn work(&self, partition: &Partition, held: &Held) -> Result<Done, Error> {
        let mut stop = self.stop.clone();
        let (manifest, lineages) = tokio::select! {
            prepared = self.prepare(partition, held) => prepared?,
            lost = held.lost() => return Err(lost),
            _ = stop.wait_for(|stop| *stop) => return Err(Error::Stopped),
        };
        // From here on it is finished: the next run would have to find out what came of it.
        let digest = self.put_pending(&manifest).await?;
        self.commit(held, &manifest, &digest, &lineages).await?;
        breakpoint("committed").await;
        self.publish(&held.claim_id, held.epoch, &manifest.path(), &digest).await?;
        Ok(Done {
            lineages: lineages.len() as u64,
            sessions: lineages.values().map(|sessions| sessions.len() as u64).sum(),
            events: manifest.events,
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        })
    }

    /// Leaves a manifest where whoever publishes it finds it; returns its digest.
    pub(super) async fn put_pending(&self, manifest: &Manifest) -> Result<[u8; 32], Error> {
        let text = serde_json::to_vec_pretty(manifest).map_err(std::io::Error::other)?;
        let digest = blake3::hash(&text);
        self.store.put_new(&manifest::pending(&manifest.claim_id, manifest.epoch), text.into()).await?;
        Ok(*digest.as_bytes())
    }

    /// Everything before the commit; given up at any point, it leaves nothing but files that nobody names.
    async fn prepare(&self, partition: &Partition, held: &Held) -> Result<(Manifest, Sessions), Error> {
        breakpoint("claimed").await;
        let (lineages, files, events) = self.stream(held).await?;
        breakpoint("streamed").await;
        let mut manifest = Manifest::new(&self.namespace, &held.claim_id, held.epoch);
        manifest.events = events;
        for finished in &files {
            manifest.files.push(self.upload(partition, held, finished).await?);
        }
        drop(files);
        breakpoint("written").await;
        self.check(&manifest, &lineages).await?;
        breakpoint("verified").await;
        manifest.lineages = lineages.iter().map(|(id, sessions)| lineage(id, sessions)).collect();
        Ok((manifest, lineages))
    }

    async fn stream(&self, held: &Held) -> Result<(Sessions, Vec<Finished>, u64), Error> {
        use v1::read_lineage_response::Item;
        let mut rows = Rows::new();
        let mut lineages = Sessions::new();
        let mut sorted = held.lineages.clone();
        sorted.sort();
        for lineage_id in sorted {
            if *self.stop.borrow() {
                return Err(Error::Stopped);
            }
            let request = v1::ReadLineageRequest {
                namespace: self.namespace.clone(),
                claim_id: held.claim_id.clone(),
                lineage_id: lineage_id.clone(),
            };
            let mut stream = self.engine.clone().read_lineage(request).await?.into_inner();
            let mut writing = rows.lineage(&lineage_id);
            let mut whole = false;
            while let Some(message) = stream.message().await? {
                match message.item {
                    Some(Item::Session(begins)) => writing.session(begins)?,
                    Some(Item::Events(events)) => writing.events(events)?,
                    Some(Item::Chunk(chunk)) => writing.chunk(chunk)?,
                    Some(Item::End(_)) => whole = true,
                    None => {}
                }
            }
            let sessions = writing.finish()?;
            if !whole {
                return Err(Error::Engine(format!("the engine ended lineage {lineage_id} in the middle")));
            }
            lineages.insert(lineage_id, sessions);
        }
        let events = rows.count;
        let files = tokio::task::block_in_place(|| rows.finish())?;
        Ok((lineages, files, events))
    }

    async fn upload(
        &self,
        partition: &Partition,
        held: &Held,
        finished: &Finished,
    ) -> Result<manifest::File, Error> {
        let path = format!(
            "{}/dt={}/workflow={}/{}-{}-{}-{:04}.parquet",
            manifest::data_folder(&self.namespace),
            partition.dt,
            manifest::escaped(&partition.workflow),
            finished.table.name(),
            held.claim_id,
            held.epoch,
            finished.number
        );
        self.put_file(path, finished).await
    }

    /// Puts a finished file where nothing is.
    pub(super) async fn put_file(&self, path: String, finished: &Finished) -> Result<manifest::File, Error> {
        let bytes = tokio::task::block_in_place(|| finished.bytes())?;
        let file = manifest::File {
            table: finished.table.name().to_owned(),
            path: path.clone(),
            rows: finished.rows as u64,
            bytes: bytes.len() as u64,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
        };
        self.store.put_new(&path, bytes).await?;
        Ok(file)
    }

    /// A2.
    async fn check(&self, manifest: &Manifest, lineages: &Sessions) -> Result<(), Error> {
        let mut chains = verify::Chains::default();
        for file in &manifest.files {
            let bytes = self.store.get(&file.path).await?;
            tokio::task::block_in_place(|| verify::file(file, bytes, &mut chains))?;
        }
        let said: BTreeMap<&str, &v1::CommittedSession> =
            lineages.values().flatten().map(|session| (session.session_id.as_str(), session)).collect();
        for (session, (seq, hash)) in &chains.ends {
            let same =
                said.get(session.as_str()).is_some_and(|said| said.seq == *seq && said.hash[..] == hash[..]);
            if !same {
                let problem = format!("session {session} ends with event {seq}");
                return Err(verify::Bad { path: manifest.path(), problem }.into());
            }
        }
        if chains.events != manifest.events {
            let problem = format!("{} of {} events are there", chains.events, manifest.events);
            return Err(verify::Bad { path: manifest.path(), problem }.into());
        }
        Ok(())
    }

    async fn commit(
        &self,
        held: &Held,
        manifest: &Manifest,
        digest: &[u8; 32],
        lineages: &Sessions,
    ) -> Result<(), Error> {
        let written = lineages.iter().map(|(lineage_id, sessions)| v1::CommittedLineage {
            lineage_id: lineage_id.clone(),
            sessions: sessions.clone(),
        });
        let request = v1::CommitArchiveRequest {
            namespace: self.namespace.clone(),
            claim_id: held.claim_id.clone(),
            epoch: held.epoch,
            lineages: written.collect(),
            manifest: manifest.path(),
            manifest_digest: bytes::Bytes::copy_from_slice(digest),
        };
        self.engine.clone().commit_archive(request).await?;
        Ok(())
    }

    /// Publishes a committed manifest; idempotent.
    ///
    /// # Errors
    /// If the pending manifest is not the one that was committed.
    pub async fn publish(&self, claim_id: &str, epoch: u64, path: &str, digest: &[u8]) -> Result<(), Error> {
        let pending = manifest::pending(claim_id, epoch);
        let text = match self.store.get(&pending).await {
            Ok(text) => text,
            // Published, and the engine was not told.
            Err(missing) => self.store.get(path).await.map_err(|_| missing)?,
        };
        if blake3::hash(&text).as_bytes()[..] != *digest {
            let problem = "it is not the manifest that was committed".to_owned();
            return Err(verify::Bad { path: pending, problem }.into());
        }
        self.store.put_new(path, text.clone()).await?;
        breakpoint("published").await;
        self.delete_replaced(&Manifest::read(path, &text)?).await?;
        let request =
            v1::MarkPublishedRequest { namespace: self.namespace.clone(), claim_id: claim_id.to_owned() };
        self.engine.clone().mark_published(request).await?;
        self.store.delete(&pending).await?;
        Ok(())
    }

    /// What a published manifest replaces goes: files first (`rewrite`, W3). What is gone already is fine.
    async fn delete_replaced(&self, manifest: &Manifest) -> Result<(), Error> {
        for replaced in &manifest.replaces {
            let Ok(text) = self.store.get(replaced).await else { continue };
            for file in Manifest::read(replaced, &text)?.files {
                if !manifest.files.iter().any(|kept| kept.path == file.path) {
                    self.store.delete(&file.path).await?;
                    self.metrics.files_deleted.inc();
                }
            }
            self.store.delete(replaced).await?;
        }
        Ok(())
    }
}

/// Lineage → its sessions, as they were written.
type Sessions = BTreeMap<String, Vec<v1::CommittedSession>>;

fn lineage(id: &str, sessions: &[v1::CommittedSession]) -> manifest::Lineage {
    let session = |session: &v1::CommittedSession| manifest::Session {
        session_id: session.session_id.clone(),
        last_seq: session.seq,
        last_hash: hex::encode(&session.hash),
    };
    manifest::Lineage { lineage_id: id.to_owned(), sessions: sessions.iter().map(session).collect() }
}

/// A claim that is renewed until its work is done.
struct Renewing {
    claim_id: String,
    lineages: Vec<String>,
    purpose: v1::ClaimPurpose,
    lost: Arc<Notify>,
}

impl Renewing {
    /// Ends when the claim does not hold all of its lineages any more.
    async fn run(self, worker: Worker) {
        let Worker { mut engine, namespace, claim_ms, .. } = worker;
        loop {
            tokio::time::sleep(Duration::from_millis(claim_ms / 3)).await;
            let request = v1::ClaimLineagesRequest {
                namespace: namespace.clone(),
                lineage_ids: self.lineages.clone(),
                claim_ms,
                purpose: self.purpose.into(),
                claim_id: self.claim_id.clone(),
            };
            match engine.claim_lineages(request).await {
                Ok(renewed) if renewed.get_ref().lineage_ids.len() < self.lineages.len() => {
                    tracing::warn!(claim_id = self.claim_id, "the claim was lost, or used up by its commit");
                    return self.lost.notify_one();
                }
                Ok(_) => {}
                Err(status) => {
                    tracing::warn!(claim_id = self.claim_id, %status, "the claim could not be renewed");
                }
            }
        }
    }
}

/// Where tests stop, kill or let go on: `CELLAFLOW_COMPACTOR_BREAK=NAME` waits for the file `CELLAFLOW_COMPACTOR_GO`.
/// Released binaries have none of it.
pub(super) async fn breakpoint(name: &'static str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let wanted = std::env::var("CELLAFLOW_COMPACTOR_BREAK").is_ok_and(|wanted| wanted == name);
    let Some(go) = std::env::var_os("CELLAFLOW_COMPACTOR_GO").filter(|_| wanted) else { return };
    let reached = std::path::PathBuf::from(&go).with_extension("reached");
    // A test that cannot be told will say so itself.
    let _untold = std::fs::write(reached, name).is_err();
    while !std::path::Path::new(&go).exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
