//! `cellaflow sessions list`.

use cellaflow_proto::v1;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::table::{self, Column};
use crate::cli::{format, json, lookup, refusal};
use crate::clock::{self, Clock as _};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions list                             the newest 50
  cellaflow sessions list --status paused             those that wait for somebody
  cellaflow sessions list --workflow audit --limit 500
  cellaflow sessions list --label customer=42 --within 7d --cost-min 0.50
  cellaflow sessions list --json | jq '.sessions[] | .session_id'

With --json: {\"sessions\": [Session], \"next_page_token\"}, with the field names of
cellaflow.v1.Session. In a narrow terminal only the end of an id is shown; every command takes it
for the whole.";

/// Most sessions the engine returns at a time.
const PAGE_MAX: u32 = 1_000;

/// From this width on whole ids leave room for the rest.
const COLUMNS_FOR_IDS: u16 = 120;

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Only sessions in this state; may be given several times
    #[arg(long, value_enum)]
    status: Vec<State>,
    /// Only sessions of this workflow
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    workflow: String,
    /// Only sessions of this version of their workflow
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    of_version: String,
    /// Only sessions that have this label; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Only sessions started within this time, for example 90m, 12h or 7d
    #[arg(long, value_name = "TIME", value_parser = format::parse_duration_ms)]
    within: Option<u64>,
    /// Only sessions whose known cost is at least this
    #[arg(long, value_name = "USD")]
    cost_min: Option<f64>,
    /// Only sessions whose known cost is at most this
    #[arg(long, value_name = "USD")]
    cost_max: Option<f64>,
    /// Only sessions that wait for `sessions release` since the ledger was restored
    #[arg(long)]
    held: bool,
    /// Sessions listed at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Goes on where a list with --json ended (its next_page_token)
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
    /// Namespace, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// Reads KEY=VALUE.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// States by which a list can be narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Pending,
    Running,
    Waiting,
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl State {
    pub(super) const fn on_the_wire(self) -> v1::SessionStatus {
        match self {
            Self::Pending => v1::SessionStatus::Pending,
            Self::Running => v1::SessionStatus::Running,
            Self::Waiting => v1::SessionStatus::Waiting,
            Self::Paused => v1::SessionStatus::Paused,
            Self::Completed => v1::SessionStatus::Completed,
            Self::Failed => v1::SessionStatus::Failed,
            Self::Cancelled => v1::SessionStatus::Cancelled,
        }
    }
}

impl List {
    pub(super) fn run(self) -> Result<String, Failure> {
        let (sessions, next_page_token) = client::block_on(self.fetch())?;
        if self.json {
            let sessions: Vec<_> = sessions.iter().map(json::of).collect();
            return Ok(output::json(&json!({ "sessions": sessions, "next_page_token": next_page_token })));
        }
        if sessions.is_empty() {
            output::complain(&"no session fits; start one, or look in another --namespace or --status");
            return Ok(String::new());
        }
        if !next_page_token.is_empty() {
            output::complain(&format!("these are the newest {}; --limit shows more", sessions.len()));
        }
        Ok(rows(&sessions, clock::System.wall_ms(), table::columns()))
    }

    fn filter(&self) -> v1::SessionFilter {
        let now_ms = clock::System.wall_ms();
        let nanos = |usd: f64| format::nanos(usd);
        v1::SessionFilter {
            version: self.of_version.clone(),
            labels: self.label.iter().cloned().collect(),
            started_after_ms: self.within.map_or(0, |within_ms| now_ms.saturating_sub(within_ms)),
            cost_min_nanos: self.cost_min.map_or(0, nanos),
            cost_max_nanos: self.cost_max.map_or(0, nanos),
            held: self.held,
            ..v1::SessionFilter::default()
        }
    }

    async fn fetch(&self) -> Result<(Vec<v1::Session>, String), Failure> {
        let engine = Engine::find(&self.engine).await?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut sessions = Vec::new();
        let mut page_token = self.page_token.clone();
        loop {
            let missing = u32::try_from(limit - sessions.len()).unwrap_or(PAGE_MAX);
            let request = v1::ListSessionsRequest {
                namespace: self.namespace.clone(),
                statuses: self.status.iter().map(|state| state.on_the_wire().into()).collect(),
                workflow: self.workflow.clone(),
                page_size: missing.min(PAGE_MAX),
                page_token,
                filter: Some(self.filter()),
            };
            let answer =
                engine.sessions().list_sessions(request).await.map_err(|status| refusal::failure(&status))?;
            let page = answer.into_inner();
            sessions.extend(page.sessions);
            page_token = page.next_page_token;
            if page_token.is_empty() || sessions.len() >= limit {
                sessions.truncate(limit);
                return Ok((sessions, page_token));
            }
        }
    }
}

fn rows(sessions: &[v1::Session], now_ms: u64, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 8] = [
        ("session", Column::Whole),
        ("workflow", Column::Text),
        ("key", Column::Text),
        ("status", Column::Whole),
        ("steps", Column::Number),
        ("cost", Column::Number),
        ("updated", Column::Whole),
        ("waits for", Column::Text),
    ];
    let ids_fit = columns.is_none_or(|columns| columns >= COLUMNS_FOR_IDS);
    let row = |session: &v1::Session| {
        let id = &session.session_id;
        let short = id.rsplit('-').next().unwrap_or(id);
        vec![
            if ids_fit { id.clone() } else { short.to_owned() },
            format!("{}@{}", session.workflow, session.version),
            session.key.clone(),
            format::status(session.status()).to_owned(),
            format::count(session.steps),
            format::cost(session.totals.as_ref()),
            format::ago(session.updated_ms, now_ms),
            waits_for(session),
        ]
    };
    table::table(&HEADER, sessions.iter().map(row).collect(), columns)
}

/// Why a session stands still, in words; empty while it runs or once it has ended.
pub(super) fn waits_for(session: &v1::Session) -> String {
    match session.status() {
        v1::SessionStatus::Paused if session.waiting_for.is_empty() => {
            format::pause_reason(session.pause_reason()).to_owned()
        }
        _ => session.waiting_for.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> v1::Session {
        v1::Session {
            session_id: "01935a2b-77f0-7abc-9def-001122334455".into(),
            workflow: "audit".into(),
            version: "3".into(),
            status: v1::SessionStatus::Paused.into(),
            pause_reason: v1::PauseReason::EffectUnknown.into(),
            updated_ms: 1_000,
            totals: Some(v1::Totals { cost_nanos: 12_340_000, ..v1::Totals::default() }),
            ..v1::Session::default()
        }
    }

    #[test]
    fn a_row_says_what_it_costs_and_why_it_waits() {
        let text = rows(&[session()], 61_000, None);
        let row = text.lines().nth(1).unwrap();
        for part in
            ["01935a2b-77f0", "audit@3", "paused", "$0.0123", "1 min ago", "may or may not have happened"]
        {
            assert!(row.contains(part), "{part} in {row}");
        }
    }

    #[test]
    fn a_narrow_terminal_shows_the_end_of_the_id() {
        let text = rows(&[session()], 61_000, Some(90));
        assert!(text.lines().all(|line| line.chars().count() <= 90), "{text}");
        assert!(text.contains("001122334455") && !text.contains("01935a2b"), "{text}");
    }
}
