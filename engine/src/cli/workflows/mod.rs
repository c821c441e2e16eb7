//! `cellaflow workflows …`: versions, what runs on them, and draining them.

mod drain;
mod list;
mod show;

use clap::{Args, Subcommand};

use super::output::Failure;

pub(super) use list::EXAMPLES;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Workflows {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Subcommand)]
enum Verb {
    /// Lists the versions of workflows; the same as no verb
    #[command(after_help = list::EXAMPLES)]
    List(list::List),
    /// Shows a workflow's versions: when they were served and by whom, and which sessions wait for what
    #[command(after_help = show::EXAMPLES)]
    Show(show::Show),
    /// Drains a version: it starts no new sessions, existing ones run to their end
    #[command(after_help = drain::EXAMPLES)]
    Drain(drain::Drain),
    /// Lets a drained version start sessions again
    #[command(after_help = drain::EXAMPLES)]
    Undrain(drain::Drain),
}

impl Workflows {
    pub(super) fn run(self) -> Result<String, Failure> {
        match self.verb {
            None => self.list.run(),
            Some(Verb::List(command)) => command.run(),
            Some(Verb::Show(command)) => command.run(),
            Some(Verb::Drain(command)) => command.run(true),
            Some(Verb::Undrain(command)) => command.run(false),
        }
    }
}
