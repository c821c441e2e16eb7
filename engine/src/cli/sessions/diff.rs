//! `cellaflow sessions diff`: two branches side by side.

use std::collections::BTreeSet;

use cellaflow_proto::v1;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::{self, Engine};
use crate::cli::history::{self, Outcome, Outcomes};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::{Found, Target};
use crate::cli::table::{self, Column};
use crate::cli::{format, lookup, payload};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions diff 334455 778899
  cellaflow sessions diff audit/report-7 778899 --json | jq .steps

Compares two sessions by the outcomes of their steps and zones, and by what each used after the last
event they have in common: steps, tokens and money. Outcomes are compared by content, never by time
or cost. With --json: {\"common_seq\", \"a\", \"b\", \"steps\", \"same\"}.";

#[derive(Args)]
pub(in crate::cli) struct Diff {
    #[command(flatten)]
    target: Target,
    /// The session to compare it with, named like SESSION
    #[arg(value_name = "OTHER")]
    other: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

struct Branch {
    found: Found,
    outcomes: Outcomes,
    /// Hash of the chain at each event: equal ones stand for equal events before.
    hashes: Vec<Vec<u8>>,
}

struct Compared {
    common: u64,
    a: Branch,
    b: Branch,
    /// Steps whose outcomes differ.
    steps: Vec<String>,
    same: usize,
}

impl Diff {
    pub(super) fn run(self) -> Result<String, Failure> {
        let compared = client::block_on(self.compare())?;
        if self.json {
            return Ok(output::json(&compared.json()));
        }
        Ok(compared.page(table::columns()))
    }

    async fn compare(&self) -> Result<Compared, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let other = Target { session: self.other.clone(), namespace: self.target.namespace.clone() };
        let a = Branch::read(&engine, &self.target).await?;
        let b = Branch::read(&engine, &other).await?;
        Ok(Compared::of(a, b))
    }
}

impl Branch {
    async fn read(engine: &Engine, target: &Target) -> Result<Self, Failure> {
        let found = target.find(engine).await?;
        let (mut outcomes, mut hashes) = (Outcomes::default(), Vec::new());
        history::each(engine, &found.session.session_id, (1, found.session.seq), |event| {
            outcomes.note(event);
            hashes.push(event.hash.to_vec());
        })
        .await?;
        Ok(Self { found, outcomes, hashes })
    }

    fn session(&self) -> &v1::Session {
        &self.found.session
    }

    fn json(&self, common: u64) -> Value {
        let session = self.session();
        let (steps, tokens, nanos) = self.outcomes.after(common);
        json!({
            "session_id": session.session_id,
            "status": format::status(session.status()),
            "seq": session.seq,
            "own": { "steps": steps, "tokens": tokens, "cost_nanos": nanos },
            "output": self.found.whole.output.as_ref().map(payload::json),
            "failure": self.found.whole.failure.as_ref().map(payload::json),
        })
    }

    fn row(&self, name: &str, common: u64) -> Vec<String> {
        let session = self.session();
        let (steps, tokens, nanos) = self.outcomes.after(common);
        let result = self.found.whole.output.as_ref().or(self.found.whole.failure.as_ref());
        vec![
            name.to_owned(),
            session.session_id.clone(),
            format::status(session.status()).to_owned(),
            format::count(steps),
            format::count(tokens),
            format::dollars(nanos),
            result.map_or_else(String::new, payload::preview),
        ]
    }
}

impl Compared {
    fn of(a: Branch, b: Branch) -> Self {
        let common = a.hashes.iter().zip(&b.hashes).take_while(|(a, b)| a == b).count() as u64;
        let listed = a.outcomes.list().into_iter().chain(b.outcomes.list());
        let keys: BTreeSet<String> = listed.map(|(key, _)| key.clone()).collect();
        let differs = |key: &String| match (a.outcomes.get(key), b.outcomes.get(key)) {
            (Some(a), Some(b)) => !a.same(b),
            _ => true,
        };
        let mut steps: Vec<String> = keys.iter().filter(|key| differs(key)).cloned().collect();
        let seq = |key: &String| a.outcomes.get(key).or(b.outcomes.get(key)).map_or(0, |outcome| outcome.seq);
        steps.sort_by_key(seq);
        let same = keys.len() - steps.len();
        Self { common, steps, same, a, b }
    }

    fn json(&self) -> Value {
        let side = |branch: &Branch, key: &String| branch.outcomes.get(key).map(|outcome| outcome.json(key));
        let step =
            |key: &String| json!({ "step_key": key, "a": side(&self.a, key), "b": side(&self.b, key) });
        json!({
            "common_seq": self.common,
            "a": self.a.json(self.common),
            "b": self.b.json(self.common),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "same": self.same,
        })
    }

    fn page(&self, columns: Option<u16>) -> String {
        const BRANCHES: [(&str, Column); 7] = [
            ("", Column::Whole),
            ("session", Column::Whole),
            ("status", Column::Whole),
            ("own steps", Column::Number),
            ("tokens", Column::Number),
            ("cost", Column::Number),
            ("result", Column::Text),
        ];
        const STEPS: [(&str, Column); 3] = [("step", Column::Text), ("a", Column::Text), ("b", Column::Text)];
        let rows = vec![self.a.row("a", self.common), self.b.row("b", self.common)];
        let common = match self.common {
            0 => "The two have no event in common.\n".to_owned(),
            seq => format!("The two have events 1 to {seq} in common; what follows is each one's own.\n"),
        };
        let branches = table::table(&BRANCHES, rows, columns);
        let side =
            |branch: &Branch, key: &str| branch.outcomes.get(key).map_or_else(|| "—".to_owned(), shown);
        let steps: Vec<_> =
            self.steps.iter().map(|key| vec![key.clone(), side(&self.a, key), side(&self.b, key)]).collect();
        let same = format::counted(self.same as u64, "outcome");
        if steps.is_empty() {
            return format!("{common}\n{branches}\nAll outcomes are the same ({same}).\n");
        }
        format!("{common}\n{branches}\n{}\n{same} more are the same.\n", table::table(&STEPS, steps, columns))
    }
}

fn shown(outcome: &Outcome) -> String {
    let edited = if outcome.edited { " (edited)" } else { "" };
    format!("{}{edited}", outcome.preview)
}
