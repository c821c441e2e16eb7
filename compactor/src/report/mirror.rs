//! An archive in a bucket, as a folder: DuckDB reads buckets only with an extension that it would have to fetch.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Error;
use crate::archive::Store;
use crate::archive::beside;
use crate::archive::manifest::Manifest;
use crate::archive::tables::Table;

/// What ready queries read.
pub const READY: &[Table] = &[Table::Sessions, Table::Events, Table::LlmCalls];

/// An archive's folder; one in a bucket is copied to a temporary one.
pub struct Local {
    /// Where it is.
    pub folder: PathBuf,
    /// Deleted when this is dropped.
    _copied: Option<tempfile::TempDir>,
}

/// Makes an archive's committed files readable here, those of some tables at least.
///
/// # Errors
/// `NoArchive`, or that the store fails.
pub async fn local(address: &str, tables: &[Table]) -> Result<Local, Error> {
    if !address.contains("://") {
        let folder = PathBuf::from(address);
        if !folder.join("manifests").is_dir() && !folder.join("schema").is_dir() {
            return Err(Error::NoArchive(address.to_owned()));
        }
        if !folder.join("schema/manifest.json").is_file() {
            beside::refresh(&Store::open(address)?).await?;
        }
        return Ok(Local { folder, _copied: None });
    }
    let from = Store::open(address)?;
    let copied = tempfile::tempdir()?;
    let to = copied.path().to_str().ok_or_else(|| Error::NoArchive(address.to_owned()))?.to_owned();
    let to = Store::open(&to)?;
    beside::refresh(&to).await?;
    let mut manifests = Vec::new();
    for (name, _) in from.list("manifests").await? {
        let text = from.get(&name).await?;
        let manifest = Manifest::read(&name, &text)?;
        manifests.push((name, text, manifest));
    }
    // Files of replaced ones may be gone already.
    let replaced: HashSet<String> =
        manifests.iter().flat_map(|(_, _, manifest)| manifest.replaces.clone()).collect();
    for (name, text, manifest) in manifests {
        if !replaced.contains(&name) {
            copy(&from, &to, &manifest, tables).await?;
            to.put_over(&name, text).await?;
        }
    }
    Ok(Local { folder: copied.path().to_owned(), _copied: Some(copied) })
}

async fn copy(from: &Store, to: &Store, manifest: &Manifest, tables: &[Table]) -> Result<(), Error> {
    let wanted = |name: &str| tables.iter().any(|table| table.name() == name);
    for file in manifest.files.iter().filter(|file| wanted(&file.table)) {
        to.put_over(&file.path, from.get(&file.path).await?).await?;
    }
    Ok(())
}
