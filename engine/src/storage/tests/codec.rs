//! The envelope (C1 to C3).

use bytes::Bytes;

use super::rig::{LEDGER, noise};
use crate::graph::ids::{FrameNumber, Hash};
use crate::storage::codec::{self, CHUNK_BYTES_MAX, ENVELOPE_BYTES, Format};
use crate::storage::{Fault, Position, Table};

const KEY: &[u8] = b"\x10key";

// The bytes on disk may never change.
#[test]
fn envelopes_are_pinned() {
    let golden = [
        (codec::seal(Format::Row, b"row"), "014e79aa28726f77"),
        (codec::seal(Format::Event, b"event"), "02f65203b86576656e74"),
        (codec::seal(Format::Chunk, b"chunk"), "036c8f4f216368756e6b"),
        (codec::seal(Format::Mark, b""), "0674dcb4b9"),
        (
            codec::seal_position(&Position {
                ledger_id: LEDGER,
                frame: FrameNumber(0x0102),
                frame_hash: Hash([9; 32]),
                shard_epoch: 3,
            }),
            "05b5688f8a07070707070707070707070707070707000000000000010209090909090909090909090909090909090909090909090909090909090909090000000000000003",
        ),
    ];
    for (value, hex) in golden {
        assert_eq!(hex::encode(&value), hex);
    }
}

#[test]
fn what_is_sealed_is_opened() {
    for format in [Format::Row, Format::Event, Format::Chunk, Format::Mark] {
        let value = codec::seal_parts(format, &[b"in ", b"", b"parts"]);
        assert_eq!(value, codec::seal(format, b"in parts"));
        assert_eq!(codec::open(Table::Rows, KEY, &value).unwrap(), (format, Bytes::from_static(b"in parts")));
        assert_eq!(codec::open_as(format, Table::Rows, KEY, &value).unwrap(), "in parts");
    }
}

// C2
#[test]
fn every_flipped_bit_is_noticed_and_names_the_key() {
    let value = codec::seal(Format::Row, b"some bytes");
    for at in 0..value.len() {
        for bit in 0..8 {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1 << bit;
            let fault = codec::open(Table::Rows, KEY, &Bytes::from(damaged)).unwrap_err();
            assert!(matches!(&fault, Fault::Corrupt { key, .. } if key == KEY), "byte {at}: {fault}");
            assert!(fault.to_string().contains("rows/106b6579"), "{fault}");
        }
    }
    for length in 0..ENVELOPE_BYTES {
        assert!(codec::open(Table::Rows, KEY, &value.slice(..length)).is_err());
    }
}

// C1
#[test]
fn an_unknown_format_is_named() {
    let mut value = vec![0x7e];
    value.extend(crc32c::crc32c(b"\x7ebody").to_be_bytes());
    value.extend(b"body");
    let fault = codec::open(Table::Ledger, KEY, &Bytes::from(value)).unwrap_err();
    assert_eq!(fault, Fault::UnknownFormat { table: Table::Ledger, key: KEY.to_vec(), format: 0x7e });
    assert!(fault.to_string().contains("0x7e"), "{fault}");
}

#[test]
fn a_known_format_in_the_wrong_place_is_damage() {
    let value = codec::seal(Format::Event, b"event");
    assert!(matches!(codec::open_as(Format::Row, Table::Rows, KEY, &value), Err(Fault::Corrupt { .. })));
    assert!(matches!(codec::open_chunk(KEY, &value), Err(Fault::Corrupt { .. })));
}

// C3
#[test]
fn a_chunk_is_compressed_only_if_it_pays() {
    let format = |value: &Bytes| codec::open(Table::Ledger, KEY, value).unwrap().0;
    let text = b"to be or not to be; ".repeat(500);
    let packed = codec::seal_chunk(&text);
    assert_eq!(format(&packed), Format::ChunkZstd);
    assert!(packed.len() < text.len() / 10);
    let noise = noise(1, 10_000);
    let raw = codec::seal_chunk(&noise);
    assert_eq!((format(&raw), raw.len()), (Format::Chunk, noise.len() + ENVELOPE_BYTES));
    // 3 % of savings are not worth a decompression on every read.
    let mut nearly = noise.clone();
    nearly.extend([0; 300]);
    assert_eq!(format(&codec::seal_chunk(&nearly)), Format::Chunk);
    for payload in [text.as_slice(), &noise, &nearly, b"", b"x"] {
        assert_eq!(codec::open_chunk(KEY, &codec::seal_chunk(payload)).unwrap(), payload);
    }
}

// C3
#[test]
fn a_chunk_never_inflates_beyond_its_limit_or_its_word() {
    let zeros = |length: usize, claimed: u32| {
        let packed = zstd::bulk::compress(&vec![0; length], 3).unwrap();
        codec::seal_parts(Format::ChunkZstd, &[&claimed.to_be_bytes(), &packed])
    };
    let limit = u32::try_from(CHUNK_BYTES_MAX).unwrap();
    assert_eq!(codec::open_chunk(KEY, &zeros(CHUNK_BYTES_MAX, limit)).unwrap().len(), CHUNK_BYTES_MAX);
    for (length, claimed) in
        [(CHUNK_BYTES_MAX + 1, limit + 1), (CHUNK_BYTES_MAX * 100, limit), (100, 200), (200, 100)]
    {
        let fault = codec::open_chunk(KEY, &zeros(length, claimed)).unwrap_err();
        assert!(matches!(fault, Fault::Corrupt { .. }), "{length} bytes claiming {claimed}: {fault}");
    }
    let short = codec::seal(Format::ChunkZstd, b"abc");
    assert!(matches!(codec::open_chunk(KEY, &short), Err(Fault::Corrupt { .. })));
}

// C2: the published check value, so that other programs can read the files.
#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    let value = codec::seal(Format::Row, b"body");
    assert_eq!(value[1..5], crc32c::crc32c(b"\x01body").to_be_bytes());
}
