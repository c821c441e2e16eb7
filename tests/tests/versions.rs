//! Promise: **versions**. Which code serves a workflow is known; a version that is drained starts no new sessions, and
//! those that are there run to their end. Over the raw protocol and the command line, with engines that are killed.

use cellaflow_proto::v1::worker_message::Body;
use cellaflow_proto::v1::{
    self, Attach, Hello, ServedWorkflow, SessionStatus, StartSessionRequest, WorkflowDefinition,
};
use cellaflow_tests::channel::{Introduction, Worker, awaited, instance, session_completed};
use cellaflow_tests::client::{Client, refusal};
use cellaflow_tests::{Engine, events, payload};
use serde_json::json;

const OLD: &str = "1.9.0";
const NEW: &str = "1.10.0";

fn request(key: &str, version: &str) -> StartSessionRequest {
    StartSessionRequest {
        workflow: "order".into(),
        version: version.into(),
        key: key.into(),
        input: Some(payload::literal("1")),
        ..StartSessionRequest::default()
    }
}

async fn serving(client: &Client, version: &'static str) -> Worker {
    taking(client, version, 8).await
}

/// A worker that takes so many sessions by dispatch.
async fn taking(client: &Client, version: &'static str, capacity: u32) -> Worker {
    let serves = vec![("order", version)];
    Worker::introduce(client, Introduction { serves, capacity, ..Introduction::default() }).await
}

async fn start(client: &Client, key: &str, version: &str) -> Result<v1::Session, tonic::Status> {
    let answer = client.engine().start_session(request(key, version)).await?;
    Ok(answer.into_inner().session.expect("an answer has it"))
}

/// The versions of `order` as soon as they are so; registering does not hold up a worker.
async fn versions_when(
    client: &Client,
    what: &str,
    are: impl Fn(&[v1::WorkflowVersion]) -> bool,
) -> Vec<v1::WorkflowVersion> {
    cellaflow_tests::wait::until(what, async || {
        let request = v1::ListWorkflowsRequest { workflow: "order".into(), ..Default::default() };
        let versions = client.operator().list_workflows(request).await.unwrap().into_inner().versions;
        are(&versions).then_some(versions)
    })
    .await
}

async fn drain(client: &Client, version: &str, draining: bool) -> v1::WorkflowVersion {
    let (workflow, version) = ("order".to_owned(), version.to_owned());
    let request = v1::DrainWorkflowRequest { workflow, version, draining, ..Default::default() };
    let answer = client.operator().drain_workflow(request).await.unwrap();
    answer.into_inner().version.expect("an answer has it")
}

/// A session of the old version that sleeps until a signal.
async fn sleeping(worker: &Worker, key: &str) -> String {
    let assigned = worker.start(request(key, OLD)).await.expect("a new key starts a session");
    let ack = worker.commit(&assigned, awaited("go#1", "go", 0)).await.expect("a run may wait");
    let id = assigned.session.clone().unwrap().session_id;
    worker.release_waiting(&id, assigned.epoch, ack.seq).await.expect("a run that waits is given back");
    id
}

async fn signal(client: &Client, session: &str) {
    let request = v1::SignalSessionRequest {
        session: cellaflow_tests::client::by_id(session),
        name: "go".into(),
        value: Some(payload::literal("true")),
        ..Default::default()
    };
    client.sessions().signal_session(request).await.expect("a session takes signals");
}

fn of<'a>(versions: &'a [v1::WorkflowVersion], version: &str) -> &'a v1::WorkflowVersion {
    versions.iter().find(|one| one.version == version).expect("this version is listed")
}

// R2, R3, R4, R5: the whole life of an upgrade, with the engine killed at its worst moments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_while_sessions_sleep_drains_the_old_version_over_kills() {
    let mut engine = Engine::start().await;
    let client = engine.client().await;
    let old = taking(&client, OLD, 0).await;
    let asleep = sleeping(&old, "asleep").await;
    versions_when(&client, "the old version", |found| found.len() == 1 && found[0].first_seen_ms > 0).await;
    assert_eq!(start(&client, "unnamed", "").await.unwrap().version, OLD, "the newest there is");

    let new = serving(&client, NEW).await;
    versions_when(&client, "the new version", |found| found.len() == 2 && found[0].first_seen_ms > 0).await;
    assert_eq!(start(&client, "unnamed 2", "").await.unwrap().version, NEW, "1.10.0 is newer than 1.9.0");
    let drained = drain(&client, OLD, true).await;
    assert!(drained.draining_since_ms > 0 && !drained.drained, "sessions are there: {drained:?}");
    drop((old, new));
    engine.kill_and_restart().await;

    let client = engine.client().await;
    let found =
        versions_when(&client, "no workers", |found| found.iter().all(|one| one.workers.is_empty())).await;
    let left = of(&found, OLD);
    assert!(left.draining_since_ms > 0 && left.first_seen_ms > 0 && left.last_seen_ms >= left.first_seen_ms);
    assert!(left.needs.contains("order@1.9.0"), "{left:?}");
    let reasons: Vec<&str> = left.waiting.iter().map(|waiting| waiting.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("waits for a signal")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("a worker for order 1.9.0")), "{reasons:?}");

    // What is new is refused, what is there is found, and the default is what still starts sessions.
    let refused = refusal(&start(&client, "later", OLD).await.unwrap_err());
    assert_eq!(refused.code, "version_draining");
    assert!(refused.message.contains("undrain order@1.9.0"), "{}", refused.message);
    assert_eq!(start(&client, "asleep", OLD).await.unwrap().session_id, asleep);
    assert_eq!(start(&client, "later", "").await.unwrap().version, NEW);
    drain(&client, NEW, true).await;
    assert_eq!(refusal(&start(&client, "never", "").await.unwrap_err()).code, "no_version");
    drain(&client, NEW, false).await;

    // The old version's code comes back for what sleeps, and finishes it.
    let unnamed = start(&client, "unnamed", "").await.unwrap().session_id;
    let old = serving(&client, OLD).await;
    signal(&client, &asleep).await;
    for _ in 0..2 {
        let assigned = old.dispatched().await;
        let id = assigned.session.clone().unwrap().session_id;
        assert!(id == asleep || id == unnamed);
        old.commit(&assigned, session_completed(payload::literal("1"))).await.expect("the run may end");
    }
    versions_when(&client, "the drain's end", |found| of(found, OLD).drained).await;
    engine.kill_and_restart().await;
    let client = engine.client().await;
    assert_eq!(refusal(&start(&client, "later 2", OLD).await.unwrap_err()).code, "version_draining");
    drain(&client, OLD, false).await;
    assert_eq!(start(&client, "later 2", OLD).await.unwrap().version, OLD);
    assert_eq!(client.verify().await.faults, 0);
}

// R2: code says what it is compatible with, and the last word counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_is_compatible_is_registered_with_what_it_says() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let mut workers = Vec::new();
    for compatible in [vec![], vec![OLD.to_owned()], vec![]] {
        let id = instance();
        let definition = WorkflowDefinition { version: NEW.into(), compatible: compatible.clone() };
        let versions = [vec![NEW.to_owned()], compatible.clone()].concat();
        let workflow = ServedWorkflow { workflow: "order".into(), versions, definitions: vec![definition] };
        let hello = Hello {
            instance: id.clone(),
            workflows: vec![workflow],
            capacity: 1,
            credit_bytes: 16 * 1024 * 1024,
            ..Hello::default()
        };
        workers.push(Worker::open(&client, id, Some(Body::Hello(hello))).await.unwrap());
        versions_when(&client, "the definition", |found| {
            found
                .iter()
                .any(|one| one.version == NEW && one.compatible == compatible && one.first_seen_ms > 0)
        })
        .await;
    }
    let found = versions_when(&client, "all workers", |found| of(found, NEW).workers.len() == 3).await;
    assert_eq!(of(&found, NEW).needs, "", "it is served");
}

/// Who only looks learns the salt that inputs are compared with, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_at_a_session_takes_no_lease_and_appends_nothing() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = serving(&client, OLD).await;
    let id = sleeping(&worker, "asleep").await;
    signal(&client, &id).await;
    let assigned = worker.dispatched().await;
    let before = events::all(&client, &id).await;
    let count = client.verify().await.events;

    let other = Worker::connect(&client).await;
    let look = |session_id: &str| Attach { session_id: session_id.into(), look: true, ..Attach::default() };
    let seen = other.attach_with(look(&id)).await.expect("anybody who runs may look");
    assert_eq!((seen.epoch, seen.digest_salt.len()), (0, 32));
    assert_eq!(seen.session.unwrap().status(), SessionStatus::Running);
    let missing = other.attach_with(look("01935a2b-0000-7000-8000-00000000dead")).await.unwrap_err();
    assert_eq!(missing.code(), "session_not_found");

    assert_eq!(events::all(&client, &id).await, before);
    assert_eq!(client.verify().await.events, count, "looking writes nothing at all");
    worker.commit(&assigned, session_completed(payload::literal("1"))).await.expect("the lease is as it was");
}

/// What a person sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_lists_shows_drains_and_undrains() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let old = serving(&client, OLD).await;
    let asleep = sleeping(&old, "asleep").await;
    versions_when(&client, "the old version", |found| found[0].first_seen_ms > 0).await;
    drop(old);
    versions_when(&client, "no worker", |found| found[0].workers.is_empty()).await;

    let page = engine.cli(&["workflows"]).await.ok();
    for part in [
        "order@1.9.0",
        "1 waiting",
        "no worker",
        "1 waits for a signal",
        "start a worker that serves order@1.9.0",
    ] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    assert_eq!(engine.cli(&["workflows", "list"]).await.ok(), page);
    let shown = engine.cli(&["workflows", "show", "order"]).await.ok();
    assert!(shown.contains(&asleep) && shown.contains("last served"), "{shown}");
    let unknown = engine.cli(&["workflows", "show", "nothing"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");

    let drained = engine.cli(&["workflows", "drain", "order@1.9.0", "--json"]).await.json();
    assert!(drained["draining_by"].is_string() && drained["drained"] != json!(true), "{drained}");
    let list = engine.cli(&["workflows", "list", "--workflow", "order", "--json"]).await.json();
    assert_eq!(list["versions"][0]["sessions"][0]["status"], "waiting");
    assert_eq!(list["versions"][0]["waiting"][0]["session_ids"][0], json!(asleep));
    let unnamed = engine.cli(&["workflows", "drain", "order"]).await;
    assert_eq!(unnamed.code, Some(2), "{unnamed:?}");
    let undone = engine.cli(&["workflows", "undrain", "order@1.9.0"]).await.ok();
    assert!(!undone.contains("draining"), "{undone}");
}
