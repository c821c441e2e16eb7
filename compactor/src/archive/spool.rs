//! Rows on their way into files: batches, row groups and files of bounded size (A4).

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::tables::{Kind, Table};

/// Rows gathered before they go to the writer.
const BATCH_ROWS: usize = 4_096;
/// Bytes of them.
const BATCH_BYTES: usize = 2 << 20;
/// Bytes a row group may have in memory.
const GROUP_BYTES: usize = 12 << 20;
/// Rows of a row group.
const GROUP_ROWS: usize = 128 * 1_024;
/// Bytes after which a file is full.
const FILE_BYTES: usize = 32 << 20;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Parquet.
    #[error("a Parquet file could not be written: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow.
    #[error("rows could not be gathered: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The folder for temporary files.
    #[error("a temporary file could not be written: {0}; is there room in TMPDIR?")]
    File(#[from] std::io::Error),
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// None.
    Null,
    /// Of a text column.
    Text(&'a str),
    /// Of a number or time column.
    Int(i64),
    /// Of a flag column.
    Flag(bool),
    /// Of a bytes column.
    Bytes(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// A text; null if it is empty.
    #[must_use]
    pub fn some(text: &'a str) -> Self {
        if text.is_empty() { Cell::Null } else { Cell::Text(text) }
    }

    /// A number that is never larger than 63 bits in practice.
    #[must_use]
    pub fn count(n: u64) -> Self {
        Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// A number, or null for zero.
    #[must_use]
    pub fn positive(n: u64) -> Self {
        if n == 0 { Cell::Null } else { Cell::count(n) }
    }

    /// A number, or null.
    #[must_use]
    pub fn maybe(n: Option<i64>) -> Self {
        n.map_or(Cell::Null, Cell::Int)
    }

    fn bytes(&self) -> usize {
        match self {
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
            Cell::Null | Cell::Int(_) | Cell::Flag(_) => 8,
        }
    }
}

enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Flag(BooleanBuilder),
    Bytes(BinaryBuilder),
    Time(TimestampMillisecondBuilder),
}

impl Builder {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Builder::Text(StringBuilder::new()),
            Kind::Int => Builder::Int(Int64Builder::new()),
            Kind::Flag => Builder::Flag(BooleanBuilder::new()),
            Kind::Bytes => Builder::Bytes(BinaryBuilder::new()),
            Kind::Time => Builder::Time(TimestampMillisecondBuilder::new().with_timezone("UTC")),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Builder::Text(column), Cell::Text(text)) => column.append_value(text),
            (Builder::Int(column), Cell::Int(n)) => column.append_value(n),
            (Builder::Flag(column), Cell::Flag(flag)) => column.append_value(flag),
            (Builder::Bytes(column), Cell::Bytes(bytes)) => column.append_value(bytes),
            (Builder::Time(column), Cell::Int(ms)) => column.append_value(ms),
            (Builder::Text(column), _) => column.append_null(),
            (Builder::Int(column), _) => column.append_null(),
            (Builder::Flag(column), _) => column.append_null(),
            (Builder::Bytes(column), _) => column.append_null(),
            (Builder::Time(column), _) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Text(column) => Arc::new(column.finish()),
            Builder::Int(column) => Arc::new(column.finish()),
            Builder::Flag(column) => Arc::new(column.finish()),
            Builder::Bytes(column) => Arc::new(column.finish()),
            Builder::Time(column) => Arc::new(column.finish()),
        }
    }
}

/// A finished file, still in the folder for temporary files.
pub struct Finished {
    /// What it holds.
    pub table: Table,
    /// Which of the table's files, from 0.
    pub number: usize,
    /// Rows in it.
    pub rows: usize,
    file: tempfile::NamedTempFile,
}

impl Finished {
    /// Its bytes.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn bytes(&self) -> std::io::Result<Bytes> {
        let mut bytes = Vec::new();
        self.file.reopen()?.read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Rows of one table.
pub struct Spool {
    table: Table,
    columns: Vec<Builder>,
    pending_rows: usize,
    pending_bytes: usize,
    open: Option<Open>,
    finished: Vec<Finished>,
}

struct Open {
    writer: ArrowWriter<File>,
    file: tempfile::NamedTempFile,
    rows: usize,
}

impl Spool {
    /// No rows yet, and no file.
    #[must_use]
    pub fn new(table: Table) -> Self {
        let columns = table.columns().iter().map(|(_, kind)| Builder::new(*kind)).collect();
        Self { table, columns, pending_rows: 0, pending_bytes: 0, open: None, finished: Vec::new() }
    }

    /// Adds a row: a value for each column, in order.
    ///
    /// # Errors
    /// See `Error`.
    pub fn push<const N: usize>(&mut self, row: [Cell<'_>; N]) -> Result<(), Error> {
        debug_assert_eq!(N, self.columns.len(), "a row of {} has a value for each column", self.table.name());
        for (column, cell) in self.columns.iter_mut().zip(row) {
            self.pending_bytes += cell.bytes();
            column.push(cell);
        }
        self.pending_rows += 1;
        if self.pending_rows >= BATCH_ROWS || self.pending_bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        if self.pending_rows == 0 {
            return Ok(());
        }
        let columns = self.columns.iter_mut().map(Builder::finish).collect();
        let batch = RecordBatch::try_new(self.table.schema(), columns)?;
        (self.pending_rows, self.pending_bytes) = (0, 0);
        self.write_batch(&batch)
    }

    /// Adds rows of another file of the same table.
    ///
    /// # Errors
    /// See `Error`.
    pub fn append(&mut self, rows: RecordBatch) -> Result<(), Error> {
        self.write()?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = RecordBatch::try_new(self.table.schema(), rows.columns().to_vec())?;
        self.write_batch(&rows)
    }

    fn write_batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::new(self.table)?),
        };
        open.writer.write(batch)?;
        open.rows += batch.num_rows();
        if open.writer.in_progress_size() >= GROUP_BYTES {
            open.writer.flush()?;
        }
        if open.writer.bytes_written() >= FILE_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some(Open { writer, file, rows }) = self.open.take() else { return Ok(()) };
        writer.close()?;
        let number = self.finished.len();
        self.finished.push(Finished { table: self.table, number, rows, file });
        Ok(())
    }

    /// Writes what is left and hands the files over.
    ///
    /// # Errors
    /// See `Error`.
    pub fn finish(mut self) -> Result<Vec<Finished>, Error> {
        self.write()?;
        self.close()?;
        Ok(self.finished)
    }
}

impl Open {
    fn new(table: Table) -> Result<Self, Error> {
        let file = tempfile::NamedTempFile::new()?;
        let writer = ArrowWriter::try_new(file.reopen()?, table.schema(), Some(properties(table)))?;
        Ok(Self { writer, file, rows: 0 })
    }
}

fn properties(table: Table) -> WriterProperties {
    let sorted = (0i32..).take(table.sorted_by());
    let sorted = sorted.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true });
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_sorting_columns(Some(sorted.collect()))
        .set_created_by(concat!("cellaflow-compactor ", env!("CARGO_PKG_VERSION")).to_owned());
    // Bytes never repeat as whole values, and say nothing by their smallest and largest.
    for (name, kind) in table.columns() {
        let path = ColumnPath::from(*name);
        if *kind == Kind::Bytes || *name == "text" {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), *name == "text")
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    properties.build()
}

/// Level of compression: files are written once and read often.
const ZSTD_LEVEL: i32 = 6;
