//! `cellaflow sessions …`: looks at sessions, stops them and lets them go on.

mod accept;
mod act;
mod budget;
mod check;
mod context;
mod diff;
mod divergence;
mod erase;
mod events;
mod fork;
mod hold;
mod list;
mod next;
mod release;
mod resume;
mod show;
mod signal;
mod state;
mod tail;
mod waits;

use clap::Subcommand;

use super::output::Failure;
use act::Action;

pub(super) use next::advice;
pub(super) use resume::resumed;

#[derive(Subcommand)]
pub(super) enum Sessions {
    /// Lists sessions, newest first
    #[command(after_help = list::EXAMPLES)]
    List(list::List),
    /// Shows one session: its state, why it waits, open intents, totals, last events, and what to do
    #[command(after_help = show::EXAMPLES)]
    Show(show::Show),
    /// Prints a session's recorded events
    #[command(after_help = events::EXAMPLES)]
    Events(events::Events),
    /// Follows a session until its end, over restarts of the engine
    #[command(after_help = tail::EXAMPLES)]
    Tail(tail::Tail),
    /// Shows what a session was at any of its events: variables, conversation, outcomes
    #[command(after_help = state::EXAMPLES)]
    State(state::State),
    /// Shows what of a session's conversation its agent prompts with, and what each pass took out
    #[command(after_help = context::EXAMPLES)]
    Context(context::Context),
    /// Starts a session that goes on from the middle of another one, with something changed
    #[command(after_help = fork::EXAMPLES)]
    Fork(fork::Fork),
    /// Compares two sessions by outcomes, tokens and cost
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::Diff),
    /// Accepts what a session's code asked for in place of what was recorded
    #[command(after_help = accept::EXAMPLES)]
    Accept(accept::Accept),
    /// Runs new code over sessions' ledgers, changing nothing: would it go on with them?
    #[command(after_help = check::EXAMPLES)]
    Check(check::Check),
    /// Shows or raises budgets
    #[command(subcommand)]
    Budget(budget::Budget),
    /// Lets sessions go on that wait since the ledger was restored from a backup
    #[command(after_help = release::EXAMPLES)]
    Release(release::Release),
    /// Resumes paused sessions
    #[command(after_help = resume::EXAMPLES)]
    Resume(act::Act),
    /// Pauses sessions until somebody resumes them
    #[command(after_help = act::PAUSE)]
    Pause(act::Act),
    /// Resumes paused sessions with a fresh round of attempts
    #[command(after_help = act::RETRY)]
    Retry(act::Act),
    /// Asks sessions to clean up and end, children first
    #[command(after_help = act::CANCEL)]
    Cancel(act::Act),
    /// Ends sessions and their children at once
    #[command(after_help = act::TERMINATE)]
    Terminate(act::Act),
    /// Erases what ended sessions did and said, for good: prompts, answers, inputs and outputs
    #[command(after_help = erase::EXAMPLES)]
    Erase(erase::Erase),
    /// Puts sessions under a legal hold, or lifts it
    #[command(after_help = hold::EXAMPLES)]
    Hold(hold::Hold),
    /// Sends a session a signal
    #[command(after_help = signal::EXAMPLES)]
    Signal(signal::Signal),
}

impl Sessions {
    pub(super) fn run(self) -> Result<String, Failure> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Events(command) => command.run(),
            Self::Tail(command) => command.run(),
            Self::State(command) => command.run(),
            Self::Context(command) => command.run(),
            Self::Fork(command) => command.run(),
            Self::Diff(command) => command.run(),
            Self::Accept(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Budget(command) => command.run(),
            Self::Release(command) => command.run(),
            Self::Resume(command) => command.run(Action::Resume),
            Self::Pause(command) => command.run(Action::Pause),
            Self::Retry(command) => command.run(Action::Retry),
            Self::Cancel(command) => command.run(Action::Cancel),
            Self::Terminate(command) => command.run(Action::Terminate),
            Self::Erase(command) => command.run(),
            Self::Hold(command) => command.run(),
            Self::Signal(command) => command.run(),
        }
    }
}
