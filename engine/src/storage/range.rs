//! Key ranges, and the pages read from them.
//!
//! R1. A range holds its first key and not its end; no key follows an absent end.
//! R2. A page ends at a limit of rows or bytes, but holds at least one row if the range has one: reading goes on.

use bytes::Bytes;

use super::Table;

/// A half-open range of keys: `from` is in it, `to` is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl KeyRange {
    /// Names all keys from `from` up to and without `to`; empty if they are the wrong way round.
    pub fn new(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        let (from, to) = (from.into(), to.into());
        let to = to.max(from.clone());
        KeyRange { from, to }
    }

    /// Names all keys that start with `prefix`.
    ///
    /// No kind byte is 0xff, so a prefix always has a successor; a run of 0xff gets an end above every key in use.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let from = prefix.into();
        let mut to = from.clone();
        while let Some(last) = to.pop() {
            if let Some(next) = last.checked_add(1) {
                to.push(next);
                return KeyRange { from, to };
            }
        }
        KeyRange { from, to: vec![0xff; END_OF_KEYS_BYTES] }
    }

    /// Starts the range at `from` if that is later than its present start.
    #[must_use]
    pub fn starting_at(self, from: impl Into<Vec<u8>>) -> Self {
        let from = from.into().max(self.from);
        KeyRange::new(from, self.to)
    }

    /// The first key.
    pub fn from(&self) -> &[u8] {
        &self.from
    }

    /// The first key after the range.
    pub fn to(&self) -> &[u8] {
        &self.to
    }

    /// Tells whether the range holds `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && key < self.to.as_slice()
    }

    /// Tells whether the range can hold no key.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// Longer than any key, so that a run of this many 0xff sorts after all of them.
const END_OF_KEYS_BYTES: usize = 512;

/// Which way a page is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first key up.
    Forward,
    /// From the last key down.
    Backward,
}

/// Asks for one page.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    /// The table.
    pub table: Table,
    /// The keys to read.
    pub range: &'a KeyRange,
    /// Where the page before this one stopped (`Page::next`); that key itself is not read again.
    pub after: Option<&'a [u8]>,
    /// Which way to read.
    pub direction: Direction,
    /// The most rows in the page; at least one is read.
    pub rows_max: usize,
    /// The most bytes of keys and values in the page; the row that passes it is the last.
    pub bytes_max: usize,
}

impl<'a> Scan<'a> {
    /// Asks for a page from the start of `range`, with limits that fit a reader's memory (256 rows, 256 KiB).
    pub fn forward(table: Table, range: &'a KeyRange) -> Self {
        Scan {
            table,
            range,
            after: None,
            direction: Direction::Forward,
            rows_max: 256,
            bytes_max: 256 * 1024,
        }
    }

    /// Asks for a page from the end of `range`, with the same limits.
    pub fn backward(table: Table, range: &'a KeyRange) -> Self {
        Scan { direction: Direction::Backward, ..Scan::forward(table, range) }
    }

    /// Narrows the range to what `after` leaves of it.
    pub(super) fn rest(&self) -> KeyRange {
        match (self.after, self.direction) {
            (None, _) => self.range.clone(),
            (Some(after), Direction::Forward) => {
                let mut next = after.to_vec();
                next.push(0);
                self.range.clone().starting_at(next)
            }
            (Some(after), Direction::Backward) => {
                KeyRange::new(self.range.from(), after.min(self.range.to()))
            }
        }
    }
}

/// One stored row, envelope included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// A bounded run of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order of reading.
    pub rows: Vec<Row>,
    /// The last key read if there are more rows after it: hand it to `Scan::after`.
    pub next: Option<Bytes>,
}

/// Collects rows until the page is full (R2).
pub(super) struct PageBuilder {
    page: Page,
    rows_left: usize,
    bytes_left: usize,
}

impl PageBuilder {
    pub(super) fn new(scan: &Scan<'_>) -> Self {
        PageBuilder {
            page: Page::default(),
            rows_left: scan.rows_max.max(1),
            bytes_left: scan.bytes_max.max(1),
        }
    }

    /// Tells whether the page takes no more rows; a row found now makes `next`.
    pub(super) fn is_full(&self) -> bool {
        self.rows_left == 0 || self.bytes_left == 0
    }

    pub(super) fn push(&mut self, row: Row) {
        self.rows_left = self.rows_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(row.key.len().saturating_add(row.value.len()));
        self.page.rows.push(row);
    }

    /// Ends the page; `more` says that a row was found behind it.
    pub(super) fn finish(mut self, more: bool) -> Page {
        self.page.next = if more { self.page.rows.last().map(|row| row.key.clone()) } else { None };
        self.page
    }
}
