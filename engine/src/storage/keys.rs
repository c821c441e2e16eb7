//! The whole key space on one page.
//!
//! Owns every byte that a stored key is made of. Never reads or writes a value.
//!
//! K1. A byte that names a kind is assigned once; a retired or reserved one stays in the lists below for ever.
//! K2. Numbers are big-endian, so keys sort as the numbers do.
//! K3. Every key of `Table::Ledger` leads with (segment, lineage): what belongs to a lineage is one range and goes as one.
//! K4. `parse` gives back what `bytes` was made from, and refuses every other byte string.
//!
//! ```text
//! rows     kind
//!          01                                             position of the ledger
//!          02                                             incarnation of the ledger
//!          10   session 16                                head
//!          11   digest 32                                 session key   (namespace-salted namespace + workflow + key)
//!          12   digest 32                                 guard         (namespace-salted step name + key)
//!          13   lineage 16                                locator: the lineage's segment
//!          20   name                                      namespace: salt, system session
//!          21   digest 32                                 token
//!          30   system session 16, session 16             list of a namespace's sessions, by creation
//!          31   session 16                                live: not ended
//!          32   due ms 8, session 16, what 1, seq 8       due
//!          33   system session 16, label 16, session 16   label (half of a hash of key and value), by creation
//!          34   session 16, session 16                    to start: the second, child or successor of the first
//!          35   session 16                                budget, by its owner
//!          36   session 16, digest 32, part 4             guarded step, kept beside its lineage (digest of the step key):
//!                                                         part 0 its idempotency key, 1 outcome, 2 and on a large output
//!          37   digest 32                                 version of a workflow (hash of namespace, workflow, version)
//!          14   lineage 16                                archive: claim, commits, what is left of an archived lineage
//!          15   claim 16                                  archive commit whose manifest is not published yet
//!          16   session 16                                stub of a session that is or was archived
//!          38   segment 4                                 segment: what in it is dead and not given back
//!          39   system session 16, session 16             ended: in a namespace, and not archived, by creation
//!          reserved: 40 price file
//! ledger   segment 4, lineage 16, kind
//!          01                                             lineage: salt, creation
//!          02   session 16, seq 8                         event
//!          03   session 16, digest 32                     step index    (digest of the step key)
//!          04   digest 32, n 4                            chunk n of a payload
//!          05   session 16, entry seq 8, attempt 4, n 4   evidence of a zone's attempt
//!          06   session 16, id hash 16                    signal id   (blake3 of the id, first half)
//!          08   session 16, version 4, n 4                context     version 0: how far it is folded (n 0) and the
//!                                                         fold's state; others: a version (n 0) and its texts
//!          reserved: 07 signal
//! ```

mod parts;
mod ranges;

use bytes::Bytes;

use crate::graph::ids::{ClaimId, Digest, LineageId, Seq, SessionId, TimeMs};
use parts::{Reader, Writer};

pub use parts::BadKey;

/// A time range of lineage starts; space is reclaimed by segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(pub u32);

impl Segment {
    /// Returns the segment of a lineage that starts at `start`; segments are `segment_ms` long (a day by default).
    pub fn at(start: TimeMs, segment_ms: u64) -> Self {
        let n = start.0.checked_div(segment_ms).unwrap_or(0);
        Segment(u32::try_from(n).unwrap_or(u32::MAX))
    }
}

/// Kind bytes of `Table::Rows` (K1).
mod row {
    pub(super) const POSITION: u8 = 0x01;
    pub(super) const INCARNATION: u8 = 0x02;
    pub(super) const HEAD: u8 = 0x10;
    pub(super) const SESSION_KEY: u8 = 0x11;
    pub(super) const GUARD: u8 = 0x12;
    pub(super) const LOCATOR: u8 = 0x13;
    pub(super) const NAMESPACE: u8 = 0x20;
    pub(super) const TOKEN: u8 = 0x21;
    pub(super) const LIST: u8 = 0x30;
    pub(super) const LIVE: u8 = 0x31;
    pub(super) const DUE: u8 = 0x32;
    pub(super) const TO_START: u8 = 0x34;
    pub(super) const BUDGET: u8 = 0x35;
    pub(super) const GUARDED: u8 = 0x36;
    pub(super) const WORKFLOW: u8 = 0x37;

    pub(super) const LABEL: u8 = 0x33;
    pub(super) const ARCHIVE: u8 = 0x14;
    pub(super) const COMMIT: u8 = 0x15;
    pub(super) const STUB: u8 = 0x16;
    pub(super) const SEGMENT: u8 = 0x38;
    pub(super) const ENDED: u8 = 0x39;

    /// Named now so that nothing else takes it: price file.
    pub(super) const RESERVED: [u8; 1] = [0x40];
}

/// Kind bytes of `Table::Ledger` (K1).
mod item {
    pub(super) const LINEAGE: u8 = 0x01;
    pub(super) const EVENT: u8 = 0x02;
    pub(super) const STEP: u8 = 0x03;
    pub(super) const CHUNK: u8 = 0x04;
    pub(super) const EVIDENCE: u8 = 0x05;

    pub(super) const SIGNAL_ID: u8 = 0x06;

    pub(super) const CONTEXT: u8 = 0x08;

    /// Named now so that nothing else takes it: signal.
    pub(super) const RESERVED: [u8; 1] = [0x07];
}

const ID: usize = size_of::<SessionId>();
const DIGEST: usize = size_of::<Digest>();
const U64: usize = size_of::<u64>();
const U32: usize = size_of::<u32>();
/// Segment, lineage, kind.
const LEDGER_PREFIX: usize = U32 + ID + 1;

const _: () = assert!(size_of::<LineageId>() == 16 && size_of::<SessionId>() == 16);
const _: () = assert!(DIGEST == 32);
const _: () = assert!(LEDGER_PREFIX == 21);
const _: () = assert!(RowKey::LIST_BYTES == 33 && RowKey::TO_START_BYTES == 33 && RowKey::DUE_BYTES == 34);
const _: () = assert!(RowKey::GUARDED_BYTES == 53);
const _: () =
    assert!(LedgerKey::EVENT_BYTES == 45 && LedgerKey::STEP_BYTES == 69 && LedgerKey::CHUNK_BYTES == 57);
const _: () = assert!(LedgerKey::EVIDENCE_BYTES == 53 && LedgerKey::SIGNAL_ID_BYTES == 53);
const _: () = assert!(LedgerKey::CONTEXT_BYTES == 45);

/// The longest name of a namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 128;

/// What becomes due; the bytes are assigned once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Due {
    /// A timer of the workflow.
    Timer = 1,
    /// A guarded step's attempt time and grace are over.
    Intent = 2,
    /// A failed step may be tried again.
    Retry = 3,
    /// An approval or signal was waited for long enough.
    Wait = 4,
    /// A session key or guard row has been kept long enough.
    Retention = 5,
    /// An ended session may be archived.
    Archive = 6,
    /// A session's wall-time budget is used up.
    Budget = 7,
    /// The time a session was given is over.
    Deadline = 9,
}

impl Due {
    const ALL: [Due; 8] = [
        Due::Timer,
        Due::Intent,
        Due::Retry,
        Due::Wait,
        Due::Retention,
        Due::Archive,
        Due::Budget,
        Due::Deadline,
    ];

    fn parse(byte: u8) -> Option<Due> {
        Due::ALL.into_iter().find(|due| *due as u8 == byte)
    }
}

/// A key of `Table::Rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey<'a> {
    /// Where the ledger stands; written by the store itself with every frame.
    Position,
    /// The ledger's present life, which every lease names.
    Incarnation,
    /// A session's head.
    Head(SessionId),
    /// The session that a caller's key names.
    SessionKey(Digest),
    /// The outcome of a guarded step's key.
    Guard(Digest),
    /// The segment that holds a lineage.
    Locator(LineageId),
    /// A namespace, by name (at most `NAMESPACE_BYTES_MAX` bytes): its salt and its system session.
    Namespace(&'a str),
    /// An access token, by the digest of its secret.
    Token(Digest),
    /// A session in the list of its namespace, which the system session stands for. UUIDv7 sorts by creation.
    List {
        /// The namespace's system session.
        system: SessionId,
        /// The listed session.
        session: SessionId,
    },
    /// A session that has not ended; read at start to dispatch it again.
    Live(SessionId),
    /// A session that has a label. UUIDv7 sorts by creation.
    Label {
        /// The namespace's system session.
        system: SessionId,
        /// Half of a hash of the label's key and value.
        label: [u8; 16],
        /// The session.
        session: SessionId,
    },
    /// A session that another one named and that has not begun: the outbox of the driver of the tree.
    ToStart {
        /// The session that spawned it or is continued by it.
        by: SessionId,
        /// The session to start.
        session: SessionId,
    },
    /// Something of a session that becomes due.
    Due {
        /// When, in ledger time.
        at: TimeMs,
        /// Whose.
        session: SessionId,
        /// What.
        what: Due,
        /// The event that opened it.
        seq: Seq,
    },
    /// What a tree of sessions has spent and reserved, by the session that owns the limits.
    Budget(SessionId),
    /// What is kept of a guarded step beside its lineage: archiving leaves it, erasing the lineage deletes it.
    Guarded {
        /// The session.
        session: SessionId,
        /// The digest of the step key.
        step: Digest,
        /// `OWNED`, `OUTCOME`, or from `OUTPUT` on a piece of the output.
        part: u32,
    },
    /// A version of a workflow in a namespace.
    Workflow(Digest),
    /// What the archive has to do with a lineage.
    Archive(LineageId),
    /// An archive commit whose manifest is not published yet.
    Commit(ClaimId),
    /// What is left of a session whose events are in the archive.
    Stub(SessionId),
    /// What of a segment is dead and not given back.
    Segment(Segment),
    /// A session that has ended and is not archived: what the archive looks at.
    Ended {
        /// The namespace's system session.
        system: SessionId,
        /// The session.
        session: SessionId,
    },
}

/// Parts of what is kept of a guarded step.
pub mod guarded {
    /// The digest of its idempotency key.
    pub const OWNED: u32 = 0;
    /// What is known of it, with a small output.
    pub const OUTCOME: u32 = 1;
    /// First piece of a large output.
    pub const OUTPUT: u32 = 2;
}

impl<'a> RowKey<'a> {
    const LIST_BYTES: usize = 1 + 2 * ID;
    const LABEL_BYTES: usize = 1 + 3 * ID;
    const TO_START_BYTES: usize = 1 + 2 * ID;
    const DUE_BYTES: usize = 1 + U64 + ID + 1 + U64;
    const GUARDED_BYTES: usize = 1 + ID + DIGEST + U32;

    /// Returns the key's bytes.
    pub fn bytes(&self) -> Bytes {
        match self {
            RowKey::Position => Writer::row(row::POSITION, 1),
            RowKey::Incarnation => Writer::row(row::INCARNATION, 1),
            RowKey::Head(session) => Writer::row(row::HEAD, 1 + ID).put(&session.0),
            RowKey::SessionKey(digest) => Writer::row(row::SESSION_KEY, 1 + DIGEST).put(&digest.0),
            RowKey::Guard(digest) => Writer::row(row::GUARD, 1 + DIGEST).put(&digest.0),
            RowKey::Locator(lineage) => Writer::row(row::LOCATOR, 1 + ID).put(&lineage.0),
            RowKey::Namespace(name) => Writer::row(row::NAMESPACE, 1 + name.len()).put(name.as_bytes()),
            RowKey::Token(digest) => Writer::row(row::TOKEN, 1 + DIGEST).put(&digest.0),
            RowKey::List { system, session } => {
                Writer::row(row::LIST, Self::LIST_BYTES).put(&system.0).put(&session.0)
            }
            RowKey::Live(session) => Writer::row(row::LIVE, 1 + ID).put(&session.0),
            RowKey::Label { system, label, session } => {
                Writer::row(row::LABEL, Self::LABEL_BYTES).put(&system.0).put(label).put(&session.0)
            }
            RowKey::ToStart { by, session } => {
                Writer::row(row::TO_START, Self::TO_START_BYTES).put(&by.0).put(&session.0)
            }
            RowKey::Due { at, session, what, seq } => Writer::row(row::DUE, Self::DUE_BYTES)
                .put(&at.0.to_be_bytes())
                .put(&session.0)
                .put(&[*what as u8])
                .put(&seq.0.to_be_bytes()),
            RowKey::Budget(owner) => Writer::row(row::BUDGET, 1 + ID).put(&owner.0),
            RowKey::Guarded { session, step, part } => Writer::row(row::GUARDED, Self::GUARDED_BYTES)
                .put(&session.0)
                .put(&step.0)
                .put(&part.to_be_bytes()),
            RowKey::Workflow(digest) => Writer::row(row::WORKFLOW, 1 + DIGEST).put(&digest.0),
            RowKey::Archive(lineage) => Writer::row(row::ARCHIVE, 1 + ID).put(&lineage.0),
            RowKey::Commit(claim) => Writer::row(row::COMMIT, 1 + ID).put(&claim.0),
            RowKey::Stub(session) => Writer::row(row::STUB, 1 + ID).put(&session.0),
            RowKey::Segment(segment) => Writer::row(row::SEGMENT, 1 + U32).put(&segment.0.to_be_bytes()),
            RowKey::Ended { system, session } => {
                Writer::row(row::ENDED, Self::LIST_BYTES).put(&system.0).put(&session.0)
            }
        }
        .finish()
    }

    /// Reads a key back (K4).
    ///
    /// # Errors
    /// `BadKey` for a kind that is unknown or reserved, and for a wrong length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadKey> {
        RowKey::read(&mut Reader(bytes)).ok_or_else(|| BadKey::new(bytes, &row::RESERVED, 0))
    }

    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let [kind] = reader.take()?;
        let key = match kind {
            row::POSITION => RowKey::Position,
            row::INCARNATION => RowKey::Incarnation,
            row::HEAD => RowKey::Head(reader.session()?),
            row::SESSION_KEY => RowKey::SessionKey(reader.digest()?),
            row::GUARD => RowKey::Guard(reader.digest()?),
            row::LOCATOR => RowKey::Locator(LineageId(reader.take()?)),
            row::NAMESPACE => RowKey::Namespace(reader.rest_as_name()?),
            row::TOKEN => RowKey::Token(reader.digest()?),
            row::LIST => RowKey::List { system: reader.session()?, session: reader.session()? },
            row::LIVE => RowKey::Live(reader.session()?),
            row::LABEL => {
                RowKey::Label { system: reader.session()?, label: reader.take()?, session: reader.session()? }
            }
            row::TO_START => RowKey::ToStart { by: reader.session()?, session: reader.session()? },
            row::DUE => RowKey::Due {
                at: TimeMs(reader.u64()?),
                session: reader.session()?,
                what: Due::parse(reader.byte()?)?,
                seq: Seq(reader.u64()?),
            },
            row::BUDGET => RowKey::Budget(reader.session()?),
            row::GUARDED => {
                RowKey::Guarded { session: reader.session()?, step: reader.digest()?, part: reader.u32()? }
            }
            row::WORKFLOW => RowKey::Workflow(reader.digest()?),
            row::ARCHIVE => RowKey::Archive(LineageId(reader.take()?)),
            row::COMMIT => RowKey::Commit(ClaimId(reader.take()?)),
            row::STUB => RowKey::Stub(reader.session()?),
            row::SEGMENT => RowKey::Segment(Segment(reader.u32()?)),
            row::ENDED => RowKey::Ended { system: reader.session()?, session: reader.session()? },
            _ => return None,
        };
        reader.end(key)
    }
}

/// A key of `Table::Ledger` (K3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerKey {
    /// The segment that holds the lineage; the locator row names it.
    pub segment: Segment,
    /// The lineage that the row belongs to.
    pub lineage: LineageId,
    /// What of the lineage.
    pub item: Item,
}

/// What a row of a lineage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// The lineage itself: its salt and its creation.
    Lineage,
    /// An event of a session: header and inline payloads.
    Event {
        /// The session.
        session: SessionId,
        /// Its place in the session.
        seq: Seq,
    },
    /// Where the outcome of a step is.
    Step {
        /// The session.
        session: SessionId,
        /// The digest of the step key.
        step: Digest,
    },
    /// A piece of a payload that is too large to lie in its event.
    Chunk {
        /// The payload's digest, keyed with the lineage's salt.
        digest: Digest,
        /// Which piece, from 0.
        n: u32,
    },
    /// The event that received a signal of this id.
    SignalId {
        /// The session.
        session: SessionId,
        /// First half of the id's blake3 hash.
        id: [u8; 16],
    },
    /// What an attempt of a zone streamed; deleted when the zone commits.
    Evidence {
        /// The session.
        session: SessionId,
        /// The seq of the event that entered the zone.
        entry: Seq,
        /// The attempt.
        attempt: u32,
        /// Which piece, from 0.
        n: u32,
    },
    /// What a compactor has made of a session.
    Context {
        /// The session.
        session: SessionId,
        /// Version of its context; 0: how far it is folded, and the state of the fold.
        version: u32,
        /// 0: what is known of it; from 1: pieces of its texts, or of the state.
        n: u32,
    },
}

impl LedgerKey {
    const EVENT_BYTES: usize = LEDGER_PREFIX + ID + U64;
    const STEP_BYTES: usize = LEDGER_PREFIX + ID + DIGEST;
    const CHUNK_BYTES: usize = LEDGER_PREFIX + DIGEST + U32;
    const SIGNAL_ID_BYTES: usize = LEDGER_PREFIX + ID + ID;
    const EVIDENCE_BYTES: usize = LEDGER_PREFIX + ID + U64 + U32 + U32;
    const CONTEXT_BYTES: usize = LEDGER_PREFIX + ID + U32 + U32;

    /// Names an item of a lineage.
    pub fn new(segment: Segment, lineage: LineageId, item: Item) -> Self {
        LedgerKey { segment, lineage, item }
    }

    /// Returns the key's bytes.
    pub fn bytes(&self) -> Bytes {
        let start = |kind, capacity| Writer::ledger(self.segment, self.lineage, Some(kind), capacity);
        match &self.item {
            Item::Lineage => start(item::LINEAGE, LEDGER_PREFIX),
            Item::Event { session, seq } => {
                start(item::EVENT, Self::EVENT_BYTES).put(&session.0).put(&seq.0.to_be_bytes())
            }
            Item::Step { session, step } => start(item::STEP, Self::STEP_BYTES).put(&session.0).put(&step.0),
            Item::Chunk { digest, n } => {
                start(item::CHUNK, Self::CHUNK_BYTES).put(&digest.0).put(&n.to_be_bytes())
            }
            Item::SignalId { session, id } => {
                start(item::SIGNAL_ID, Self::SIGNAL_ID_BYTES).put(&session.0).put(id)
            }
            Item::Evidence { session, entry, attempt, n } => start(item::EVIDENCE, Self::EVIDENCE_BYTES)
                .put(&session.0)
                .put(&entry.0.to_be_bytes())
                .put(&attempt.to_be_bytes())
                .put(&n.to_be_bytes()),
            Item::Context { session, version, n } => start(item::CONTEXT, Self::CONTEXT_BYTES)
                .put(&session.0)
                .put(&version.to_be_bytes())
                .put(&n.to_be_bytes()),
        }
        .finish()
    }

    /// Reads a key back (K4).
    ///
    /// # Errors
    /// As `RowKey::parse`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadKey> {
        LedgerKey::read(&mut Reader(bytes))
            .ok_or_else(|| BadKey::new(bytes, &item::RESERVED, LEDGER_PREFIX - 1))
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let segment = Segment(reader.u32()?);
        let lineage = LineageId(reader.take()?);
        let item = match reader.byte()? {
            item::LINEAGE => Item::Lineage,
            item::EVENT => Item::Event { session: reader.session()?, seq: Seq(reader.u64()?) },
            item::STEP => Item::Step { session: reader.session()?, step: reader.digest()? },
            item::CHUNK => Item::Chunk { digest: reader.digest()?, n: reader.u32()? },
            item::SIGNAL_ID => Item::SignalId { session: reader.session()?, id: reader.take()? },
            item::EVIDENCE => Item::Evidence {
                session: reader.session()?,
                entry: Seq(reader.u64()?),
                attempt: reader.u32()?,
                n: reader.u32()?,
            },
            item::CONTEXT => {
                Item::Context { session: reader.session()?, version: reader.u32()?, n: reader.u32()? }
            }
            _ => return None,
        };
        reader.end(LedgerKey { segment, lineage, item })
    }

    /// Tells whether `key`, of `Table::Ledger`, names a payload chunk.
    pub(super) fn is_chunk(key: &[u8]) -> bool {
        key.len() == Self::CHUNK_BYTES && key.get(LEDGER_PREFIX - 1) == Some(&item::CHUNK)
    }
}
