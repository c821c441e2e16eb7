//! Brings a lineage back: its stored events and payloads are read from the files of its commits and given to the engine,
//! which checks every hash and digest before it shows them.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use cellaflow_proto::v1;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use super::job::{Error, Worker};
use super::manifest::{self, Manifest};
use super::{decode, verify};

/// Bytes of events or chunks given to the engine in one request.
const PAGE_BYTES: usize = 512 * 1024;
/// Rows read in one go.
const BATCH_ROWS: usize = 256;

/// What was brought back.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The lineage.
    pub lineage_id: String,
    /// Its sessions.
    pub sessions: u32,
    /// Their events.
    pub events: u64,
}

/// Restores the lineage of a session; `None`: it is not archived.
///
/// # Errors
/// See `Error`. What was written before an error is not seen by anybody, and written again by the next try.
pub async fn lineage(worker: &Worker, session_id: &str) -> Result<Option<Restored>, Error> {
    let request = v1::GetArchivedRequest { session_id: session_id.to_owned() };
    let known = worker.engine.clone().get_archived(request).await?.into_inner();
    if !known.archived {
        return Ok(None);
    }
    let worker = Worker { namespace: known.namespace.clone(), ..worker.clone() };
    super::run::publish_left(&worker).await?;
    // Before anything is claimed: in another archive there is nothing of it.
    for part in &known.parts {
        manifest_of(&worker, part).await?;
    }
    let held = worker.claim(vec![known.lineage_id.clone()], v1::ClaimPurpose::Restore).await?;
    let Some(held) = held else {
        let busy = "another worker restores or rewrites this session now: look again in a moment";
        return Err(Error::Refused(busy.to_owned()));
    };
    let giving = Giving { worker: &worker, claim_id: held.claim_id.clone(), lineage_id: known.lineage_id };
    let mut stop = worker.stop.clone();
    let work = async {
        tokio::select! {
            given = giving.all(&known.parts) => given,
            lost = held.lost() => Err(lost),
            _ = stop.wait_for(|stop| *stop) => Err(Error::Stopped),
        }
    };
    worker.under(&held, v1::ClaimPurpose::Restore, work).await.map(Some)
}

async fn manifest_of(worker: &Worker, part: &v1::ArchivePart) -> Result<Manifest, Error> {
    let path = manifest::path(&worker.namespace, &part.claim_id, part.epoch);
    match manifest::load(&worker.store, &path).await {
        Err(Error::Store(error)) if error.is_not_found() => Err(Error::Elsewhere(path)),
        other => other,
    }
}

/// A lineage on its way back.
struct Giving<'a> {
    worker: &'a Worker,
    claim_id: String,
    lineage_id: String,
}

impl Giving<'_> {
    async fn all(&self, parts: &[v1::ArchivePart]) -> Result<Restored, Error> {
        for part in parts {
            self.part(part).await?;
        }
        super::job::breakpoint("given").await;
        let request = v1::FinishRestoreRequest {
            namespace: self.worker.namespace.clone(),
            claim_id: self.claim_id.clone(),
            lineage_id: self.lineage_id.clone(),
        };
        let finished = self.worker.engine.clone().finish_restore(request).await?.into_inner();
        let (sessions, events) = (finished.sessions, finished.events);
        Ok(Restored { lineage_id: self.lineage_id.clone(), sessions, events })
    }

    async fn part(&self, part: &v1::ArchivePart) -> Result<(), Error> {
        let manifest = manifest_of(self.worker, part).await?;
        for file in manifest.files.iter().filter(|file| file.table == "events" || file.table == "payloads") {
            let bytes = self.worker.store.get(&file.path).await?;
            let bad = |problem: String| verify::Bad { path: file.path.clone(), problem };
            let reader = rows_of(bytes, &self.lineage_id).map_err(|error| bad(error.to_string()))?;
            let mut page = Page::default();
            for batch in reader {
                let batch = batch.map_err(|error| bad(error.to_string()))?;
                for row in 0..batch.num_rows() {
                    if text(&batch, "lineage_id", row) != Some(self.lineage_id.as_str()) {
                        continue;
                    }
                    let ready = page
                        .take(&batch, row, &file.table)
                        .ok_or_else(|| bad("a row is incomplete".to_owned()))?;
                    if let Some(ready) = ready {
                        self.give(ready).await?;
                    }
                }
            }
            self.give(page).await?;
        }
        Ok(())
    }

    async fn give(&self, page: Page) -> Result<(), Error> {
        if page.events.is_empty() && page.chunks.is_empty() {
            return Ok(());
        }
        let request = v1::RestorePageRequest {
            namespace: self.worker.namespace.clone(),
            claim_id: self.claim_id.clone(),
            lineage_id: self.lineage_id.clone(),
            session_id: page.session_id,
            events: page.events,
            chunks: page.chunks,
        };
        self.worker.engine.clone().restore_page(request).await?;
        Ok(())
    }
}

/// Rows of one session, or chunks, for one request.
#[derive(Default)]
struct Page {
    session_id: String,
    events: Vec<v1::RawEvent>,
    chunks: Vec<v1::RawChunk>,
    bytes: usize,
}

impl Page {
    /// Takes a row in; gives back what is to be sent before it. `None`: the row is incomplete.
    fn take(&mut self, batch: &RecordBatch, row: usize, table: &str) -> Option<Option<Page>> {
        let mut ready = None;
        if table == "events" {
            let session_id = text(batch, "session_id", row)?;
            if self.bytes >= PAGE_BYTES || self.session_id != session_id {
                let fresh = Page { session_id: session_id.to_owned(), ..Page::default() };
                ready = Some(std::mem::replace(self, fresh));
            }
            let record = bytes(batch, "raw", row)?;
            let (header, payloads) = decode::split(record)?;
            self.bytes += record.len();
            self.events.push(v1::RawEvent {
                seq: number(batch, "seq", row)?,
                header: Bytes::copy_from_slice(header),
                payloads: Bytes::copy_from_slice(payloads),
                hash: Bytes::copy_from_slice(bytes(batch, "hash", row)?),
            });
        } else {
            if self.bytes >= PAGE_BYTES {
                ready = Some(std::mem::take(self));
            }
            let data = bytes(batch, "data", row)?;
            self.bytes += data.len();
            self.chunks.push(v1::RawChunk {
                digest: Bytes::copy_from_slice(bytes(batch, "digest", row)?),
                n: u32::try_from(number(batch, "n", row)?).ok()?,
                data: Bytes::copy_from_slice(data),
            });
        }
        Some(ready)
    }
}

/// The row groups of a file that may hold a lineage.
fn rows_of(bytes: Bytes, lineage_id: &str) -> parquet::errors::Result<ParquetRecordBatchReader> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let groups = builder.metadata().row_groups().iter().enumerate();
    let wanted = groups.filter(|(_, group)| may_hold(group, lineage_id)).map(|(n, _)| n).collect();
    builder.with_row_groups(wanted).with_batch_size(BATCH_ROWS).build()
}

/// `lineage_id` is the first column of every table.
fn may_hold(group: &RowGroupMetaData, lineage_id: &str) -> bool {
    match group.columns().first().and_then(|column| column.statistics()) {
        Some(Statistics::ByteArray(range)) => {
            let least = range.min_opt().is_none_or(|min| min.data() <= lineage_id.as_bytes());
            let most = range.max_opt().is_none_or(|max| max.data() >= lineage_id.as_bytes());
            least && most
        }
        _ => true,
    }
}

fn text<'a>(batch: &'a RecordBatch, name: &str, row: usize) -> Option<&'a str> {
    let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
    (!column.is_null(row)).then(|| column.value(row))
}

fn bytes<'a>(batch: &'a RecordBatch, name: &str, row: usize) -> Option<&'a [u8]> {
    let column = batch.column_by_name(name)?.as_binary_opt::<i32>()?;
    (!column.is_null(row)).then(|| column.value(row))
}

fn number(batch: &RecordBatch, name: &str, row: usize) -> Option<u64> {
    let column = batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    (!column.is_null(row)).then(|| u64::try_from(column.value(row)).ok()).flatten()
}
