//! The data folder of `cellaflow dev`: everything a developer would otherwise have to configure.
//!
//! Owns: certificate authority, server certificate, token, connection file and the folder's lock. Never: the ledger
//! inside the folder (`storage`), or anything of `cellaflow serve`.
//!
//! Invariants:
//! - D1 Every file made here is 0600 and appears whole or not at all.
//! - D2 A folder that is not ours, or of a version we do not know, is left as it was found.
//! - D3 One process uses a folder at a time.
//! - D4 The certificate authority and the token outlive restarts: clients that trusted them keep working.
//! - D5 The connection file is written only for a port that is already bound.

mod certs;
pub mod compactor;
pub mod connection;
mod files;
mod folder;
pub mod test_clock;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use connection::Connection;

use crate::clock::Clock;
use crate::config::{Settings, tokens};
use crate::ids::{Mint, token_hash};
use crate::rpc::auth::{EVERY_NAMESPACE, Role, StaticTokens};
use crate::rpc::listen;

/// Name of the connection file in a data folder.
pub const CONNECTION_FILE: &str = "connection.json";

/// Name of the data folder that clients look for, from their own folder upwards.
pub const FOLDER: &str = ".cellaflow";

const TOKEN_FILE: &str = "token";

/// Why a dev engine cannot start; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds something else.
    #[error(
        "{} is not a data folder of `cellaflow dev` (it holds {found:?}), and was left as it is: \
         name an empty or new folder with --data", path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        found: String,
    },
    /// The folder was made by another version.
    #[error(
        "{} has format {found}, and this version of cellaflow reads {known}: \
         use the version that made it, or another folder with --data", path.display()
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The only one we read.
        known: u64,
    },
    /// Another process uses the folder.
    #[error(
        "another `cellaflow dev` ({who}) uses {}: connect to it, stop it, or name another folder with --data",
        path.display()
    )]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The process, as far as known.
        who: String,
    },
    /// The port is taken.
    #[error(
        "{address} is taken by another program or by an engine on another data folder: \
         stop it, or choose another port, for example --listen {} (port 0 takes any free one)",
        SocketAddr::new(address.ip(), address.port().wrapping_add(10).max(1024))
    )]
    Taken {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}: {source} (--listen)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A host name cannot be in a certificate.
    #[error(
        "--san {name:?} is neither a host name nor an address: write for example --san engine.example.com"
    )]
    San {
        /// The name.
        name: String,
    },
    /// A file of the folder cannot be used.
    #[error("{}: {problem}; {instead}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        instead: String,
    },
    /// Making a certificate failed.
    #[error("cannot make a certificate: {0}; report this with the versions of cellaflow and of your system")]
    Certificate(#[from] rcgen::Error),
}

/// Everything a dev engine needs before it opens its ledger.
#[derive(Debug)]
pub struct Prepared {
    /// The settings, with the port that was really bound.
    pub settings: Settings,
    /// Server side of TLS.
    pub tls: Arc<rustls::ServerConfig>,
    /// The folder's only token, which may do everything.
    pub tokens: StaticTokens,
    /// The bound, non-blocking gRPC port.
    pub listener: TcpListener,
    /// What clients need.
    pub connection: Connection,
    _lock: folder::Lock,
}

impl Prepared {
    /// Writes the connection file and returns its path; call it when requests are being served (D5).
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn publish(&self) -> Result<PathBuf, Error> {
        let path = self.settings.data_dir.join(CONNECTION_FILE);
        self.connection.write(&path)?;
        Ok(path)
    }
}

/// Prepares the data folder of `settings`, making what is missing, and binds the gRPC port.
///
/// # Errors
/// See [`Error`]; a folder that is not ours is not touched (D2).
pub fn prepare(mut settings: Settings, clock: &dyn Clock, mint: &Mint) -> Result<Prepared, Error> {
    let sans = certs::names(&settings.sans, settings.listen.ip())?;
    let root = settings.data_dir.clone();
    let lock = folder::open(&root)?;
    let certs = certs::ensure(&root, &sans, clock, mint)?;
    let token = ensure_token(&root, mint)?;
    let listener = bind(settings.listen)?;
    settings.listen = listener.local_addr().unwrap_or(settings.listen);
    let connection = Connection {
        url: format!("https://{}", reachable(settings.listen)),
        token: token.clone(),
        ca: certs.ca_pem,
        pid: Some(std::process::id()),
        ..Connection::default()
    };
    let entry = tokens::Entry {
        hash: token_hash(&token),
        role: Role::Admin,
        namespace: EVERY_NAMESPACE.to_owned(),
        name: "dev".to_owned(),
        expires_ms: None,
    };
    let tokens = StaticTokens::new(&[entry]);
    Ok(Prepared { settings, tls: certs.server, tokens, listener, connection, _lock: lock })
}

fn ensure_token(root: &Path, mint: &Mint) -> Result<String, Error> {
    let path = root.join(TOKEN_FILE);
    if let Some(text) = files::read(&path)? {
        let token = text.trim();
        if token.len() >= 32 && token.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(token.to_owned());
        }
        return Err(Error::File {
            path,
            problem: "it holds no token".to_owned(),
            instead: "delete it to get a new one".to_owned(),
        });
    }
    let token = mint.token();
    files::write(&path, token.as_bytes())?;
    Ok(token)
}

fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    listen::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::Taken { address },
        _ => Error::Listen { address, source },
    })
}

/// Returns an address that this machine can connect to for one that may mean "all interfaces".
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests;
