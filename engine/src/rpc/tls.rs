//! The server side of TLS: rustls over ring, HTTP/2 only.
//!
//! Owns: turning PEM into a server configuration and saying what is wrong with PEM files. Never: makes certificates
//! (`dev::certs`), accepts connections (`rpc::listen`).
//!
//! Invariants:
//! - T1 Only the crypto provider named here is used; no process-wide default is installed or needed.
//! - T2 ALPN offers `h2` alone, so that nothing but gRPC's protocol is spoken behind a handshake.
//! - T3 Key material never appears in an error.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One thing that is wrong with a certificate or key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting at fault: `tls_cert` or `tls_key`.
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

/// Builds the server's configuration from PEM texts.
///
/// # Errors
/// Every fault of the two texts.
pub fn server_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, Vec<Fault>> {
    let chain = parse_chain(cert_pem);
    let key = parse_key(key_pem);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| {
        vec![Fault {
            key: "tls_key",
            problem: format!("certificate and key do not go together: {error}"),
            instead: "name the key for which the first certificate of tls_cert was issued",
        }]
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Reads both files and builds the server's configuration.
///
/// # Errors
/// Every fault of the two files.
pub fn load(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, Vec<Fault>> {
    match (read("tls_cert", cert), read("tls_key", key)) {
        (Ok(cert), Ok(key)) => server_config(&cert, &key),
        // The readable one is still looked into, so that its faults are told in the same go.
        (Ok(cert), Err(fault)) => Err(parse_chain(&cert).err().into_iter().chain([fault]).collect()),
        (Err(fault), Ok(key)) => Err([fault].into_iter().chain(parse_key(&key).err()).collect()),
        (Err(first), Err(second)) => Err(vec![first, second]),
    }
}

/// Returns every fault of the two files; none if they can serve.
pub fn check_files(cert: &Path, key: &Path) -> Vec<Fault> {
    load(cert, key).err().unwrap_or_default()
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

    #[test]
    fn a_matching_pair_offers_h2_only() {
        let (cert, key) = pair();
        let config = server_config(cert.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]); // T2
    }

    #[test]
    fn a_foreign_key_is_refused_by_name() {
        let ((cert, _), (_, key)) = (pair(), pair());
        let faults = server_config(cert.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].problem.contains("do not go together"), "{}", faults[0]);
    }

    #[test]
    fn both_files_are_judged_at_once_and_no_key_is_quoted() {
        let faults =
            server_config(b"-----BEGIN NOTHING-----", b"-----BEGIN PRIVATE KEY-----\nsecret!").unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), ["tls_cert", "tls_key"]);
        assert!(!format!("{faults:?}").contains("secret!"), "T3");
    }
}
