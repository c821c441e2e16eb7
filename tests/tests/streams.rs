//! Promise: **streams**. What a zone streams reaches subscribers while it is streamed, every byte once and in order,
//! durable before it is seen; a rollback resets before new bytes, and the end always arrives.

use std::time::Instant;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::subscribe_session_response::Body as Sent;
use cellaflow_proto::v1::{
    self, PayloadFormat, SessionStatus, SubscribeSessionRequest, TokenOffset, ZoneCommitted, ZoneEntered,
    ZoneEvidence, session_ref,
};
use cellaflow_tests::channel::{Worker, completed, session_completed};
use cellaflow_tests::client::Client;
use cellaflow_tests::{Engine, payload, wait};
use tonic::Streaming;

const ZONE: &str = "answer#1";

fn entered(attempt: u32) -> Op {
    let (zone_key, name) = (ZONE.to_owned(), "answer".to_owned());
    Op::ZoneEntered(ZoneEntered { zone_key, name, attempt, ..ZoneEntered::default() })
}

fn streamed(attempt: u32, offset: u64, data: &[u8]) -> Op {
    let data = data.to_vec().into();
    Op::ZoneEvidence(ZoneEvidence { zone_key: ZONE.into(), attempt, offset, data })
}

fn committed(attempt: u32) -> Op {
    Op::ZoneCommitted(ZoneCommitted {
        zone_key: ZONE.into(),
        attempt,
        output: Some(payload::literal("\"done\"")),
        record: Some(payload::of(PayloadFormat::ZoneRecord, "")),
        ..ZoneCommitted::default()
    })
}

/// One subscriber: what it has read, and where it would go on.
struct Subscriber {
    stream: Streaming<v1::SubscribeSessionResponse>,
    next_seq: u64,
    attempt: u32,
    text: Vec<u8>,
    resets: u32,
    end: Option<SessionStatus>,
}

impl Subscriber {
    async fn open(client: &Client, session: &str) -> Self {
        Self::resume(client, session, (1, 0, Vec::new())).await
    }

    /// Goes on at a seq, with what it has read of an attempt.
    async fn resume(client: &Client, session: &str, (next_seq, attempt, text): (u64, u32, Vec<u8>)) -> Self {
        let read = TokenOffset { zone_key: ZONE.into(), attempt, byte: text.len() as u64 };
        let request = SubscribeSessionRequest {
            session: Some(v1::SessionRef { by: Some(session_ref::By::SessionId(session.to_owned())) }),
            from_seq: next_seq,
            tokens: true,
            from_tokens: if attempt == 0 { Vec::new() } else { vec![read] },
            ..SubscribeSessionRequest::default()
        };
        let stream = client.sessions().subscribe_session(request).await.unwrap().into_inner();
        Self { stream, next_seq, attempt, text, resets: 0, end: None }
    }

    fn place(&self) -> (u64, u32, Vec<u8>) {
        (self.next_seq, self.attempt, self.text.clone())
    }

    /// Takes one message; false when the stream was cut off.
    async fn take(&mut self) -> bool {
        let Ok(Some(message)) = wait::within("a message", self.stream.message()).await else { return false };
        assert!(self.end.is_none(), "nothing follows the end");
        match message.body.expect("a body we know") {
            Sent::Event(event) => {
                assert_eq!(event.seq, self.next_seq, "every event once");
                self.next_seq += 1;
            }
            Sent::TokenChunk(chunk) => {
                if chunk.attempt != self.attempt {
                    assert!(self.text.is_empty(), "a reset comes before bytes of another attempt");
                    self.attempt = chunk.attempt;
                }
                assert_eq!(chunk.offset, self.text.len() as u64, "every byte once and in order");
                assert!(!chunk.data.is_empty());
                self.text.extend_from_slice(&chunk.data);
            }
            Sent::StreamReset(reset) => {
                assert!(reset.attempt > self.attempt, "{reset:?}");
                (self.attempt, self.resets) = (reset.attempt, self.resets + 1);
                self.text.clear();
            }
            Sent::End(end) => self.end = Some(end.status()),
            Sent::CaughtUp(_) | Sent::Piece(_) => {}
        }
        true
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            assert!(self.take().await, "the stream goes on");
        }
    }
}

/// A session whose zone is open in its first attempt.
async fn streaming(client: &Client, key: &str) -> (Worker, String) {
    let worker = Worker::connect(client).await;
    let session = worker.begin(key).await;
    worker.append(&session, 1, entered(1)).await.unwrap();
    (worker, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_subscriber_has_seen_survives_kill_9_and_it_goes_on_with_the_next_byte() {
    let mut engine = Engine::quick().await;
    let mut client = engine.client().await;
    let (mut worker, session) = streaming(&client, "kill").await;
    let text = payload::noise(1, 90_000);
    let pieces: Vec<&[u8]> = text.chunks(1_000).collect();
    let mut subscriber = Subscriber::open(&client, &session).await;
    let mut sent = 0u64;
    for (n, piece) in pieces.iter().enumerate() {
        let pending = worker.append(&session, 1, streamed(1, sent, piece));
        if n % 30 != 29 {
            pending.await.unwrap();
            sent += piece.len() as u64;
            continue;
        }
        // The piece may be in the ledger or not when the engine dies.
        drop(pending);
        engine.kill();
        while subscriber.take().await {}
        let seen = subscriber.place();
        assert!(text.starts_with(&seen.2), "what was seen is what was sent");
        engine.restart().await;
        client = engine.client().await;
        worker = Worker::reconnect(&client, &worker.instance).await;
        let attached = worker.attach(&session, 1).await.unwrap();
        assert_eq!(attached.epoch, 1, "the same run goes on");
        subscriber = Subscriber::resume(&client, &session, seen).await;
        // Unacknowledged: sent again.
        worker.append(&session, 1, streamed(1, sent, piece)).await.unwrap();
        sent += piece.len() as u64;
    }
    subscriber.until(|subscriber| subscriber.text.len() == text.len()).await;
    assert!(subscriber.text == text, "byte for byte");
    worker.append(&session, 1, committed(1)).await.unwrap();
    worker.append(&session, 1, session_completed(payload::literal("1"))).await.unwrap();
    subscriber.until(|subscriber| subscriber.end.is_some()).await;
    assert_eq!((subscriber.end, subscriber.resets), (Some(SessionStatus::Completed), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_resets_whoever_read_the_dead_runs_tokens() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let (first, session) = streaming(&client, "takeover").await;
    first.append(&session, 1, streamed(1, 0, b"half an ans")).await.unwrap();
    let mut there = Subscriber::open(&client, &session).await;
    there.until(|subscriber| subscriber.text.len() == 11).await;
    let away = there.place();
    drop(first);
    let second = Worker::connect(&client).await;
    let epoch = second.take_over(&session).await;
    second.append(&session, epoch, entered(2)).await.unwrap();
    second.append(&session, epoch, streamed(2, 0, b"another")).await.unwrap();
    let mut back = Subscriber::resume(&client, &session, away.clone()).await;
    for subscriber in [&mut there, &mut back] {
        subscriber.until(|subscriber| subscriber.text == b"another").await;
        assert_eq!((subscriber.attempt, subscriber.resets), (2, 1));
    }
    // One that comes back only after the commit is reset before the event.
    second.append(&session, epoch, committed(2)).await.unwrap();
    second.append(&session, epoch, session_completed(payload::literal("1"))).await.unwrap();
    let mut late = Subscriber::resume(&client, &session, away).await;
    late.until(|subscriber| subscriber.end.is_some()).await;
    assert_eq!((late.resets, late.text.len()), (1, 0), "the rest is in the committed event's record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_far_behind_and_events_of_any_size_arrive_whole() {
    const BYTES: usize = 900_000;
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let (worker, session) = streaming(&client, "sizes").await;
    let _alive = worker.stay_alive();
    // Rows of all sizes up to the largest one, and beside them an event of several mebibytes.
    let text = payload::noise(2, BYTES);
    let (mut at, mut size) = (0usize, 1usize);
    while at < BYTES {
        let end = BYTES.min(at + size);
        worker.append(&session, 1, streamed(1, at as u64, &text[at..end])).await.unwrap();
        (at, size) = (end, (size * 3).min(64 * 1024));
    }
    let large = payload::noise(3, 5_000_000);
    worker.append(&session, 1, completed("large", payload::bytes(large))).await.unwrap();
    let mut late = Subscriber::open(&client, &session).await;
    late.until(|subscriber| subscriber.text.len() == BYTES && subscriber.next_seq == 5).await;
    assert!(late.text == text, "byte for byte");
    // From anywhere within a row.
    for byte in [1, 2, 13, 65_535, 65_536, 300_001, BYTES - 1] {
        let mut again = Subscriber::resume(&client, &session, (5, 1, text[..byte].to_vec())).await;
        again.until(|subscriber| subscriber.text.len() == BYTES).await;
        assert!(again.text == text, "from byte {byte}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_subscriber_is_cut_off_while_others_go_on() {
    let flags = [
        ["--subscriber-stall-ms-max", "300"],
        ["--subscribers-max", "2"],
        // More than the windows and buffers of a connection hold.
        ["--evidence-bytes-max", "16777216"],
    ];
    let flags = flags.concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let options = cellaflow_tests::Options { flags };
    let engine = Engine::start_with(options).await;
    let client = engine.client().await;
    let (worker, session) = streaming(&client, "silent").await;
    let own = engine.client().await;
    let mut silent = Subscriber::open(&own, &session).await;
    let mut reading = Subscriber::open(&client, &session).await;
    let text = payload::noise(4, 8_000_000);
    for (n, piece) in text.chunks(50_000).enumerate() {
        worker.append(&session, 1, streamed(1, n as u64 * 50_000, piece)).await.unwrap();
    }
    reading.until(|subscriber| subscriber.text.len() == text.len()).await;
    // Both places are taken until the silent one is cut off.
    wait::until("the silent subscriber's place", async || {
        let request = SubscribeSessionRequest {
            session: Some(v1::SessionRef { by: Some(session_ref::By::SessionId(session.clone())) }),
            ..SubscribeSessionRequest::default()
        };
        client.sessions().subscribe_session(request).await.ok()
    })
    .await;
    while silent.take().await {}
    assert!(silent.end.is_none(), "it is not told that this was all");
    assert!(text.starts_with(&silent.text) && silent.text.len() < text.len());
    let mut again = Subscriber::resume(&client, &session, silent.place()).await;
    again.until(|subscriber| subscriber.text.len() == text.len()).await;
    assert!(again.text == text, "and misses nothing");
}

/// Each token reaches its subscriber before the next one is sent. How soon, from the worker's message to the
/// subscriber's and the sync included, is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_with_its_subscribers_soon() {
    let engine = Engine::quick().await;
    let client = engine.client().await;
    let (worker, session) = streaming(&client, "soon").await;
    let mut subscriber = Subscriber::open(&client, &session).await;
    subscriber.until(|subscriber| subscriber.next_seq == 4).await;
    let mut took = Vec::new();
    for n in 0..100u64 {
        let began = Instant::now();
        let pending = worker.send_append(cellaflow_tests::channel::append(
            &session,
            1,
            streamed(1, n * 8, b"a token "),
        ));
        subscriber.until(|subscriber| subscriber.text.len() as u64 == (n + 1) * 8).await;
        took.push(began.elapsed());
        pending.answer().await.unwrap();
    }
    took.sort();
    println!("worker to subscriber: p50 {:?}, p99 {:?}", took[50], took[98]);
}
