//! Finds the engine to talk to; the TypeScript SDK looks in the same places in the same order.
//!
//! 1. options,
//! 2. `CELLAFLOW_URL`, `CELLAFLOW_TOKEN`, `CELLAFLOW_CA`, `CELLAFLOW_CERT`, `CELLAFLOW_KEY`,
//! 3. the nearest `.cellaflow/connection.json` in this folder or above,
//! 4. `cellaflow/connection.json` in the user's configuration folder.
//!
//! Invariants:
//! - L1 `CELLAFLOW_TOKEN` is never sent to an address out of a file, nor a file's token to an address out of the
//!   environment. So a file is only used when neither options nor environment name an address.
//! - L2 A file that is there but cannot be used is an error, not a reason to look further.
//! - L3 When nothing is found, the error lists every place that was looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::dev::{CONNECTION_FILE, Connection, FOLDER};

/// Where to find the engine, as options of a command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Engine")]
pub struct Options {
    /// Address of the engine, for example https://127.0.0.1:50051 [env: CELLAFLOW_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token; better given as CELLAFLOW_TOKEN, since options show up in process lists
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Certificate authority: a path, or PEM text [env: CELLAFLOW_CA]
    #[arg(long, value_name = "PATH|PEM")]
    pub ca: Option<String>,
    /// Certificate of this client, for engines that ask for one: a path, or PEM text [env: CELLAFLOW_CERT]
    #[arg(long, value_name = "PATH|PEM")]
    pub client_cert: Option<String>,
    /// Private key of --client-cert: a path, or PEM text [env: CELLAFLOW_KEY]
    #[arg(long, value_name = "PATH|PEM")]
    pub client_key: Option<String>,
    /// Data folder of a dev engine, instead of looking for .cellaflow
    #[arg(long, alias = "data-dir", value_name = "PATH", conflicts_with = "url")]
    pub data: Option<PathBuf>,
}

/// What the search depends on besides the options; a value, so that tests need no process of their own.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Folder to look in and above.
    pub folder: PathBuf,
}

impl Surroundings {
    /// Takes this process's environment and folder.
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self {
            env: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            folder: std::env::current_dir().unwrap_or_default(),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn user_file(&self) -> Option<PathBuf> {
        let config = match (self.get("XDG_CONFIG_HOME"), self.get("HOME")) {
            (Some(folder), _) => PathBuf::from(folder),
            (None, Some(home)) => Path::new(home).join(".config"),
            (None, None) => return None,
        };
        Some(config.join("cellaflow").join(CONNECTION_FILE))
    }
}

/// An engine's address with its token and certificate authority, and where they were found.
#[derive(Debug, Clone)]
pub struct Found {
    /// What a client needs.
    pub connection: Connection,
    /// The place, for messages.
    pub source: String,
    /// A remark for when connecting fails: the process that wrote the file is gone.
    pub stale: Option<String>,
}

/// Why no engine was found; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place names an engine.
    #[error(
        "no engine found; looked at:{}\nstart one with `cellaflow dev`, or name one with --url and --token",
        places.iter().map(|place| format!("\n  - {place}")).collect::<String>()
    )]
    Nowhere {
        /// Every place that was looked at (L3).
        places: Vec<String>,
    },
    /// An address without a token.
    #[error("{url} ({origin}) has no token: give --token or CELLAFLOW_TOKEN with it")]
    NoToken {
        /// The address.
        url: String,
        /// Where the address came from.
        origin: &'static str,
    },
    /// The address is not one of ours.
    #[error("{url:?} ({origin}) is not an https address: write for example https://127.0.0.1:50051")]
    Url {
        /// The address.
        url: String,
        /// Where it came from.
        origin: String,
    },
    /// A certificate or key cannot be read.
    #[error(
        "the {what} {path:?} ({origin}) cannot be read: {reason}; give the path of a PEM file, or its text"
    )]
    Pem {
        /// What it is to hold.
        what: &'static str,
        /// The path; what looks like a key is not shown.
        path: String,
        /// Where it came from.
        origin: &'static str,
        /// The system's reason.
        reason: String,
    },
    /// A client certificate without its key, or the other way round.
    #[error(
        "a client certificate needs its key: give both --client-cert and --client-key (or CELLAFLOW_CERT and CELLAFLOW_KEY)"
    )]
    HalfIdentity,
    /// A connection file cannot be used (L2).
    #[error(transparent)]
    File(#[from] crate::dev::Error),
}

/// Finds the engine.
///
/// # Errors
/// See [`Error`].
pub fn find(options: &Options, around: &Surroundings) -> Result<Found, Error> {
    let url = option_or_env(options.url.as_deref(), "--url", around, "CELLAFLOW_URL")
        .filter(|_| options.data.is_none());
    let token = option_or_env(options.token.as_deref(), "--token", around, "CELLAFLOW_TOKEN");
    let ca = option_or_env(options.ca.as_deref(), "--ca", around, "CELLAFLOW_CA");
    if let Some((url, origin)) = url {
        let Some((token, _)) = token else { return Err(Error::NoToken { url: url.to_owned(), origin }) };
        check_url(url, origin)?;
        let ca =
            ca.map_or(Ok(String::new()), |(text, origin)| read_pem("certificate authority", text, origin))?;
        let mut connection =
            Connection { url: url.to_owned(), token: token.to_owned(), ca, ..Connection::default() };
        identify(&mut connection, options, around)?;
        return Ok(Found { connection, source: origin.to_owned(), stale: None });
    }
    let mut places = vec!["--url and CELLAFLOW_URL".to_owned()];
    for path in files(options, around) {
        if path.exists() {
            let mut found = from_file(&path)?;
            // Said by the person at the keyboard, who knows which engine the file names.
            if let Some(token) = &options.token {
                found.connection.token.clone_from(token);
            }
            if let Some(ca) = &options.ca {
                found.connection.ca = read_pem("certificate authority", ca, "--ca")?;
            }
            identify(&mut found.connection, options, around)?;
            return Ok(found);
        }
        places.push(path.display().to_string());
    }
    Err(Error::Nowhere { places })
}

fn option_or_env<'a>(
    option: Option<&'a str>,
    flag: &'static str,
    around: &'a Surroundings,
    variable: &'static str,
) -> Option<(&'a str, &'static str)> {
    option.map(|value| (value, flag)).or_else(|| around.get(variable).map(|value| (value, variable)))
}

fn files(options: &Options, around: &Surroundings) -> Vec<PathBuf> {
    if let Some(data) = &options.data {
        return vec![around.folder.join(data).join(CONNECTION_FILE)];
    }
    let upwards = around.folder.ancestors().map(|folder| folder.join(FOLDER).join(CONNECTION_FILE));
    upwards.chain(around.user_file()).collect()
}

fn from_file(path: &Path) -> Result<Found, Error> {
    let connection = Connection::read(path)?;
    let source = path.display().to_string();
    check_url(&connection.url, &source)?;
    let stale = connection.writer_is_gone().then(|| {
        format!(
            "{source} was written by a process that is gone: start `cellaflow dev` again, or delete the file"
        )
    });
    Ok(Found { connection, source, stale })
}

fn check_url(url: &str, origin: &str) -> Result<(), Error> {
    let uri = url.parse::<http::Uri>().ok();
    let is_https = uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    if is_https { Ok(()) } else { Err(Error::Url { url: url.to_owned(), origin: origin.to_owned() }) }
}

/// Adds the client's own certificate, if one is given. It is no secret of one engine: the environment's goes with an
/// address out of a file, too.
fn identify(connection: &mut Connection, options: &Options, around: &Surroundings) -> Result<(), Error> {
    let cert = option_or_env(options.client_cert.as_deref(), "--client-cert", around, "CELLAFLOW_CERT");
    let key = option_or_env(options.client_key.as_deref(), "--client-key", around, "CELLAFLOW_KEY");
    if let Some((text, origin)) = cert {
        connection.cert = read_pem("client certificate", text, origin)?;
    }
    if let Some((text, origin)) = key {
        connection.key = read_pem("client key", text, origin)?;
    }
    if connection.cert.is_empty() == connection.key.is_empty() { Ok(()) } else { Err(Error::HalfIdentity) }
}

/// Accepts PEM text itself, because a container often has no file to point to.
fn read_pem(what: &'static str, text: &str, origin: &'static str) -> Result<String, Error> {
    if text.trim_start().starts_with("-----BEGIN") {
        return Ok(text.to_owned());
    }
    let failed = |reason: String| Error::Pem { what, path: text.to_owned(), origin, reason };
    let pem = std::fs::read_to_string(text).map_err(|error| failed(error.to_string()))?;
    if pem.contains("-----BEGIN ") { Ok(pem) } else { Err(failed("it is no PEM file".to_owned())) }
}

#[cfg(test)]
mod tests;
