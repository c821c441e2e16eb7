//! Promise of DESIGN 7: a **limit on everything**. Passing one is an error that says what to do, the stream goes on, and
//! what the engine holds in memory stays bounded whatever its clients do.

use std::time::Duration;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::worker_message::Body as Said;
use cellaflow_proto::v1::{
    self, Attach, ChannelRequest, ChannelResponse, GetStatusRequest, GuardIntent, GuardPolicy, Hello,
    SubscribeSessionRequest, WorkerMessage, engine_message,
};
use cellaflow_tests::channel::{self, Introduction, Refused, Worker, completed};
use cellaflow_tests::client::{Client, by_id, refusal};
use cellaflow_tests::{Engine, Options, events, payload, raw};
use prost::Message as _;
use tonic::Code;

fn refused_as(answer: Result<v1::Ack, Refused>) -> (String, bool, String) {
    match answer.expect_err("it must be refused") {
        Refused::Nack(refusal) => (refusal.code, refusal.retryable, refusal.message),
        Refused::Lost => panic!("a refusal ends no stream"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_over_the_limit_is_refused_alone() {
    const MAX: usize = 64 * 1024;
    let flags = ["--payload-bytes-max", "65536", "--chunk-bytes", "16384"];
    let engine = Engine::start_with(Options { flags: flags.map(str::to_owned).into() }).await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("large").await;
    let step = |name: &str, length| completed(name, payload::bytes(payload::noise(1, length)));
    let (code, retryable, message) = refused_as(worker.append(&session, 1, step("large", 5 * MAX)).await);
    assert_eq!((&*code, retryable), ("invalid_argument", false));
    assert!(message.contains("65536"), "it names the limit: {message}");
    let (code, ..) = refused_as(worker.append(&session, 1, step("by one", MAX + 1)).await);
    assert_eq!(code, "invalid_argument");
    worker.append(&session, 1, step("just", MAX)).await.expect("the limit itself is allowed");
    let thin = v1::StartSessionRequest {
        input: Some(payload::bytes(payload::noise(2, MAX + 1))),
        ..channel::start("thin")
    };
    let refused = client.engine().start_session(thin).await.unwrap_err();
    assert_eq!(refusal(&refused).code, "invalid_argument");
    assert_eq!(events::kinds(&events::all(&client, &session).await).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_effects_are_open_at_most_and_further_ones_wait() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("many").await;
    let intent = |n: usize| {
        Op::GuardIntent(GuardIntent {
            step_key: format!("mail#{n}"),
            name: "mail".into(),
            attempt: 1,
            input_digest: vec![1; 32].into(),
            attempt_ms: 60_000,
            grace_ms: 1_000,
            policy: GuardPolicy::Pause.into(),
            idempotency_key: Some(payload::bytes(format!("mail-{n}"))),
            input_hash: vec![2; 32].into(),
            refuse_in_flight: false,
        })
    };
    for n in 0..64 {
        worker.append(&session, 1, intent(n)).await.unwrap();
    }
    let (code, retryable, _) = refused_as(worker.append(&session, 1, intent(64)).await);
    assert_eq!((&*code, retryable), ("too_many_open", true));
    let done = v1::StepCompleted {
        step_key: "mail#7".into(),
        name: "mail".into(),
        attempt: 1,
        input_digest: vec![1; 32].into(),
        output: Some(payload::literal("1")),
        guarded: true,
        ..v1::StepCompleted::default()
    };
    worker.append(&session, 1, Op::StepCompleted(done)).await.unwrap();
    worker.append(&session, 1, intent(64)).await.expect("one ended, so one may begin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_malformed_is_refused_with_its_field_and_the_stream_goes_on() {
    type Change = fn(&mut v1::StepCompleted);
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("odd").await;
    let step = |change: Change| match completed("fine", payload::literal("1")) {
        Op::StepCompleted(mut step) => {
            change(&mut step);
            Op::StepCompleted(step)
        }
        _ => unreachable!("completed makes a StepCompleted"),
    };
    let cases: [(&str, Change); 7] = [
        ("step_key", |step| step.step_key.clear()),
        ("step_key", |step| step.step_key = "k".repeat(100_000)),
        ("name", |step| step.name = "n".repeat(1_000)),
        ("attempt", |step| step.attempt = 0),
        ("input_digest", |step| step.input_digest = vec![1; 31].into()),
        ("output", |step| step.output = None),
        ("output", |step| step.output = Some(payload::of(v1::PayloadFormat::Unspecified, "1"))),
    ];
    for (field, change) in cases {
        let (code, _, message) = refused_as(worker.append(&session, 1, step(change)).await);
        assert_eq!(code, "invalid_argument", "{message}");
        assert!(message.contains(field), "{field} is named: {message}");
    }
    let lost = v1::Payload { body: Some(v1::payload::Body::TransferId(77)), ..payload::literal("1") };
    let (code, ..) = refused_as(worker.append(&session, 1, completed("lost", lost)).await);
    assert_eq!(code, "invalid_argument", "a transfer that never came");
    let (code, ..) =
        refused_as(worker.append("not-a-session", 1, completed("x", payload::literal("1"))).await);
    assert_eq!(code, "invalid_argument");
    let empty =
        v1::Append { op: None, ..channel::append(&session, 1, completed("x", payload::literal("1"))) };
    let (code, ..) = refused_as(worker.send_append(empty).answer().await);
    assert_eq!(code, "invalid_argument");
    let ahead = v1::Append {
        after: Some(v1::After { seq: 1_000, requests: 1 }),
        ..channel::append(&session, 1, completed("x", payload::literal("1")))
    };
    let (code, ..) = refused_as(worker.send_append(ahead).answer().await);
    assert_eq!(code, "invalid_argument", "nobody has seen what has not happened");
    assert_eq!(client.session(&session).await.seq, 2);
    worker.append(&session, 1, step(|_| {})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_of_the_protocol_ends_that_stream_and_says_which() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let bystander = Worker::connect(&client).await;
    let first_of_all = Said::Credit(v1::Credit { bytes: 1 });
    let no_hello = Worker::open(&client, channel::instance(), Some(first_of_all)).await;
    let status = match no_hello {
        Ok(worker) => worker.ended().await.expect("with a status"),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("Hello"), "{status:?}");

    let twice = Worker::connect(&client).await;
    let instance = twice.instance.clone();
    twice.send(Said::Hello(Hello { instance, credit_bytes: 1 << 20, ..Hello::default() }));
    assert_eq!(twice.ended().await.expect("with a status").code(), Code::FailedPrecondition);

    // The same instance again: the newer connection is the one that counts.
    let older = Worker::connect(&client).await;
    let introduction = Introduction { instance: older.instance.clone(), ..Introduction::default() };
    let newer = Worker::introduce(&client, introduction).await;
    older.ended().await;
    newer.begin("newer").await;
    assert!(bystander.has_ended().is_none());
}

async fn rss_mb(client: &Client) -> u64 {
    client.operator().get_status(GetStatusRequest {}).await.unwrap().into_inner().rss_bytes >> 20
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_cost_no_memory() {
    const EVENTS: u64 = 100;
    const EVENT_BYTES: usize = 256 * 1024;
    const READERS: usize = 48;
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("long").await;
    for n in 0..EVENTS {
        let bytes = payload::bytes(payload::noise(n, EVENT_BYTES));
        worker.append(&session, 1, completed(&format!("step-{n}"), bytes)).await.unwrap();
    }
    let before = rss_mb(&client).await;
    // Workers that attach, are replayed 25 MB, and grant no credit.
    let token = format!("Bearer {}", engine.connection.token);
    let instance = worker.instance.clone();
    drop(worker);
    let said = |body| WorkerMessage { body: Some(body) };
    let hello = Hello { instance, credit_bytes: 1 << 20, ..Hello::default() };
    let attach = Attach {
        request_id: 1,
        session_id: session.clone(),
        epoch: 1,
        version: "1".into(),
        ..Attach::default()
    };
    let request = ChannelRequest { messages: vec![said(Said::Hello(hello)), said(Said::Attach(attach))] };
    let path = "/cellaflow.v1.WorkerService/Channel";
    let answer = raw::call_and_stay(&client.channel, path, Some(&token), vec![request.encode_to_vec()]).await;
    let sent = answer.bytes.len();
    assert!((1 << 20..2 << 20).contains(&sent), "{sent} bytes were sent on a credit of a mebibyte");
    let first = ChannelResponse::decode(&*answer.first).unwrap();
    assert!(matches!(first.messages[0].body, Some(engine_message::Body::Welcome(_))));

    // And subscribers that read nothing at all.
    let mut silent = Vec::new();
    for _ in 0..READERS {
        let request =
            SubscribeSessionRequest { session: by_id(&session), ..SubscribeSessionRequest::default() };
        let own = engine.client().await;
        silent.push((own.sessions().subscribe_session(request).await.unwrap().into_inner(), own));
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let after = rss_mb(&client).await;
    // A page, a few pieces and buffers of the transport for each, the threads that read included; the session is 25 MB.
    let each = 2;
    assert!(
        after <= before + each * READERS as u64 + 8,
        "{READERS} silent readers took {before} to {after} MB"
    );
    assert_eq!(
        events::all(&client, &session).await.len(),
        EVENTS as usize + 2,
        "and nobody else waits for them"
    );
}
