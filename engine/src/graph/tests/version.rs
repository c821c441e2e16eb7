//! Promise: versioned (`graph::version`).

use proptest::prelude::*;

use super::story::*;
use crate::graph::command::{Code, Command, DrainWorkflow, RegisterWorkflow, Start};
use crate::graph::event::{WorkflowDrained, WorkflowRegistered};
use crate::graph::ids::{SessionId, TimeMs};
use crate::graph::version::{COMPATIBLE_MAX, SEEN_EVERY_MS, WorkflowRow, newest};

fn registered(session: SessionId, compatible: &[&str]) -> Command {
    Command::RegisterWorkflow(of(session, compatible))
}

fn leaves(compatible: &[&str]) -> Command {
    Command::RegisterWorkflow(RegisterWorkflow { leaving: true, ..of(session(9), compatible) })
}

fn of(session: SessionId, compatible: &[&str]) -> RegisterWorkflow {
    RegisterWorkflow {
        session,
        leaving: false,
        namespace: "default".into(),
        code: WorkflowRegistered {
            workflow: "audit".into(),
            version: "1".into(),
            compatible: compatible.iter().map(|version| (*version).into()).collect(),
        },
    }
}

fn drained(draining: bool, n: u8) -> Command {
    Command::DrainWorkflow(DrainWorkflow {
        session: session(9),
        namespace: "default".into(),
        drained: WorkflowDrained {
            workflow: "audit".into(),
            version: "1".into(),
            draining,
            by: "ada".into(),
        },
        dedupe: dedupe(n),
    })
}

fn story() -> Story {
    let mut story = Story::new();
    story.ok(system(9));
    story
}

#[test]
fn r1_r2_code_is_registered_once_an_hour_in_the_system_session() {
    let mut story = story();
    story.ok(start(1, None));
    assert_eq!(story.code(registered(session(1), &[])), Code::InvalidArgument); // R1
    assert_eq!(story.ok(registered(session(9), &["0"])).events.len(), 1);
    assert_eq!(story.ok(registered(session(9), &["0"])).events, []); // R2
    story.now = TimeMs(20_000);
    assert_eq!(story.ok(registered(session(9), &["0", "0.5"])).events.len(), 1);
    let row = story.model.rows.workflows.values().next().unwrap();
    assert_eq!((row.first_seen, row.compatible.len()), (Some(TimeMs(10_000)), 2));
    let many: Vec<&str> = vec!["x"; COMPATIBLE_MAX + 1];
    assert_eq!(story.code(registered(session(9), &many)), Code::InvalidArgument);
    assert_eq!(story.model.rebuilt().1, story.model.rows, "rows are what the events say"); // I1
}

#[test]
fn r3_r4_a_drained_version_starts_no_session_and_existing_ones_go_on() {
    let mut story = story();
    story.ok(keyed(1, 7, 60, Some(lease(A, None))));
    assert_eq!(story.ok(drained(true, 1)).events.len(), 1);
    assert_eq!(story.ok(drained(true, 2)).events, []); // R4
    assert_eq!(story.code(start(2, None)), Code::VersionDraining); // R3
    story.ok(keyed(3, 7, 60, None));
    story.run(spawn("child", 4, false));
    let child = named_start(&story.model, session(1), session(4));
    story.ok(child);
    assert_eq!(story.model.rebuilt().1, story.model.rows);
    assert_eq!(story.ok(drained(false, 3)).events.len(), 1);
    assert_eq!(story.ok(drained(true, 1)).events, [], "a retry from before the undo changes nothing");
    story.ok(start(5, None));
}

#[test]
fn r2_a_worker_that_leaves_says_when_it_was_seen_and_nothing_else() {
    let mut story = story();
    story.ok(registered(session(9), &["0"]));
    assert_eq!(story.ok(leaves(&["0"])).events, [], "it is not an hour ago");
    story.now = TimeMs(story.now.0 + SEEN_EVERY_MS);
    assert_eq!(
        story.ok(leaves(&[])).events,
        [],
        "code that says something else is not the version's any more"
    );
    assert_eq!(story.ok(leaves(&["0"])).events.len(), 1);
    let row = story.model.rows.workflows.values().next().unwrap();
    assert_eq!((row.first_seen, row.last_seen), (Some(TimeMs(10_000)), Some(story.now)));
    story.now = TimeMs(story.now.0 + SEEN_EVERY_MS);
    assert_eq!(story.ok(registered(session(9), &["0"])).events.len(), 1);
    assert_eq!(story.model.rebuilt().1, story.model.rows);
}

#[test]
fn r5_a_start_without_a_version_is_for_what_the_edge_found_or_for_its_keys_session() {
    let mut story = story();
    let unversioned = |n, key| Start { version: "".into(), ..keyed(n, key, 60, None) };
    assert_eq!(story.code(unversioned(1, 7)), Code::NoVersion);
    story.ok(keyed(1, 7, 60, None));
    assert_eq!(story.ok(unversioned(2, 7)).events, [], "a key's session is found whatever is drained");
}

#[test]
fn r5_the_newest_version_is_the_greatest_number_or_the_one_served_last() {
    let row = |version: &str, first_seen: Option<u64>, drained: bool| WorkflowRow {
        first_seen: first_seen.map(TimeMs),
        draining: drained.then(|| (TimeMs(1), "ada".into())),
        ..WorkflowRow::unknown("default".into(), "audit".into(), version.into())
    };
    let found = |rows: &[WorkflowRow]| newest(rows).map(|row| row.version.to_string());
    let (old, new) = (row("1.9.0", Some(9), false), row("1.10.0", Some(5), false));
    assert_eq!(found(&[old.clone(), new.clone()]).as_deref(), Some("1.10.0"));
    let candidate = row("1.10.0-rc.1", Some(10), false);
    assert_eq!(found(&[new.clone(), candidate]).as_deref(), Some("1.10.0"));
    assert_eq!(found(&[old.clone(), row("1.10.0", Some(5), true)]).as_deref(), Some("1.9.0"));
    let hash = row("f00d", Some(7), false);
    assert_eq!(found(&[old, new, hash]).as_deref(), Some("1.9.0"), "not all are numbers: first served last");
    assert_eq!(found(&[row("3", None, false), row("2", Some(1), true)]), None, "never served, or drained");
}

/// One random request about three versions.
#[derive(Clone, Debug)]
enum Act {
    Register(usize, bool),
    Leave(usize, bool),
    Drain(usize, bool),
    Start(usize),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let version = 0..3usize;
    prop_oneof![
        (version.clone(), any::<bool>()).prop_map(|(version, other)| Act::Register(version, other)),
        (version.clone(), any::<bool>()).prop_map(|(version, other)| Act::Leave(version, other)),
        (version.clone(), any::<bool>()).prop_map(|(version, on)| Act::Drain(version, on)),
        version.prop_map(Act::Start),
        (0..SEEN_EVERY_MS).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Beside a reader that knows nothing of rows: what starts is what is not drained, and rows are what events say.
    #[test]
    fn r1_to_r5_hold_for_random_requests(acts in prop::collection::vec(act(), 1..60)) {
        let mut story = story();
        let (mut drained, mut served) = ([false; 3], [None; 3]);
        for (n, act) in (10u8..).zip(&acts) {
            let compatible = |other: &bool| if *other { &["0"][..] } else { &[] };
            match act {
                Act::Wait(ms) => story.now = story.now.plus(*ms),
                Act::Register(v, other) | Act::Leave(v, other) => {
                    let leaving = matches!(act, Act::Leave(..));
                    let mut register = RegisterWorkflow { leaving, ..of(session(9), compatible(other)) };
                    register.code.version = VERSIONS[*v].into();
                    let appended = story.ok(Command::RegisterWorkflow(register)).events.len();
                    let fresh = served[*v].is_some_and(|(at, _)| story.now.0 < at + SEEN_EVERY_MS);
                    let same = served[*v].is_some_and(|(_, before)| before == *other);
                    let expected = if leaving { served[*v].is_some() && same && !fresh } else { !(same && fresh) };
                    prop_assert_eq!(appended, usize::from(expected));
                    if expected {
                        served[*v] = Some((story.now.0, *other));
                    }
                }
                Act::Drain(v, on) => {
                    let Command::DrainWorkflow(mut drain) = self::drained(*on, n) else { unreachable!() };
                    drain.drained.version = VERSIONS[*v].into();
                    let appended = story.ok(Command::DrainWorkflow(drain)).events.len();
                    prop_assert_eq!(appended, usize::from(drained[*v] != *on));
                    drained[*v] = *on;
                }
                Act::Start(v) => {
                    let start = Start { version: VERSIONS[*v].into(), ..start(n, None) };
                    let code = story.submit(start).err().map(|rejection| rejection.code);
                    prop_assert_eq!(code, drained[*v].then_some(Code::VersionDraining));
                }
            }
        }
        let rows: Vec<WorkflowRow> = story.model.rows.workflows.values().cloned().collect();
        let open = (0..3).rev().find(|v| served[*v].is_some() && !drained[*v]);
        prop_assert_eq!(newest(&rows).map(|row| &*row.version), open.map(|v| VERSIONS[v]));
        prop_assert_eq!(story.model.rebuilt().1, story.model.rows);
    }
}

/// From old to new.
const VERSIONS: [&str; 3] = ["1", "1.9", "1.10"];
