//! Prints effective settings for `--check-config` (S3): as TOML that can be used again, or as JSON.

use std::fmt::Write as _;

use super::keys::{self, Kind, Mode};
use super::{Beside, LogFormat, Settings, tokens};

impl Settings {
    /// Returns the effective settings as TOML, each with its origin; token hashes are cut short.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (name, value, origin) in self.effective() {
            let value = if value.is_null() { "# not set".to_owned() } else { format!("{name} = {value}") };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{value:<48} # {origin}");
        }
        for token in &self.tokens {
            let _ = write!(text, "\n[[tokens]]\n{}", token_toml(token));
        }
        text
    }

    /// Returns the effective settings as JSON: `{key: {value, origin}}`; token hashes are cut short.
    pub fn to_json(&self) -> serde_json::Value {
        let mut all = serde_json::Map::new();
        for (name, value, origin) in self.effective() {
            all.insert(name.to_owned(), serde_json::json!({ "value": value, "origin": origin }));
        }
        if self.mode == Mode::Serve {
            let tokens: Vec<_> = self.tokens.iter().map(token_json).collect();
            let origin = self.origin("tokens").to_string();
            all.insert("tokens".to_owned(), serde_json::json!({ "value": tokens, "origin": origin }));
        }
        serde_json::Value::Object(all)
    }

    fn effective(&self) -> impl Iterator<Item = (&'static str, serde_json::Value, String)> {
        keys::all()
            .filter(|key| key.only.is_none_or(|only| only == self.mode) && key.kind != Kind::Tokens)
            .map(|key| (key.name, self.value(key.name), self.origin(key.name).to_string()))
    }

    fn value(&self, key: &str) -> serde_json::Value {
        let path = |path: &std::path::Path| serde_json::Value::from(path.display().to_string());
        match key {
            "listen" => self.listen.to_string().into(),
            "data_dir" => path(&self.data_dir),
            "backup_dir" => path(&self.backup_dir()),
            "tls_cert" => self.tls.as_ref().map(|tls| path(&tls.cert)).into(),
            "tls_key" => self.tls.as_ref().map(|tls| path(&tls.key)).into(),
            "tls_client_ca" => self.tls.as_ref().and_then(|tls| tls.client_ca.as_deref()).map(path).into(),
            "san" => self.sans.clone().into(),
            "metrics_listen" => self.metrics_listen.map_or("off".to_owned(), |a| a.to_string()).into(),
            "metrics_allow_remote" => self.metrics_listen.is_some_and(|a| !a.ip().is_loopback()).into(),
            "compactor" => match &self.compactor {
                Beside::Found => serde_json::Value::Null,
                Beside::Program(program) => path(program),
                Beside::Off => "off".into(),
            },
            "log_filter" => self.log_filter.clone().into(),
            "log_format" => match self.log_format {
                LogFormat::Human => "human".into(),
                LogFormat::Json => "json".into(),
            },
            "step_exhausted_pauses" => self.step_exhausted_pauses.into(),
            limit => self.limits.get(limit).into(),
        }
    }
}

fn redacted(hash: &[u8; 32]) -> String {
    let mut digits = hex::encode(hash);
    digits.truncate(8);
    digits + "…"
}

fn token_toml(token: &tokens::Entry) -> String {
    let tokens::Entry { hash, role, namespace, name, expires_ms } = token;
    let expires =
        expires_ms.map(|ms| format!("expires = {}\n", crate::clock::rfc3339(ms))).unwrap_or_default();
    let name = serde_json::Value::from(name.as_str());
    format!(
        "name = {name}\nhash = \"{}\"\nrole = \"{role}\"\nnamespace = \"{namespace}\"\n{expires}",
        redacted(hash)
    )
}

fn token_json(token: &tokens::Entry) -> serde_json::Value {
    serde_json::json!({
        "name": token.name,
        "hash": redacted(&token.hash),
        "role": token.role.to_string(),
        "namespace": token.namespace,
        "expires": token.expires_ms.map(crate::clock::rfc3339),
    })
}
