//! What a session waits for, as a table, and the commands that give it.

use cellaflow_proto::v1;

use crate::cli::table::{self, Column};
use crate::cli::{connect, format};

/// The open waits; empty if there are none.
pub(super) fn waits(session: &v1::Session, now_ms: u64, columns: Option<u16>) -> String {
    const HEADER: [(&str, Column); 5] = [
        ("waits for", Column::Whole),
        ("name", Column::Text),
        ("step", Column::Text),
        ("seq", Column::Number),
        ("until", Column::Whole),
    ];
    if session.waits.is_empty() {
        return String::new();
    }
    let row = |wait: &v1::Wait| {
        vec![
            kind(wait.kind()).to_owned(),
            wait.name.clone(),
            wait.step_key.clone(),
            wait.seq.to_string(),
            format::ago(wait.due_ms, now_ms),
        ]
    };
    table::table(&HEADER, session.waits.iter().map(row).collect(), columns)
}

/// Ready-made commands for what a person or program can give.
pub(super) fn advice(session: &v1::Session) -> String {
    let id = &session.session_id;
    let command = |wait: &v1::Wait| match wait.kind() {
        v1::WaitKind::Signal => {
            format!("  cellaflow sessions signal {id} {} JSON\n", connect::word(&wait.name))
        }
        v1::WaitKind::Approval => {
            let key = connect::word(&wait.step_key);
            format!("  cellaflow approvals approve {id} {key}    (or reject)\n")
        }
        v1::WaitKind::Unspecified | v1::WaitKind::Timer | v1::WaitKind::Child => String::new(),
    };
    let commands: String = session.waits.iter().map(command).collect();
    if commands.is_empty() { commands } else { format!("It goes on when somebody says:\n{commands}") }
}

const fn kind(kind: v1::WaitKind) -> &'static str {
    match kind {
        v1::WaitKind::Unspecified => "unknown",
        v1::WaitKind::Timer => "timer",
        v1::WaitKind::Signal => "signal",
        v1::WaitKind::Approval => "approval",
        v1::WaitKind::Child => "child",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(kind: v1::WaitKind, name: &str, due_ms: u64) -> v1::Wait {
        let step_key = format!("{name}#1");
        v1::Wait { kind: kind.into(), name: name.into(), step_key, due_ms, ..v1::Wait::default() }
    }

    #[test]
    fn what_people_can_give_comes_with_its_command() {
        let session = v1::Session {
            session_id: "s1".into(),
            waits: vec![
                wait(v1::WaitKind::Timer, "nap", 61_000),
                wait(v1::WaitKind::Signal, "an answer", 0),
                wait(v1::WaitKind::Approval, "pay", 0),
            ],
            ..v1::Session::default()
        };
        let text = advice(&session);
        assert!(text.contains("cellaflow sessions signal s1 'an answer' JSON"), "{text}");
        assert!(text.contains("cellaflow approvals approve s1 pay#1"), "{text}");
        assert!(!text.contains("nap"), "nobody gives time: {text}");
        let rows = waits(&session, 1_000, None);
        assert!(rows.contains("in 1 min") && rows.lines().count() == 4, "{rows}");
        assert_eq!(advice(&v1::Session::default()) + &waits(&v1::Session::default(), 0, None), "");
    }
}
