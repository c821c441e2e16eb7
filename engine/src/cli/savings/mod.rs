//! `cellaflow savings`: what durable steps and compacted prompts save in a year.

mod estimate;
mod measured;

use cellaflow_proto::v1;
use clap::Args;
use serde_json::{Value, json};

use super::client::{self, Engine};
use super::output::{self, Failure};
use super::{format, lookup, refusal, table};
use crate::clock::{self, Clock as _};
use estimate::{CCS_SHARE, Estimate, Inputs, MINUTES_PER_FAILURE};
use measured::Measured;

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow savings                        from the runs of the last 30 days
  cellaflow savings --within 7d --cost-per-step 0.02
  cellaflow savings --runs-per-day 1000 --steps 8 --cost-per-step 0.05 --failure-rate 0.04
  cellaflow savings --no-ccs --json | jq .total_usd

What is not given is measured: runs a day, steps of a run (children's included), known cost of a
step, and the share of runs that were taken over from a worker that was gone. With all four given
no engine is asked. In a year:
  work not paid again  runs/day x 365 x steps x cost/step x failure rate x 1/2
  smaller prompts      runs/day x 365 x steps x cost/step x ccs share
  people's time        runs/day x 365 x failure rate x 10 minutes
With --json: {\"wasted_usd\", \"ccs_usd\", \"total_usd\", \"hours\", \"failures\", \"inputs\": {NAME:
{\"value\", \"source\"}}}.";

/// Most sessions the engine returns at a time.
const PAGE_MAX: u32 = 1_000;

#[derive(Args)]
pub(super) struct Savings {
    /// Runs a day [default: measured]
    #[arg(long, value_name = "N", value_parser = positive)]
    runs_per_day: Option<f64>,
    /// Steps of a run [default: measured]
    #[arg(long, value_name = "N", value_parser = positive)]
    steps: Option<f64>,
    /// Cost of a step in dollars [default: measured]
    #[arg(long, value_name = "USD", value_parser = positive)]
    cost_per_step: Option<f64>,
    /// Share of runs that fail once, from 0 to 1 [default: measured]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    failure_rate: Option<f64>,
    /// Share of the cost that compacted prompts save, from 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share, default_value_t = CCS_SHARE, conflicts_with = "no_ccs")]
    ccs_share: f64,
    /// Leaves compacted prompts out
    #[arg(long)]
    no_ccs: bool,
    /// Measures the sessions started within this time
    #[arg(long, value_name = "TIME", value_parser = format::parse_duration_ms, default_value = "30d")]
    within: u64,
    /// Measures sessions of this workflow only
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    workflow: String,
    /// Namespace, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// Reads a number that is not negative.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("give a number from 0 up".to_owned()),
    }
}

/// Reads a share.
fn share(text: &str) -> Result<f64, String> {
    positive(text)
        .ok()
        .filter(|share| *share <= 1.0)
        .ok_or_else(|| "give a share from 0 to 1, for example 0.04 for 4 %".to_owned())
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Given,
    Measured,
    Assumed,
    Off,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Measured => "measured",
            Self::Assumed => "assumed",
            Self::Off => "off",
        }
    }
}

/// The inputs, each with where it comes from, in the order of `Inputs`.
struct Sourced {
    inputs: Inputs,
    sources: [Source; 5],
    measured: Option<Measured>,
}

impl Savings {
    pub(super) fn run(self) -> Result<String, Failure> {
        let needs_engine =
            [self.runs_per_day, self.steps, self.cost_per_step, self.failure_rate].contains(&None);
        let measured = if needs_engine { Some(client::block_on(self.measure())?) } else { None };
        let sourced = self.sourced(measured, clock::System.wall_ms());
        let year = Estimate::of(&sourced.inputs);
        Ok(if self.json { output::json(&as_json(&sourced, &year)) } else { page(&sourced, &year) })
    }

    fn sourced(&self, measured: Option<Measured>, now_ms: u64) -> Sourced {
        let known = measured.unwrap_or_default();
        let source = |given: Option<f64>| if given.is_some() { Source::Given } else { Source::Measured };
        let ccs = match (self.no_ccs, self.ccs_share == CCS_SHARE) {
            (true, _) => Source::Off,
            (false, true) => Source::Assumed,
            (false, false) => Source::Given,
        };
        let inputs = Inputs {
            runs_per_day: self.runs_per_day.unwrap_or_else(|| known.runs_per_day(now_ms)),
            steps: self.steps.unwrap_or_else(|| known.steps_per_run()),
            cost_per_step: self.cost_per_step.unwrap_or_else(|| known.cost_per_step()),
            failure_rate: self.failure_rate.unwrap_or_else(|| known.failure_rate()),
            ccs_share: if self.no_ccs { 0.0 } else { self.ccs_share },
        };
        let sources = [
            source(self.runs_per_day),
            source(self.steps),
            source(self.cost_per_step),
            source(self.failure_rate),
            ccs,
        ];
        Sourced { inputs, sources, measured }
    }

    async fn measure(&self) -> Result<Measured, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let started_after_ms = clock::System.wall_ms().saturating_sub(self.within);
        let mut measured = Measured::default();
        let mut page_token = String::new();
        loop {
            let request = v1::ListSessionsRequest {
                namespace: self.namespace.clone(),
                workflow: self.workflow.clone(),
                page_size: PAGE_MAX,
                page_token,
                filter: Some(v1::SessionFilter { started_after_ms, ..v1::SessionFilter::default() }),
                ..v1::ListSessionsRequest::default()
            };
            let answer =
                engine.sessions().list_sessions(request).await.map_err(|status| refusal::failure(&status))?;
            let page = answer.into_inner();
            page.sessions.iter().for_each(|session| measured.add(session));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if measured.runs == 0 {
            return Err(Failure::other(
                "no session was started in that time: widen --within, or give --runs-per-day, --steps, \
                 --cost-per-step and --failure-rate",
            ));
        }
        Ok(measured)
    }
}

fn page(sourced: &Sourced, year: &Estimate) -> String {
    let Inputs { runs_per_day, steps, cost_per_step, failure_rate, ccs_share } = sourced.inputs;
    let names = sourced.sources.map(Source::name);
    let [runs_from, steps_from, cost_from, failures_from, ccs_from] = names;
    let mut text = String::from("Savings of a year\n\n");
    text += &table::details(&[
        ("work not paid again", dollars(year.wasted_usd)),
        ("smaller prompts (CCS)", dollars(year.ccs_usd)),
        ("together", dollars(year.total_usd())),
        (
            "people's time",
            format!(
                "{} hours ({} failed runs, {MINUTES_PER_FAILURE} minutes each)",
                whole(year.hours),
                whole(year.failures)
            ),
        ),
    ]);
    text += "\nfrom\n\n";
    text += &table::details(&[
        ("runs a day", format!("{} ({runs_from})", number(runs_per_day))),
        ("steps of a run", format!("{} ({steps_from})", number(steps))),
        ("cost of a step", format!("${} ({cost_from})", number(cost_per_step))),
        ("failure rate", format!("{} % ({failures_from})", number(failure_rate * 100.0))),
        ("CCS saves", format!("{} % ({ccs_from})", number(ccs_share * 100.0))),
    ]);
    if let Some(measured) = sourced.measured {
        text += &format!(
            "\nMeasured: {}, {} of them interrupted, {}.\n",
            format::counted(measured.runs, "run"),
            format::count(measured.failed),
            format::counted(measured.steps, "step")
        );
        if measured.unpriced_calls > 0 {
            text += &format!(
                "The cost lacks {} without a known price.\n",
                format::counted(measured.unpriced_calls, "model call")
            );
        }
    }
    text
}

fn as_json(sourced: &Sourced, year: &Estimate) -> Value {
    let Inputs { runs_per_day, steps, cost_per_step, failure_rate, ccs_share } = sourced.inputs;
    let values = [runs_per_day, steps, cost_per_step, failure_rate, ccs_share];
    let names = ["runs_per_day", "steps", "cost_per_step", "failure_rate", "ccs_share"];
    let inputs: serde_json::Map<String, Value> = names
        .into_iter()
        .zip(values)
        .zip(sourced.sources)
        .map(|((name, value), source)| (name.to_owned(), json!({ "value": value, "source": source.name() })))
        .collect();
    json!({
        "wasted_usd": year.wasted_usd,
        "ccs_usd": year.ccs_usd,
        "total_usd": year.total_usd(),
        "hours": year.hours,
        "failures": year.failures,
        "inputs": inputs,
        "measured_runs": sourced.measured.map_or(0, |measured| measured.runs),
    })
}

/// Whole dollars; cents below a hundred.
fn dollars(usd: f64) -> String {
    if usd < 100.0 { format!("${usd:.2}") } else { format!("${}", whole(usd)) }
}

/// A whole number, grouped as the product page groups its figures: `68,620`.
fn whole(number: f64) -> String {
    // A figure past u64 is nobody's saving; the conversion stops there.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and it saturates"
    )]
    let rounded = number.round() as u64;
    format::count(rounded).replace(' ', ",")
}

/// Up to four digits after the point, without zeros at the end.
fn number(value: f64) -> String {
    if value >= 1_000.0 {
        return whole(value);
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        savings: Savings,
    }

    fn savings(arguments: &[&str]) -> Savings {
        Line::try_parse_from([&["savings"], arguments].concat())
            .map(|line| line.savings)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    const PAGE: [&str; 8] =
        ["--runs-per-day", "1000", "--steps", "8", "--cost-per-step", "0.05", "--failure-rate", "0.04"];

    #[test]
    fn the_product_pages_figures_are_printed_without_an_engine() {
        let text = savings(&PAGE).run().ok().unwrap();
        for figure in ["$2,920", "$65,700", "$68,620", "2,433 hours"] {
            assert!(text.contains(figure), "{figure} is missing: {text}");
        }
    }

    #[test]
    fn compaction_can_be_left_out_or_given_and_the_sources_are_said() {
        let off = savings(&[&PAGE[..], &["--no-ccs", "--json"]].concat()).run().ok().unwrap();
        let off: Value = serde_json::from_str(&off).unwrap();
        assert_eq!(
            (off["ccs_usd"].as_f64(), off["inputs"]["ccs_share"]["source"].as_str()),
            (Some(0.0), Some("off"))
        );
        let given = savings(&[&PAGE[..], &["--ccs-share", "0.1", "--json"]].concat()).run().ok().unwrap();
        let given: Value = serde_json::from_str(&given).unwrap();
        assert_eq!(given["ccs_usd"].as_f64().map(f64::round), Some(14_600.0));
        assert_eq!(given["inputs"]["runs_per_day"]["source"], "given");
    }

    #[test]
    fn what_is_not_given_is_measured() {
        let mut measured = Measured::default();
        let totals = Some(v1::Totals { cost_nanos: 400_000_000, takeovers: 1, ..v1::Totals::default() });
        measured.add(&v1::Session { started_ms: 1, steps: 8, totals, ..v1::Session::default() });
        let sourced = savings(&["--steps", "4"]).sourced(Some(measured), 2);
        assert_eq!(sourced.inputs.steps, 4.0);
        assert_eq!((sourced.inputs.cost_per_step, sourced.inputs.failure_rate), (0.05, 1.0));
        assert_eq!(sourced.sources[..2], [Source::Measured, Source::Given]);
    }

    #[test]
    fn shares_over_one_and_negative_numbers_are_refused() {
        for wrong in [["--failure-rate", "4"], ["--steps", "-1"], ["--ccs-share", "NaN"]] {
            assert!(Line::try_parse_from(["savings"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
