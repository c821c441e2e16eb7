//! Files that are written again: without the payloads of erased lineages, and without lineages past their retention.
//!
//! W1. Under a claim on all lineages of a manifest that the engine knows to be in it, so that nobody restores or rewrites any of them meanwhile.
//! W2. A new manifest says which ones it replaces, those included that they replaced: readers change over in one
//!     listing, and what a crash leaves of the old ones means nothing.
//! W3. What is replaced is deleted only after the engine has committed, files before the manifest that names them.
//! W4. Of an erased lineage events and hashes stay, without payloads: the chain covers headers only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BinaryBuilder, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, nullif};
use bytes::Bytes;
use cellaflow_proto::v1;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::job::{Error, Held, Worker};
use super::manifest::{self, File, Manifest};
use super::spool::Spool;
use super::tables::Table;
use super::{decode, verify};

/// Rows read in one go.
const BATCH_ROWS: usize = 1_024;

/// What came of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Manifests replaced.
    pub rewritten: u64,
    /// Lineages whose payloads went.
    pub erased: u64,
    /// Lineages that went whole.
    pub dropped: u64,
    /// Manifests left for the next round: somebody works on one of their lineages.
    pub busy: u64,
}

/// What must go from a manifest.
#[derive(Clone, Debug, Default)]
struct Going {
    bare: BTreeSet<String>,
    whole: BTreeSet<String>,
}

impl Going {
    fn fate(&self, lineage: &str) -> v1::LineageFate {
        match (self.whole.contains(lineage), self.bare.contains(lineage)) {
            (true, _) => v1::LineageFate::Dropped,
            (false, true) => v1::LineageFate::Bare,
            (false, false) => v1::LineageFate::Kept,
        }
    }

    fn concerns(&self, lineage: &str) -> bool {
        self.fate(lineage) != v1::LineageFate::Kept
    }
}

/// Writes again what must be; with `keep_ms`, lineages that ended longer ago go.
///
/// # Errors
/// As a run's: what fails for one manifest is tried again in the next round.
pub async fn once(worker: &Worker, keep_ms: Option<u64>) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    for ((claim_id, epoch), going) in list(worker, keep_ms).await? {
        if *worker.stop.borrow() {
            break;
        }
        let path = manifest::path(&worker.namespace, &claim_id, epoch);
        match replace(worker, &path, &going).await {
            Ok(true) => {
                summary.rewritten += 1;
                summary.erased += going.bare.len() as u64;
                summary.dropped += going.whole.len() as u64;
            }
            Ok(false) => summary.busy += 1,
            Err(Error::Stopped) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(summary)
}

async fn list(worker: &Worker, keep_ms: Option<u64>) -> Result<BTreeMap<(String, u64), Going>, Error> {
    let mut found: BTreeMap<(String, u64), Going> = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListGoingRequest { namespace: worker.namespace.clone(), keep_ms, page_token };
        let page = worker.engine.clone().list_going(request).await?.into_inner();
        for lineage in page.lineages {
            for part in lineage.parts.iter().filter(|part| lineage.whole || !part.bare) {
                let going = found.entry((part.claim_id.clone(), part.epoch)).or_default();
                let set = if lineage.whole { &mut going.whole } else { &mut going.bare };
                set.insert(lineage.lineage_id.clone());
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// False: somebody else works on a lineage of it.
async fn replace(worker: &Worker, path: &str, going: &Going) -> Result<bool, Error> {
    let old = manifest::load(&worker.store, path).await?;
    let lineages: Vec<String> = old.lineages.iter().map(|lineage| lineage.lineage_id.clone()).collect();
    under_claim(worker, &old, lineages, going).await
}

/// Takes lineages out of a manifest that the engine does not know to be in it; `known` are those that it does know. False:
/// somebody else works on one of them.
///
/// # Errors
/// As a round's.
pub(super) async fn without(
    worker: &Worker,
    old: &Manifest,
    unknown: BTreeSet<String>,
    known: Vec<String>,
) -> Result<bool, Error> {
    let going = Going { whole: unknown, ..Going::default() };
    if known.is_empty() {
        // The others are in no ledger: nobody can claim them, and no commit names them.
        let held = Held::nobodys(&old.claim_id, old.epoch);
        let new = copy(worker, old, &going, &held).await?;
        let text = serde_json::to_vec_pretty(&new).map_err(std::io::Error::other)?;
        worker.store.put_new(&new.path(), text.into()).await?;
        return Ok(true);
    }
    under_claim(worker, old, known, &going).await
}

async fn under_claim(
    worker: &Worker,
    old: &Manifest,
    lineages: Vec<String>,
    going: &Going,
) -> Result<bool, Error> {
    let wanted = lineages.len();
    let Some(held) = worker.claim(lineages, v1::ClaimPurpose::Rewrite).await? else {
        return Ok(false);
    };
    if held.lineages.len() != wanted {
        worker.give_up(&held).await; // W1
        return Ok(false);
    }
    worker.under(&held, v1::ClaimPurpose::Rewrite, write(worker, old, going, &held)).await?;
    Ok(true)
}

async fn write(worker: &Worker, old: &Manifest, going: &Going, held: &Held) -> Result<(), Error> {
    let mut stop = worker.stop.clone();
    let new = tokio::select! {
        new = copy(worker, old, going, held) => new?,
        lost = held.lost() => return Err(lost),
        _ = stop.wait_for(|stop| *stop) => return Err(Error::Stopped),
    };
    super::job::breakpoint("copied").await;
    let digest = worker.put_pending(&new).await?;
    let ours = old.lineages.iter().filter(|lineage| held.lineages.contains(&lineage.lineage_id));
    let lineages = ours.map(|lineage| v1::RewrittenLineage {
        lineage_id: lineage.lineage_id.clone(),
        fate: going.fate(&lineage.lineage_id).into(),
        session_ids: lineage.sessions.iter().map(|session| session.session_id.clone()).collect(),
    });
    let request = v1::CommitRewriteRequest {
        namespace: worker.namespace.clone(),
        claim_id: held.claim_id.clone(),
        epoch: held.epoch,
        replaces: Some(v1::ArchivePart { claim_id: old.claim_id.clone(), epoch: old.epoch, bare: false }),
        lineages: lineages.collect(),
        manifest: new.path(),
        manifest_digest: Bytes::copy_from_slice(&digest),
    };
    worker.engine.clone().commit_rewrite(request).await?;
    super::job::breakpoint("rewritten").await;
    worker.publish(&held.claim_id, held.epoch, &new.path(), &digest).await
}

/// Writes the files that hold anything of what must go again, and names the others as they are.
async fn copy(worker: &Worker, old: &Manifest, going: &Going, held: &Held) -> Result<Manifest, Error> {
    let mut new = Manifest::new(&old.namespace, &held.claim_id, held.epoch);
    new.replaces = std::iter::once(old.path()).chain(old.replaces.iter().cloned()).collect(); // W2
    new.lineages =
        old.lineages.iter().filter(|lineage| !going.whole.contains(&lineage.lineage_id)).cloned().collect();
    let mut number = 0;
    for file in &old.files {
        let bytes = worker.store.get(&file.path).await?;
        let copied = tokio::task::block_in_place(|| filter(file, bytes, going))?;
        let Some((spool, events)) = copied else {
            new.events += if file.table == "events" { file.rows } else { 0 };
            new.files.push(file.clone());
            continue;
        };
        new.events += events;
        let folder =
            Path::new(&file.path).parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        for finished in tokio::task::block_in_place(|| spool.finish())? {
            let name =
                format!("{folder}/{}-{}-{}-{number:04}.parquet", file.table, held.claim_id, held.epoch);
            new.files.push(worker.put_file(name, &finished).await?);
            number += 1;
        }
    }
    let mut chains = verify::Chains::default();
    for file in &new.files {
        let bytes = worker.store.get(&file.path).await?;
        tokio::task::block_in_place(|| verify::file(file, bytes, &mut chains))?;
    }
    if chains.events == new.events {
        return Ok(new);
    }
    let problem = format!("{} of {} events are there", chains.events, new.events);
    Err(verify::Bad { path: new.path(), problem }.into())
}

/// A file without what must go, and how many events are left in it; `None`: nothing in it must.
fn filter(file: &File, bytes: Bytes, going: &Going) -> Result<Option<(Spool, u64)>, Error> {
    let bad = |problem: String| verify::Bad { path: file.path.clone(), problem };
    let table = Table::find(&file.table).ok_or_else(|| bad("its table is unknown".to_owned()))?;
    let read = || {
        ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
            .map_err(|error| bad(error.to_string()))
    };
    let mut concerned = false;
    for batch in read()? {
        let batch = batch.map_err(|error| bad(error.to_string()))?;
        concerned |= lineages(&batch, &bad)?.iter().flatten().any(|lineage| going.concerns(lineage));
    }
    if !concerned {
        return Ok(None);
    }
    let mut spool = Spool::new(table);
    let mut events = 0;
    for batch in read()? {
        let batch = batch.map_err(|error| bad(error.to_string()))?;
        let left = strip(table, &batch, going, &bad)?;
        events += if table == Table::Events { left.num_rows() as u64 } else { 0 };
        spool.append(left)?;
    }
    Ok(Some((spool, events)))
}

fn lineages<'a>(
    batch: &'a RecordBatch,
    bad: &impl Fn(String) -> verify::Bad,
) -> Result<&'a arrow::array::StringArray, verify::Bad> {
    let column = batch.column_by_name("lineage_id").and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| bad("it has no column lineage_id".to_owned()))
}

/// Columns that hold or repeat what was in a payload, of tables whose rows stay.
fn from_payloads(table: Table) -> &'static [&'static str] {
    match table {
        Table::Sessions => &["key", "failure_name", "failure_code", "failure_message"],
        Table::Events => &["detail", "error_name", "error_code", "error_message"],
        Table::LlmCalls | Table::Messages | Table::Payloads => &[],
    }
}

fn strip(
    table: Table,
    batch: &RecordBatch,
    going: &Going,
    bad: &impl Fn(String) -> verify::Bad,
) -> Result<RecordBatch, Error> {
    let of = lineages(batch, bad)?;
    let all_payload = matches!(table, Table::Messages | Table::Payloads);
    let stays = |lineage: &str| match going.fate(lineage) {
        v1::LineageFate::Dropped => false,
        v1::LineageFate::Bare => !all_payload,
        v1::LineageFate::Kept | v1::LineageFate::Unspecified => true,
    };
    let keep: BooleanArray = of.iter().map(|lineage| Some(lineage.is_none_or(stays))).collect();
    let wrong = |error: arrow::error::ArrowError| bad(error.to_string());
    let kept = filter_record_batch(batch, &keep).map_err(wrong)?;
    let of = lineages(&kept, bad)?;
    let bare: BooleanArray =
        of.iter().map(|lineage| lineage.map(|lineage| going.bare.contains(lineage))).collect();
    if bare.true_count() == 0 {
        return Ok(kept);
    }
    let mut columns: Vec<ArrayRef> = kept.columns().to_vec();
    for name in from_payloads(table) {
        let at = kept.schema().index_of(name).map_err(wrong)?;
        if let Some(column) = columns.get_mut(at) {
            *column = nullif(&*column, &bare).map_err(wrong)?;
        }
    }
    if table == Table::Events {
        let at = kept.schema().index_of("raw").map_err(wrong)?;
        if let Some(column) = columns.get_mut(at) {
            *column =
                headers_only(&*column, &bare).ok_or_else(|| bad("a record is incomplete".to_owned()))?;
        }
    }
    Ok(RecordBatch::try_new(kept.schema(), columns).map_err(wrong)?)
}

/// W4.
fn headers_only(records: &ArrayRef, bare: &BooleanArray) -> Option<ArrayRef> {
    let records = records.as_binary_opt::<i32>()?;
    let mut stripped = BinaryBuilder::new();
    for row in 0..records.len() {
        let record = records.value(row);
        if bare.is_valid(row) && bare.value(row) {
            let (header, _) = decode::split(record)?;
            stripped.append_value(decode::record(header, &[]));
        } else {
            stripped.append_value(record);
        }
    }
    Some(std::sync::Arc::new(stripped.finish()))
}
