//! `cellaflow ledger …`: is everything there, and going on when it is not.

mod accept_loss;
mod verify;

use clap::Subcommand;

use super::output::Failure;

#[derive(Subcommand)]
pub(super) enum Ledger {
    /// Walks every hash chain and names the first bad event
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Verify),
    /// Goes on with a ledger that lost acknowledged frames; offline, and only after a start was refused
    #[command(after_help = accept_loss::EXAMPLES)]
    AcceptLoss(accept_loss::AcceptLoss),
}

impl Ledger {
    pub(super) fn run(self) -> Result<String, Failure> {
        match self {
            Self::Verify(command) => command.run(),
            Self::AcceptLoss(command) => command.run(),
        }
    }
}
