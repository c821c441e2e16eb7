//! `bench` on made-up transcripts: what it promises about its last line, and that its probes can fail.

use crate::ccs::{Body, Event, Settings};
use crate::transcripts::{Event as Said, Mode, Part, Resource, ToolCall, ToolResult, Transcript};

use super::load::Session;
use super::probes::{Class, Found, Visible, probes};
use super::{cut, hostile, json_line, load, measure, names};

fn said(part: Part) -> Said {
    Said { at_ms: None, call: Some(0), part }
}

fn run(n: usize, resource: Resource, arguments: serde_json::Value, text: String) -> [Said; 2] {
    let call = ToolCall {
        id: n.to_string(),
        name: "t".into(),
        arguments: arguments.to_string(),
        resources: vec![resource],
    };
    [
        said(Part::ToolCall(call)),
        said(Part::ToolResult(ToolResult { id: n.to_string(), text, failed: Some(false) })),
    ]
}

/// Reads, edits and test runs; long enough to count for the targets.
fn transcript() -> Transcript {
    let mut events = vec![said(Part::User("Make parse_line faster; keep issue #4711 in mind.".into()))];
    for n in 0..60 {
        let path = format!("/home/a/project/src/part_{}.rs", n % 7);
        let body: String =
            (0..60).map(|l| format!("{l}\tlet value_{n}_{l} = parse_line({l}); // step\n")).collect();
        events.extend(run(
            n * 3,
            Resource::new("file", &path, Mode::Read),
            serde_json::json!({ "path": path }),
            body,
        ));
        let edit = serde_json::json!({ "path": path, "old": format!("let a = {n};"), "new": format!("let b = {n};") });
        events.extend(run(n * 3 + 1, Resource::new("file", &path, Mode::Write), edit, "ok".into()));
        let verdict = if n % 2 == 0 { "--- FAIL: TestA\nFAIL" } else { "ok  \tproject\t0.1s" };
        let test = Resource::new("command", "go test ./...", Mode::Run);
        events.extend(run(
            n * 3 + 2,
            test,
            serde_json::json!({ "command": "go test ./..." }),
            verdict.into(),
        ));
        events.push(said(Part::Assistant(format!("Throughput: {} MB/s for #4711", 100 + n))));
    }
    Transcript { id: "t".into(), events, ..Transcript::default() }
}

fn session() -> Session {
    Session { format: crate::transcripts::Format::Pi, name: "made-up".into(), transcript: transcript() }
}

#[test]
fn the_last_line_has_every_key_and_a_made_up_session_meets_the_targets() {
    let report = measure(&[session()], &Settings::default(), &|_| {});
    let line = json_line(&report);
    let ccs = line.get("ccs").unwrap().as_object().unwrap();
    let keys = [
        "preset",
        "aggregate_ratio_16k",
        "p10_ratio_16k",
        "lost",
        "stale",
        "retained_instructions",
        "retained_files_modified",
        "retained_test_status",
        "retained_errors",
        "retained_todos",
        "net_saving_50_calls",
        "net_saving_all",
        "future_use_40",
        "window_future_use_40",
        "future_use_far_40",
        "window_future_use_far_40",
        "prefix_stability",
        "randomised_names_ratio_16k",
    ];
    assert_eq!(ccs.len(), keys.len());
    assert!(keys.iter().all(|k| ccs.contains_key(*k)), "{line}");
    assert_eq!((&ccs["lost"], &ccs["stale"]), (&0.into(), &0.into()), "{:?}", report.lost_examples);
    assert!(ccs["aggregate_ratio_16k"].as_f64().unwrap() > 7.0, "{line}");
    assert_eq!(report.hostile, Vec::<String>::new());
}

#[test]
fn probes_notice_what_is_missing_and_what_is_stale() {
    let transcript = transcript();
    let all = probes(&transcript, transcript.events.len());
    let empty = Visible::new("", &[]);
    assert!(all.iter().all(|p| p.needs.is_empty() || empty.look(p, &[]) == Found::Lost));
    let test = all.iter().find(|p| p.class == Class::TestStatus).unwrap();
    let old = Visible::new("FAIL go test ./... → --- FAIL: TestA §3\n", &[]);
    assert!(old.stale(test) && old.look(test, &[]) == Found::Lost);
    let new = Visible::new("PASS go test ./... §9 (failed §3)\n", &[]);
    assert!(!new.stale(test) && new.look(test, &[]) == Found::Retained);
    let other = Visible::new("PASS go test ./... -run X §9\n", &[]);
    assert_eq!(other.look(test, &[]), Found::Lost, "the status of another command");
    // Named beside a handle that has the value: recoverable.
    let number = all.iter().find(|p| p.class == Class::Numbers).unwrap();
    let pointed = Visible::new("Throughput was measured §1\n", &[]);
    let event = Event { seq: 1, body: Body::Assistant(b"Throughput: 159 MB/s".to_vec()) };
    assert_eq!(pointed.look(number, &[event]), Found::Recoverable);
}

#[test]
fn renamed_tools_and_arguments_change_the_ratio_little() {
    let events = load::events(&transcript());
    let renamed = load::events(&names::randomised(&transcript()));
    let sent = |events: &[_]| cut::cut(events, events.len(), &Settings::default()).context.tokens as f64;
    let change = sent(&renamed) / sent(&events);
    assert!((0.9..1.1).contains(&change), "{change}");
}

#[test]
fn hostile_input_is_withstood() {
    assert_eq!(hostile::check(1 << 20, &Settings::default()), Vec::<String>::new());
}
