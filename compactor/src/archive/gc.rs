//! Deletes what no manifest names: what crashes, lost claims and replaced manifests have left.
//!
//! G1. Nothing younger than the grace goes: a worker may be about to commit it. Workers give a claim up before the
//!     shortest grace is over (`job::WORK_MAX`).
//! G2. What a commit names that waits for its publication is not touched, whatever its age.

use std::collections::BTreeSet;

use cellaflow_proto::v1;
use object_store::ObjectMeta;

use super::job::{Error, Worker};
use super::manifest::{self, Manifest};
use crate::clock;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Files deleted; in a dry run, that would be.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that nobody names and that are younger than the grace.
    pub young: u64,
}

/// Deletes what is older than `grace_ms`.
///
/// # Errors
/// If engine or store cannot be asked.
pub async fn once(worker: &Worker, grace_ms: u64, dry_run: bool) -> Result<Summary, Error> {
    let mut found = Found {
        worker,
        before_ms: clock::now_ms().saturating_sub(grace_ms),
        dry_run,
        summary: Summary::default(),
    };
    let namespace = &worker.namespace;
    let waiting = waiting(worker).await?; // G2
    let mut named: BTreeSet<String> = BTreeSet::new();
    for path in &waiting {
        named.extend(files(worker, path).await?);
        named.insert(path.clone());
    }
    let current: BTreeSet<String> = manifest::current(&worker.store, namespace).await?.into_iter().collect();
    let mut empty = BTreeSet::new();
    for path in &current {
        let manifest = manifest::load(&worker.store, path).await?;
        if manifest.files.is_empty() {
            empty.insert(path.clone());
        }
        named.extend(manifest.files.into_iter().map(|file| file.path));
    }
    for (path, meta) in worker.store.list(&manifest::data_folder(namespace)).await? {
        found.unless(named.contains(&path), &path, &meta).await?;
    }
    for (path, meta) in worker.store.list("pending").await? {
        found.unless(named.contains(&path) || !ours(worker, &path).await, &path, &meta).await?;
    }
    // Replaced ones before those that replace them by nothing: the other order would bring them back.
    let mut left = false;
    for (path, meta) in worker.store.list(&manifest::folder(namespace)).await? {
        if !current.contains(&path) {
            left |= !found.unless(false, &path, &meta).await?;
        } else if empty.contains(&path) && !left {
            found.unless(named.contains(&path), &path, &meta).await?;
        }
    }
    Ok(found.summary)
}

struct Found<'a> {
    worker: &'a Worker,
    before_ms: u64,
    dry_run: bool,
    summary: Summary,
}

impl Found<'_> {
    /// Deletes a file that is old enough; false: it is left.
    async fn unless(&mut self, needed: bool, path: &str, meta: &ObjectMeta) -> Result<bool, Error> {
        if needed {
            return Ok(false);
        }
        let modified_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
        if modified_ms > self.before_ms {
            self.summary.young += 1; // G1
            return Ok(false);
        }
        self.summary.files += 1;
        self.summary.bytes += meta.size;
        if self.dry_run {
            return Ok(false);
        }
        tracing::info!(path, "deleting what no manifest names");
        self.worker.store.delete(path).await?;
        self.worker.metrics.files_deleted.inc();
        Ok(true)
    }
}

/// Pending manifests of commits that are not published yet.
async fn waiting(worker: &Worker) -> Result<Vec<String>, Error> {
    let request = v1::ListUnpublishedRequest { namespace: worker.namespace.clone() };
    let commits = worker.engine.clone().list_unpublished(request).await?.into_inner().commits;
    Ok(commits.iter().map(|commit| manifest::pending(&commit.claim_id, commit.epoch)).collect())
}

async fn files(worker: &Worker, path: &str) -> Result<Vec<String>, Error> {
    // Published meanwhile: then the published one names them.
    let Ok(text) = worker.store.get(path).await else { return Ok(Vec::new()) };
    Ok(Manifest::read(path, &text)?.files.into_iter().map(|file| file.path).collect())
}

/// Pending manifests of all namespaces lie together; what cannot be read is nobody else's.
async fn ours(worker: &Worker, path: &str) -> bool {
    let Ok(text) = worker.store.get(path).await else { return true };
    Manifest::read(path, &text).map_or(true, |manifest| manifest.namespace == worker.namespace)
}
