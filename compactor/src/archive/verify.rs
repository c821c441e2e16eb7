//! Reads files again and checks them (A2): bytes, rows, and the hash chain from the raw records alone.

use std::collections::HashMap;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use cellaflow_proto::disk;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::decode;
use super::manifest::File;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{path} is not what was written: {problem}")]
pub struct Bad {
    /// The file.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

/// Rows read in one go.
const BATCH_ROWS: usize = 1_024;

/// The chains of sessions, continued from file to file.
#[derive(Default)]
pub struct Chains {
    /// Session → last seq and its hash.
    pub ends: HashMap<String, (u64, [u8; 32])>,
    /// First events that follow one that was not seen.
    pub starts: Vec<Start>,
    /// Events seen.
    pub events: u64,
}

/// A first event of a session that follows one of an earlier commit, or of a fork's parent.
pub struct Start {
    /// Session.
    pub session: String,
    /// Seq.
    pub seq: u64,
    /// Whose event it follows, by session and seq.
    pub after: (String, u64),
    header: Bytes,
    hash: [u8; 32],
}

impl Start {
    /// True if it follows an event with this hash.
    #[must_use]
    pub fn follows(&self, previous: &[u8; 32]) -> bool {
        decode::chain(previous, &self.header) == self.hash
    }

    fn new(session: &str, header: Bytes, hash: [u8; 32], said: &disk::EventHeader) -> Self {
        let seq = said.seq;
        let after = match &said.body {
            Some(disk::event_header::Body::SessionStarted(started)) => {
                (id(&started.parent_id), started.parent_seq)
            }
            _ => (session.to_owned(), seq.saturating_sub(1)),
        };
        Self { session: session.to_owned(), seq, after, header, hash }
    }
}

/// Checks a file's bytes against its manifest, and decodes all of it.
///
/// # Errors
/// `Bad`.
pub fn file(file: &File, bytes: Bytes, chains: &mut Chains) -> Result<(), Bad> {
    let bad = |problem: String| Bad { path: file.path.clone(), problem };
    if bytes.len() as u64 != file.bytes || blake3::hash(&bytes).to_hex().as_str() != file.blake3 {
        return Err(bad("it has other bytes".to_owned()));
    }
    let mut rows = 0;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .map_err(|error| bad(error.to_string()))?;
    for batch in reader {
        let batch = batch.map_err(|error| bad(error.to_string()))?;
        rows += batch.num_rows() as u64;
        if file.table == "events" {
            follow(&batch, chains).map_err(&bad)?;
        }
    }
    if rows == file.rows { Ok(()) } else { Err(bad(format!("it has {rows} rows instead of {}", file.rows))) }
}

/// Continues the chains; the first event of a session that follows no known one is noted: a fork's parent, or an earlier
/// commit, has the one before (`walk`).
fn follow(batch: &RecordBatch, chains: &mut Chains) -> Result<(), String> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("it has no column {name}"));
    let sessions = column("session_id")?.as_string::<i32>();
    let seqs = column("seq")?.as_primitive::<Int64Type>();
    let hashes = column("hash")?.as_binary::<i32>();
    let records = column("raw")?.as_binary::<i32>();
    for row in 0..batch.num_rows() {
        if sessions.is_null(row) || seqs.is_null(row) || hashes.is_null(row) || records.is_null(row) {
            return Err("an event lacks its key, hash or record".to_owned());
        }
        let session = sessions.value(row);
        let seq = u64::try_from(seqs.value(row)).unwrap_or_default();
        let wrong = || format!("event {seq} of session {session} does not follow");
        let (header, payloads) = decode::split(records.value(row)).ok_or_else(wrong)?;
        let hash = <[u8; 32]>::try_from(hashes.value(row)).map_err(|_| wrong())?;
        let before = match chains.ends.get(session) {
            Some((last, hash)) if last + 1 == seq => Some(*hash),
            Some(_) => return Err(wrong()),
            None if seq == 1 => Some([0; 32]),
            None => None,
        };
        if before.is_some_and(|before| decode::chain(&before, header) != hash) {
            return Err(wrong());
        }
        let header = Bytes::copy_from_slice(header);
        let event =
            decode::event(&header, &Bytes::copy_from_slice(payloads)).map_err(|error| error.to_string())?;
        if before.is_none() {
            chains.starts.push(Start::new(session, header, hash, &event.header));
        }
        chains.ends.insert(session.to_owned(), (seq, hash));
        chains.events += 1;
    }
    Ok(())
}

/// A session's id as text.
#[must_use]
pub fn id(bytes: &[u8]) -> String {
    let digits = hex::encode(bytes);
    let part = |range| digits.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// Session, seq and hash of every event of a file, for looking up what a `Start` follows.
///
/// # Errors
/// `Bad` if it cannot be read.
pub fn each_hash(file: &File, bytes: Bytes, mut visit: impl FnMut(&str, u64, &[u8])) -> Result<(), Bad> {
    let bad = |problem: String| Bad { path: file.path.clone(), problem };
    let wrong = |error: &dyn std::error::Error| bad(error.to_string());
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| wrong(&error))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["session_id", "seq", "hash"]);
    let reader =
        builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(|error| wrong(&error))?;
    for batch in reader {
        let batch = batch.map_err(|error| wrong(&error))?;
        let column = |name| batch.column_by_name(name).ok_or_else(|| bad(format!("it has no column {name}")));
        let sessions = column("session_id")?.as_string::<i32>();
        let seqs = column("seq")?.as_primitive::<Int64Type>();
        let hashes = column("hash")?.as_binary::<i32>();
        for row in 0..batch.num_rows() {
            visit(sessions.value(row), seqs.value(row).cast_unsigned(), hashes.value(row));
        }
    }
    Ok(())
}
