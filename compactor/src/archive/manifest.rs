//! Manifests: which files a commit holds. Readers see what published manifests name, and nothing else (A3).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Store, verify};

/// Version of the format.
const VERSION: u32 = 1;

/// What one commit holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the format.
    pub version: u32,
    /// Namespace.
    pub namespace: String,
    /// Claim it was made under.
    pub claim_id: String,
    /// Its epoch.
    pub epoch: u64,
    /// Manifests that do not count any more since this one is there, relative to the archive's root: what they name was
    /// written again without what was erased or is past its retention.
    #[serde(default)]
    pub replaces: Vec<String>,
    /// Program that wrote it.
    pub writer: String,
    /// Events in it.
    pub events: u64,
    /// Its files.
    pub files: Vec<File>,
    /// Lineages in it.
    pub lineages: Vec<Lineage>,
}

/// A file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Table.
    pub table: String,
    /// Relative to the archive's root.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// blake3 of its bytes, in hexadecimal.
    pub blake3: String,
}

/// A lineage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lineage {
    /// Lineage.
    pub lineage_id: String,
    /// Its sessions, all of them, those included that an earlier commit holds.
    pub sessions: Vec<Session>,
}

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Session.
    pub session_id: String,
    /// Last event.
    pub last_seq: u64,
    /// Its hash, in hexadecimal.
    pub last_hash: String,
}

impl Manifest {
    /// A manifest without files.
    #[must_use]
    pub fn new(namespace: &str, claim_id: &str, epoch: u64) -> Self {
        Self {
            version: VERSION,
            namespace: namespace.to_owned(),
            claim_id: claim_id.to_owned(),
            epoch,
            replaces: Vec::new(),
            writer: concat!("cellaflow-compactor ", env!("CARGO_PKG_VERSION")).to_owned(),
            events: 0,
            files: Vec::new(),
            lineages: Vec::new(),
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// `Bad` if it is none, or of a later version.
    pub fn read(path: &str, text: &[u8]) -> Result<Self, verify::Bad> {
        let bad = |problem: String| verify::Bad { path: path.to_owned(), problem };
        let manifest: Self = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        if manifest.version == VERSION {
            return Ok(manifest);
        }
        Err(bad(format!("it has version {}; use the compactor that wrote it", manifest.version)))
    }

    /// Where it is published, relative to the archive's root.
    #[must_use]
    pub fn path(&self) -> String {
        path(&self.namespace, &self.claim_id, self.epoch)
    }
}

/// Paths of the manifests of a namespace that count: those that no other one replaces.
///
/// # Errors
/// If the store fails, or one of them cannot be read.
pub async fn current(store: &Store, namespace: &str) -> Result<Vec<String>, super::job::Error> {
    let listed = store.list(&folder(namespace)).await?;
    let mut paths: BTreeSet<String> = listed.into_iter().map(|(path, _)| path).collect();
    for path in paths.clone() {
        // One at a time: each may name as many sessions as a claim may hold.
        for replaced in load(store, &path).await?.replaces {
            paths.remove(&replaced);
        }
    }
    Ok(paths.into_iter().collect())
}

/// Reads a manifest from the store.
///
/// # Errors
/// If it is not there, or none.
pub async fn load(store: &Store, path: &str) -> Result<Manifest, super::job::Error> {
    Ok(Manifest::read(path, &store.get(path).await?)?)
}

/// Where the data of a namespace lies.
#[must_use]
pub fn data_folder(namespace: &str) -> String {
    format!("data/ns={}", escaped(namespace))
}

/// Where the published manifests of a namespace lie.
#[must_use]
pub fn folder(namespace: &str) -> String {
    format!("manifests/ns={}", escaped(namespace))
}

/// Where a commit's manifest is published.
#[must_use]
pub fn path(namespace: &str, claim_id: &str, epoch: u64) -> String {
    format!("{}/{claim_id}-{epoch}.json", folder(namespace))
}

/// Where a manifest waits for its commit.
#[must_use]
pub fn pending(claim_id: &str, epoch: u64) -> String {
    format!("pending/{claim_id}-{epoch}.json")
}

/// Bytes of a name in a path: file systems take 255, the column's name included.
const ESCAPED_BYTES_MAX: usize = 200;
/// Bytes that are left of a longer one, before a hash of all of it.
const ESCAPED_BYTES_KEPT: usize = 160;

/// A name as a part of a path: everything but letters, digits, dots, hyphens and underscores is percent-encoded, as
/// readers of partitioned data expect it. What is too long for a path is cut, and told apart by a hash of the name; the
/// columns `workflow` and `namespace` have all of it.
#[must_use]
pub fn escaped(name: &str) -> String {
    let text = percent_encoded(name);
    if text.len() <= ESCAPED_BYTES_MAX {
        return text;
    }
    let kept = text.get(..ESCAPED_BYTES_KEPT).unwrap_or_default();
    // Not within an escape: "%E3" begins at most two bytes before the cut.
    let whole = kept.rfind('%').filter(|at| at + 3 > kept.len()).unwrap_or(kept.len());
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{}-{}", kept.get(..whole).unwrap_or_default(), hash.get(..16).unwrap_or_default())
}

fn percent_encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            b'.' if name != "." && name != ".." => text.push('.'),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_name_fits_into_a_path_and_stays_apart_from_others() {
        assert_eq!(escaped("a b/c.d"), "a%20b%2Fc.d");
        assert_eq!(escaped("x".repeat(200).as_str()), "x".repeat(200));
        // 256 bytes, the longest that a workflow's name may have: 768 as escapes.
        for long in ["\u{65e5}".repeat(85), "x".repeat(256), format!("x{}", "\u{65e5}".repeat(85))] {
            let (path, other) = (escaped(&long), escaped(&format!("{long}.")));
            assert!(path.len() <= 177, "{path}");
            assert_ne!(path, other, "names that begin alike");
            let escapes = path.split('%').skip(1);
            assert!(escapes.clone().all(|rest| rest.len() >= 2 && rest.is_char_boundary(2)));
            let (text, hash) = path.rsplit_once('-').unwrap();
            assert_eq!(hash.len(), 16);
            assert!(text.rfind('%').is_none_or(|at| at + 3 <= text.len()), "no escape is cut: {path}");
        }
    }
}
