//! `cellaflow sessions budget raise`.

use cellaflow_proto::v1;
use clap::Args;

use super::lines;
use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{format, json, lookup, retry};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions budget raise audit/report-7 --usd 5
  cellaflow sessions budget raise 334455 --tokens 200000 --wall 2h

The numbers are the new limits, not what is added. With --json: the budget as it stands now, with
the field names of cellaflow.v1.BudgetState.";

#[derive(Args)]
#[command(group = clap::ArgGroup::new("limits").required(true).multiple(true))]
pub(in crate::cli) struct Raise {
    #[command(flatten)]
    target: Target,
    /// New limit on money, in US dollars
    #[arg(long, group = "limits", value_parser = nanos)]
    usd: Option<i64>,
    /// New limit on tokens
    #[arg(long, group = "limits")]
    tokens: Option<u64>,
    /// New limit on steps
    #[arg(long, group = "limits")]
    steps: Option<u64>,
    /// New limit on the time from the session's start, for example 90s, 12h or 30d
    #[arg(long, group = "limits", value_parser = format::parse_duration_ms)]
    wall: Option<u64>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

impl Raise {
    pub(super) fn run(self) -> Result<String, Failure> {
        let budget = client::block_on(self.raise())?;
        Ok(if self.json { output::json(&json::of(&budget)) } else { lines(&budget) })
    }

    async fn raise(&self) -> Result<v1::BudgetState, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let limits = v1::Budget {
            cost_nanos: self.usd.unwrap_or(0),
            tokens: self.tokens.unwrap_or(0),
            steps: self.steps.unwrap_or(0),
            wall_ms: self.wall.unwrap_or(0),
        };
        let request = v1::RaiseBudgetRequest {
            session_id: self.target.find(&engine).await?.session.session_id,
            limits: Some(limits),
            dedupe_id: retry::dedupe_id(),
        };
        let answer = retry::safely(|| {
            let (mut operator, request) = (engine.operator(), request.clone());
            async move { operator.raise_budget(request).await }
        })
        .await?;
        answer.budget.ok_or_else(|| Failure::other("the engine's answer holds no budget"))
    }
}

/// Reads US dollars as people write them: `5`, `0.25`. Returns nano-dollars.
fn nanos(text: &str) -> Result<i64, String> {
    const HOW: &str = "write US dollars above 0 with at most nine digits behind the point, for example 0.25";
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|letter| letter.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !digits(whole) || !digits(part) {
        return Err(HOW.to_owned());
    }
    let nanos = format!("{whole}{part:0<9}").parse::<i64>().ok().filter(|nanos| *nanos > 0);
    nanos.ok_or_else(|| HOW.to_owned())
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn dollars_are_read_to_the_nano_dollar() {
        assert_eq!(nanos("5"), Ok(5_000_000_000));
        assert_eq!(nanos("0.25"), Ok(250_000_000));
        assert_eq!(nanos("0.000000001"), Ok(1));
        for wrong in ["", "0", "-1", ".5", "1.0000000001", "1e3", "99999999999999"] {
            assert!(nanos(wrong).is_err(), "{wrong}");
        }
    }
}
