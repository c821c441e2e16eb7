//! Finds the engine and connects to it, as its own command line does: options, environment, connection file.
//!
//! C1. The token goes nowhere but to the address it was found with, over TLS.
//! C2. `CELLAFLOW_TOKEN` is never sent to an address out of a file, nor a file's token to one out of the environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cellaflow_proto::v1::archive_service_client::ArchiveServiceClient;
use clap::Args;
use serde::Deserialize;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

/// Time to reach the engine, its handshake included.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How often an idle connection is asked whether the engine is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Largest message taken from the engine, in bytes.
const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// Where systems keep the authorities they trust.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where to find the engine.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Engine")]
pub struct Options {
    /// Address of the engine, for example https://127.0.0.1:50051
    #[arg(long, value_name = "URL", env = "CELLAFLOW_URL")]
    pub url: Option<String>,
    /// Certificate authority: a path, or PEM text
    #[arg(long, value_name = "PATH|PEM", env = "CELLAFLOW_CA")]
    pub ca: Option<String>,
    /// Certificate of this client, for engines that ask for one: a path, or PEM text
    #[arg(long, value_name = "PATH|PEM", env = "CELLAFLOW_CERT")]
    pub client_cert: Option<String>,
    /// Private key of --client-cert: a path, or PEM text
    #[arg(long, value_name = "PATH|PEM", env = "CELLAFLOW_KEY")]
    pub client_key: Option<String>,
    /// Bearer token; better given as CELLAFLOW_TOKEN, since options show up in process lists
    #[arg(long, value_name = "TOKEN", env = "CELLAFLOW_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Namespace; a token of one namespace needs none
    #[arg(long, value_name = "NAME", default_value = "")]
    pub namespace: String,
}

/// Adds the token to every request.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel that sends the token with every request.
pub type Authenticated = InterceptedService<Channel, Bearer>;

/// The archive's side of the engine.
pub type Archive = ArchiveServiceClient<Authenticated>;

/// Why there is no connection; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing names an engine.
    #[error(
        "no engine found: give --url with CELLAFLOW_TOKEN, or run this below a folder with .cellaflow/connection.json"
    )]
    Nowhere,
    /// An address without a token.
    #[error("{0} has no token: set CELLAFLOW_TOKEN to one with the role compactor")]
    NoToken(String),
    /// Something cannot be used.
    #[error("{what} cannot be used: {problem}")]
    Unusable {
        /// What.
        what: String,
        /// Why.
        problem: String,
    },
    /// The engine does not answer.
    #[error("cannot reach {url}: {problem}; is the engine running, and is this its address?")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        problem: String,
    },
}

#[derive(Deserialize)]
struct FileConnection {
    url: String,
    token: String,
    #[serde(default)]
    ca: String,
}

struct Found {
    url: String,
    token: String,
    ca: String,
}

/// The archive's side of an engine.
#[must_use]
pub fn archive(channel: Authenticated) -> Archive {
    ArchiveServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Connects to the engine that the options, the environment or a file name.
///
/// # Errors
/// See [`Error`].
pub async fn channel(options: &Options) -> Result<Authenticated, Error> {
    let found = find(options)?;
    let unusable = |what: &str, problem: String| Error::Unusable { what: what.to_owned(), problem };
    let roots = if found.ca.is_empty() { system_roots()? } else { found.ca.clone() };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    match (&options.client_cert, &options.client_key) {
        (Some(cert), Some(key)) => {
            tls =
                tls.identity(Identity::from_pem(pem("the client certificate", cert)?, pem("its key", key)?));
        }
        (None, None) => {}
        _ => return Err(unusable("a client certificate without its key", "give both".to_owned())),
    }
    let endpoint = Endpoint::from_shared(found.url.clone())
        .and_then(|endpoint| {
            endpoint
                .connect_timeout(CONNECT_MAX)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(CONNECT_MAX)
                .tls_config(tls)
        })
        .map_err(|error| unusable(&found.url, chain(&error)))?;
    let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", found.token)
        .parse()
        .map_err(|_| unusable("the token", "it is not one line of plain text".to_owned()))?;
    bearer.set_sensitive(true);
    let unreachable = |problem| Error::Unreachable { url: found.url.clone(), problem };
    let channel = tokio::time::timeout(CONNECT_MAX, endpoint.connect())
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", CONNECT_MAX.as_secs())))?
        .map_err(|error| unreachable(chain(&error)))?;
    Ok(InterceptedService::new(channel, Bearer(bearer)))
}

fn find(options: &Options) -> Result<Found, Error> {
    let ca = |given: &Option<String>| given.as_ref().map_or(Ok(String::new()), |ca| pem("the authority", ca));
    if let Some(url) = &options.url {
        if !url.starts_with("https://") {
            let problem = "write it as https://host:port".to_owned();
            return Err(Error::Unusable { what: url.clone(), problem });
        }
        let token = options.token.clone().ok_or_else(|| Error::NoToken(url.clone()))?;
        return Ok(Found { url: url.clone(), token, ca: ca(&options.ca)? });
    }
    for path in files() {
        if path.exists() {
            let unusable = |problem: String| Error::Unusable { what: path.display().to_string(), problem };
            let text = std::fs::read_to_string(&path).map_err(|error| unusable(error.to_string()))?;
            let file: FileConnection =
                serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
            return Ok(Found { url: file.url, token: file.token, ca: file.ca }); // C2
        }
    }
    Err(Error::Nowhere)
}

fn files() -> impl Iterator<Item = PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let upwards: Vec<PathBuf> =
        here.ancestors().map(|folder| folder.join(".cellaflow").join("connection.json")).collect();
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    upwards.into_iter().chain(config.map(|config| config.join("cellaflow").join("connection.json")))
}

fn pem(what: &str, text: &str) -> Result<String, Error> {
    if text.trim_start().starts_with("-----BEGIN") {
        return Ok(text.to_owned());
    }
    let unusable = |problem: String| Error::Unusable { what: what.to_owned(), problem };
    std::fs::read_to_string(text).map_err(|error| unusable(error.to_string()))
}

fn system_roots() -> Result<String, Error> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let mut places = named.iter().map(String::as_str).chain(SYSTEM_ROOTS);
    let found = places.find_map(|path| std::fs::read_to_string(path).ok());
    found.ok_or_else(|| Error::Unusable {
        what: "this system's bundle of trusted authorities".to_owned(),
        problem: "there is none: give the engine's with --ca or CELLAFLOW_CA".to_owned(),
    })
}

/// Joins an error with its causes: the outermost one of a transport says nothing.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
