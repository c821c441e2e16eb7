//! Copies of a ledger: making one says so in a file of its own, restoring one gives it a new life.
//!
//! Owns the layout of a backup. Never: decides what a new life means for sessions (`ledger::restore` does).
//!
//! B1. A backup is whole when its `backup.json` is there: it is written last.
//! B2. A backup is never opened in place: an engine that went on from it under its old incarnation would accept workers of
//!     the ledger that it was taken from.
//! B3. A restored ledger appears under its name whole, or not at all: it is put together beside it and renamed.
//!
//! ```text
//! backup.json        what it is (JSON)
//! durable.mark, db/  as in a ledger's folder
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{DB, Folder};
use super::{OpenError, find};
use crate::storage::rocks::Settings;
use crate::storage::{Fault, Position, Rocks, Store, mark};

/// The file that tells a backup from a ledger.
pub(super) const MANIFEST: &str = "backup.json";
/// Layout of a backup; another one is refused.
const VERSION: u32 = 1;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// The ledger it was taken from, in hexadecimal.
    pub ledger_id: String,
    /// Its last frame.
    pub frame: u64,
    /// When it was taken, in ms since the Unix epoch.
    pub created_ms: u64,
}

/// Writes a copy of an open store into `dir`, which must not exist.
///
/// # Errors
/// `Fault`; what was written of the copy is removed again.
pub fn backup(store: &dyn Store, dir: &Path, now_ms: u64) -> Result<(Manifest, u64), Fault> {
    let existed = dir.exists();
    let made = store.checkpoint(dir).and_then(|position| {
        let manifest = manifest(&position, now_ms);
        write_manifest(dir, &manifest)?;
        let bytes = size_of(dir).map_err(|error| Fault::io(format!("measuring {}", dir.display()), error))?;
        Ok((manifest, bytes))
    });
    if made.is_err() && !existed {
        // Half a backup is worse than none; that it could not be removed changes nothing about the failure.
        drop(fs::remove_dir_all(dir));
    }
    made
}

/// Puts the backup in `from` together as a ledger in `to`, which must not exist or be empty; `revive` gives it its new
/// life before anybody can open it.
///
/// # Errors
/// See `OpenError`; `to` is as it was then.
pub fn restore(
    from: &Path,
    to: &Path,
    settings: &Settings,
    revive: impl FnOnce(&Rocks) -> Result<(), Fault>,
) -> Result<Manifest, OpenError> {
    let manifest = read_manifest(from)?;
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(OpenError::NotEmpty { dir: to.to_owned() });
    }
    let beside = beside(to);
    let io_failed = |error| Fault::io(format!("restoring into {}", beside.display()), error);
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io_failed)?; // of a restore that was cut off
    }
    copy(from, &beside).map_err(io_failed)?;
    let folder = Folder::lock(&beside)?;
    let super::Found::Ledger(mark) = find(&folder)? else {
        return Err(OpenError::NotABackup {
            dir: from.to_owned(),
            problem: "its store holds nothing".to_owned(),
        });
    };
    let store = Rocks::start(folder, settings, mark)?;
    revive(&store)?;
    store.rest()?;
    drop(store);
    publish(&beside, to).map_err(io_failed)?;
    Ok(manifest)
}

fn manifest(position: &Position, now_ms: u64) -> Manifest {
    Manifest {
        version: VERSION,
        ledger_id: position.ledger_id.to_string(),
        frame: position.frame.0,
        created_ms: now_ms,
    }
}

fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<(), Fault> {
    let path = dir.join(MANIFEST);
    let text = serde_json::to_string_pretty(manifest).expect("a struct of texts and numbers is JSON");
    let written =
        fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).and_then(|()| sync(dir));
    written.map_err(|error| Fault::io(format!("writing {}", path.display()), error))
}

fn read_manifest(from: &Path) -> Result<Manifest, OpenError> {
    let not = |problem: String| OpenError::NotABackup { dir: from.to_owned(), problem };
    let text =
        fs::read_to_string(from.join(MANIFEST)).map_err(|error| not(format!("{MANIFEST}: {error}")))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| not(format!("{MANIFEST} cannot be read: {error}")))?;
    if manifest.version == VERSION {
        return Ok(manifest);
    }
    Err(not(format!("it has layout {}, this engine reads {VERSION}", manifest.version)))
}

fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    to.with_file_name(name)
}

/// Copies everything but the manifest, and syncs it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    make(to)?;
    copy_file(&from.join(mark::FILE), &to.join(mark::FILE))?;
    make(&to.join(DB))?;
    for entry in fs::read_dir(from.join(DB))? {
        let entry = entry?;
        copy_file(&entry.path(), &to.join(DB).join(entry.file_name()))?;
    }
    sync(&to.join(DB)).and_then(|()| sync(to))
}

fn make(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(dir)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

fn publish(beside: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir(to)?;
    }
    fs::rename(beside, to)?;
    to.parent().map_or(Ok(()), sync)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn size_of(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { size_of(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
