//! What can go wrong below the seam, and how a store remembers it.
//!
//! Owns `Fault`, the storage error, and `Poison`, the memory of the first one.
//! Never holds payload bytes: a fault names keys, numbers and the failed action.
//!
//! F1. A fault is storage's. What the caller did wrong is a rejection, what the ledger contradicts is `graph`'s corrupt.
//! F2. After a commit failed for a reason of the disk, every later call fails: recovery is the only repair.

use std::fmt;

use parking_lot::Mutex;

use super::Table;

/// Says why the store could not do what it was asked; every text ends with what the caller must do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file operation failed.
    #[error("{action} failed: {detail}; check the disk and restart the engine")]
    Io {
        /// What was being done, with the path if there is one.
        action: String,
        /// The operating system's words.
        detail: String,
    },
    /// The storage engine refused or failed an operation.
    #[error("storage engine could not {action}: {detail}; check the disk and restart the engine")]
    Engine {
        /// What was being done.
        action: String,
        /// The engine's words.
        detail: String,
    },
    /// A stored value is not what was written.
    #[error("stored value {table}/{} is damaged: {problem}; restore the data folder from a backup", hex::encode(.key))]
    Corrupt {
        /// Where the value lies.
        table: Table,
        /// The value's key.
        key: Vec<u8>,
        /// What does not fit.
        problem: String,
    },
    /// A stored value has a format that this version does not know; it is never guessed.
    #[error(
        "stored value {table}/{} has the unknown format {format:#04x}; run the version of the engine that wrote it",
        hex::encode(.key)
    )]
    UnknownFormat {
        /// Where the value lies.
        table: Table,
        /// The value's key.
        key: Vec<u8>,
        /// The byte that names no known format.
        format: u8,
    },
    /// A frame does not continue the ledger; nothing was written and the store stays usable.
    #[error(
        "frame {frame} does not follow the ledger at frame {position}: {problem}; decide it again on the ledger's current state"
    )]
    OutOfOrder {
        /// The refused frame's number.
        frame: u64,
        /// The number of the last committed frame.
        position: u64,
        /// Which of number, previous hash and epoch does not fit.
        problem: &'static str,
    },
    /// A frame cannot be sealed as it is.
    #[error("frame {frame} cannot be sealed: {problem}")]
    BadFrame {
        /// The frame's number.
        frame: u64,
        /// What is wrong with it, and what to do instead.
        problem: String,
    },
    /// This kind of store cannot do it.
    #[error("{action} is not possible on the {store} store; use the one on disk")]
    Unsupported {
        /// What was asked for.
        action: &'static str,
        /// Which store was asked.
        store: &'static str,
    },
    /// An earlier call failed, and what lies on disk is unknown until recovery has looked.
    #[error(
        "the store is closed after an earlier failure ({first}); restart the engine, which recovers what is durable"
    )]
    Poisoned {
        /// The first failure's text.
        first: String,
    },
}

impl Fault {
    /// Wraps a file error; `action` names what was tried.
    pub(super) fn io(action: impl Into<String>, error: impl fmt::Display) -> Self {
        Fault::Io { action: action.into(), detail: error.to_string() }
    }

    /// Reports a damaged value.
    pub(super) fn corrupt(table: Table, key: &[u8], problem: impl Into<String>) -> Self {
        Fault::Corrupt { table, key: key.to_vec(), problem: problem.into() }
    }
}

/// Remembers the first failure, so that no later call can pretend that all is well (F2).
#[derive(Debug, Default)]
pub(super) struct Poison(Mutex<Option<String>>);

impl Poison {
    /// Fails if anything failed before.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match self.0.lock().as_ref() {
            None => Ok(()),
            Some(first) => Err(Fault::Poisoned { first: first.clone() }),
        }
    }

    /// Records a failed commit and hands it on. A refused frame wrote nothing, so it poisons nothing.
    pub(super) fn set_unless_refused(&self, fault: Fault) -> Fault {
        if !matches!(fault, Fault::OutOfOrder { .. } | Fault::Poisoned { .. }) {
            self.0.lock().get_or_insert_with(|| fault.to_string());
        }
        fault
    }
}
