//! CT2, CT3 and CV1 to CV3 on a made-up agent: what is stored between two runs is all there is.

use cellaflow_proto::content::{self, part::Kind};

use super::conversation::{Conversation, Read, Unfoldable};
use super::fold::{Folded, Made, seal_of};
use crate::ccs::resource::{Mode, Resource};
use crate::ccs::{Body, Reason, Seal, Settings};

fn part(kind: Kind) -> content::Part {
    content::Part { kind: Some(kind), ..content::Part::default() }
}

fn text(text: &str) -> content::Part {
    part(Kind::Text(text.into()))
}

fn call(id: &str, path: &str) -> content::Part {
    let arguments = format!("{{\"path\":\"{path}\"}}");
    part(Kind::ToolCall(content::ToolCall { id: id.into(), name: "look".into(), arguments }))
}

fn result(id: &str, text: &str) -> content::Part {
    let (id, text) = (id.into(), text.into());
    part(Kind::ToolResult(content::ToolResult { id, text, failed: false }))
}

fn message(role: &str, parts: Vec<content::Part>) -> content::Message {
    content::Message { role: role.into(), parts, ..content::Message::default() }
}

fn read(seq: u64, keep: u32, appended: Vec<content::Message>) -> Read {
    let delta = Some(content::ConversationDelta { keep, appended });
    Read { seq, delta, ..Read::default() }
}

/// An agent that reads one file after the other: system, user, then (call, result) each in events of their own.
fn agent(turns: u32) -> Vec<Read> {
    let mut out = vec![read(
        2,
        0,
        vec![
            message("system", vec![text("You look at files.")]),
            message("user", vec![text("Find the value of needle_7.")]),
        ],
    )];
    for n in 0..turns {
        let seq = 3 + 3 * u64::from(n);
        let (id, path) = (format!("call {n}"), format!("/home/work/project/src/file_{}.rs", n % 9));
        let mut step = Read { seq, ..Read::default() };
        let resources = vec![Resource::new("file", &path, Mode::Read)];
        step.declared = Some(("look".into(), format!("turn/look@{id}"), resources));
        out.push(step);
        let asks =
            message("assistant", vec![text(""), text(&format!("Next is file {n}.")), call(&id, &path)]);
        out.push(read(seq + 1, 2 + 2 * n, vec![asks]));
        let body: String =
            (0..60).map(|line| format!("let value_{line}_{n} = {};\n", line * 31 + n)).collect();
        out.push(read(seq + 2, 3 + 2 * n, vec![message("tool", vec![result(&id, &body)])]));
    }
    out
}

fn settings() -> Settings {
    Settings { high_mark_tokens: 4_000, ..Settings::default() }
}

/// Folds events as the job does; `stored`: writes the state out and reads it back before each of these.
fn fold(events: &[Read], stored: impl Fn(usize) -> bool) -> (Folded, Vec<(Seal, Made)>) {
    let mut folded = Folded::new(settings());
    let mut made = Vec::new();
    for (n, event) in events.iter().enumerate() {
        if stored(n) {
            let state = folded.to_bytes();
            folded = Folded::from_bytes(&state, &super::passes(&settings()), &settings()).unwrap();
        }
        folded.take(event.clone());
        if folded.is_high()
            && let Some(seal) = folded.seal(Reason::HighMark)
        {
            let version = u32::try_from(made.len()).unwrap() + 1;
            made.push((seal, folded.made(version, seal)));
        }
    }
    (folded, made)
}

fn shown(made: &[(Seal, Made)]) -> Vec<String> {
    made.iter().map(|(_, made)| format!("{:?} {:?}", made.version, made.blocks)).collect()
}

// CT2
#[test]
fn a_state_that_is_stored_anywhere_goes_on_to_the_same_bytes() {
    let events = agent(60);
    let (whole, made) = fold(&events, |_| false);
    assert!(made.len() >= 3, "{} versions", made.len());
    for every in [1, 7] {
        let (split, again) = fold(&events, |n| n % every == 0);
        assert_eq!(shown(&again), shown(&made), "stored before every {every} events");
        assert_eq!(split.to_bytes(), whole.to_bytes());
    }
}

// F2: the events and the seals that are kept with the versions give the same bytes again.
#[test]
fn events_and_kept_seals_fold_to_the_same_versions() {
    let events = agent(60);
    let (_, made) = fold(&events, |_| false);
    for (seal, version) in &made {
        let mut again = Folded::new(settings());
        events.iter().for_each(|event| again.read_only(event.clone()));
        let upto = made.iter().map(|(_, made)| seal_of(&made.version));
        upto.take_while(|known| known.upto <= seal.upto).for_each(|known| again.seal_again(known));
        assert_eq!(again.made(version.version.version, *seal).blocks, version.blocks);
    }
}

// CT3, CV2
#[test]
fn a_version_never_parts_a_call_from_its_result_and_counts_every_message_before_it() {
    let (mut folded, made) = fold(&agent(40), |_| false);
    for (_, made) in &made {
        let covers = made.version.covers_messages;
        assert_eq!(covers % 2, 0, "system and user, then pairs: {covers} messages");
        // System and user came in event 2, the n-th result in event 3n + 2.
        assert_eq!(made.version.covers_seq, 3 * (covers - 2) / 2 + 2);
        assert!(made.version.tokens * 2 < made.version.history_tokens, "{:?}", made.version);
    }
    folded.give_all();
    let seal = folded.seal(Reason::Limit).unwrap();
    let last = folded.made(9, seal).version;
    assert_eq!(last.covers_messages, 82, "asked for all, it covers all");
}

// CV1: empty parts and system messages have numbers, too.
#[test]
fn parts_are_numbered_as_the_conversation_has_them() {
    let mut conversation = Conversation::default();
    agent(2).into_iter().for_each(|event| conversation.take(event).unwrap());
    let given = conversation.give(true);
    assert_eq!(given.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 4, 5, 6, 8, 9, 10]);
    let resources = given.iter().find_map(|event| match &event.body {
        Body::Call(call) => Some(call.resources.clone()),
        _ => None,
    });
    let wanted = Resource::new("file", "/home/work/project/src/file_0.rs", Mode::Read);
    assert_eq!(resources, Some(vec![wanted]), "found by name and id, whatever scope the step is in");
}

#[test]
fn a_restated_conversation_goes_on_and_another_one_is_never_mixed_in() {
    let events = agent(3);
    let all: Vec<content::Message> =
        events.iter().filter_map(|event| event.delta.clone()).flat_map(|delta| delta.appended).collect();
    let mut same = Conversation::default();
    events.iter().for_each(|event| same.take(event.clone()).unwrap());
    let before = same.clone();
    same.take(read(99, 0, all.clone())).unwrap();
    assert_eq!(same, before, "it says again what is known");
    let mut more = all.clone();
    more.push(message("user", vec![text("Go on.")]));
    same.take(read(100, 0, more)).unwrap();
    assert_eq!(same.parts(), before.parts() + 1);
    let mut other = all;
    other.swap(0, 1);
    assert_eq!(same.take(read(101, 0, other)), Err(Unfoldable::Replaced));
    let sealed = Read { seq: 102, sealed: true, ..Read::default() };
    assert_eq!(Conversation::default().take(sealed), Err(Unfoldable::Sealed));
}

#[test]
fn ids_that_count_from_zero_in_every_answer_find_their_own_resources() {
    let mut conversation = Conversation::default();
    let declared = |seq, key: &str, path: &str| Read {
        seq,
        declared: Some(("look".into(), key.into(), vec![Resource::new("file", path, Mode::Read)])),
        ..Read::default()
    };
    for (turn, key, path) in [(0, "look@call_0", "a.rs"), (1, "look@call_0 2", "b.rs")] {
        conversation.take(declared(turn * 2 + 1, key, path)).unwrap();
        let asks = message("assistant", vec![call("call_0", path)]);
        let answers = message("tool", vec![result("call_0", "found")]);
        let keep = u32::try_from(turn * 2).unwrap();
        conversation.take(read(turn * 2 + 2, keep, vec![asks, answers])).unwrap();
    }
    let ids = conversation.give(true).into_iter().filter_map(|event| match event.body {
        Body::Call(call) => Some(call.resources[0].id.clone()),
        _ => None,
    });
    assert_eq!(ids.collect::<Vec<_>>(), ["a.rs", "b.rs"]);
}
