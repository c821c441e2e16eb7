//! `cellaflow tokens revoke`.

use cellaflow_proto::v1;
use clap::Args;

use super::list;
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::{json, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow tokens revoke 01935a2b-77f0-7abc-9def-001122334455
  cellaflow tokens revoke agents                       by name, if one token has it

A token of the configuration is revoked there. With --json: the field names of cellaflow.v1.Token.";

#[derive(Args)]
pub(in crate::cli) struct Revoke {
    /// Id of the token, or its name if only one valid token has it; never the secret
    #[arg(value_name = "TOKEN")]
    revoked: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Revoke {
    pub(super) fn run(self) -> Result<String, Failure> {
        if self.revoked.starts_with(crate::ids::TOKEN_PREFIX) {
            return Err(Failure::usage(
                "that is a secret, not an id: `cellaflow tokens list` shows ids and names",
            ));
        }
        let token = client::block_on(self.send())?;
        if self.json {
            return Ok(output::json(&json::of(&token)));
        }
        Ok(format!("token {} ({}) is revoked", token.name, token.token_id))
    }

    async fn send(&self) -> Result<v1::Token, Failure> {
        let token_id = match uuid::Uuid::try_parse(&self.revoked) {
            Ok(id) => id.to_string(),
            Err(_) => named(&self.revoked, &list::fetch(&self.engine, false).await?)?,
        };
        let engine = Engine::find(&self.engine).await?;
        let answer = engine.operator().revoke_token(v1::RevokeTokenRequest { token_id }).await;
        let token = answer.map_err(|status| refusal::failure(&status))?.into_inner().token;
        token.ok_or_else(|| Failure::other("the engine's answer holds no token"))
    }
}

fn named(name: &str, tokens: &[v1::Token]) -> Result<String, Failure> {
    let ids: Vec<&str> =
        tokens.iter().filter(|token| token.name == name).map(|token| token.token_id.as_str()).collect();
    match ids.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::other(format!(
            "no valid token is called {name:?}: `cellaflow tokens list` shows them"
        ))),
        several => Err(Failure::other(format!(
            "{} tokens are called {name:?}: give the id\n  {}",
            several.len(),
            several.join("\n  ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_mean_one_token() {
        let token = |id: &str, name: &str| v1::Token {
            token_id: id.into(),
            name: name.into(),
            ..v1::Token::default()
        };
        let tokens = [token("1", "a"), token("2", "b"), token("3", "b")];
        assert_eq!(named("a", &tokens).unwrap(), "1");
        assert!(named("b", &tokens).unwrap_err().message.contains("2 tokens"));
        assert!(named("c", &tokens).is_err());
    }

    #[test]
    fn p3_a_secret_given_by_mistake_is_not_sent_or_repeated() {
        let command = Revoke { revoked: "cf_0123".into(), json: false, engine: lookup::Options::default() };
        let failure = command.run().unwrap_err();
        assert!(!failure.message.contains("cf_0123"), "{}", failure.message);
    }
}
