//! Reads the layers of the configuration and lays them over each other (S1, S2).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::faults::{Faults, Origin};
use super::keys::{self, Key, Kind, Mode, Value};

/// Prefix of the environment variables that are settings.
pub const ENV_PREFIX: &str = "CELLAFLOW_ENGINE_";

/// Environment variable that names the TOML file.
const CONFIG_ENV: &str = "CELLAFLOW_ENGINE_CONFIG";

/// What the layers are read from; a value, so that tests need no process environment.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// TOML file named by `--config`; `CELLAFLOW_ENGINE_CONFIG` is used when absent.
    pub file: Option<PathBuf>,
    /// Environment variables; those without the prefix are ignored.
    pub env: BTreeMap<String, String>,
    /// Keys with the values of their flags.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// Takes the variables of this process that carry the prefix; a value that is not UTF-8 is kept lossily.
    pub fn with_process_env(mut self) -> Self {
        self.env = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .collect();
        self
    }
}

type Values = BTreeMap<&'static str, (Value, Origin)>;

/// Lays the layers over each other; unreadable values are noted as faults and left out.
pub(super) fn merge(mode: Mode, sources: &Sources, faults: &mut Faults) -> Values {
    let mut merger = Merger { mode, values: Values::new(), faults };
    merger.file(sources);
    for (name, text) in &sources.env {
        merger.variable(name, text);
    }
    for (name, text) in &sources.flags {
        let origin = Origin::Flag(format!("--{}", name.replace('_', "-")));
        if let Some(key) = keys::find(name) {
            merger.take(key, origin, |key| key.from_text(text));
        }
    }
    merger.values
}

struct Merger<'a> {
    mode: Mode,
    values: Values,
    faults: &'a mut Faults,
}

impl Merger<'_> {
    fn file(&mut self, sources: &Sources) {
        let from_env = sources.env.get(CONFIG_ENV).map(PathBuf::from);
        let named_by = if sources.file.is_some() { "--config" } else { CONFIG_ENV };
        let Some(path) = sources.file.clone().or(from_env) else { return };
        let origin = Origin::File(path.clone());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let problem = format!("cannot be read: {error}");
                let instead = format!("let {named_by} name a TOML file that this user may read");
                return self.faults.add("configuration file", origin, problem, instead);
            }
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // Only the place and the reason: the quoted line could hold a secret (S3).
                let line = error
                    .span()
                    .map_or(1, |span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count());
                let problem = format!("line {line} is not TOML: {}", error.message());
                return self.faults.add("configuration file", origin, problem, "correct that line");
            }
        };
        for (name, value) in &table {
            match keys::find(name) {
                Some(key) => self.take(key, origin.clone(), |key| key.from_toml(value)),
                None => self.unknown(name, origin.clone()),
            }
        }
    }

    fn variable(&mut self, name: &str, text: &str) {
        let Some(key) = name.strip_prefix(ENV_PREFIX) else { return };
        if name == CONFIG_ENV {
            return;
        }
        let origin = Origin::Env(name.to_owned());
        let lower = key.to_ascii_lowercase();
        match keys::find(&lower).filter(|_| lower.to_ascii_uppercase() == key) {
            Some(found) => self.take(found, origin, |found| found.from_text(text)),
            None => self.unknown(&lower, origin),
        }
    }

    fn take(
        &mut self,
        key: Key,
        origin: Origin,
        read: impl FnOnce(&Key) -> Result<Value, Vec<keys::Refused>>,
    ) {
        if let Some(only) = key.only.filter(|only| *only != self.mode) {
            let (command, other) = match only {
                Mode::Dev => ("cellaflow dev", "serve"),
                Mode::Serve => ("cellaflow serve", "dev"),
            };
            let problem = format!("only `{command}` takes it");
            return self.faults.add(key.name, origin, problem, format!("remove it, or do not use `{other}`"));
        }
        match read(&key) {
            Ok(Value::List(mut more))
                if matches!(key.kind, Kind::List) && matches!(origin, Origin::Flag(_)) =>
            {
                // A repeated flag adds to its earlier uses, and together they replace the layers below.
                if let Some((Value::List(earlier), from)) = self.values.remove(key.name)
                    && from == origin
                {
                    more.splice(0..0, earlier);
                }
                self.values.insert(key.name, (Value::List(more), origin));
            }
            Ok(value) => {
                self.values.insert(key.name, (value, origin));
            }
            Err(refusals) => {
                for refused in refusals {
                    self.faults.add(key.name, origin.clone(), refused.problem, refused.instead);
                }
            }
        }
    }

    fn unknown(&mut self, name: &str, origin: Origin) {
        let instead = match keys::closest(name) {
            Some(close) => format!("did you mean {close}?"),
            None => "remove it; `cellaflow serve --help` lists every key as a flag".to_owned(),
        };
        self.faults.add(name, origin, "no such key", instead);
    }
}
