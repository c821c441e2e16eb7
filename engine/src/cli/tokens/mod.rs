//! `cellaflow tokens …`: who may connect.

mod create;
mod hash;
mod list;
mod revoke;

use clap::Subcommand;

use super::output::Failure;

#[derive(Subcommand)]
pub(super) enum Tokens {
    /// Creates a token and prints its secret, which cannot be shown again
    #[command(after_help = create::EXAMPLES)]
    Create(create::Create),
    /// Lists tokens; their secrets are not stored
    #[command(after_help = list::EXAMPLES)]
    List(list::List),
    /// Revokes a token; what is connected with it is cut off within a second
    #[command(after_help = revoke::EXAMPLES)]
    Revoke(revoke::Revoke),
    /// Makes a token, or reads one from stdin, and prints the hash for the configuration of `serve`
    #[command(after_help = hash::EXAMPLES)]
    Hash(hash::Hash),
}

impl Tokens {
    pub(super) fn run(self) -> Result<String, Failure> {
        match self {
            Self::Create(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Revoke(command) => command.run(),
            Self::Hash(command) => command.run(),
        }
    }
}
