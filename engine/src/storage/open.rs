//! Recovery at start: may this folder be opened, and is every acknowledged frame in it?
//!
//! Owns the data folder of the ledger: its lock, its layout and the comparison with the mark. Never repairs anything;
//! the operator accepts a loss or restores a backup.
//!
//! O1. The folder's lock comes first and is held as long as the ledger is open.
//! O2. A new ledger gets its mark, synced with the folder, before its store exists: a store without a mark is damage.
//! O3. An existing ledger is opened read-only first. If its mark cannot be read, names another ledger or a later frame,
//!     the start is refused, both numbers are named, and no file of the ledger is touched.
//! O4. Frames behind the mark are kept: they are durable, only nobody was told. A torn tail is bytes behind the mark.
//! O5. Only `Loss::accept`, offline, gets past O3.
//!
//! ```text
//! lock               held while open; names the process
//! durable.mark       see `mark`
//! db/                RocksDB's own
//! ```
//!
//! Residue: damage to the last second before a power loss cannot be told from a torn tail.

mod backup;
mod folder;

use std::path::{Path, PathBuf};

use super::mark::{self, Mark, Slots};
use super::rocks::{self, Settings};
use super::{Fault, LedgerId, Position, Rocks, Store};
use crate::graph::ids::FrameNumber;

pub use backup::{Manifest, backup, restore};
pub(super) use folder::Folder;

/// An open ledger, and how it came up.
pub struct Opened {
    /// The store, ready for the next frame.
    pub store: Rocks,
    /// A new ledger was made.
    pub created: bool,
    /// The last frame that the mark named: all up to here was acknowledged.
    pub marked: FrameNumber,
    /// The last frame found; later than `marked` if the process ended between a sync and its mark.
    pub recovered: FrameNumber,
}

/// What accepting a loss lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// The ledger that is there.
    pub ledger_id: LedgerId,
    /// The frame that the old mark named; `None` if it could not be read or named another ledger.
    pub marked: Option<FrameNumber>,
    /// The last frame that is there, which the new mark names.
    pub recovered: FrameNumber,
}

/// Says why a folder is not opened; nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the ledger in {} is in use by {}; stop that engine, or give this one another data folder",
        .dir.display(),
        .pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who holds it, if it says so.
        pid: Option<u32>,
    },
    /// There are files in it that no ledger has.
    #[error("{} is not a ledger's folder: it holds {file}; give the engine an empty or its own data folder", .dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// The first file that is not ours.
        file: String,
    },
    /// It is a backup (B2).
    #[error(
        "{} holds a backup, which is never opened in place; restore it with `cellaflow restore --from {} --data FOLDER`",
        .dir.display(), .dir.display()
    )]
    Backup {
        /// The folder.
        dir: PathBuf,
    },
    /// It is no backup.
    #[error("{} is no whole backup: {problem}; name a folder that `cellaflow backup` made", .dir.display())]
    NotABackup {
        /// The folder.
        dir: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// Restoring would overwrite something.
    #[error("{} is not empty; restore into a folder that does not exist or is empty", .dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// There is a ledger and no slot of its mark can be read.
    #[error(
        "the ledger in {} has no readable durable.mark, so acknowledged frames may be missing; found: {}, marked: unknown; \
         restore a backup, or go on from what is there with `cellaflow ledger accept-loss`",
        .dir.display(),
        found(.recovered)
    )]
    NoMark {
        /// The folder.
        dir: PathBuf,
        /// The last frame that can be read, or why none can.
        recovered: Result<FrameNumber, String>,
    },
    /// Mark and ledger belong to different ledgers.
    #[error(
        "durable.mark in {} names ledger {marked_id} at frame {marked}, but the store is ledger {ledger_id} at frame \
         {recovered}; put the matching files together, or go on from what is there with `cellaflow ledger accept-loss`",
        .dir.display()
    )]
    OtherLedger {
        /// The folder.
        dir: PathBuf,
        /// The mark's ledger.
        marked_id: LedgerId,
        /// The mark's frame.
        marked: FrameNumber,
        /// The store's ledger.
        ledger_id: LedgerId,
        /// The store's last frame.
        recovered: FrameNumber,
    },
    /// Acknowledged frames are missing.
    #[error(
        "the ledger in {} lost acknowledged frames: marked up to {marked}, found: {}; restore a backup, or go on from \
         what is there with `cellaflow ledger accept-loss`",
        .dir.display(),
        found(.recovered)
    )]
    Lost {
        /// The folder.
        dir: PathBuf,
        /// The last frame that was acknowledged for certain.
        marked: FrameNumber,
        /// The last frame that can be read, or why none can.
        recovered: Result<FrameNumber, String>,
    },
    /// `accept_loss` found nothing wrong.
    #[error("the ledger in {} lost nothing (marked {marked}, found {recovered}); start the engine", .dir.display())]
    NothingLost {
        /// The folder.
        dir: PathBuf,
        /// The mark's frame.
        marked: FrameNumber,
        /// The store's last frame.
        recovered: FrameNumber,
    },
    /// `accept_loss` found nothing to go on from.
    #[error("there is no ledger to go on from in {}: {problem}; restore a backup or start with an empty folder", .dir.display())]
    NothingThere {
        /// The folder.
        dir: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// The disk or the storage engine failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

fn found(recovered: &Result<FrameNumber, String>) -> String {
    match recovered {
        Ok(frame) => format!("frame {frame}"),
        Err(problem) => format!("nothing readable ({problem})"),
    }
}

/// Opens the ledger in `dir`, or makes one named `new_id` if the folder is empty or missing.
///
/// # Errors
/// See `OpenError`; on error nothing in the folder was changed, a fresh `lock` file excepted.
pub fn open(dir: &Path, settings: &Settings, new_id: LedgerId) -> Result<Opened, OpenError> {
    let folder = Folder::lock(dir)?;
    match find(&folder)? {
        Found::Nothing => {
            let mark = Mark { ledger_id: new_id, frame: FrameNumber(0) };
            mark::create(dir, mark)?;
            start(folder, settings, mark, true)
        }
        Found::Unfinished(mark) => {
            folder.discard_remains()?;
            start(folder, settings, mark, true)
        }
        Found::Ledger(mark) => start(folder, settings, mark, false),
    }
}

/// A ledger that lost acknowledged frames, found offline; its folder stays locked until this is dropped (O5).
pub struct Loss {
    folder: Folder,
    found: AcceptedLoss,
}

impl Loss {
    /// Compares mark and store without changing either.
    ///
    /// # Errors
    /// `NothingLost` and `NothingThere` if there is nothing to accept; else as `open`.
    pub fn find(dir: &Path) -> Result<Loss, OpenError> {
        let folder = Folder::lock(dir)?;
        let there = |problem: String| OpenError::NothingThere { dir: dir.to_owned(), problem };
        if !folder.has_db() {
            return Err(there("it has no store".to_owned()));
        }
        let mark = mark::read(dir)?.and_then(|slots| slots.latest());
        let position = rocks::inspect(&folder.db())
            .map_err(|fault| there(fault.to_string()))?
            .ok_or_else(|| there("its store holds no position".to_owned()))?;
        let marked = mark.filter(|mark| mark.ledger_id == position.ledger_id).map(|mark| mark.frame);
        let recovered = position.frame;
        match marked {
            Some(marked) if marked <= recovered => {
                Err(OpenError::NothingLost { dir: dir.to_owned(), marked, recovered })
            }
            Some(_) | None => {
                Ok(Loss { folder, found: AcceptedLoss { ledger_id: position.ledger_id, marked, recovered } })
            }
        }
    }

    /// What would be let go.
    pub fn found(&self) -> AcceptedLoss {
        self.found
    }

    /// Writes a new mark for what is there.
    ///
    /// # Errors
    /// `Fault` if the mark could not be written; the loss is then still there to be accepted.
    pub fn accept(self) -> Result<AcceptedLoss, OpenError> {
        let AcceptedLoss { ledger_id, recovered, .. } = self.found;
        mark::create(self.folder.dir(), Mark { ledger_id, frame: recovered })?;
        Ok(self.found)
    }
}

/// Writes a new mark for what can be read in `dir`, offline, and says what was let go (O5).
///
/// # Errors
/// As `Loss::find` and `Loss::accept`.
pub fn accept_loss(dir: &Path) -> Result<AcceptedLoss, OpenError> {
    Loss::find(dir)?.accept()
}

/// What a folder holds, after everything that would refuse it has been looked for.
enum Found {
    /// Neither store nor mark.
    Nothing,
    /// A mark of no frame, and a store that its making left without one.
    Unfinished(Mark),
    /// A ledger with all that its mark names.
    Ledger(Mark),
}

fn find(folder: &Folder) -> Result<Found, OpenError> {
    match (mark::read(folder.dir())?, folder.has_db()) {
        (None, false) => folder.refuse_remains().map(|()| Found::Nothing),
        (None, true) => Err(no_mark(folder)),
        (Some(slots), has_db) => match slots.latest() {
            None if has_db => Err(no_mark(folder)),
            None => {
                Err(OpenError::NoMark { dir: folder.dir().to_owned(), recovered: Err("no store".to_owned()) })
            }
            Some(mark) if has_db => compare(folder, slots, mark),
            Some(mark) if slots.is_untouched() => Ok(Found::Unfinished(mark)),
            Some(mark) => Err(lost(folder, mark, Err("no store".to_owned()))),
        },
    }
}

/// Compares mark and store, the latter opened read-only (O3).
fn compare(folder: &Folder, slots: Slots, mark: Mark) -> Result<Found, OpenError> {
    match rocks::inspect(&folder.db()) {
        Ok(Some(position)) => judge(folder, mark, position),
        Ok(None) if slots.is_untouched() => Ok(Found::Unfinished(mark)),
        Ok(None) => Err(lost(folder, mark, Err("the store holds no position".to_owned()))),
        // A store whose making was cut off may lack a table; making it again keeps whatever is there.
        Err(_) if slots.is_untouched() => Ok(Found::Unfinished(mark)),
        Err(fault) => Err(lost(folder, mark, Err(fault.to_string()))),
    }
}

fn judge(folder: &Folder, mark: Mark, position: Position) -> Result<Found, OpenError> {
    if mark.ledger_id != position.ledger_id {
        return Err(OpenError::OtherLedger {
            dir: folder.dir().to_owned(),
            marked_id: mark.ledger_id,
            marked: mark.frame,
            ledger_id: position.ledger_id,
            recovered: position.frame,
        });
    }
    if position.frame < mark.frame {
        return Err(lost(folder, mark, Ok(position.frame)));
    }
    Ok(Found::Ledger(mark))
}

fn no_mark(folder: &Folder) -> OpenError {
    let recovered = match rocks::inspect(&folder.db()) {
        Ok(Some(position)) => Ok(position.frame),
        Ok(None) => Err("the store holds no position".to_owned()),
        Err(fault) => Err(fault.to_string()),
    };
    OpenError::NoMark { dir: folder.dir().to_owned(), recovered }
}

fn lost(folder: &Folder, mark: Mark, recovered: Result<FrameNumber, String>) -> OpenError {
    OpenError::Lost { dir: folder.dir().to_owned(), marked: mark.frame, recovered }
}

/// Opens the store for writing; from here on the log that recovery judged is gone.
fn start(folder: Folder, settings: &Settings, mark: Mark, created: bool) -> Result<Opened, OpenError> {
    let store = Rocks::start(folder, settings, mark)?;
    let recovered = store.position().frame;
    Ok(Opened { store, created, marked: mark.frame, recovered })
}
