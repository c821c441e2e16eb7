//! The ledger's folder: what may be in it, and who has it. Never looks into a file but the lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::OpenError;
use crate::storage::{Fault, mark, rocks};

const LOCK: &str = "lock";
pub(super) const DB: &str = "db";
/// All that a ledger's folder may hold.
const OURS: [&str; 4] = [LOCK, DB, mark::FILE, mark::NEW_FILE];

/// A folder that this process alone has; let go when dropped (O1).
pub(in crate::storage) struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and takes its lock.
    pub(super) fn lock(dir: &Path) -> Result<Folder, OpenError> {
        make(dir)?;
        refuse_foreign(dir)?;
        let path = dir.join(LOCK);
        let failed = |error| Fault::io(format!("locking {}", path.display()), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(locked(dir, &mut file)),
            Err(error) => return Err(failed(error.into()).into()),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Folder { dir: dir.to_owned(), _lock: file })
    }

    /// Makes the folder of a copy, which must not exist, and says where the copy's store goes.
    pub(in crate::storage) fn make_copy(dir: &Path) -> Result<PathBuf, Fault> {
        DirBuilder::new()
            .mode(0o700)
            .create(dir)
            .map_err(|error| Fault::io(format!("making the folder {}", dir.display()), error))?;
        Ok(dir.join(DB))
    }

    pub(in crate::storage) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where RocksDB's files are.
    pub(in crate::storage) fn db(&self) -> PathBuf {
        self.dir.join(DB)
    }

    /// Tells whether a store was made here.
    pub(super) fn has_db(&self) -> bool {
        self.db().join(rocks::CURRENT).exists()
    }

    /// Refuses a store without its heart and without a mark: it is not ours to make anew.
    pub(super) fn refuse_remains(&self) -> Result<(), OpenError> {
        match names(&self.db())?.into_iter().next() {
            None => Ok(()),
            Some(name) => Err(OpenError::Foreign { dir: self.dir.clone(), file: format!("{DB}/{name}") }),
        }
    }

    /// Removes what the making of a store left before there was one; a store is never removed.
    pub(super) fn discard_remains(&self) -> Result<(), Fault> {
        if self.has_db() {
            return Ok(());
        }
        match fs::remove_dir_all(self.db()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fault::io(format!("removing {}", self.db().display()), error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn make(dir: &Path) -> Result<(), Fault> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Fault::io(format!("making the folder {}", dir.display()), error))
}

fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    match names(dir)?.into_iter().find(|name| !OURS.contains(&name.as_str())) {
        None => Ok(()),
        Some(file) if file == super::backup::MANIFEST => Err(OpenError::Backup { dir: dir.to_owned() }),
        Some(file) => Err(OpenError::Foreign { dir: dir.to_owned(), file }),
    }
}

/// The names in a folder, sorted so that the same one is always reported; none if there is no folder.
fn names(dir: &Path) -> Result<Vec<String>, Fault> {
    let failed = |error| Fault::io(format!("reading the folder {}", dir.display()), error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let name =
        |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names = entries.map(name).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    names.sort();
    Ok(names)
}

fn locked(dir: &Path, file: &mut File) -> OpenError {
    let mut text = String::new();
    // Who holds it is a courtesy; that someone does is what counts.
    let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    OpenError::Locked { dir: dir.to_owned(), pid }
}
