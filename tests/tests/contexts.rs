//! Promise: **restorable**, for contexts. A long conversation becomes a context within its budget, whatever is killed
//! meanwhile; every handle in it names a part of the conversation; what an agent used is in its ledger for good.

use cellaflow_proto::content::{self, part::Kind};
use cellaflow_proto::v1::{self, PayloadFormat};
use cellaflow_tests::agent::Agent;
use cellaflow_tests::channel::{Alive, Worker, awaited, completed, session_completed};
use cellaflow_tests::client::{Client, refusal};
use cellaflow_tests::{Engine, Options, events, payload, wait};
use prost::Message as _;

const INSTRUCTION: &str = "Read every module and say which LIMIT of src/module_3.rs is prime.";

struct Scene {
    engine: Engine,
    client: Client,
    worker: Worker,
    _alive: Alive,
}

impl Scene {
    async fn start(flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let engine = Engine::start_with(Options { flags }).await;
        let client = engine.client().await;
        let worker = Worker::connect(&client).await;
        let alive = worker.stay_alive();
        Self { engine, client, worker, _alive: alive }
    }

    async fn agent(&self, key: &str, turns: u32) -> Agent {
        let mut agent = Agent::begin(&self.worker, key, INSTRUCTION).await;
        for _ in 0..turns {
            agent.turn(&self.worker, 1).await;
        }
        agent
    }

    async fn once(&self) -> serde_json::Value {
        self.engine.compactor(&["contexts", "--once", "--json"]).await.json()
    }

    async fn versions(&self, session: &str) -> Vec<v1::ContextVersion> {
        let request = v1::ListContextsRequest { session_id: session.to_owned() };
        self.client.contexts().list_contexts(request).await.unwrap().into_inner().versions
    }

    async fn get(&self, request: v1::GetContextRequest) -> v1::GetContextResponse {
        self.client.contexts().get_context(request).await.unwrap().into_inner()
    }

    /// Every version with its texts, without what differs between two sessions of the same words.
    async fn made(&self, session: &str) -> Vec<(v1::ContextVersion, Vec<v1::ContextBlock>)> {
        let mut all = Vec::new();
        for version in self.versions(session).await {
            let answer = self.get(v1::GetContextRequest { version: version.version, ..of(session) }).await;
            all.push((v1::ContextVersion { time_ms: 0, ..version }, answer.blocks));
        }
        all
    }
}

fn of(session: &str) -> v1::GetContextRequest {
    v1::GetContextRequest { session_id: session.to_owned(), ..v1::GetContextRequest::default() }
}

fn text(blocks: &[v1::ContextBlock]) -> String {
    blocks.iter().map(|block| block.text.as_str()).collect()
}

/// The numbers after every handle sign.
fn handles(text: &str) -> Vec<usize> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split('§').skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
}

/// A locale whose letters, numbers and clock are not those of the tests' own.
const ELSEWHERE: [(&str, &str); 3] =
    [("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8"), ("TZ", "Asia/Kathmandu")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_folded_by_compactors_that_are_killed_gives_the_bytes_of_one_that_is_not() {
    let scene = Scene::start(&["--context-high-mark-bytes", "4096"]).await;
    let mut killed = Agent::begin(&scene.worker, "killed", INSTRUCTION).await;
    let mut deaths = 0;
    for round in 0..6 {
        let mut compactor = scene.engine.compactor_in_background(&["contexts"], &ELSEWHERE);
        let wanted = scene.versions(&killed.session).await.len() + 1;
        for _ in 0..10 {
            killed.turn(&scene.worker, 1).await;
        }
        // Some die at once, some after they have stored something of this round.
        if round % 2 == 1 {
            wait::until("another version", async || {
                (scene.versions(&killed.session).await.len() >= wanted).then_some(())
            })
            .await;
        }
        compactor.kill().await.unwrap();
        deaths += 1;
    }
    assert_eq!(deaths, 6);
    let quiet = scene.agent("quiet", 60).await;
    let done = scene.once().await;
    assert_eq!(done["failed"], 0, "{done}");
    let (killed_made, quiet_made) = (scene.made(&killed.session).await, scene.made(&quiet.session).await);
    assert!(quiet_made.len() >= 4, "{} versions", quiet_made.len());
    assert_eq!(killed_made, quiet_made, "the same words give the same bytes, whoever was killed, wherever");
    assert_eq!(scene.once().await["versions"], 0, "nothing is left to do");
    scene.client.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_handle_names_a_part_and_instructions_stay_word_for_word() {
    let scene = Scene::start(&[]).await;
    let mut agent = scene.agent("k", 30).await;
    agent.say("Skip module_5: it is generated.");
    for _ in 0..30 {
        agent.turn(&scene.worker, 1).await;
    }
    scene.once().await;
    let parts = agent.parts();
    let made = scene.made(&agent.session).await;
    for (version, blocks) in &made {
        let shown = text(blocks);
        assert!(shown.contains(INSTRUCTION), "version {}", version.version);
        let found = handles(&shown);
        assert!(found.iter().all(|n| (1..=parts.len()).contains(n)), "{found:?} of {} parts", parts.len());
        let covered = agent.messages.len() as u64;
        assert!(version.covers_messages < covered, "the newest exchange stays as it is");
        let next = &agent.messages[usize::try_from(version.covers_messages).unwrap()];
        assert_ne!(next.role, "tool", "a call is never parted from its result");
        assert!(version.tokens <= 16_000 && version.tokens * 2 < version.history_tokens, "{version:?}");
        let counted: u64 = blocks.iter().map(|block| block.tokens).sum();
        assert!(counted < version.tokens && counted > 0);
    }
    let (_, last) = made.last().expect("long enough to be compacted");
    let mut named = 0;
    for line in text(last).lines().filter(|line| line.starts_with('§') && line.contains("read ")) {
        let n = handles(line)[0];
        let file =
            line.rsplit('/').next().unwrap().split(|c: char| c.is_whitespace() || c == ':').next().unwrap();
        let part = String::from_utf8(parts[n - 1].clone()).unwrap();
        assert!(part.contains(file), "{line:?} names part {n}: {part:?}");
        named += 1;
    }
    assert!(named > 3, "lines stand for reads:\n{}", text(last));
    assert!(text(last).contains("Skip module_5: it is generated."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_waits_is_given_a_context_that_fits_and_covers_what_it_asked_for() {
    let scene = Scene::start(&["--context-wait-ms-max", "120000"]).await;
    let agent = scene.agent("k", 12).await;
    let seq = scene.client.session(&agent.session).await.seq;
    let ask = v1::GetContextRequest {
        at_least_seq: seq - 1,
        wait_ms: 120_000,
        budget_tokens: 4_000,
        ..of(&agent.session)
    };
    assert!(scene.get(ask.clone()).await.unattended, "without a compactor there is nothing to wait for");
    let _compactor = scene.engine.compactor_in_background(&["contexts"], &[]);
    let answer = wait::until("somebody to wait for", async || {
        Some(scene.get(ask.clone()).await).filter(|answer| !answer.unattended)
    })
    .await;
    let version = answer.version.expect("it was made while the agent waited");
    assert_eq!(version.reason(), v1::SealReason::Limit);
    assert!(version.covers_seq >= seq - 1 && version.limit_tokens == 2_000, "{version:?}");
    assert_eq!(version.covers_messages, agent.messages.len() as u64, "asked for all, it covers all");
    assert!(version.tokens <= 4_000, "{version:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_suspends_is_compacted_while_nothing_is_lost_by_it() {
    let scene = Scene::start(&[]).await;
    let agent = scene.agent("k", 5).await;
    let _compactor = scene.engine.compactor_in_background(&["contexts"], &[]);
    scene.worker.append(&agent.session, 1, awaited("answer", "answer", 0)).await.unwrap();
    let seq = scene.client.session(&agent.session).await.seq;
    scene.worker.release_waiting(&agent.session, 1, seq).await.unwrap();
    let versions = wait::until("a version", async || {
        Some(scene.versions(&agent.session).await).filter(|versions| !versions.is_empty())
    })
    .await;
    assert_eq!(versions[0].reason(), v1::SealReason::Cold);
    assert_eq!(scene.client.session(&agent.session).await.status(), v1::SessionStatus::Waiting);
}

/// What `ctx.context` records: a step whose output says what the prompt was made of.
fn used(version: &v1::ContextVersion, blocks: &[v1::ContextBlock]) -> content::ContextUsed {
    let blocks = blocks.iter().map(|block| content::ContextDocumentBlock {
        kind: u32::try_from(block.kind).unwrap(),
        text: block.text.clone(),
        tokens: block.tokens,
        breakpoint: block.breakpoint,
    });
    content::ContextUsed {
        source: content::ContextSource::Ccs.into(),
        version: version.version,
        hash: version.hash.clone(),
        budget_tokens: 32_000,
        tokens: version.tokens,
        raw_tokens: version.history_tokens,
        covers_messages: version.covers_messages,
        covers_seq: version.covers_seq,
        artefact: Some(content::ContextDocument { blocks: blocks.collect() }),
        ..content::ContextUsed::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_used_replays_the_same_after_the_engine_and_the_archive_had_it() {
    let mut scene = Scene::start(&["--archive-after-ms", "0"]).await;
    let agent = scene.agent("k", 40).await;
    scene.once().await;
    let (version, blocks) = scene.made(&agent.session).await.pop().expect("long enough to be compacted");
    let recorded = used(&version, &blocks);
    let output = payload::of(PayloadFormat::Context, recorded.encode_to_vec());
    scene.worker.append(&agent.session, 1, completed("context", output)).await.unwrap();
    scene.worker.append(&agent.session, 1, session_completed(payload::literal("1"))).await.unwrap();
    let before = events::all(&scene.client, &agent.session).await;
    assert_eq!(contexts_in(&before), [recorded]);

    scene.engine.kill_and_restart().await;
    scene.client = scene.engine.client().await;
    assert_eq!(events::all(&scene.client, &agent.session).await, before);
    assert_eq!(scene.made(&agent.session).await.len(), version.version as usize, "contexts survive a crash");

    let ran = scene.engine.compactor(&["run", "--once"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = scene.engine.compactor(&["report", "contexts", "--json"]).await.json();
    let row = &report["queries"]["contexts"][0];
    assert_eq!((&row["calls"], &row["compacted_calls"]), (&1.into(), &1.into()), "{report}");
    assert_eq!(row["sent_tokens"], version.tokens, "{report}");
    assert_eq!(row["whole_tokens"], version.history_tokens, "{report}");
    assert!(row["saved_against_cached"].as_f64().unwrap() > 0.5, "{report}");
    let gone = scene.client.contexts().get_context(of(&agent.session)).await.unwrap_err();
    assert_eq!(refusal(&gone).code, "archived", "its context went with it");
    scene.engine.compactor(&["restore", &agent.session]).await.ok();
    assert_eq!(events::all(&scene.client, &agent.session).await, before, "what was used is in the ledger");
    assert!(scene.made(&agent.session).await.is_empty(), "what can be made again was not kept");
    scene.client.verify().await;
}

fn contexts_in(events: &[v1::Event]) -> Vec<content::ContextUsed> {
    let outputs = events.iter().filter_map(|event| match &event.body {
        Some(v1::event::Body::StepCompleted(step)) => step.output.as_ref(),
        _ => None,
    });
    outputs
        .filter(|output| output.format() == PayloadFormat::Context)
        .map(|output| content::ContextUsed::decode(payload::data(output)).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_the_whole_beside_what_is_left_of_it() {
    let scene = Scene::start(&[]).await;
    let agent = scene.agent("k", 60).await;
    let none = scene.engine.cli(&["sessions", "context", &agent.session]).await.ok();
    assert!(none.contains("has no context"), "{none}");
    scene.once().await;
    let made = scene.made(&agent.session).await;
    let (version, blocks) = made.last().unwrap();
    let shown = scene.engine.cli(&["sessions", "context", &agent.session, "--diff", "--json"]).await.json();
    assert_eq!(shown["version"], version.version);
    let texts = shown["blocks"].as_array().unwrap().iter().map(|block| block["text"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), text(blocks));
    let taken: u64 =
        shown["removed"].as_object().unwrap().values().map(|tokens| tokens.as_u64().unwrap()).sum();
    assert!(
        taken * 2 > version.history_tokens,
        "{taken} tokens of {} are accounted for",
        version.history_tokens
    );
    let parts = shown["parts"].as_array().unwrap();
    assert_eq!(parts[0]["context"], "as it is", "the instruction: {}", parts[0]);
    assert!(parts.iter().any(|part| part["context"].as_str().unwrap().contains("read ")), "{parts:?}");
    let (first, _) = &made[0];
    let at = first.covers_seq.to_string();
    let early =
        scene.engine.cli(&["sessions", "context", &agent.session, "--at", &at, "--json"]).await.json();
    assert_eq!(early["version"], first.version, "nothing that stands for later events");
    let page = scene.engine.cli(&["sessions", "context", &agent.session]).await.ok();
    assert!(page.contains("times fewer") && page.contains(INSTRUCTION), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactors_on_one_session_never_mix() {
    let scene = Scene::start(&[]).await;
    let agent = scene.agent("k", 60).await;
    let (one, two) = tokio::join!(scene.once(), scene.once());
    assert_eq!((&one["failed"], &two["failed"]), (&0.into(), &0.into()), "the slower one lets go");
    scene.once().await;
    let alone = scene.agent("alone", 60).await;
    scene.once().await;
    assert_eq!(scene.made(&agent.session).await, scene.made(&alone.session).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_cannot_be_read_is_left_alone_and_said_so() {
    let scene = Scene::start(&["--context-wait-ms-max", "120000"]).await;
    let session = scene.worker.begin("sealed").await;
    let delta = content::ConversationDelta {
        keep: 0,
        appended: vec![content::Message {
            role: "user".into(),
            parts: vec![content::Part { kind: Some(Kind::Text("x".repeat(90_000))), ..Default::default() }],
            ..Default::default()
        }],
    };
    let sealed = v1::Payload {
        codec: "aes".into(),
        ..payload::of(PayloadFormat::ConversationDelta, delta.encode_to_vec())
    };
    let request = v1::Append {
        conversation_delta: Some(sealed),
        ..cellaflow_tests::channel::append(&session, 1, completed("a", payload::literal("1")))
    };
    let ack = scene.worker.send_append(request).answer().await.unwrap();
    let _compactor = scene.engine.compactor_in_background(&["contexts"], &[]);
    let ask = v1::GetContextRequest { at_least_seq: ack.seq, wait_ms: 120_000, ..of(&session) };
    let answer = wait::until("the reason", async || {
        Some(scene.get(ask.clone()).await).filter(|answer| !answer.unattended)
    })
    .await;
    assert!(answer.version.is_none());
    assert!(answer.refused.contains("codec"), "{:?}", answer.refused);
}
