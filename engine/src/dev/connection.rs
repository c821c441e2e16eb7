//! The connection file: what a client needs to reach an engine, and nothing else.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, files};

/// Address, token and certificate authority of an engine.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Address, starting with `https://`.
    pub url: String,
    /// Bearer token.
    pub token: String,
    /// Certificate authority as PEM text; empty: those that the system trusts.
    #[serde(default)]
    pub ca: String,
    /// Certificate of this client as PEM text, for engines that ask for one; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// Private key of that certificate as PEM text; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The engine's process when the file was written; absent in files written by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("url", &self.url).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Connection {
    /// Reads a connection file.
    ///
    /// # Errors
    /// [`Error::File`] when it is missing, unreadable or malformed; its content is not quoted.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| files::failed(path, "read it", &error))?;
        serde_json::from_str(&text).map_err(|error| Error::File {
            path: path.to_owned(),
            problem: format!("it is no connection file (line {}, column {})", error.line(), error.column()),
            instead: "delete it and start `cellaflow dev`, which writes a new one".to_owned(),
        })
    }

    /// Writes a connection file, 0600 and whole (D1).
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).expect("a struct of texts and a number is JSON");
        files::write(path, text.as_bytes())
    }

    /// Says whether the process that wrote the file is known to be gone. Only a hint: in another container's view no
    /// process of ours exists.
    pub fn writer_is_gone(&self) -> bool {
        let pid = self.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
    }
}
