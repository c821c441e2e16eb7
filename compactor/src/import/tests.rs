//! What a transcript becomes (M1 to M3).

use cellaflow_proto::{content, v1};
use content::part::Kind;
use prost::Message as _;

use super::{Named, Prices, request};
use crate::transcripts::{self, Format};

const CLAUDE: &str = r#"{"type":"user","sessionId":"s-1","timestamp":"2026-01-02T03:04:05.000Z","message":{"role":"user","content":"Fix it"}}
{"type":"assistant","sessionId":"s-1","timestamp":"2026-01-02T03:04:07.000Z","message":{"id":"m1","role":"assistant","model":"m-20260101","content":[{"type":"text","text":"I look"}],"usage":{"input_tokens":3,"cache_read_input_tokens":5,"cache_creation_input_tokens":7,"output_tokens":1}}}
{"type":"assistant","sessionId":"s-1","timestamp":"2026-01-02T03:04:08.000Z","message":{"id":"m1","role":"assistant","model":"m-20260101","content":[{"type":"tool_use","id":"t1","name":"Read","input":{"file_path":"/a.rs"}}],"usage":{"input_tokens":3,"cache_read_input_tokens":5,"cache_creation_input_tokens":7,"output_tokens":11}}}
{"type":"user","sessionId":"s-1","timestamp":"2026-01-02T03:04:10.000Z","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"fn main","is_error":true}]}}
{"type":"assistant","sessionId":"s-1","timestamp":"2026-01-02T03:04:12.000Z","message":{"id":"m2","role":"assistant","model":"m-20260101","content":[{"type":"text","text":"Done"}],"usage":{"input_tokens":1,"output_tokens":2}}}
{"type":"user","sessionId":"s-1","timestamp":"2026-01-02T03:04:20.000Z","message":{"role":"user","content":"Thanks"}}
"#;

const START_MS: u64 = 1_767_323_045_000;

fn prices() -> Prices {
    let list = r#"{"date": "2026-11-01", "models": {"m": {"input": 1, "cachedRead": 1, "cacheWrite": 1, "output": 10}}}"#;
    Prices::read(list).unwrap()
}

fn named() -> Named {
    Named { namespace: String::new(), workflow: "w".into(), key: "k".into(), fallback_ms: 77 }
}

fn made(format: Format, text: &str) -> v1::ImportSessionRequest {
    let transcripts = transcripts::parse(format, text).unwrap();
    request(format, &transcripts[0], named(), &prices())
}

fn bytes(payload: Option<&v1::Payload>) -> &[u8] {
    match payload.and_then(|payload| payload.body.as_ref()) {
        Some(v1::payload::Body::Data(data)) => data,
        other => panic!("{other:?}"),
    }
}

fn delta(payload: Option<&v1::Payload>) -> content::ConversationDelta {
    content::ConversationDelta::decode(bytes(payload)).unwrap()
}

/// Role, text, and which text it repeats.
type Said = (String, String, Option<(u64, u32)>);

fn texts(delta: &content::ConversationDelta) -> Vec<Said> {
    let shown = |message: &content::Message| {
        let part = message.parts[0].clone();
        let same = part.same_as.map(|same| (same.seq, same.part));
        let text = match part.kind.unwrap() {
            Kind::Text(text) => text,
            Kind::ToolResult(result) => format!("{} failed={}", result.text, result.failed),
            other => format!("{other:?}"),
        };
        (message.role.clone(), text, same)
    };
    delta.appended.iter().map(shown).collect()
}

#[test]
fn m2_calls_of_models_and_tools_are_steps_and_what_was_said_is_the_conversation() {
    let made = made(Format::ClaudeCode, CLAUDE);
    let steps: Vec<_> =
        made.steps.iter().map(|step| (step.step.as_ref().unwrap(), step.time_ms - START_MS)).collect();
    let shown: Vec<_> =
        steps.iter().map(|(step, at)| (step.step_key.as_str(), *at, step.duration_us)).collect();
    assert_eq!(
        shown,
        [("llm#1", 2_000, 2_000_000), ("Read#1", 5_000, 2_000_000), ("llm#2", 7_000, 2_000_000)]
    );
    assert_eq!((made.started_ms, made.ended_ms), (START_MS, START_MS + 15_000));
    assert_eq!(bytes(made.output.as_ref()), b"\"Done\"");
    let read = steps[1].0;
    assert_eq!(
        (bytes(read.input.as_ref()), bytes(read.output.as_ref())),
        (&br#"{"file_path":"/a.rs"}"#[..], &b"\"fn main\""[..])
    );
    assert_eq!((read.resources[0].kind.as_str(), read.resources[0].id.as_str()), ("file", "/a.rs"));

    let first = delta(made.steps[0].conversation_delta.as_ref());
    assert_eq!(texts(&first), [("user".into(), "Fix it".into(), None)]);
    let second = delta(made.steps[1].conversation_delta.as_ref());
    // Its own text, after the one of the conversation, in the event after the start.
    assert_eq!(texts(&second), [("assistant".into(), String::new(), Some((2, 1)))]);
    assert_eq!((second.keep, second.appended[0].parts.len()), (1, 2), "text and tool call");
    let third = delta(made.steps[2].conversation_delta.as_ref());
    assert_eq!(texts(&third), [("tool".into(), " failed=true".into(), Some((3, 1)))]);
    let last = delta(made.conversation_delta.as_ref());
    assert_eq!(
        texts(&last)[1],
        ("user".into(), "Thanks".into(), None),
        "what came after the last answer is there"
    );

    let llm = steps[0].0.llm.as_ref().unwrap();
    let usage = llm.usage.as_ref().unwrap();
    assert_eq!(
        (usage.input_tokens, usage.cached_read_tokens, usage.cache_write_tokens, usage.output_tokens),
        (3, 5, 7, 11)
    );
    assert_eq!(
        (usage.cost_nanos, usage.estimated),
        (Some(3 + 5 + 7 + 110), false),
        "the price of the snapshot's model"
    );
    let asked =
        content::LlmRequest::decode(bytes(steps[2].0.llm.as_ref().unwrap().request.as_ref())).unwrap();
    assert_eq!((asked.keep, asked.messages), (3, 3));
}

#[test]
fn m1_the_same_transcript_gives_the_same_request() {
    assert_eq!(made(Format::ClaudeCode, CLAUDE), made(Format::ClaudeCode, CLAUDE));
    let grown = CLAUDE.replace("Thanks", "Thanks!");
    let input = |request: &v1::ImportSessionRequest| request.start.as_ref().unwrap().input.clone();
    assert_ne!(input(&made(Format::ClaudeCode, CLAUDE)), input(&made(Format::ClaudeCode, &grown)));
}

#[test]
fn m3_what_a_transcript_does_not_say_is_not_made_up() {
    let chat = r#"[{"role":"system","content":"Be kind"},{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi there"}]"#;
    let made = made(Format::OpenaiChat, chat);
    assert_eq!((made.started_ms, made.ended_ms), (77, 77), "the time of the file");
    let step = made.steps[0].step.as_ref().unwrap();
    let usage = step.llm.as_ref().unwrap().usage.as_ref().unwrap();
    assert!(usage.estimated && usage.cost_nanos.is_none() && usage.input_tokens > 0, "{usage:?}");
    assert_eq!(delta(made.steps[0].conversation_delta.as_ref()).appended.len(), 2);
}
