//! Takes changed certificate files over while the engine runs.
//!
//! Owns: looking at the files. Never: closes a connection; open ones keep what they began with.
//!
//! Invariants:
//! - R1 What new handshakes use is always a configuration that was whole: files that cannot serve (a key that was written
//!   before its certificate) change nothing, are said once, and are looked at again.
//! - R2 Content decides, not a time stamp: links that are switched and files that are copied with their times are noticed.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;

use super::{Content, Fault};
use crate::config::TlsFiles;

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a look at the files found.
enum Look {
    Same,
    Changed(Arc<ServerConfig>),
    /// They changed and cannot serve.
    Faulty(Vec<Fault>),
}

/// Remembers what was seen last.
struct Watcher {
    files: TlsFiles,
    /// `None`: they could not be read.
    seen: Option<Content>,
}

impl Watcher {
    fn new(files: TlsFiles) -> Self {
        let seen = Content::read(&files).ok();
        Self { files, seen }
    }

    fn look(&mut self) -> Look {
        let now = match Content::read(&self.files) {
            Ok(now) => now,
            Err(faults) => {
                return if self.seen.take().is_some() { Look::Faulty(faults) } else { Look::Same };
            }
        };
        if self.seen.as_ref() == Some(&now) {
            return Look::Same;
        }
        let config = now.config();
        self.seen = Some(now);
        match config {
            Ok(config) => Look::Changed(config),
            Err(faults) => Look::Faulty(faults),
        }
    }
}

/// Follows the files for as long as somebody listens.
pub async fn follow(files: TlsFiles, current: watch::Sender<Arc<ServerConfig>>) {
    let mut watcher = Watcher::new(files);
    while !current.is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
        match watcher.look() {
            Look::Same => {}
            Look::Changed(config) => {
                tracing::info!("the certificate files changed: new connections use them");
                current.send_replace(config);
            }
            Look::Faulty(faults) => {
                for fault in faults {
                    tracing::error!(%fault, "the changed certificate files cannot serve: the former ones stay in use");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn write(folder: &Path) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(folder.join("cert.pem"), &cert).unwrap();
        std::fs::write(folder.join("key.pem"), &key).unwrap();
        (cert, key)
    }

    fn watcher(folder: &Path) -> Watcher {
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        Watcher::new(TlsFiles { cert, key, client_ca: None })
    }

    #[test]
    fn r1_half_written_files_change_nothing_and_are_said_once() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let mut watcher = watcher(folder.path());
        assert!(matches!(watcher.look(), Look::Same));
        let (_, key) = write(folder.path());
        std::fs::write(folder.path().join("key.pem"), "half a").unwrap();
        assert!(matches!(watcher.look(), Look::Faulty(_)));
        assert!(matches!(watcher.look(), Look::Same), "said once");
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        assert!(matches!(watcher.look(), Look::Changed(_)));
        assert!(matches!(watcher.look(), Look::Same));
    }

    #[test]
    fn r1_files_that_are_away_for_a_while_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, _) = write(folder.path());
        let mut watcher = watcher(folder.path());
        std::fs::remove_file(folder.path().join("cert.pem")).unwrap();
        assert!(matches!(watcher.look(), Look::Faulty(_)));
        assert!(matches!(watcher.look(), Look::Same));
        std::fs::write(folder.path().join("cert.pem"), cert).unwrap();
        assert!(matches!(watcher.look(), Look::Changed(_)), "R2: what is there counts");
    }
}
