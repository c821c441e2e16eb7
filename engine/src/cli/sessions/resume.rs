//! What `cellaflow sessions resume` and its like say of a session.

use cellaflow_proto::v1;

use super::advice;
use crate::cli::format;

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions resume 334455
  cellaflow sessions resume audit/report-7 --json | jq .status
  cellaflow sessions resume --workflow audit --paused-for requested

With --json: as `sessions pause`. A session that is paused because a guarded step's outcome is
unknown is better served by `cellaflow steps resolve`, which resumes it, too.";

/// Says what state the session is in now, and what else it needs.
pub(in crate::cli) fn resumed(session: &v1::Session, now_ms: u64) -> String {
    let waits = super::list::waits_for(session);
    let waits = if waits.is_empty() { String::new() } else { format!(": {waits}") };
    let state = format!("session {} is {}{waits}\n", session.session_id, format::status(session.status()));
    let advice = advice(session, now_ms);
    if advice.is_empty() { state } else { format!("{state}\n{advice}") }
}
