//! `cellaflow tokens create`.

use cellaflow_proto::v1;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::{format, json, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow tokens create agents --role worker --ttl 90d
  cellaflow tokens create dashboard --role viewer --namespace team-a
  TOKEN=$(cellaflow tokens create ci --role client --ttl 1h --json | jq -r .secret)

The secret goes to stdout and is shown once; the engine stores only its hash. Needs an admin's
token. With --json: {\"token\": Token, \"secret\"}, with the field names of cellaflow.v1.Token.";

#[derive(Args)]
pub(in crate::cli) struct Create {
    /// Name for people, logs and events
    name: String,
    /// What it may do
    #[arg(long, value_enum)]
    role: Role,
    /// Namespace it sees; "*": all of them (admins only) [default: that of the token used]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// How long it is valid, for example 12h or 90d [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = format::parse_duration_ms)]
    ttl: Option<u64>,
    /// Prints JSON; holds the secret
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Runs sessions
    Worker,
    /// Starts and reads sessions, and runs them in process
    Client,
    /// Claims, archives and compacts
    Compactor,
    /// Reads
    Viewer,
    /// Everything in its namespace
    Admin,
}

impl Role {
    const fn on_the_wire(self) -> v1::Role {
        match self {
            Self::Worker => v1::Role::Worker,
            Self::Client => v1::Role::Client,
            Self::Compactor => v1::Role::Compactor,
            Self::Viewer => v1::Role::Viewer,
            Self::Admin => v1::Role::Admin,
        }
    }
}

impl Create {
    pub(super) fn run(self) -> Result<String, Failure> {
        let (token, secret) = client::block_on(self.send())?;
        if self.json {
            return Ok(output::json(&json!({ "token": json::of(&token), "secret": secret })));
        }
        let until = match token.expires_ms {
            0 => "until it is revoked".to_owned(),
            ms => format!("until {} UTC", format::time(ms)),
        };
        // The secret alone goes to stdout, so that it can be piped to where it is kept.
        output::complain(&format!(
            "token {} ({}) for a {} of namespace {}, valid {until}; this is shown once:",
            token.name,
            token.token_id,
            format::role(token.role()),
            token.namespace
        ));
        Ok(secret)
    }

    async fn send(&self) -> Result<(v1::Token, String), Failure> {
        let engine = Engine::find(&self.engine).await?;
        let request = v1::CreateTokenRequest {
            name: self.name.clone(),
            role: self.role.on_the_wire().into(),
            namespace: self.namespace.clone(),
            ttl_ms: self.ttl.unwrap_or(0),
        };
        // Not sent again if its outcome is unknown: a second token nobody knows of would be left behind.
        let answer =
            engine.operator().create_token(request).await.map_err(|status| refusal::failure(&status))?;
        let answer = answer.into_inner();
        let token = answer.token.ok_or_else(|| Failure::other("the engine's answer holds no token"))?;
        Ok((token, answer.secret))
    }
}
