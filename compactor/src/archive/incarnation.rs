//! After the engine was restored from a backup: what it archived later, and does not know of, must not count beside what
//! it archives now. The same events would be in every report twice.
//!
//! I1. Once for each incarnation of a ledger, before it archives anything: a mark in the archive says that it was done.
//! I2. Only what the engine has itself goes: a lineage that it does not know at all began after the backup, or belongs to
//!     another ledger, and the archive is the only place that still has it.
//! I3. Nothing is deleted: a manifest says what it replaces, and `archive gc` takes away what no manifest names.

use std::collections::BTreeSet;

use bytes::Bytes;
use cellaflow_proto::v1;
use v1::operator_service_client::OperatorServiceClient;

use super::job::{Error, Worker};
use super::manifest::{self, Manifest};
use super::rewrite;
use super::store;

/// Manifests of one incarnation that replace others, at most: one is usual, another for each worker that disagreed.
const REPLACING_MAX: u64 = 64;

/// Takes out what the engine has and does not know to be archived. Returns how many manifests were replaced.
///
/// # Errors
/// If engine or store cannot be asked: then the next run does it.
pub async fn settle(worker: &Worker) -> Result<u64, Error> {
    let mut operator = OperatorServiceClient::new(worker.channel.clone());
    let incarnation = operator.get_status(v1::GetStatusRequest {}).await?.into_inner().incarnation;
    let mark = format!("incarnations/ns={}/{incarnation}", manifest::escaped(&worker.namespace));
    match worker.store.get(&mark).await {
        Ok(_) => return Ok(0), // I1
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let mut whole = BTreeSet::new();
    let (mut replaced, mut left) = (0, 0);
    for path in manifest::current(&worker.store, &worker.namespace).await? {
        let manifest = manifest::load(&worker.store, &path).await?;
        let found = compare(worker, &manifest).await?;
        if found.unknown.is_empty() {
            continue;
        }
        tracing::warn!(
            manifest = path,
            lineages = found.unknown.len(),
            "archived after the backup that the engine was restored from: it does not count any more"
        );
        if found.unknown.len() == manifest.lineages.len() {
            whole.extend(manifest.replaces);
            whole.insert(path);
        } else if !rewrite::without(worker, &manifest, found.unknown, found.known).await? {
            left += 1;
            continue;
        }
        replaced += 1;
    }
    if !whole.is_empty() {
        replace(worker, &incarnation, whole).await?;
    }
    if left == 0 {
        worker.store.put_new(&mark, Bytes::new()).await?;
    }
    Ok(replaced)
}

/// Lineages of a manifest that are in the engine.
#[derive(Default)]
struct Compared {
    /// It knows that they are in this manifest, or in one that this one replaced.
    known: Vec<String>,
    /// It does not.
    unknown: BTreeSet<String>,
}

async fn compare(worker: &Worker, manifest: &Manifest) -> Result<Compared, Error> {
    let mut found = Compared::default();
    for lineage in &manifest.lineages {
        let Some(session) = lineage.sessions.first() else { continue };
        let request = v1::GetArchivedRequest { session_id: session.session_id.clone() };
        let parts = match worker.engine.clone().get_archived(request).await {
            Ok(answer) => answer.into_inner().parts,
            Err(status) if status.code() == tonic::Code::NotFound => continue, // I2
            Err(status) => return Err(status.into()),
        };
        let named = parts.iter().any(|part| {
            let path = manifest::path(&worker.namespace, &part.claim_id, part.epoch);
            path == manifest.path() || manifest.replaces.contains(&path)
        });
        if named {
            found.known.push(lineage.lineage_id.clone());
        } else {
            found.unknown.insert(lineage.lineage_id.clone());
        }
    }
    Ok(found)
}

/// I3.
async fn replace(worker: &Worker, incarnation: &str, paths: BTreeSet<String>) -> Result<(), Error> {
    for epoch in 0..REPLACING_MAX {
        let mut manifest = Manifest::new(&worker.namespace, incarnation, epoch);
        manifest.replaces = paths.iter().cloned().collect();
        let text = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::other)?;
        match worker.store.put_new(&manifest.path(), text.into()).await {
            Err(store::Error::Taken(_)) => {}
            put => return Ok(put?),
        }
    }
    Err(store::Error::Taken(manifest::path(&worker.namespace, incarnation, 0)).into())
}
