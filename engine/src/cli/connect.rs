//! `cellaflow connect`: prints the connection for another shell, container or program.

use clap::Args;

use super::lookup::{self, Found, Surroundings};
use super::output::{self, Failure};
use crate::dev::Connection;

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow connect                                       shows which engine is found, and where
  eval \"$(cellaflow connect --env)\"                       sets CELLAFLOW_URL, _TOKEN and _CA here
  cellaflow connect --json --host host.docker.internal    for a container of this machine (the
                                                          engine must --listen 0.0.0.0:50051)";

#[derive(Args)]
pub(super) struct Connect {
    /// Prints shell commands that set CELLAFLOW_URL, CELLAFLOW_TOKEN and CELLAFLOW_CA; holds the token
    #[arg(long, conflicts_with = "json")]
    env: bool,
    /// Prints {"url", "token", "ca"}; holds the token
    #[arg(long)]
    json: bool,
    /// Replaces the host in the address by the name under which the other side reaches this machine
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Connect {
    pub(super) fn run(self) -> Result<String, Failure> {
        let mut found =
            lookup::find(&self.engine, &Surroundings::of_process()).map_err(Failure::configuration)?;
        if let Some(host) = &self.host {
            found.connection.url = with_host(&found.connection.url, host).map_err(Failure::usage)?;
        }
        if let Some(stale) = &found.stale {
            output::complain(&format!("note: {stale}"));
        }
        let Connection { url, token, ca, cert, key, .. } = &found.connection;
        if self.json {
            let mut all = serde_json::json!({ "url": url, "token": token, "ca": ca });
            if let Some(fields) = all.as_object_mut().filter(|_| !cert.is_empty()) {
                fields.insert("cert".to_owned(), cert.as_str().into());
                fields.insert("key".to_owned(), key.as_str().into());
            }
            return Ok(output::json(&all));
        }
        Ok(if self.env { exports(&found.connection) } else { summary(&found) })
    }
}

/// Shell commands for any POSIX shell; the certificate is given as text, which the other side's files need not hold.
fn exports(connection: &Connection) -> String {
    let Connection { url, token, ca, cert, key, .. } = connection;
    let mut lines =
        format!("export CELLAFLOW_URL={}\nexport CELLAFLOW_TOKEN={}\n", quoted(url), quoted(token));
    if !ca.is_empty() {
        lines += &format!("export CELLAFLOW_CA={}\n", quoted(ca.trim_end()));
    }
    if !cert.is_empty() {
        let (cert, key) = (quoted(cert.trim_end()), quoted(key.trim_end()));
        lines += &format!("export CELLAFLOW_CERT={cert}\nexport CELLAFLOW_KEY={key}\n");
    }
    lines
}

/// Writes a text as one word of a POSIX shell, quoted only if it must be.
pub(super) fn word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@%+=,#".contains(letter);
    // A word that begins with # is a comment.
    let plain = !text.is_empty() && !text.starts_with('#') && text.chars().all(is_plain);
    if plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn summary(found: &Found) -> String {
    let ca = if found.connection.ca.is_empty() { "those the system trusts" } else { "included" };
    format!(
        "engine       {}\nfound in     {}\ntoken        included (not shown; --env or --json print it)\ncertificate  {ca}\n",
        found.connection.url, found.source
    )
}

fn with_host(url: &str, host: &str) -> Result<String, String> {
    let wrong = || format!("--host {host:?} is no host name: write for example --host host.docker.internal");
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let authority = format!("{host}{port}");
    // Parsed again, so that a host with a path, a port or spaces is caught here and not by the other side.
    let made: http::Uri = format!("https://{authority}").parse().map_err(|_| wrong())?;
    if made.authority().map(http::uri::Authority::as_str) != Some(&authority)
        || made.port().is_none() != uri.port().is_none()
    {
        return Err(wrong());
    }
    Ok(format!("https://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_survive_a_shell() {
        let ca = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n";
        let connection = Connection {
            url: "https://a:1".into(),
            token: "it's; $(x)".into(),
            ca: ca.into(),
            ..Connection::default()
        };
        let script = exports(&connection)
            + "printf '%s|%s|%s' \"$CELLAFLOW_URL\" \"$CELLAFLOW_TOKEN\" \"$CELLAFLOW_CA\"";
        let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(
            String::from_utf8(out.stdout).unwrap(),
            format!("https://a:1|it's; $(x)|{}", ca.trim_end())
        );
    }

    #[test]
    fn the_host_is_replaced_and_the_port_kept() {
        let with = |host| with_host("https://127.0.0.1:50051", host);
        assert_eq!(with("host.docker.internal").unwrap(), "https://host.docker.internal:50051");
        assert_eq!(with("::1").unwrap(), "https://[::1]:50051");
        assert_eq!(with_host("https://a.b", "c.d").unwrap(), "https://c.d");
        assert!(with("a b").is_err());
        assert!(with("a/b").is_err());
    }

    #[test]
    fn the_summary_keeps_the_secret() {
        let connection = Connection {
            url: "https://a:1".into(),
            token: "cf_x".into(),
            ca: String::new(),
            ..Connection::default()
        };
        let text = summary(&Found { connection, source: "--url".into(), stale: None });
        assert!(!text.contains("cf_x"), "P3: {text}");
    }
}
