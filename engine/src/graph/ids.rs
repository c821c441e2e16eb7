//! Newtypes for everything that identifies or orders. Owns their byte layout and text form; never mints one
//! (that is `crate::ids`, at the edge).

use std::fmt;
use std::sync::Arc;

/// Defines a 16-byte identifier shown as a UUID.
macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt_uuid(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt_uuid(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAUuid;
            fn from_str(text: &str) -> Result<Self, NotAUuid> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

uuid_newtype!(
    /// A session: UUIDv7 whose 12 `rand_a` bits are shared by a whole tree of sessions.
    SessionId
);
uuid_newtype!(
    /// A lineage: a root session and its forks; the unit of archive, restore and erase.
    LineageId
);
uuid_newtype!(
    /// A claim on lineages, for archiving, restoring or erasing them.
    ClaimId
);
uuid_newtype!(
    /// A worker process incarnation, minted once by the worker.
    InstanceId
);
uuid_newtype!(
    /// An access token's public name.
    TokenId
);
uuid_newtype!(
    /// One life of the ledger; changes when it is restored from a backup.
    Incarnation
);
uuid_newtype!(
    /// Makes a client's, driver's or operator's append idempotent.
    DedupeId
);

/// The text is not a UUID in its 36-character form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAUuid;

impl fmt::Display for NotAUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID: write it as 8-4-4-4-12 hexadecimal digits")
    }
}

impl std::error::Error for NotAUuid {}

fn fmt_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (n, byte) in bytes.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_uuid(text: &str) -> Result<[u8; 16], NotAUuid> {
    if text.len() != 36 {
        return Err(NotAUuid);
    }
    let mut nibbles = [0u8; 32];
    let mut filled = 0;
    for (n, byte) in text.bytes().enumerate() {
        if matches!(n, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return Err(NotAUuid);
            }
            continue;
        }
        let digit = (byte as char).to_digit(16).ok_or(NotAUuid)?;
        *nibbles.get_mut(filled).ok_or(NotAUuid)? = u8::try_from(digit).map_err(|_| NotAUuid)?;
        filled += 1;
    }
    let mut bytes = [0u8; 16];
    for (byte, pair) in bytes.iter_mut().zip(nibbles.as_chunks::<2>().0) {
        let [high, low] = *pair;
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

/// Position of an event in its session, from 1, without gaps; 0 means "before the first".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Seq(pub u64);

impl Seq {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Lease epoch of a session; grows by one with every grant. 0 means "never leased".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Epoch(pub u64);

/// Number of a frame, from 1; 0 means "nothing committed yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct FrameNumber(pub u64);

impl fmt::Display for FrameNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in time: milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct TimeMs(pub u64);

impl TimeMs {
    /// This moment and `ms` milliseconds; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Money in nano-dollars (1e-9 USD).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct NanoDollars(pub i64);

/// Defines a 32-byte hash shown in hexadecimal.
macro_rules! hash_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

hash_newtype!(
    /// A link of a hash chain (blake3): of a session's event headers, or of frames.
    Hash
);
hash_newtype!(
    /// A keyed digest (blake3 with a lineage's or namespace's salt), or a digest a caller sent.
    Digest
);

/// Name of a namespace.
pub type Namespace = Arc<str>;
/// Key under which a step or zone is matched on replay: scope, name and occurrence, or the explicit key.
pub type StepKey = Arc<str>;
