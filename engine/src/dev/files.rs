//! Small private files that appear whole or not at all (D1).

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Error;

/// Only the owner reads and writes.
const PRIVATE: u32 = 0o600;

pub(super) fn failed(path: &Path, doing: &str, error: &io::Error) -> Error {
    let instead = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as the user that owns it, or name another folder with --data",
        io::ErrorKind::StorageFull => "free some space on its disk",
        _ => "check the folder and its disk, or name another with --data",
    };
    Error::File {
        path: path.to_owned(),
        problem: format!("cannot {doing}: {error}"),
        instead: instead.to_owned(),
    }
}

/// Reads a text file and makes sure that only its owner can; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "read it", &error)),
    };
    let metadata = fs::metadata(path).map_err(|error| failed(path, "look at it", &error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        // A copy or a restore may have widened it.
        fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE))
            .map_err(|error| failed(path, "make it private", &error))?;
    }
    Ok(Some(text))
}

/// Makes a folder that only its owner can enter, and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed(path, "make it", &error))
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, "remove it", &error)),
        _ => Ok(()),
    }
}

/// Writes a private file: to a neighbour first, then renamed over the old one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut neighbour = path.as_os_str().to_owned();
    neighbour.push(".new");
    let neighbour = PathBuf::from(neighbour);
    let written = (|| {
        // A left-over neighbour could have other permissions, so it is not reused.
        match fs::remove_file(&neighbour) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&neighbour)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&neighbour, path)
    })();
    written.map_err(|error| failed(path, "write it", &error))
}
