//! The read side: get, await, list, subscribe.

use super::*;
use v1::subscribe_session_response::Body;

async fn subscribe(world: &World, request: v1::SubscribeSessionRequest) -> Vec<Body> {
    let stream = world.sessions.subscribe_session(ask(request)).await.unwrap().into_inner();
    all(stream).await.into_iter().map(|message| message.body.unwrap()).collect()
}

pub(super) fn to(session: &str) -> v1::SubscribeSessionRequest {
    v1::SubscribeSessionRequest { session: named(session), ..v1::SubscribeSessionRequest::default() }
}

fn utf8(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap()
}

/// What a subscription sent, in short.
pub(super) fn short(bodies: &[Body]) -> Vec<String> {
    let name = |body: &Body| match body {
        Body::Event(event) => format!("event {}", event.seq),
        Body::Piece(piece) => format!("piece of {}", piece.transfer_id),
        Body::TokenChunk(chunk) => {
            format!("{}.{}@{} {}", chunk.zone_key, chunk.attempt, chunk.offset, utf8(&chunk.data))
        }
        Body::StreamReset(reset) => format!("reset {} to {}", reset.zone_key, reset.attempt),
        Body::CaughtUp(caught) => format!("caught up at {}", caught.seq),
        Body::End(end) => format!("end at {} {}", end.seq, end.status().as_str_name()),
    };
    bodies.iter().map(name).collect()
}

#[tokio::test]
async fn a_session_is_found_by_id_and_by_key_and_shows_its_result() {
    let world = world();
    let session = world.begin("k").await;
    let running = world.get(&session).await.session.unwrap();
    assert_eq!((running.status(), &*running.key, &*running.instance), (v1::SessionStatus::Running, "k", ONE));
    world.complete(&session, b"done").await;
    let key = v1::SessionKey { namespace: String::new(), workflow: "audit".into(), key: "k".into() };
    let by_key = Some(v1::SessionRef { by: Some(v1::session_ref::By::Key(key)) });
    let found = world.sessions.get_session(ask(v1::GetSessionRequest { session: by_key })).await.unwrap();
    let found = found.into_inner();
    assert_eq!(found.session.unwrap().status(), v1::SessionStatus::Completed);
    assert_eq!(bytes_of(found.output), &b"done"[..]);
}

#[tokio::test]
async fn a_subscription_sends_the_recorded_then_the_live_and_always_the_end() {
    let world = world();
    let session = world.begin("k").await;
    let stream = world.sessions.subscribe_session(ask(to(&session))).await.unwrap().into_inner();
    let reading = tokio::spawn(all(stream));
    tokio::task::yield_now().await;
    world.commit(&session, "a", &[7; 100_000]).await;
    world.complete(&session, b"done").await;
    let bodies: Vec<Body> = reading.await.unwrap().into_iter().map(|message| message.body.unwrap()).collect();
    let mut sent = short(&bodies);
    let caught = sent.iter().position(|what| what.starts_with("caught up")).unwrap();
    sent.remove(caught);
    assert_eq!(
        sent,
        [
            "event 1",
            "event 2",
            "piece of 1",
            "piece of 1",
            "event 3",
            "event 4",
            "end at 4 SESSION_STATUS_COMPLETED"
        ]
    );
}

#[tokio::test]
async fn a_subscription_can_end_at_the_watermark_and_leave_payloads_out() {
    let world = world();
    let session = world.begin("k").await;
    world.commit(&session, "a", &[7; 100_000]).await;
    let request = v1::SubscribeSessionRequest {
        until_caught_up: true,
        headers_only: true,
        from_seq: 3,
        ..to(&session)
    };
    let bodies = subscribe(&world, request).await;
    assert_eq!(short(&bodies), ["event 3", "caught up at 3", "end at 3 SESSION_STATUS_RUNNING"]);
    let Body::Event(event) = &bodies[0] else { panic!() };
    let Some(v1::event::Body::StepCompleted(step)) = &event.body else { panic!() };
    let output = step.output.as_ref().unwrap();
    assert_eq!((output.size_bytes, &output.body), (100_000, &Some(v1::payload::Body::Absent(true))));
}

#[tokio::test]
async fn a_journal_larger_than_a_page_arrives_whole() {
    let world = world();
    let session = world.begin("k").await;
    for n in 0..200 {
        world.commit(&session, &format!("s{n}"), &vec![n as u8; 4_000]).await;
    }
    let request = v1::SubscribeSessionRequest { until_caught_up: true, ..to(&session) };
    let bodies = subscribe(&world, request).await;
    let seqs: Vec<u64> =
        bodies.iter().filter_map(|b| if let Body::Event(e) = b { Some(e.seq) } else { None }).collect();
    assert_eq!(seqs, (1..=202).collect::<Vec<u64>>());
}

#[tokio::test]
async fn open_subscriptions_end_when_the_engine_stops() {
    let world = world();
    let session = world.begin("k").await;
    let mut stream = world.sessions.subscribe_session(ask(to(&session))).await.unwrap().into_inner();
    for _ in 0..3 {
        stream.next().await.unwrap().unwrap();
    }
    world.stop.send(true).unwrap();
    let status = stream.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(stream.next().await.is_none());
}

fn wait(session: &str, wait_ms: u64) -> v1::AwaitSessionRequest {
    v1::AwaitSessionRequest { session: named(session), wait_ms, until_unleased: false, through_waits: false }
}

#[tokio::test]
async fn waiting_returns_when_the_session_ends() {
    let world = world();
    let session = world.begin("k").await;
    let now = world.sessions.await_session(ask(wait(&session, 0))).await.unwrap().into_inner();
    assert!(now.leased && now.output.is_none(), "no time to wait: as it is now");
    let (ended, ()) = tokio::join!(world.sessions.await_session(ask(wait(&session, 60_000))), async {
        world.commit(&session, "a", b"1").await;
        world.complete(&session, b"done").await;
    });
    assert_eq!(bytes_of(ended.unwrap().into_inner().output), &b"done"[..]);
}

#[tokio::test]
async fn waiting_for_a_free_lease_returns_once_the_holder_is_silent() {
    let world = world();
    let session = world.begin("k").await;
    world.workers.dead.lock().insert(ONE.parse().unwrap());
    let request = v1::AwaitSessionRequest { until_unleased: true, ..wait(&session, 60_000) };
    let free = world.sessions.await_session(ask(request)).await.unwrap().into_inner();
    assert!(!free.leased);
    assert_eq!(free.session.unwrap().status(), v1::SessionStatus::Running);
}

#[tokio::test]
async fn lists_page_through_newest_first_and_filter() {
    let world = world();
    let mut begun = Vec::new();
    for n in 0..5 {
        world.clock.advance(1);
        begun.push(world.begin(&format!("k{n}")).await);
    }
    world.complete(&begun[2], b"done").await;
    let running = |page_token| v1::ListSessionsRequest {
        statuses: vec![v1::SessionStatus::Running.into()],
        page_size: 2,
        page_token,
        ..v1::ListSessionsRequest::default()
    };
    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let page = world.sessions.list_sessions(ask(running(token))).await.unwrap().into_inner();
        assert!(page.sessions.len() <= 2);
        listed.extend(page.sessions.into_iter().map(|session| session.key));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["k4", "k3", "k1", "k0"]);
    let other = ask_as(principal(Role::Viewer, "other"), v1::ListSessionsRequest::default());
    assert!(world.sessions.list_sessions(other).await.unwrap().into_inner().sessions.is_empty());
}
