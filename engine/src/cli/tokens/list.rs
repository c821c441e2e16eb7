//! `cellaflow tokens list`.

use cellaflow_proto::v1;
use clap::Args;
use serde_json::json;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::table::{self, Column};
use crate::cli::{format, json, lookup, refusal};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow tokens list
  cellaflow tokens list --all --json | jq '.tokens[] | select(.role == \"admin\")'

With --json: {\"tokens\": [Token]}, with the field names of cellaflow.v1.Token. Needs an admin's
token.";

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Lists expired and revoked ones, too
    #[arg(long)]
    all: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl List {
    pub(super) fn run(self) -> Result<String, Failure> {
        let tokens = client::block_on(fetch(&self.engine, self.all))?;
        if self.json {
            return Ok(output::json(&json!({ "tokens": tokens.iter().map(json::of).collect::<Vec<_>>() })));
        }
        if tokens.is_empty() {
            output::complain(&"no token was created here; `cellaflow tokens create` makes one");
            return Ok(String::new());
        }
        Ok(rows(&tokens, clock::System.wall_ms(), table::columns()))
    }
}

/// Asks for the tokens of the caller's namespace.
pub(super) async fn fetch(options: &lookup::Options, all: bool) -> Result<Vec<v1::Token>, Failure> {
    let engine = Engine::find(options).await?;
    let answer = engine.operator().list_tokens(v1::ListTokensRequest { all }).await;
    answer.map(|answer| answer.into_inner().tokens).map_err(|status| refusal::failure(&status))
}

fn rows(tokens: &[v1::Token], now_ms: u64, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 6] = [
        ("token", Column::Whole),
        ("name", Column::Text),
        ("role", Column::Whole),
        ("namespace", Column::Text),
        ("created", Column::Whole),
        ("state", Column::Text),
    ];
    let row = |token: &v1::Token| {
        vec![
            token.token_id.clone(),
            token.name.clone(),
            format::role(token.role()).to_owned(),
            token.namespace.clone(),
            if token.configured { "configuration".to_owned() } else { format::ago(token.created_ms, now_ms) },
            state(token, now_ms),
        ]
    };
    table::table(&HEADER, tokens.iter().map(row).collect(), columns)
}

fn state(token: &v1::Token, now_ms: u64) -> String {
    match (token.revoked_ms, token.expires_ms) {
        (revoked @ 1.., _) => format!("revoked {}", format::ago(revoked, now_ms)),
        (0, 0) => "valid".to_owned(),
        (0, expires) if expires <= now_ms => format!("expired {}", format::ago(expires, now_ms)),
        (0, expires) => format!("valid, expires {}", format::ago(expires, now_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_s_state_is_said_in_words() {
        let token = |expires_ms, revoked_ms| v1::Token { expires_ms, revoked_ms, ..v1::Token::default() };
        let now_ms = 100_000;
        assert_eq!(state(&token(0, 0), now_ms), "valid");
        assert_eq!(state(&token(160_000, 0), now_ms), "valid, expires in 1 min");
        assert_eq!(state(&token(40_000, 0), now_ms), "expired 1 min ago");
        assert_eq!(state(&token(160_000, 98_000), now_ms), "revoked 2 s ago");
    }
}
