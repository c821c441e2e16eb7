//! T1, T2: each format, from small made-up files.

use super::{Event, Format, Mode, Part, Range, ToolCall, Transcript, detect, parse};

fn one(format: Format, text: &str) -> Transcript {
    assert_eq!(detect(text), Some(format));
    parse(format, text).unwrap().remove(0)
}

fn call(event: &Event) -> &ToolCall {
    match &event.part {
        Part::ToolCall(call) => call,
        other => panic!("{other:?}"),
    }
}

const CLAUDE: &str = r#"{"type":"user","sessionId":"s1","timestamp":"2026-01-01T00:00:00.500Z","message":{"role":"user","content":"fix it"}}
{"type":"assistant","sessionId":"s1","message":{"id":"m1","model":"m","content":[{"type":"thinking","thinking":"hm"}],"usage":{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":5,"output_tokens":1}}}
{"type":"assistant","sessionId":"s1","message":{"id":"m1","content":[{"type":"tool_use","id":"t1","name":"Read","input":{"offset":5,"file_path":"/a.rs","limit":10}}],"usage":{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":5,"output_tokens":9}}}{"type":"summary","summary":"x","leafUuid":"y"}
{"broken
{"type":"user","sessionId":"s1","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"fn a"}],"is_error":false}]}}
{"type":"user","sessionId":"s1","isMeta":true,"message":{"content":"<reminder>"}}
{"type":"assistant","sessionId":"s1","isSidechain":true,"message":{"id":"m2","content":[{"type":"text","text":"aside"}]}}
"#;

#[test]
fn claude_code_joins_the_records_of_a_response_and_names_bad_lines() {
    let t = one(Format::ClaudeCode, CLAUDE);
    assert_eq!(t.id, "s1");
    assert_eq!(t.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [4]);
    assert_eq!(t.calls.len(), 1, "two records, one response");
    let usage = t.calls[0].usage.unwrap();
    assert_eq!((usage.prompt_tokens(), usage.output_tokens), (18, 9));
    assert_eq!(t.events[0].part, Part::User("fix it".into()));
    assert_eq!(t.events[0].at_ms, Some(1_767_225_600_500));
    let read = call(&t.events[2]);
    assert_eq!(read.arguments, r#"{"offset":5,"file_path":"/a.rs","limit":10}"#, "in the order written");
    assert_eq!(read.resources[0].range, Some(Range { first: 5, last: 14 }));
    assert!(matches!(&t.events[3].part, Part::ToolResult(r) if r.text == "fn a" && r.failed == Some(false)));
    assert_eq!(t.events[4].part, Part::Notice("<reminder>".into()));
    assert_eq!(t.events.len(), 5, "side chains are other conversations");
}

#[test]
fn openai_chats_come_one_by_one_or_in_lists() {
    let chat = r#"{"task_id":7,"trial":0,"traj":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c","function":{"name":"get_user_details","arguments":"{\"user_id\":\"u_1\"}"}},
       {"id":"d","function":{"name":"cancel_reservation","arguments":"{\"reservation_id\":\"R1\"}"}}]},
      {"role":"tool","tool_call_id":"c","content":"{}"}]}"#;
    let chat = chat.replace('\n', "");
    for text in [chat.clone(), format!("[{chat},{{\"no\":1}}]")] {
        let t = one(Format::OpenaiChat, &text);
        assert_eq!(t.id, "7-0");
        assert_eq!(t.events.len(), 5);
        let (get, cancel) = (&call(&t.events[2]).resources[0], &call(&t.events[3]).resources[0]);
        assert_eq!((get.kind.as_str(), get.id.as_str(), get.mode), ("record", "user/u_1", Mode::Read));
        assert_eq!((cancel.id.as_str(), cancel.mode), ("reservation/R1", Mode::Write));
    }
    let listed = parse(Format::OpenaiChat, &format!("[{chat},{{\"no\":1}}]")).unwrap();
    assert_eq!(listed[0].bad[0].line, 2);
    let lines = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n{oops\n";
    let listed = parse(Format::OpenaiChat, lines).unwrap();
    assert_eq!((listed.len(), listed[0].bad[0].line), (1, 2));
}

#[test]
fn swe_agent_actions_touch_the_open_file() {
    let text = r#"{"environment":"e","history":[{"role":"system","content":"s"},{"role":"user","content":"demo","is_demo":true},
      {"role":"user","content":"issue"},{"role":"assistant","content":"x","thought":"look","action":"open src/a.py 100\n"},
      {"role":"user","content":"[File: src/a.py]\n(Open file: /r/src/a.py)\n(Current directory: /r)\nbash-$"},
      {"role":"assistant","content":"x","thought":"change","action":"edit 3:3\nx = 1\nend_of_edit"},
      {"role":"user","content":"ok"},{"role":"assistant","content":"y","thought":"test","action":"cd a && pytest"}]}"#;
    let t = one(Format::SweAgent, &text.replace('\n', ""));
    assert_eq!(t.events[1].part, Part::System("demo".into()), "a demonstration is no history");
    assert_eq!(t.events[2].part, Part::User("issue".into()));
    assert_eq!(call(&t.events[4]).resources[0].range, Some(Range { first: 50, last: 150 }));
    let edit = &call(&t.events[7]).resources[0];
    assert_eq!((edit.id.as_str(), edit.mode), ("/r/src/a.py", Mode::Write));
    assert_eq!(call(&t.events[10]).resources[0].kind, "command");
}

#[test]
fn pi_sessions_have_usage_and_commands_of_the_person() {
    let text = r#"{"type":"session","id":"p1","timestamp":"2026-01-01T00:00:00Z"}
{"type":"message","message":{"role":"user","content":[{"type":"text","text":"go"}]}}
{"type":"message","message":{"role":"assistant","model":"m","usage":{"input":2,"output":3,"cacheRead":4,"cacheWrite":5},"content":[{"type":"toolCall","id":"t","name":"bash","arguments":{"command":"cat x.rs"}}]}}
{"type":"message","message":{"role":"toolResult","toolCallId":"t","content":[{"type":"text","text":"fn"}],"isError":true}}
{"type":"message","message":{"role":"bashExecution","command":"ls","output":"a"}}
"#;
    let t = one(Format::Pi, text);
    assert_eq!(t.id, "p1");
    assert_eq!(t.calls[0].usage.unwrap().prompt_tokens(), 11);
    let kinds: Vec<&str> = call(&t.events[1]).resources.iter().map(|r| r.kind.as_str()).collect();
    assert_eq!(kinds, ["command", "file"]);
    assert!(matches!(&t.events[2].part, Part::ToolResult(r) if r.failed == Some(true)));
    assert_eq!(t.events[3].part, Part::Notice("$ ls\na".into()));
}

#[test]
fn what_is_no_transcript_is_said_to_be_none() {
    assert_eq!(detect("hello"), None);
    assert_eq!(detect("{\"a\":1}"), None);
    assert!(parse(Format::SweAgent, "{}").unwrap_err().to_string().contains("history"));
    assert!(parse(Format::Pi, "{}\n").is_err());
}
