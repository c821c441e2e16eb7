//! Where the archive lies: a folder, or a bucket that speaks S3. Nothing is overwritten but what lies beside the data.

use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Certificate, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
};

/// Why the store did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address names no store.
    #[error(
        "{0:?} names no archive: give a folder, or s3://bucket/prefix (endpoint and keys as AWS_* variables)"
    )]
    Address(String),
    /// There is no such folder.
    #[error("there is no archive at {0}: is --archive the folder that `run` writes to?")]
    Missing(String),
    /// What AWS_CA_BUNDLE names cannot be used.
    #[error("AWS_CA_BUNDLE {0} cannot be used: {1}; name a file of PEM certificates, or none")]
    Authorities(String, String),
    /// The store failed.
    #[error("the archive store failed: {0}")]
    Store(#[from] object_store::Error),
    /// It overwrites what it was told not to.
    #[error("the archive store does not support conditional writes (put if none match): use one that does")]
    NoConditions,
    /// There is something else already.
    #[error("{0} is there already with other bytes: another worker wrote it; nothing was overwritten")]
    Taken(String),
}

impl Error {
    /// There is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Store(object_store::Error::NotFound { .. }))
    }
}

/// An archive's files.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Store {
    /// Opens the archive at a folder or URL.
    ///
    /// # Errors
    /// `Address`, or that the folder cannot be made.
    pub fn open(address: &str) -> Result<Self, Error> {
        if let Some(rest) = address.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let inner = s3_builder()?.with_bucket_name(bucket).build()?;
            return Ok(Self { inner: Arc::new(inner), prefix: Path::from(prefix) });
        }
        if address.is_empty() || address.contains("://") {
            return Err(Error::Address(address.to_owned()));
        }
        let folder = FsPath::new(address);
        std::fs::create_dir_all(folder).map_err(|source| object_store::Error::Generic {
            store: "local folder",
            source: Box::new(source),
        })?;
        let inner = LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true).with_fsync(true);
        Ok(Self { inner: Arc::new(inner), prefix: Path::default() })
    }

    /// Opens an archive that others write: no folder is made.
    ///
    /// # Errors
    /// As `open`; `Missing` if there is no such folder.
    pub fn open_existing(address: &str) -> Result<Self, Error> {
        if !address.is_empty() && !address.contains("://") && !FsPath::new(address).is_dir() {
            return Err(Error::Missing(address.to_owned()));
        }
        Self::open(address)
    }

    /// Makes sure that a second write of the same name is refused.
    ///
    /// # Errors
    /// `NoConditions` if it is not.
    pub async fn probe(&self, unique: &str) -> Result<(), Error> {
        let name = self.path(&format!("pending/probe-{unique}"));
        self.inner.put_opts(&name, PutPayload::from_static(b"probe"), create()).await?;
        let again = self.inner.put_opts(&name, PutPayload::from_static(b"probe"), create()).await;
        self.inner.delete(&name).await?;
        match again {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(())
            }
            Ok(_) => Err(Error::NoConditions),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file where nothing is; the same bytes again are fine.
    ///
    /// # Errors
    /// `Taken` if other bytes are there.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let put =
            self.inner.put_opts(&self.path(name), PutPayload::from_bytes(bytes.clone()), create()).await;
        match put {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                if self.get(name).await? == bytes {
                    Ok(())
                } else {
                    Err(Error::Taken(name.to_owned()))
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file over what is there, unless that is the same: only for what is no part of the archive itself.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put_over(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        if self.get(name).await.is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        self.inner.put(&self.path(name), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn get(&self, name: &str) -> Result<Bytes, Error> {
        Ok(self.inner.get(&self.path(name)).await?.bytes().await?)
    }

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        match self.inner.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Files below a folder, by name relative to the archive's root.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, ObjectMeta)>, Error> {
        let found: Vec<ObjectMeta> = self.inner.list(Some(&self.path(folder))).try_collect().await?;
        let named = found.into_iter().map(|meta| (self.name(&meta.location), meta));
        Ok(named.collect())
    }

    fn path(&self, name: &str) -> Path {
        let name = Path::parse(name).unwrap_or_else(|_| Path::from(name));
        self.prefix.parts().chain(name.parts()).collect()
    }

    fn name(&self, location: &Path) -> String {
        let rest = location.prefix_match(&self.prefix);
        rest.map_or_else(|| location.to_string(), |parts| parts.collect::<Path>().to_string())
    }
}

/// Endpoint, region and keys as AWS_* variables say; AWS_CA_BUNDLE names authorities of a store of one's own.
fn s3_builder() -> Result<AmazonS3Builder, Error> {
    let builder = AmazonS3Builder::from_env();
    let Some(bundle) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) else {
        return Ok(builder);
    };
    let unreadable = |problem: String| Error::Authorities(bundle.display().to_string(), problem);
    let pem = std::fs::read(&bundle).map_err(|error| unreadable(error.to_string()))?;
    let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(error.to_string()))?;
    // Options that are given as a whole take the place of those from the environment.
    let plain = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|allowed| allowed == "true");
    let options = ClientOptions::new().with_allow_http(plain);
    let add = |options: ClientOptions, authority| options.with_root_certificate(authority);
    Ok(builder.with_client_options(authorities.into_iter().fold(options, add)))
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_overwritten_and_the_same_bytes_again_are_fine() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        store.probe("1").await.unwrap();
        store.put_new("data/ns=a/f", Bytes::from_static(b"one")).await.unwrap();
        store.put_new("data/ns=a/f", Bytes::from_static(b"one")).await.unwrap();
        let other = store.put_new("data/ns=a/f", Bytes::from_static(b"two")).await;
        assert!(matches!(other, Err(Error::Taken(_))), "{other:?}");
        assert_eq!(store.get("data/ns=a/f").await.unwrap(), "one");
        let names: Vec<_> = store.list("data").await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["data/ns=a/f"]);
    }
}
