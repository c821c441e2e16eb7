//! The folder's certificate authority and the server certificate it issues (D4).
//!
//! The authority's key never leaves the folder; clients trust its certificate through the connection file. What was
//! issued is noted in `tls/issued.json`, so that no certificate has to be parsed to know when to issue the next.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Error, files};
use crate::clock::Clock;
use crate::ids::Mint;
use crate::rpc::tls;

/// Names that every dev certificate carries.
const NAMES: [&str; 5] = ["localhost", "127.0.0.1", "::1", "host.docker.internal", "engine.cellaflow.local"];

const DAY_MS: u64 = 86_400_000;
const CA_MS: u64 = 3_650 * DAY_MS;
const SERVER_MS: u64 = 365 * DAY_MS;

/// A server certificate with less time left than this is issued anew at start.
const RENEW_MS: u64 = 30 * DAY_MS;

/// Certificates start this long before now, for containers and virtual machines whose clock lags.
const BACKDATE_MS: u64 = DAY_MS;

/// What the folder's certificates are good for.
#[derive(Debug)]
pub(super) struct Certs {
    /// The authority's certificate, for clients.
    pub(super) ca_pem: String,
    /// Server side of TLS.
    pub(super) server: Arc<rustls::ServerConfig>,
}

/// What was issued, as noted in the folder.
#[derive(Debug, Serialize, Deserialize)]
struct Issued {
    ca_name: String,
    ca_not_after_ms: u64,
    names: Vec<String>,
    not_after_ms: u64,
}

/// Returns the sorted names for the certificate: the usual ones, `--san`, and the address listened on.
///
/// # Errors
/// [`Error::San`].
pub(super) fn names(sans: &[String], listen: IpAddr) -> Result<Vec<String>, Error> {
    if let Some(name) = sans.iter().find(|name| !is_name(name)) {
        return Err(Error::San { name: name.clone() });
    }
    let mut names: Vec<String> = NAMES.iter().map(ToString::to_string).chain(sans.iter().cloned()).collect();
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = name.strip_prefix("*.").unwrap_or(name);
    name.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(label))
}

/// Returns the folder's certificates, issuing what is missing, differs in names, or ends soon.
pub(super) fn ensure(root: &Path, names: &[String], clock: &dyn Clock, mint: &Mint) -> Result<Certs, Error> {
    let store = Store { folder: root.join("tls"), now_ms: clock.wall_ms() };
    files::make_folder(&store.folder)?;
    if let Some(certs) = store.current(names)? {
        return Ok(certs);
    }
    let authority = match store.authority()? {
        Some(authority) => authority,
        None => store.new_authority(mint)?,
    };
    store.issue(&authority, names)
}

fn pem<'a>(cert: &'a str, key: &'a str) -> tls::Pem<'a> {
    tls::Pem { cert: cert.as_bytes(), key: key.as_bytes(), client_ca: None }
}

struct Store {
    folder: std::path::PathBuf,
    now_ms: u64,
}

struct Authority {
    name: String,
    not_after_ms: u64,
    pem: String,
    key: KeyPair,
}

impl Store {
    fn read(&self, name: &str) -> Result<Option<String>, Error> {
        files::read(&self.folder.join(name))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        files::write(&self.folder.join(name), text.as_bytes())
    }

    /// Returns what was noted; damage reads as nothing noted, and everything is made anew.
    fn issued(&self) -> Result<Option<Issued>, Error> {
        Ok(self.read("issued.json")?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Returns the certificates that are there, if they fit and last.
    fn current(&self, names: &[String]) -> Result<Option<Certs>, Error> {
        let Some(issued) = self.issued()? else { return Ok(None) };
        let lasts = issued.not_after_ms.saturating_sub(RENEW_MS) > self.now_ms;
        let parts = (self.read("ca.pem")?, self.read("server.pem")?, self.read("server.key")?);
        let (true, true, (Some(ca_pem), Some(cert), Some(key))) = (lasts, issued.names == names, parts)
        else {
            return Ok(None);
        };
        // A start that was killed between two files leaves a pair that does not fit: issue again.
        let server = tls::server_config(pem(&cert, &key)).ok();
        Ok(server.map(|server| Certs { ca_pem, server }))
    }

    /// Returns the authority that is there, if it outlives what it would issue now.
    fn authority(&self) -> Result<Option<Authority>, Error> {
        let parts = (self.issued()?, self.read("ca.pem")?, self.read("ca.key")?);
        let (Some(issued), Some(pem), Some(key)) = parts else { return Ok(None) };
        if issued.ca_not_after_ms < self.now_ms + SERVER_MS {
            tracing::warn!(
                "the dev certificate authority is at its end: clients need the new connection file"
            );
            return Ok(None);
        }
        let Ok(key) = KeyPair::from_pem(&key) else { return Ok(None) };
        Ok(Some(Authority { name: issued.ca_name, not_after_ms: issued.ca_not_after_ms, pem, key }))
    }

    fn new_authority(&self, mint: &Mint) -> Result<Authority, Error> {
        // Several folders' authorities in one trust store must not share a name.
        let name = format!("Cellaflow dev CA {}", hex::encode(mint.random::<4>()));
        let key = KeyPair::generate()?;
        let not_after_ms = self.now_ms + CA_MS;
        let mut params = authority_params(&name);
        (params.not_before, params.not_after) = self.validity(not_after_ms);
        let pem = params.self_signed(&key)?.pem();
        // The old note must not vouch for old certificates beside the new authority.
        files::remove(&self.folder.join("issued.json"))?;
        self.write("ca.key", &key.serialize_pem())?;
        self.write("ca.pem", &pem)?;
        Ok(Authority { name, not_after_ms, pem, key })
    }

    fn issue(&self, authority: &Authority, names: &[String]) -> Result<Certs, Error> {
        let key = KeyPair::generate()?;
        let not_after_ms = self.now_ms + SERVER_MS;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = common_name("Cellaflow dev engine");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = self.validity(not_after_ms);
        let issuer_params = authority_params(&authority.name);
        let issuer = Issuer::from_params(&issuer_params, &authority.key);
        let (cert_pem, key_pem) = (params.signed_by(&key, &issuer)?.pem(), key.serialize_pem());
        self.write("server.key", &key_pem)?;
        self.write("server.pem", &cert_pem)?;
        let issued = Issued {
            ca_name: authority.name.clone(),
            ca_not_after_ms: authority.not_after_ms,
            names: names.to_vec(),
            not_after_ms,
        };
        // Noted last: whatever is missing before is made again.
        self.write(
            "issued.json",
            &serde_json::to_string_pretty(&issued).expect("texts and numbers are JSON"),
        )?;
        let server = tls::server_config(pem(&cert_pem, &key_pem))
            .expect("a certificate made for this key goes with it");
        Ok(Certs { ca_pem: authority.pem.clone(), server })
    }

    fn validity(&self, not_after_ms: u64) -> (OffsetDateTime, OffsetDateTime) {
        (at(self.now_ms.saturating_sub(BACKDATE_MS)), at(not_after_ms))
    }
}

/// The authority's parameters, equal for every start, because issued certificates refer to them.
fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn at(wall_ms: u64) -> OffsetDateTime {
    let seconds = i64::try_from(wall_ms / 1_000).unwrap_or(i64::MAX);
    // Only a clock set beyond the year 9999 fails, and then any end will do.
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
