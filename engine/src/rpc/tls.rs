//! The server side of TLS: rustls over ring, HTTP/2 only.
//!
//! Owns: turning PEM into a server configuration, saying what is wrong with PEM files, taking changed ones over
//! (`reload`). Never: makes certificates (`dev::certs`), accepts connections (`rpc::listen`).
//!
//! Invariants:
//! - T1 Only the crypto provider named here is used; no process-wide default is installed or needed.
//! - T2 ALPN offers `h2` alone, so that nothing but gRPC's protocol is spoken behind a handshake.
//! - T3 Key material never appears in an error.
//! - T4 With an authority for clients, nobody finishes a handshake without a certificate of it.

pub mod reload;

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::TlsFiles;

/// One thing that is wrong with a certificate or key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting at fault: `tls_cert`, `tls_key` or `tls_client_ca`.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub instead: &'static str,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.problem, self.instead)
    }
}

/// Returns the crypto provider that server and clients of this crate use (T1).
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// PEM texts of a server.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// Certificate chain, the server's own first.
    pub cert: &'a [u8],
    /// Private key of the first certificate.
    pub key: &'a [u8],
    /// Authorities whose certificates clients must have; `None`: clients need none.
    pub client_ca: Option<&'a [u8]>,
}

/// Builds the server's configuration from PEM texts.
///
/// # Errors
/// Every fault of the texts.
pub fn server_config(pem: Pem<'_>) -> Result<Arc<ServerConfig>, Vec<Fault>> {
    let chain = parse_chain(pem.cert);
    let key = parse_key(pem.key);
    let verifier = pem.client_ca.map(client_verifier).transpose();
    let (chain, key, verifier) = match (chain, key, verifier) {
        (Ok(chain), Ok(key), Ok(verifier)) => (chain, key, verifier),
        (chain, key, verifier) => {
            return Err(chain.err().into_iter().chain(key.err()).chain(verifier.err()).collect());
        }
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier), // T4
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        vec![Fault {
            key: "tls_key",
            problem: format!("certificate and key do not go together: {error}"),
            instead: "name the key for which the first certificate of tls_cert was issued",
        }]
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The content of a server's PEM files.
#[derive(PartialEq, Eq)]
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Content {
    fn read(files: &TlsFiles) -> Result<Self, Vec<Fault>> {
        let cert = read("tls_cert", &files.cert);
        let key = read("tls_key", &files.key);
        let client_ca = files.client_ca.as_deref().map(|path| read("tls_client_ca", path)).transpose();
        match (cert, key, client_ca) {
            (Ok(cert), Ok(key), Ok(client_ca)) => Ok(Self { cert, key, client_ca }),
            (cert, key, client_ca) => {
                // The readable ones are still looked into, so that their faults are told in the same go.
                let cert = cert.and_then(|cert| parse_chain(&cert).map(drop)).err();
                let key = key.and_then(|key| parse_key(&key).map(drop)).err();
                let client_ca =
                    client_ca.and_then(|ca| ca.map_or(Ok(()), |ca| client_verifier(&ca).map(drop))).err();
                Err(cert.into_iter().chain(key).chain(client_ca).collect())
            }
        }
    }

    fn config(&self) -> Result<Arc<ServerConfig>, Vec<Fault>> {
        server_config(Pem { cert: &self.cert, key: &self.key, client_ca: self.client_ca.as_deref() })
    }
}

/// Reads the files and builds the server's configuration.
///
/// # Errors
/// Every fault of the files.
pub fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, Vec<Fault>> {
    Content::read(files)?.config()
}

/// Returns every fault of the files; none if they can serve.
pub fn check_files(files: &TlsFiles) -> Vec<Fault> {
    load(files).err().unwrap_or_default()
}

fn client_verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let fault = |problem: String| Fault {
        key: "tls_client_ca",
        problem,
        instead: "name a PEM file with the certificates of the authorities that issue your clients' certificates",
    };
    let mut roots = RootCertStore::empty();
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    for cert in certs.map_err(|_| fault("it holds no readable certificate".to_owned()))? {
        roots.add(cert).map_err(|error| fault(format!("one of its certificates is unusable: {error}")))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| fault(error.to_string()))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| Fault {
        key,
        problem: format!("{} cannot be read: {error}", path.display()),
        instead: "name a file that the daemon's user may read",
    })
}

fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.unwrap_or_default();
    if chain.is_empty() {
        return Err(Fault {
            key: "tls_cert",
            problem: "it holds no readable certificate".to_owned(),
            instead: "name a PEM file with BEGIN CERTIFICATE blocks, the server's own first",
        });
    }
    Ok(chain)
}

fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    // The parser's own error is dropped: it could quote what it read (T3).
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| Fault {
        key: "tls_key",
        problem: "it holds no readable private key".to_owned(),
        instead: "name a PEM file with one unencrypted BEGIN PRIVATE KEY block",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn pem<'a>(cert: &'a str, key: &'a str) -> Pem<'a> {
        Pem { cert: cert.as_bytes(), key: key.as_bytes(), client_ca: None }
    }

    #[test]
    fn an_authority_for_clients_that_holds_nothing_is_refused_by_name() {
        let (cert, key) = pair();
        let faults = server_config(Pem { client_ca: Some(b"nothing"), ..pem(&cert, &key) }).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), ["tls_client_ca"]);
    }

    #[test]
    fn a_matching_pair_offers_h2_only() {
        let (cert, key) = pair();
        let config = server_config(pem(&cert, &key)).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]); // T2
    }

    #[test]
    fn a_foreign_key_is_refused_by_name() {
        let ((cert, _), (_, key)) = (pair(), pair());
        let faults = server_config(pem(&cert, &key)).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].problem.contains("do not go together"), "{}", faults[0]);
    }

    #[test]
    fn both_files_are_judged_at_once_and_no_key_is_quoted() {
        let faults = server_config(pem("-----BEGIN NOTHING-----", "-----BEGIN PRIVATE KEY-----\nsecret!"))
            .unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), ["tls_cert", "tls_key"]);
        assert!(!format!("{faults:?}").contains("secret!"), "T3");
    }
}
