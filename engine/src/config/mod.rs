//! The configuration of the daemon.
//!
//! Owns: the keys, their defaults and ranges, the layers they come from, and telling everything that is wrong with
//! them at once. Never: starts anything, writes anything, or prints a secret.
//!
//! Invariants:
//! - S1 A later layer wins: defaults, TOML file, `CELLAFLOW_ENGINE_*` environment, flags.
//! - S2 Every fault of every layer is reported in one go, also of values that a later layer overrides.
//! - S3 Nothing that is or may be a secret appears in a fault or in `--check-config`.
//! - S4 A `Settings` value is complete and consistent; nobody checks it again.

pub mod faults;
pub mod keys;
mod layers;
pub mod limits;
mod render;
pub mod tokens;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use faults::{Fault, Faults, Origin};
pub use keys::Mode;
pub use layers::{ENV_PREFIX, Sources};
pub use limits::Limits;

use keys::Value;

/// Port of the gRPC listener when nobody chooses one.
pub const DEFAULT_PORT: u16 = 50_051;

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// The server's certificate chain and private key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Private key of the first certificate.
    pub key: PathBuf,
    /// Authorities whose certificates clients must have; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// The compactor that `dev` runs beside the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// The one in the program's own folder, if there is one.
    Found,
    /// This program.
    Program(PathBuf),
    /// None.
    Off,
}

/// Everything the daemon can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which command they are for.
    pub mode: Mode,
    /// Address of the gRPC port; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Folder of the ledger, and in dev mode of certificates, token and connection file.
    pub data_dir: PathBuf,
    /// Where backups go; `None`: into the data folder.
    pub backup_dir: Option<PathBuf>,
    /// Certificate and key; always present for `serve`, never for `dev`, which makes its own.
    pub tls: Option<TlsFiles>,
    /// Further host names for the certificate that `dev` makes.
    pub sans: Vec<String>,
    /// The compactor that `dev` runs; never of `serve`.
    pub compactor: Beside,
    /// Address of the Prometheus listener; `None`: off. Loopback unless explicitly allowed.
    pub metrics_listen: Option<SocketAddr>,
    /// Log levels, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// What becomes of a step that used up its attempts and does not say it: true pauses the session, false fails the step.
    pub step_exhausted_pauses: bool,
    /// Accepted tokens, by hash.
    pub tokens: Vec<tokens::Entry>,
    /// Every numeric limit.
    pub limits: Limits,
    /// Where each value that is not a default came from.
    origins: BTreeMap<&'static str, Origin>,
}

impl Settings {
    /// Returns the defaults of a command. Those of `serve` lack a certificate.
    pub fn defaults(mode: Mode) -> Self {
        let dev = mode == Mode::Dev;
        let host = if dev { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        Self {
            mode,
            listen: SocketAddr::from((host, DEFAULT_PORT)),
            data_dir: PathBuf::from(if dev { ".cellaflow" } else { "/var/lib/cellaflow" }),
            backup_dir: None,
            tls: None,
            sans: Vec::new(),
            compactor: if dev { Beside::Found } else { Beside::Off },
            metrics_listen: (!dev).then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 50_052))),
            log_filter: "info".to_owned(),
            log_format: if dev { LogFormat::Human } else { LogFormat::Json },
            step_exhausted_pauses: false,
            tokens: Vec::new(),
            limits: Limits::default(),
            origins: BTreeMap::new(),
        }
    }

    /// Reads all layers and checks them as a whole; see S1 to S4.
    ///
    /// # Errors
    /// All faults found, never none.
    pub fn load(mode: Mode, sources: &Sources) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let values = layers::merge(mode, sources, &mut faults);
        let mut settings = Self::defaults(mode);
        let mut pending = Pending::default();
        for (key, (value, origin)) in values {
            settings.apply(key, value, &mut pending);
            settings.origins.insert(key, origin);
        }
        settings.check(pending, &mut faults);
        if faults.0.is_empty() { Ok(settings) } else { Err(faults) }
    }

    /// Returns the folder that backups are written into.
    pub fn backup_dir(&self) -> PathBuf {
        self.backup_dir.clone().unwrap_or_else(|| self.data_dir.join("backups"))
    }

    /// Returns the folder of the ledger itself, inside the data folder.
    pub fn ledger_dir(&self) -> PathBuf {
        self.data_dir.join("ledger")
    }

    /// Returns what deserves a warning at start but keeps nothing from starting.
    pub fn warnings(&self, now_ms: u64) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.mode == Mode::Serve && self.tokens.is_empty() {
            warnings.push(
                "no token is configured: only tokens made earlier with `cellaflow tokens create` can connect; \
                 `cellaflow tokens hash` prints what to add"
                    .to_owned(),
            );
        }
        for token in &self.tokens {
            if let Some(at_ms) = token.expires_ms.filter(|at_ms| *at_ms <= now_ms) {
                let at = crate::clock::rfc3339(at_ms);
                warnings.push(format!(
                    "token {} expired at {at} and is refused: remove it or replace it",
                    token.name
                ));
            }
        }
        warnings
    }

    /// Returns where the value of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Takes over one value. Its type and range were checked when it was read.
    fn apply(&mut self, key: &'static str, value: Value, pending: &mut Pending) {
        match (key, value) {
            (_, Value::Number(number)) => self.limits.put(key, number),
            (_, Value::Tokens(tokens)) => self.tokens = tokens,
            (_, Value::List(sans)) => self.sans = sans,
            ("step_exhausted_pauses", Value::Flag(pauses)) => self.step_exhausted_pauses = pauses,
            (_, Value::Flag(allow)) => pending.metrics_allow_remote = allow,
            ("listen", Value::Text(text)) => self.listen = text.parse().unwrap_or(self.listen),
            ("metrics_listen", Value::Text(text)) => self.metrics_listen = text.parse().ok(),
            ("data_dir", Value::Text(text)) => self.data_dir = text.into(),
            ("backup_dir", Value::Text(text)) => self.backup_dir = Some(text.into()),
            ("compactor", Value::Text(text)) => {
                self.compactor = if text == "off" { Beside::Off } else { Beside::Program(text.into()) };
            }
            ("tls_cert", Value::Text(text)) => pending.cert = Some(text.into()),
            ("tls_key", Value::Text(text)) => pending.key = Some(text.into()),
            ("tls_client_ca", Value::Text(text)) => pending.client_ca = Some(text.into()),
            ("log_format", Value::Text(text)) => {
                self.log_format = if text == "json" { LogFormat::Json } else { LogFormat::Human };
            }
            (_, Value::Text(text)) => self.log_filter = text,
        }
    }

    fn check(&mut self, pending: Pending, faults: &mut Faults) {
        let metrics_allow_remote = pending.metrics_allow_remote;
        self.check_tls(pending, faults);
        self.check_metrics(metrics_allow_remote, faults);
        self.check_limits(faults);
        if self.data_dir.exists() && !self.data_dir.is_dir() {
            let problem = format!("{} is not a folder", self.data_dir.display());
            faults.add(
                "data_dir",
                self.origin("data_dir"),
                problem,
                "name a folder, or one that does not exist yet",
            );
        }
        if let Err(error) = crate::telemetry::logs::parse_filter(&self.log_filter) {
            let instead = "write for example \"info\" or \"info,cellaflow_engine::ledger=debug\"";
            faults.add("log_filter", self.origin("log_filter"), error, instead);
        }
    }

    fn check_tls(&mut self, pending: Pending, faults: &mut Faults) {
        let Pending { cert, key, client_ca, .. } = pending;
        if self.mode == Mode::Dev {
            return;
        }
        let missing = "without TLS nothing is served";
        if cert.is_none() && !faults.0.iter().any(|fault| fault.key == "tls_cert") {
            faults.add("tls_cert", Origin::Absent, missing, "name the PEM file of the certificate chain");
        }
        if key.is_none() && !faults.0.iter().any(|fault| fault.key == "tls_key") {
            faults.add(
                "tls_key",
                Origin::Default,
                missing,
                "name the PEM file of the certificate's private key",
            );
        }
        let (Some(cert), Some(key)) = (cert, key) else { return };
        let files = TlsFiles { cert, key, client_ca };
        for fault in crate::rpc::tls::check_files(&files) {
            faults.add(fault.key, self.origin(fault.key), fault.problem, fault.instead);
        }
        self.tls = Some(files);
    }

    fn check_metrics(&self, allow_remote: bool, faults: &mut Faults) {
        let Some(address) = self.metrics_listen else { return };
        if !address.ip().is_loopback() && !allow_remote {
            let problem = format!("{address} can be reached from other machines, and metrics need no token");
            let instead = "use a loopback address, or set metrics_allow_remote = true";
            faults.add("metrics_listen", self.origin("metrics_listen"), problem, instead);
        }
        if address.port() != 0 && address == self.listen {
            let problem = format!("{address} is also the gRPC port");
            faults.add(
                "metrics_listen",
                self.origin("metrics_listen"),
                problem,
                "choose another port, or \"off\"",
            );
        }
    }

    /// Pairs of limits where the first must not exceed the second.
    fn check_limits(&self, faults: &mut Faults) {
        const ORDERED: [(&str, &str); 4] = [
            ("inline_bytes_max", "chunk_bytes"),
            ("chunk_bytes", "payload_bytes_max"),
            ("payload_bytes_max", "queue_bytes_max"),
            ("frame_commands_max", "queue_commands_max"),
        ];
        for (small, large) in ORDERED {
            let (Some(low), Some(high)) = (self.limits.get(small), self.limits.get(large)) else { continue };
            if low > high {
                let problem = format!("{low} is more than {large}, which is {high} ({})", self.origin(large));
                faults.add(
                    small,
                    self.origin(small),
                    problem,
                    format!("lower it to {high} or raise {large}"),
                );
            }
        }
    }
}

/// Values that are only meaningful together with others.
#[derive(Default)]
struct Pending {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    metrics_allow_remote: bool,
}

#[cfg(test)]
mod tests;
