//! `cellaflow ledger verify`: asks the engine to walk its chains, and shows how far it is.

use std::time::Duration;

use cellaflow_proto::v1::verify_ledger_response::Body;
use cellaflow_proto::v1::{VerifyFault, VerifyLedgerRequest, VerifyProgress, VerifySummary};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::client::{self, Engine};
use crate::cli::output::{self, Failure};
use crate::cli::session_ref::Target;
use crate::cli::{format, json, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow ledger verify                          every session of the token's namespace
  cellaflow ledger verify --payloads               payload bytes against their digests, too
  cellaflow ledger verify --session 334455
  cellaflow ledger verify --json | jq .faults

Sessions in the archive are counted, not walked: `cellaflow-compactor verify` walks both.

Exit code 0: nothing is wrong; 1: something is. With --json: {\"summary\", \"faults\"}, with the field
names of cellaflow.v1.VerifySummary and VerifyFault. Progress goes to stderr: a bar in a terminal,
else a line now and then.";

/// Faults kept for the report; the summary counts them all.
const FAULTS_SHOWN_MAX: usize = 1_000;

/// Without a terminal, progress is a line each time this share of the sessions is done, in percent.
const LINE_EVERY_PERCENT: u64 = 10;

#[derive(Args)]
pub(in crate::cli) struct Verify {
    /// Only this session, named as in `sessions show`
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Checks payload bytes against their digests, too; slower
    #[arg(long)]
    payloads: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// What a walk found.
#[derive(Debug, Default)]
struct Report {
    faults: Vec<VerifyFault>,
    summary: VerifySummary,
}

impl Verify {
    pub(super) fn run(self) -> Result<String, Failure> {
        let report = client::block_on(self.walk())?;
        if self.json {
            let faults: Vec<_> = report.faults.iter().map(json::of).collect();
            let shown = json!({ "summary": json::of(&report.summary), "faults": faults });
            output::print(&output::json(&shown))?;
        } else {
            output::print(&page(&report))?;
        }
        verdict(&report)
    }

    async fn walk(&self) -> Result<Report, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session_id = match &self.session {
            Some(session) => {
                let target = Target { session: session.clone(), namespace: String::new() };
                target.find(&engine).await?.session.session_id
            }
            None => String::new(),
        };
        let request = VerifyLedgerRequest { session_id, payloads: self.payloads };
        let mut stream = engine.operator().verify_ledger(request).await.map_err(cut_off)?.into_inner();
        let mut progress = Progress::start();
        let mut faults = Vec::new();
        while let Some(message) = stream.message().await.map_err(cut_off)? {
            match message.body {
                Some(Body::Progress(at)) => progress.show(&at),
                Some(Body::Fault(fault)) => {
                    progress.fault(&fault, faults.is_empty());
                    if faults.len() < FAULTS_SHOWN_MAX {
                        faults.push(fault);
                    }
                }
                Some(Body::Summary(summary)) => {
                    progress.end();
                    return Ok(Report { faults, summary });
                }
                None => {}
            }
        }
        Err(Failure::unavailable("the walk was cut off before its end, nothing is proven: run it again"))
    }
}

/// A ledger that cannot even be read is a problem found, and not one that passes.
fn cut_off(status: tonic::Status) -> Failure {
    match refusal::of(&status) {
        Some(refusal) if refusal.code == "storage_failed" => {
            Failure::other(format!("{}: the walk could not go on: {}", refusal.code, refusal.message))
        }
        _ => refusal::failure(&status),
    }
}

fn page(report: &Report) -> String {
    let VerifySummary { sessions, events, payloads, faults, archived_sessions } = report.summary;
    let payloads =
        if payloads > 0 { format!(", {}", format::counted(payloads, "payload")) } else { String::new() };
    let walked =
        format!("{}, {}{payloads}", format::counted(sessions, "session"), format::counted(events, "event"));
    let away = match archived_sessions {
        0 => String::new(),
        count => format!(
            "{} in the archive: `cellaflow-compactor verify` walks those, too\n",
            format::counted(count, "session")
        ),
    };
    match report.faults.first() {
        None => format!("verified {walked}: every chain holds\n{away}"),
        Some(first) => format!(
            "verified {walked}: {}\nfirst bad event: {}\n",
            format::counted(faults, "fault"),
            describe(first)
        ),
    }
}

fn verdict(report: &Report) -> Result<String, Failure> {
    if report.summary.faults == 0 && report.faults.is_empty() {
        return Ok(String::new());
    }
    Err(Failure::other(
        "the ledger is damaged: stop the engine, keep a copy of its data folder, and restore a backup",
    ))
}

fn describe(fault: &VerifyFault) -> String {
    format!("session {} event {}: {}", fault.session_id, fault.seq, fault.message)
}

/// Shows how far the walk is: a bar on a terminal, lines elsewhere.
struct Progress {
    bar: ProgressBar,
    /// Next percentage that is worth a line.
    next_percent: u64,
}

impl Progress {
    fn start() -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} sessions, {msg}, {eta} left")
            .expect("the template is a constant that a test draws");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, next_percent: LINE_EVERY_PERCENT }
    }

    fn show(&mut self, at: &VerifyProgress) {
        let events = format::counted(at.events, "event");
        if !self.bar.is_hidden() {
            self.bar.set_length(at.sessions_total);
            self.bar.set_position(at.sessions);
            self.bar.set_message(events);
            return;
        }
        let percent = at.sessions.saturating_mul(100).checked_div(at.sessions_total).unwrap_or(0);
        if percent >= self.next_percent {
            self.next_percent = percent - percent % LINE_EVERY_PERCENT + LINE_EVERY_PERCENT;
            output::complain(&format!(
                "verified {} of {} sessions, {events}",
                format::count(at.sessions),
                format::count(at.sessions_total)
            ));
        }
    }

    /// The first one is said at once: whoever waits wants to know before the walk is over.
    fn fault(&self, fault: &VerifyFault, first: bool) {
        let name = if first { "first bad event" } else { "bad event" };
        self.bar.suspend(|| output::complain(&format!("{name}: {}", describe(fault))));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Exit;

    #[test]
    fn a_sound_ledger_is_said_to_be_one() {
        let summary =
            VerifySummary { sessions: 2, events: 1_234, payloads: 7, faults: 0, archived_sessions: 0 };
        let report = Report { faults: Vec::new(), summary };
        assert_eq!(page(&report), "verified 2 sessions, 1 234 events, 7 payloads: every chain holds\n");
        assert!(verdict(&report).is_ok());
        let summary = VerifySummary { archived_sessions: 1, ..summary };
        let shown = page(&Report { faults: Vec::new(), summary });
        assert!(shown.contains("1 session in the archive: `cellaflow-compactor verify`"), "{shown}");
    }

    #[test]
    fn the_first_bad_event_is_named_and_the_exit_code_is_1() {
        let fault = |seq| VerifyFault { session_id: "s1".into(), seq, message: "hash differs".into() };
        let summary = VerifySummary { sessions: 2, events: 9, payloads: 0, faults: 2, archived_sessions: 0 };
        let report = Report { faults: vec![fault(3), fault(7)], summary };
        assert!(
            page(&report).contains("first bad event: session s1 event 3: hash differs"),
            "{}",
            page(&report)
        );
        assert_eq!(verdict(&report).unwrap_err().exit, Exit::Problem);
    }

    #[test]
    fn the_bar_s_template_is_valid_and_lines_come_at_every_tenth() {
        let mut progress = Progress::start();
        for sessions in 1..=10 {
            progress.show(&VerifyProgress { sessions, sessions_total: 20, events: sessions });
        }
        assert!(!progress.bar.is_hidden() || progress.next_percent == 60, "{}", progress.next_percent);
        progress.show(&VerifyProgress::default());
        progress.end();
    }
}
