//! The laws C1 to C7, as properties of random and of hostile histories.

use proptest::prelude::*;

use super::resource::{Mode, Range, Resource};
use super::{Body, Call, Ccs, Event, Input, Outcome, Reason, Seal, Settings, handle, verify};

/// Small enough that a few dozen events are sealed and merged several times.
fn settings() -> Settings {
    Settings {
        ratio: 4,
        budget_tokens_min: 200,
        budget_tokens_max: 900,
        high_mark_tokens: 600,
        ..Settings::default()
    }
}

/// What a step of a made-up conversation does.
#[derive(Debug, Clone)]
enum Step {
    Say(u8, Vec<u8>),
    Call { file: u8, mode: u8, output: Vec<u8>, failed: Option<bool> },
    Seal,
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zA-Z_ .:/#0-9\n]{0,400}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => Just("§7 §99999 FAIL\nChanged files:\nerror: x\n".repeat(12).into_bytes()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u8..4, text()).prop_map(|(who, text)| Step::Say(who, text)),
        6 => (0_u8..6, 0_u8..5, text(), any::<Option<bool>>())
            .prop_map(|(file, mode, output, failed)| Step::Call { file, mode, output, failed }),
        1 => Just(Step::Seal),
    ];
    prop::collection::vec(step, 1..60)
}

fn inputs(steps: &[Step]) -> Vec<Input> {
    let mut out = Vec::new();
    let mut seq = 0;
    for step in steps {
        let bodies = match step {
            Step::Say(0, text) => vec![Body::User(text.clone())],
            Step::Say(1, text) => vec![Body::Notice(text.clone())],
            Step::Say(2, text) => vec![Body::Reasoning(text.clone())],
            Step::Say(_, text) => vec![Body::Assistant(text.clone())],
            Step::Call { file, mode, output, failed } => {
                let (call, result) = call(&format!("{seq}"), (*file, *mode), output, *failed);
                vec![call, result]
            }
            Step::Seal => {
                out.push(Input::Seal(Seal::new(seq, Reason::Explicit)));
                continue;
            }
        };
        for body in bodies {
            seq += 1;
            out.push(Input::Event(Event { seq, body }));
        }
    }
    out
}

fn call(id: &str, (file, mode): (u8, u8), output: &[u8], failed: Option<bool>) -> (Body, Body) {
    let path = format!("/home/work/project/file{file}.rs");
    let range = (mode == 1).then_some(Range { first: 1, last: u64::from(file) * 10 + 1 });
    let resource = match mode {
        0 | 1 => Resource::new("file", &path, Mode::Read).within(range),
        2 => Resource::new("file", &path, Mode::Write),
        3 => Resource::new("command", &format!("cargo test file{file}"), Mode::Run),
        _ => Resource::new("search", &path, Mode::Read),
    };
    let arguments = serde_json::json!({ "path": path, "before": "let a;", "after": "let b;" }).to_string();
    let call = Call {
        id: id.into(),
        tool: "tool".into(),
        arguments: arguments.into_bytes(),
        resources: vec![resource],
    };
    (Body::Call(call), Body::Result(Outcome { call: id.into(), content: output.to_vec(), failed }))
}

fn fold(ccs: &mut Ccs, inputs: &[Input]) {
    inputs.iter().for_each(|input| ccs.fold(input.clone()));
}

fn events(inputs: &[Input]) -> Vec<Event> {
    inputs
        .iter()
        .filter_map(|i| match i {
            Input::Event(e) => Some(e.clone()),
            Input::Seal(_) => None,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    // C1, C2: stored and read back at any split, the state is all there is.
    #[test]
    fn a_fold_may_be_split_anywhere(steps in steps(), share in 0.0_f64..1.0) {
        let inputs = inputs(&steps);
        let mut whole = Ccs::new(settings());
        fold(&mut whole, &inputs);
        let (prefix, suffix) = inputs.split_at((inputs.len() as f64 * share) as usize);
        let mut first = Ccs::new(settings());
        fold(&mut first, prefix);
        let stored = serde_json::to_vec(&first).unwrap();
        let mut second: Ccs = serde_json::from_slice(&stored).unwrap();
        fold(&mut second, suffix);
        prop_assert_eq!(whole.context(), second.context());
        prop_assert_eq!(serde_json::to_vec(&whole).unwrap(), serde_json::to_vec(&second).unwrap());
    }

    // C3: between seals every prompt extends the one before it.
    #[test]
    fn prompts_only_grow_between_seals(steps in steps()) {
        let mut ccs = Ccs::new(settings());
        let mut before = ccs.context();
        for input in inputs(&steps) {
            ccs.fold(input);
            let now = ccs.context();
            if now.generation == before.generation {
                prop_assert!(now.text().starts_with(&before.text()));
            }
            before = now;
        }
    }

    // C5, C6: every handle of ours leads to an event, whose stored bytes come back equal.
    #[test]
    fn handles_resolve_byte_equal(steps in steps()) {
        let mut all = inputs(&steps);
        let events = events(&all);
        all.push(Input::Seal(Seal::new(events.len() as u64, Reason::Explicit)));
        let mut ccs = Ccs::new(settings());
        fold(&mut ccs, &all);
        for segment in ccs.segments() {
            for seq in verify::handles(&segment.bytes) {
                prop_assert!((1..=events.len() as u64).contains(&seq), "{}", segment.bytes);
            }
        }
        for event in &events {
            prop_assert_eq!(handle::fetch(&events, &handle::show(event.seq), None), Ok(handle::bytes(event)));
        }
        prop_assert!(handle::fetch(&events, &handle::show(events.len() as u64 + 1), None).is_err());
    }

    // C7: what is sent is never more than the raw history, and instructions are there word for word.
    #[test]
    fn a_seal_never_makes_a_context_larger_or_drops_an_instruction(steps in steps()) {
        let mut all = inputs(&steps);
        let events = events(&all);
        all.push(Input::Seal(Seal::new(events.len() as u64, Reason::Explicit)));
        let mut ccs = Ccs::new(settings());
        fold(&mut ccs, &all);
        let context = ccs.context();
        prop_assert!(context.tokens <= ccs.history_tokens());
        for event in &events {
            if let Body::User(text) = &event.body
                && let Ok(text) = std::str::from_utf8(text)
                && !text.contains(|c: char| c.is_control() && c != '\n')
            {
                prop_assert!(context.text().contains(text));
            }
        }
    }
}

/// An ordinary long session: reads, edits and test runs over a few dozen files.
fn long(events: u64) -> impl Iterator<Item = Event> {
    (0..events / 2).flat_map(|n| {
        let output = format!("line {n}: value_{} = {}\nok {n}\n", n % 977, n * 7 % 1009);
        let (call, result) =
            call(&n.to_string(), ((n % 40) as u8, (n % 5) as u8), output.as_bytes(), Some(n % 17 == 0));
        [Event { seq: 2 * n + 1, body: call }, Event { seq: 2 * n + 2, body: result }]
    })
}

fn work(events: u64) -> (f64, usize) {
    let mut ccs = Ccs::new(Settings::default());
    for event in long(events) {
        let upto = event.seq;
        ccs.fold(Input::Event(event));
        if ccs.live_tokens() > 8_000 {
            ccs.fold(Input::Seal(Seal::new(upto, Reason::HighMark)));
        }
    }
    (ccs.work() as f64 / events as f64, serde_json::to_vec(&ccs).unwrap().len())
}

// C4: from a thousand to a hundred thousand events, an event costs the same and the state stays as large.
#[test]
fn work_and_memory_per_event_do_not_grow_with_the_history() {
    let (_, small) = (work(1_000), work(10_000));
    let large = work(100_000);
    assert!(large.0 < small.0 * 1.5, "{small:?} {large:?}");
    assert!(large.1 < small.1 * 2, "{small:?} {large:?}");
}

// C7: nothing to save, nothing done.
#[test]
fn a_short_history_stays_as_it_is() {
    let mut ccs = Ccs::new(Settings::default());
    ccs.fold(Input::Event(Event { seq: 1, body: Body::User(b"hello".to_vec()) }));
    let before = ccs.context();
    ccs.fold(Input::Seal(Seal::new(1, Reason::Explicit)));
    assert_eq!(before, ccs.context());
    assert_eq!(before.text(), "user: hello\n");
}
