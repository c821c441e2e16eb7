//! The `[[tokens]]` tables of the configuration: who may connect, by the hash of a token, never the token.

use std::collections::BTreeSet;

use super::keys::Refused;
use crate::ids::TOKEN_PREFIX;
use crate::rpc::auth::{EVERY_NAMESPACE, Role};

/// One accepted token.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// blake3 hash of the token.
    pub hash: [u8; 32],
    /// What its bearer may do.
    pub role: Role,
    /// The only namespace its bearer sees; "*" for an admin of all.
    pub namespace: String,
    /// Name shown in logs and lists; default: the first 8 digits of the hash.
    pub name: String,
    /// Wall time in milliseconds from which it is refused; `None`: never.
    pub expires_ms: Option<u64>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { role, namespace, name, expires_ms, hash: _ } = self;
        write!(f, "Entry({name}, {role}, {namespace}, expires_ms {expires_ms:?})")
    }
}

/// Reads all tables, returning every fault of every one of them.
pub(super) fn parse(tables: &[toml::Value]) -> Result<Vec<Entry>, Vec<Refused>> {
    let mut faults = Vec::new();
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, table) in tables.iter().enumerate() {
        let mut reader = Reader { at: format!("token {}", index + 1), faults: &mut faults };
        let Some(entry) = reader.entry(table) else { continue };
        if !seen.insert(entry.hash) {
            reader.fault("its hash was given before", "remove one of the two");
        }
        entries.push(entry);
    }
    if faults.is_empty() { Ok(entries) } else { Err(faults) }
}

struct Reader<'a> {
    at: String,
    faults: &'a mut Vec<Refused>,
}

impl Reader<'_> {
    fn fault(&mut self, problem: &str, instead: &str) {
        self.faults.push(Refused { problem: format!("{}: {problem}", self.at), instead: instead.to_owned() });
    }

    fn entry(&mut self, value: &toml::Value) -> Option<Entry> {
        let Some(table) = value.as_table() else {
            self.fault("it is not a table", "write { hash = \"…\", role = \"…\", namespace = \"…\" }");
            return None;
        };
        for key in table.keys() {
            if !["hash", "role", "namespace", "name", "expires"].contains(&key.as_str()) {
                let problem = format!("unknown key {key:?}");
                self.fault(&problem, "use hash, role, namespace, name and expires");
            }
        }
        // Each part is read even if an earlier one failed, so that all faults are told at once.
        let hash = self.hash(table.get("hash"));
        let role = self.role(table.get("role"));
        let namespace = self.namespace(table.get("namespace"), role);
        let expires_ms = self.expires(table.get("expires"));
        let hash = hash?;
        let name = match table.get("name").map(toml::Value::as_str) {
            None => hex::encode(hash).chars().take(8).collect(),
            Some(Some(name)) if !name.is_empty() => name.to_owned(),
            Some(_) => {
                self.fault("its name is not a text", "write name = \"ci\", or leave it out");
                return None;
            }
        };
        Some(Entry { hash, role: role?, namespace: namespace?, name, expires_ms: expires_ms? })
    }

    fn hash(&mut self, value: Option<&toml::Value>) -> Option<[u8; 32]> {
        let text = value.and_then(toml::Value::as_str).unwrap_or_default();
        let mut hash = [0; 32];
        if hex::decode_to_slice(text, &mut hash).is_ok() {
            return Some(hash);
        }
        // The text is not repeated: it may be a secret.
        if text.starts_with(TOKEN_PREFIX) {
            self.fault(
                "its hash is a token in clear",
                "store only what `cellaflow tokens hash` prints as hash, and replace this token: it was written down",
            );
        } else {
            self.fault(
                "its hash is not 64 hexadecimal digits",
                "write what `cellaflow tokens hash` prints as hash",
            );
        }
        None
    }

    fn role(&mut self, value: Option<&toml::Value>) -> Option<Role> {
        let role = value.and_then(toml::Value::as_str).and_then(Role::parse);
        if role.is_none() {
            self.fault(
                "its role is missing or unknown",
                "write one of: worker, client, compactor, viewer, admin",
            );
        }
        role
    }

    fn namespace(&mut self, value: Option<&toml::Value>, role: Option<Role>) -> Option<String> {
        let name = value.and_then(toml::Value::as_str);
        if name == Some(EVERY_NAMESPACE) && role.is_some_and(|role| role != Role::Admin) {
            self.fault("only an admin's namespace can be \"*\"", "name the one namespace it is for");
            return None;
        }
        let name = name.filter(|name| is_namespace(name) || *name == EVERY_NAMESPACE);
        if name.is_none() {
            self.fault(
                "its namespace is missing or malformed",
                "write 1 to 63 lower-case letters, digits, hyphens or underscores, for example \"default\"",
            );
        }
        name.map(str::to_owned)
    }

    /// Returns `Some(None)` for a token that never expires.
    fn expires(&mut self, value: Option<&toml::Value>) -> Option<Option<u64>> {
        let text = match value {
            None => return Some(None),
            Some(toml::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let format = &time::format_description::well_known::Rfc3339;
        let at = time::OffsetDateTime::parse(&text, format).ok();
        let ms = at.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
        if ms.is_none() {
            self.fault("its expiry is not a time with a zone", "write expires = 2027-01-31T00:00:00Z");
        }
        ms.map(Some)
    }
}

/// Says whether `name` can name a namespace: 1 to 63 of `a-z 0-9 - _`, not starting with a hyphen or underscore.
pub fn is_namespace(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b == b'-' || b == b'_')
}
