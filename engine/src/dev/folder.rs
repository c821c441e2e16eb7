//! Whose folder it is (D2) and who uses it now (D3).

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{CONNECTION_FILE, Connection, Error, files};

/// File that makes a folder ours.
const MARKER: &str = "folder.json";

/// File whose lock says that the folder is in use.
const LOCK: &str = "lock";

/// The only format of folder that this version reads.
const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Marker {
    /// What this is, for people who find the folder.
    kind: String,
    format: u64,
}

/// Held as long as the folder is used; the system releases it with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] fs::File);

/// Makes or recognises the folder and locks it.
pub(super) fn open(root: &Path) -> Result<Lock, Error> {
    let ours = recognise(root)?;
    if !ours {
        files::make_folder(root)?;
    }
    let lock = lock(root)?;
    if !ours {
        let marker = Marker { kind: "cellaflow dev data folder".to_owned(), format: FORMAT };
        let text = serde_json::to_string_pretty(&marker).expect("a struct of text and number is JSON");
        files::write(&root.join(MARKER), text.as_bytes())?;
        // Keys and token must not be committed with the project that the folder lies in.
        files::write(&root.join(".gitignore"), b"*\n")?;
    }
    Ok(lock)
}

/// Says whether the folder is ours already; a missing or empty one is not, a foreign one is an error.
fn recognise(root: &Path) -> Result<bool, Error> {
    if let Some(text) = read_marker(root)? {
        let foreign = || Error::Foreign { path: root.to_owned(), found: MARKER.to_owned() };
        let marker: Marker = serde_json::from_str(&text).map_err(|_| foreign())?;
        if marker.format != FORMAT {
            return Err(Error::Format { path: root.to_owned(), found: marker.format, known: FORMAT });
        }
        return Ok(true);
    }
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(files::failed(root, "read it as a folder", &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| files::failed(root, "list it", &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A first start that was killed before the marker leaves the lock and the marker's neighbour; `cellaflow restore`
        // makes a folder with nothing but a ledger.
        if name != LOCK && name != format!("{MARKER}.new") && name != "ledger" {
            return Err(Error::Foreign { path: root.to_owned(), found: name });
        }
    }
    Ok(false)
}

/// Reads the marker without touching it: until it is understood, the folder is not ours (D2).
fn read_marker(root: &Path) -> Result<Option<String>, Error> {
    let path = root.join(MARKER);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(files::failed(&path, "read it", &error)),
    }
}

fn lock(root: &Path) -> Result<Lock, Error> {
    let path = root.join(LOCK);
    let failed = |error: &std::io::Error| files::failed(&path, "lock it", error);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed(&error))?;
    if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if errno != rustix::io::Errno::WOULDBLOCK {
            return Err(failed(&errno.into()));
        }
        return Err(Error::Busy { path: root.to_owned(), who: describe_holder(root, &mut file) });
    }
    let written =
        file.rewind().and_then(|()| file.set_len(0)).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(|error| failed(&error))?;
    Ok(Lock(file))
}

fn describe_holder(root: &Path, file: &mut fs::File) -> String {
    let mut pid = String::new();
    let known = file.read_to_string(&mut pid).is_ok() && !pid.is_empty();
    let process = if known { format!("process {pid}") } else { "process unknown".to_owned() };
    match Connection::read(&root.join(CONNECTION_FILE)) {
        Ok(connection) if connection.pid.is_some_and(|written| written.to_string() == pid) => {
            format!("{process}, at {}", connection.url)
        }
        _ => process,
    }
}
