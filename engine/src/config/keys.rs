//! Every key of the configuration, on one page, and how its values are read from TOML and from text.

use super::limits::{LIMITS, Limit};
use super::tokens;

/// Which command a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `cellaflow dev`.
    Dev,
    /// `cellaflow serve`.
    Serve,
}

/// What a key's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number in a range.
    Number(Limit),
    /// `host:port` with a numeric host.
    Address,
    /// `host:port`, or `off`.
    AddressOrOff,
    /// A path of a file or folder.
    Path,
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// Several texts: an array in TOML, separated by commas elsewhere.
    List,
    /// An array of token tables; secrets are never echoed.
    Tokens,
}

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name in TOML.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// One line for `--help`.
    pub help: &'static str,
    /// The only command that accepts it; `None`: both.
    pub only: Option<Mode>,
}

const fn key(name: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { name, kind, help, only: None }
}

const fn only(mode: Mode, key: Key) -> Key {
    Key { only: Some(mode), ..key }
}

/// The keys that are not limits.
const GENERAL: [Key; 14] = [
    key("listen", Kind::Address, "Address of the gRPC port [default: 0.0.0.0:50051, dev: 127.0.0.1:50051]"),
    key("data_dir", Kind::Path, "Folder of the ledger [default: /var/lib/cellaflow, dev: .cellaflow]"),
    key("backup_dir", Kind::Path, "Folder that backups are written into [default: backups in data_dir]"),
    only(Mode::Serve, key("tls_cert", Kind::Path, "PEM file with the server's certificate chain")),
    only(Mode::Serve, key("tls_key", Kind::Path, "PEM file with the certificate's private key")),
    only(
        Mode::Serve,
        key(
            "tls_client_ca",
            Kind::Path,
            "PEM file with the authorities whose certificates clients must have [default: clients need none]",
        ),
    ),
    only(Mode::Dev, key("san", Kind::List, "Further host names or addresses for the server's certificate")),
    only(
        Mode::Dev,
        key(
            "compactor",
            Kind::Text,
            "Program that archives and compacts contexts beside this engine, or off [default: cellaflow-compactor in this program's folder]",
        ),
    ),
    key(
        "metrics_listen",
        Kind::AddressOrOff,
        "Address of the Prometheus listener, or off [default: 127.0.0.1:50052, dev: off]",
    ),
    key(
        "metrics_allow_remote",
        Kind::Flag,
        "Let metrics_listen be reachable from other machines, without a token",
    ),
    key("log_filter", Kind::Text, "Log levels as in RUST_LOG [default: info]"),
    key(
        "log_format",
        Kind::Choice(&["human", "json"]),
        "Form of log lines on stderr [default: json, dev: human]",
    ),
    key(
        "step_exhausted_pauses",
        Kind::Flag,
        "Pause the session of a step that used up its attempts and does not say what then; else it fails",
    ),
    only(Mode::Serve, key("tokens", Kind::Tokens, "Accepted tokens: hash, role, namespace, name, expires")),
];

/// Returns every key: the general ones, then the limits.
pub fn all() -> impl Iterator<Item = Key> {
    GENERAL.into_iter().chain(LIMITS.iter().map(|limit| key(limit.key, Kind::Number(*limit), limit.help)))
}

/// Returns the key called `name`.
pub fn find(name: &str) -> Option<Key> {
    all().find(|key| key.name == name)
}

/// Returns the key whose name is closest to a mistyped one, if any is close.
pub fn closest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let scored = all().map(|key| (strsim_distance(&name, key.name), key.name));
    scored.min().filter(|(distance, _)| *distance <= 3).map(|(_, name)| name)
}

/// Number of single-letter edits between two short names.
fn strsim_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// A value that has the right type and range for its key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Kind::Number`].
    Number(u64),
    /// Of [`Kind::Flag`].
    Flag(bool),
    /// Of [`Kind::Path`], [`Kind::Text`], [`Kind::Choice`] and the addresses.
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
    /// Of [`Kind::Tokens`].
    Tokens(Vec<tokens::Entry>),
}

/// Why a value was refused: what is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong with the value.
    pub problem: String,
    /// What to write instead.
    pub instead: String,
}

impl Key {
    /// Reads a value from the environment or a flag.
    pub fn from_text(&self, text: &str) -> Result<Value, Vec<Refused>> {
        if text.is_empty() {
            return Err(self.refuse("the value is empty".to_owned()));
        }
        match self.kind {
            Kind::Number(_) => match text.replace('_', "").parse::<i128>() {
                Ok(number) => self.number(number),
                Err(_) => Err(self.refuse(format!("{text:?} is not a whole number"))),
            },
            Kind::Flag => match text {
                "true" | "1" => Ok(Value::Flag(true)),
                "false" | "0" => Ok(Value::Flag(false)),
                _ => Err(self.refuse(format!("{text:?} is neither true nor false"))),
            },
            Kind::List => Ok(Value::List(text.split(',').map(|part| part.trim().to_owned()).collect())),
            Kind::Tokens => match format!("tokens = {text}").parse::<toml::Table>() {
                Ok(table) => {
                    table.get("tokens").map_or_else(|| Ok(Value::Tokens(Vec::new())), |v| self.from_toml(v))
                }
                Err(_) => Err(self.refuse("it is not an inline TOML array of tables".to_owned())),
            },
            Kind::Address | Kind::AddressOrOff | Kind::Path | Kind::Text | Kind::Choice(_) => self.text(text),
        }
    }

    /// Reads a value from a TOML file.
    pub fn from_toml(&self, value: &toml::Value) -> Result<Value, Vec<Refused>> {
        match (self.kind, value) {
            (Kind::Number(_), toml::Value::Integer(number)) => self.number(i128::from(*number)),
            (Kind::Flag, toml::Value::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::List, toml::Value::Array(items)) => self.list(items),
            (Kind::Tokens, toml::Value::Array(items)) => tokens::parse(items).map(Value::Tokens),
            (Kind::Number(_) | Kind::Flag | Kind::List | Kind::Tokens, other) => {
                Err(self.refuse(format!("it is {}", article(other.type_str()))))
            }
            (_, toml::Value::String(text)) if text.is_empty() => {
                Err(self.refuse("the value is empty".to_owned()))
            }
            (_, toml::Value::String(text)) => self.text(text),
            (_, other) => Err(self.refuse(format!("it is {}", article(other.type_str())))),
        }
    }

    fn number(&self, number: i128) -> Result<Value, Vec<Refused>> {
        match (self.kind, u64::try_from(number)) {
            (Kind::Number(limit), Ok(n)) if (limit.min..=limit.max).contains(&n) => Ok(Value::Number(n)),
            _ => Err(self.refuse(format!("{number} is out of range"))),
        }
    }

    fn text(&self, text: &str) -> Result<Value, Vec<Refused>> {
        let fits = match self.kind {
            Kind::Choice(words) => words.contains(&text),
            Kind::Address => text.parse::<std::net::SocketAddr>().is_ok(),
            Kind::AddressOrOff => text == "off" || text.parse::<std::net::SocketAddr>().is_ok(),
            _ => true,
        };
        if fits {
            Ok(Value::Text(text.to_owned()))
        } else {
            Err(self.refuse(format!("{text:?} does not fit")))
        }
    }

    fn list(&self, items: &[toml::Value]) -> Result<Value, Vec<Refused>> {
        let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts.map(Value::List).ok_or_else(|| self.refuse("not all of its members are texts".to_owned()))
    }

    fn refuse(&self, problem: String) -> Vec<Refused> {
        vec![Refused { problem, instead: self.expected() }]
    }

    /// Says what a good value looks like, with an example.
    pub fn expected(&self) -> String {
        match self.kind {
            Kind::Number(limit) => {
                let Limit { min, max, default, .. } = limit;
                format!("write a whole number from {min} to {max}, for example {default}")
            }
            Kind::Address => "write a numeric address and a port, for example \"127.0.0.1:50051\"".to_owned(),
            Kind::AddressOrOff => "write an address and a port, for example \"127.0.0.1:50052\", or \"off\"".to_owned(),
            Kind::Path => "write a path as text".to_owned(),
            Kind::Text => "write a text".to_owned(),
            Kind::Choice(words) => format!("write one of: {}", words.join(", ")),
            Kind::Flag => "write true or false".to_owned(),
            Kind::List => "write an array of texts (separated by commas outside of TOML)".to_owned(),
            Kind::Tokens => {
                "write [[tokens]] tables with hash, role and namespace, as `cellaflow tokens hash` prints them".to_owned()
            }
        }
    }
}

fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}
