//! The envelope of every stored value: format byte, CRC32C, body.
//!
//! Owns the format bytes, the checksum and the compression of payload chunks. Never knows what a body says; rows and
//! events are taken apart by those who own them.
//!
//! C1. Format bytes are assigned once. An unknown one is an error that names it, never a guess.
//! C2. The checksum covers the format byte and the body (CRC32C, big-endian); a mismatch names the key.
//! C3. A chunk is compressed (zstd, level 1) only if that saves at least 5 %, and of a large one's beginning a third; it
//!     is never inflated beyond `CHUNK_BYTES_MAX`, whatever it claims.
//!
//! ```text
//! 01 row       a message of the disk package
//! 02 event     header and inline payloads
//! 03 chunk     payload bytes as they are
//! 04 chunk     payload length 4, zstd frame
//! 05 position  ledger id 16, frame 8, frame hash 32, shard epoch 8
//! 06 mark      a row whose presence is all it says
//! ```

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Fault, LedgerId, Position, Table};
use crate::graph::ids::{FrameNumber, Hash};

/// The most payload bytes in one chunk: 256 KiB.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// What the envelope adds to a body: format byte and checksum.
pub const ENVELOPE_BYTES: usize = 1 + 4;

const ZSTD_LEVEL: i32 = 1;
const POSITION_BYTES: usize = 16 + 8 + 32 + 8;

/// How a stored body is to be read; the bytes are assigned once (C1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// A message of the disk package.
    Row = 1,
    /// An event: header and inline payloads.
    Event = 2,
    /// Payload bytes as they are.
    Chunk = 3,
    /// Compressed payload bytes.
    ChunkZstd = 4,
    /// The ledger's position.
    Position = 5,
    /// Nothing: the key says it all.
    Mark = 6,
}

impl Format {
    const ALL: [Format; 6] =
        [Format::Row, Format::Event, Format::Chunk, Format::ChunkZstd, Format::Position, Format::Mark];

    fn parse(byte: u8) -> Option<Format> {
        Format::ALL.into_iter().find(|format| *format as u8 == byte)
    }
}

/// Puts `body` into its envelope.
pub fn seal(format: Format, body: &[u8]) -> Bytes {
    seal_parts(format, &[body])
}

/// Puts the concatenation of `parts` into one envelope, without joining them first.
pub fn seal_parts(format: Format, parts: &[&[u8]]) -> Bytes {
    let body_bytes = parts.iter().map(|part| part.len()).sum::<usize>();
    let crc =
        parts.iter().fold(crc32c::crc32c(&[format as u8]), |crc, part| crc32c::crc32c_append(crc, part));
    let mut value = BytesMut::with_capacity(ENVELOPE_BYTES.saturating_add(body_bytes));
    value.put_u8(format as u8);
    value.put_u32(crc);
    parts.iter().for_each(|part| value.put_slice(part));
    value.freeze()
}

/// Takes a value out of its envelope; the body shares the value's memory. `table` and `key` are for the error.
///
/// # Errors
/// `UnknownFormat` for a byte of a later version (C1); `Corrupt` for a bad checksum (C2) or less than an envelope.
pub fn open(table: Table, key: &[u8], value: &Bytes) -> Result<(Format, Bytes), Fault> {
    let mut rest = value.as_ref();
    let (Some([format]), Some(crc)) = (take::<1>(&mut rest), take::<4>(&mut rest)) else {
        return Err(Fault::corrupt(
            table,
            key,
            format!("it has {} bytes, less than an envelope", value.len()),
        ));
    };
    // The checksum comes first: a flipped bit in the format byte is damage, not a later version.
    if crc32c::crc32c_append(crc32c::crc32c(&[format]), rest) != u32::from_be_bytes(crc) {
        return Err(Fault::corrupt(table, key, "its checksum does not match"));
    }
    match Format::parse(format) {
        Some(known) => Ok((known, value.slice(ENVELOPE_BYTES..))),
        None => Err(Fault::UnknownFormat { table, key: key.to_vec(), format }),
    }
}

/// Takes a value out of its envelope if it has the format that belongs under its key.
///
/// # Errors
/// As `open`; `Corrupt` for another known format.
pub fn open_as(wanted: Format, table: Table, key: &[u8], value: &Bytes) -> Result<Bytes, Fault> {
    match open(table, key, value)? {
        (format, body) if format == wanted => Ok(body),
        (format, _) => {
            Err(Fault::corrupt(table, key, format!("it is a {format:?} where a {wanted:?} belongs")))
        }
    }
}

/// Puts payload bytes, at most `CHUNK_BYTES_MAX` of them, into an envelope, compressed if that pays (C3).
pub fn seal_chunk(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let worth = |packed: usize| packed + length.len() <= payload.len() - payload.len() / PACKED_GAIN;
    match pack(payload) {
        Some(packed) if payload.len() <= CHUNK_BYTES_MAX && worth(packed.len()) => {
            seal_parts(Format::ChunkZstd, &[&length, &packed])
        }
        Some(_) | None => seal(Format::Chunk, payload),
    }
}

/// Compresses, unless the beginning says that it does not pay: somebody waits for it, and what is hardly compressible
/// is compressed as well as it can be where it comes to rest.
fn pack(payload: &[u8]) -> Option<Vec<u8>> {
    let sample = payload.get(..SAMPLE_BYTES).unwrap_or(payload);
    PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            // What cannot be compressed is kept as it is; there is nothing to report.
            *packer = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        let packer = packer.as_mut()?;
        let sampled = packer.compress(sample).ok()?;
        if sample.len() == payload.len() {
            return Some(sampled);
        }
        let pays = sampled.len() <= sample.len() - sample.len() / SAMPLE_GAIN;
        if pays { packer.compress(payload).ok() } else { None }
    })
}

thread_local! {
    /// A compressor is large and slow to make: each thread that seals chunks keeps one.
    static PACKER: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// A chunk is kept compressed if that saves at least one part in so many.
const PACKED_GAIN: usize = 20;
/// A chunk is compressed as a whole if that saves of its first bytes at least one part in so many.
const SAMPLE_GAIN: usize = 3;
/// Bytes at a chunk's beginning that are tried.
const SAMPLE_BYTES: usize = 8 * 1_024;

/// Takes payload bytes out of their envelope.
///
/// # Errors
/// As `open`; `Corrupt` if the chunk is no chunk, claims more than `CHUNK_BYTES_MAX` or does not inflate to its length.
pub fn open_chunk(key: &[u8], value: &Bytes) -> Result<Bytes, Fault> {
    let corrupt = |problem: String| Fault::corrupt(Table::Ledger, key, problem);
    let (format, body) = open(Table::Ledger, key, value)?;
    match format {
        Format::Chunk => Ok(body),
        Format::ChunkZstd => inflate(&body).map_err(corrupt),
        Format::Row | Format::Event | Format::Position | Format::Mark => {
            Err(corrupt(format!("it is a {format:?} where a chunk belongs")))
        }
    }
}

fn inflate(body: &[u8]) -> Result<Bytes, String> {
    let mut packed = body;
    let claimed = take::<4>(&mut packed).map(u32::from_be_bytes).ok_or("its length is missing")?;
    let length = usize::try_from(claimed).map_err(|error| error.to_string())?;
    if length > CHUNK_BYTES_MAX {
        return Err(format!("it claims {length} bytes, and a chunk has at most {CHUNK_BYTES_MAX}"));
    }
    let payload =
        zstd::bulk::decompress(packed, length).map_err(|error| format!("it does not inflate: {error}"))?;
    if payload.len() != length {
        return Err(format!("it inflates to {} bytes instead of {length}", payload.len()));
    }
    Ok(Bytes::from(payload))
}

/// Encodes the row that says where the ledger stands.
pub(super) fn seal_position(position: &Position) -> Bytes {
    seal_parts(
        Format::Position,
        &[
            &position.ledger_id.0,
            &position.frame.0.to_be_bytes(),
            &position.frame_hash.0,
            &position.shard_epoch.to_be_bytes(),
        ],
    )
}

/// Decodes the row that says where the ledger stands.
pub(super) fn open_position(key: &[u8], value: &Bytes) -> Result<Position, Fault> {
    let body = open_as(Format::Position, Table::Rows, key, value)?;
    read_position(&body).ok_or_else(|| {
        Fault::corrupt(
            Table::Rows,
            key,
            format!("it has {} bytes and a position has {POSITION_BYTES}", body.len()),
        )
    })
}

fn read_position(mut body: &[u8]) -> Option<Position> {
    let position = Position {
        ledger_id: LedgerId(take(&mut body)?),
        frame: FrameNumber(u64::from_be_bytes(take(&mut body)?)),
        frame_hash: Hash(take(&mut body)?),
        shard_epoch: u64::from_be_bytes(take(&mut body)?),
    };
    body.is_empty().then_some(position)
}

/// Takes `N` bytes off the front.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (part, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*part)
}
