//! `cellaflow tokens hash`: works without an engine; only the hash ever reaches a configuration.

use std::io::{IsTerminal as _, Read as _};
use std::sync::Arc;

use clap::Args;

use crate::cli::output::{self, Failure};
use crate::clock;
use crate::ids::{Mint, token_hash};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow tokens hash                       makes a token and prints it with its hash
  cellaflow tokens hash --stdin < token.txt   prints the hash of a token you have";

/// A token shorter than this could be guessed.
const LETTERS_MIN: usize = 32;

/// Bytes read from stdin at most.
const STDIN_BYTES_MAX: u64 = 4_096;

#[derive(Args)]
pub(in crate::cli) struct Hash {
    /// Reads the token from stdin instead of making one
    #[arg(long)]
    stdin: bool,
    /// Prints {"token", "hash"}; a token from stdin is not repeated
    #[arg(long)]
    json: bool,
}

impl Hash {
    pub(super) fn run(self) -> Result<String, Failure> {
        // A pipe counts as --stdin only when asked for: a program without stdin must not hang or hash nothing.
        let given = if self.stdin { Some(read_token()?) } else { None };
        let made = given.is_none().then(|| Mint::new(Arc::new(clock::System)).token());
        let hash = hex::encode(token_hash(given.as_deref().or(made.as_deref()).unwrap_or_default()));
        if self.json {
            return Ok(output::json(&serde_json::json!({ "token": made, "hash": hash })));
        }
        let token = made
            .map(|token| format!("token: {token}\n  (shown once: give it to the program that connects)\n\n"));
        Ok(format!(
            "{}For the engine's configuration:\n\n[[tokens]]\nname = \"agents\"   # for logs and events\nhash = \"{hash}\"\n\
             role = \"worker\"   # worker, client, compactor, viewer or admin\nnamespace = \"default\"\n",
            token.unwrap_or_default()
        ))
    }
}

fn read_token() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        output::complain(&"type or paste the token, then press Enter and Ctrl-D");
    }
    let mut text = String::new();
    stdin
        .lock()
        .take(STDIN_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::other(format!("cannot read the token from stdin: {error}")))?;
    let token = text.trim();
    if token.len() < LETTERS_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::usage(format!(
            "a token is one word of at least {LETTERS_MIN} printable letters; leave --stdin out to have one made"
        )));
    }
    Ok(token.to_owned())
}
