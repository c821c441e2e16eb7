//! `cellaflow sessions budget …`: how budgets stand, and making them larger.

mod raise;
mod show;

use cellaflow_proto::v1;
use clap::Subcommand;

use crate::cli::format;
use crate::cli::output::Failure;

#[derive(Subcommand)]
pub(in crate::cli) enum Budget {
    /// Shows the budgets that a session is under: limits, what is spent, reserved and left
    #[command(after_help = show::EXAMPLES)]
    Show(show::Show),
    /// Raises the budget that a session owns; what was paused for it goes on
    #[command(after_help = raise::EXAMPLES)]
    Raise(raise::Raise),
}

impl Budget {
    pub(super) fn run(self) -> Result<String, Failure> {
        match self {
            Self::Show(command) => command.run(),
            Self::Raise(command) => command.run(),
        }
    }
}

/// One line per limited kind.
fn lines(state: &v1::BudgetState) -> String {
    let limits = state.limits.unwrap_or_default();
    let (spent, reserved) = (state.spent.unwrap_or_default(), state.reserved.unwrap_or_default());
    let mut text = format!("budget of session {}\n", state.session_id);
    let mut line = |kind: &str, parts: [String; 4]| {
        let [limit, spent, reserved, left] = parts;
        text.push_str(&format!(
            "  {kind:<7} limit {limit}, spent {spent}, reserved {reserved}, left {left}\n"
        ));
    };
    if limits.cost_nanos != 0 {
        let left = limits.cost_nanos - spent.cost_nanos - reserved.cost_nanos;
        line("money", [limits.cost_nanos, spent.cost_nanos, reserved.cost_nanos, left].map(format::dollars));
    }
    let counts = [
        ("tokens", limits.tokens, spent.tokens, reserved.tokens),
        ("steps", limits.steps, spent.steps, reserved.steps),
    ];
    for (kind, limit, spent, reserved) in counts.into_iter().filter(|(_, limit, ..)| *limit != 0) {
        let left = limit.saturating_sub(spent).saturating_sub(reserved);
        line(kind, [limit, spent, reserved, left].map(format::count));
    }
    if state.deadline_ms != 0 {
        let until = format::time(state.deadline_ms);
        text.push_str(&format!("  time    {} until {until}\n", format::duration_ms(limits.wall_ms)));
    }
    text
}
