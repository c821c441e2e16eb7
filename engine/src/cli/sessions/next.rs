//! What a person can do for a session that does not go on by itself.

use cellaflow_proto::v1;

use super::waits;
use crate::cli::{connect, format};

/// Says in words and ready-made commands how the session goes on; empty if nothing is asked of anybody.
pub(in crate::cli) fn advice(session: &v1::Session, now_ms: u64) -> String {
    let id = &session.session_id;
    let unknown = session.open_intents.iter().filter(|intent| intent.unknown);
    let paused = session.status() == v1::SessionStatus::Paused;
    let steps: String =
        unknown.filter(|intent| paused || asks(intent)).map(|intent| resolve(id, intent, now_ms)).collect();
    match (steps.is_empty(), paused) {
        (false, _) => steps,
        // Both sides and what to do are shown by `sessions show`.
        (true, true) if session.pause_reason() == v1::PauseReason::Nondeterminism => String::new(),
        (true, true) => format!(
            "It is paused ({}). Once that is settled:\n  cellaflow sessions resume {id}\n",
            format::pause_reason(session.pause_reason())
        ),
        (true, false) => waits::advice(session),
    }
}

/// Says whether an unknown outcome waits for a person.
fn asks(intent: &v1::OpenIntent) -> bool {
    matches!(intent.policy(), v1::GuardPolicy::Pause | v1::GuardPolicy::Unspecified)
}

fn resolve(id: &str, intent: &v1::OpenIntent, now_ms: u64) -> String {
    let key = &intent.step_key;
    let from = match intent.due_ms.checked_sub(now_ms) {
        Some(ms @ 1..) => format!(" (possible in {})", format::duration_ms(ms)),
        _ => String::new(),
    };
    let command = format!("  cellaflow steps resolve {id} {}", connect::word(key));
    format!(
        "Nobody knows whether step {key} happened. Find out, then say it{from}:\n\
         {command} --output JSON    it happened, this is its output\n\
         {command} --not-applied    it did not happen, it is attempted again\n\
         {command} --error TEXT     the step fails with this error\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(intents: Vec<v1::OpenIntent>) -> v1::Session {
        v1::Session {
            session_id: "s1".into(),
            status: v1::SessionStatus::Paused.into(),
            pause_reason: v1::PauseReason::EffectUnknown.into(),
            open_intents: intents,
            ..v1::Session::default()
        }
    }

    fn intent(unknown: bool) -> v1::OpenIntent {
        v1::OpenIntent { step_key: "mail it#1".into(), unknown, due_ms: 5_000, ..v1::OpenIntent::default() }
    }

    #[test]
    fn an_unknown_effect_is_resolved_and_the_key_is_quoted_for_the_shell() {
        let text = advice(&paused(vec![intent(true)]), 1_000);
        assert!(text.contains("cellaflow steps resolve s1 'mail it#1' --not-applied"), "{text}");
        assert!(text.contains("possible in 4 s"), "{text}");
        assert!(!advice(&paused(vec![intent(true)]), 5_000).contains("possible in"));
    }

    #[test]
    fn any_other_pause_is_resumed_and_a_running_session_asks_for_nothing() {
        assert!(advice(&paused(vec![intent(false)]), 0).contains("cellaflow sessions resume s1"));
        let running = v1::Session { status: v1::SessionStatus::Running.into(), ..paused(vec![]) };
        assert_eq!(advice(&running, 0), "");
    }
}
