//! What operators do to many sessions at once.

use cellaflow_proto::v1::batch_sessions_response::Body as Said;
use cellaflow_proto::v1::{BatchSessionsRequest, SessionAction, SessionFilter};

use super::super::*;

async fn batch(client: &Client, request: BatchSessionsRequest) -> (Vec<v1::BatchResult>, v1::BatchSummary) {
    let mut stream = client.operator().batch_sessions(request).await.unwrap().into_inner();
    let mut results = Vec::new();
    while let Some(said) = stream.message().await.unwrap() {
        match said.body.unwrap() {
            Said::Result(result) => results.push(result),
            Said::Summary(summary) => return (results, summary),
        }
    }
    panic!("a batch ends with its sum");
}

fn of(action: SessionAction, filter: SessionFilter, dry_run: bool) -> BatchSessionsRequest {
    let reason = "maintenance".into();
    BatchSessionsRequest { action: action.into(), filter: Some(filter), reason, dry_run }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_acts_on_what_its_filter_selects_and_a_dry_run_on_nothing() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let running = worker.begin("runs").await;
    let over = worker.begin("over").await;
    worker.append(&over, 1, session_completed(payload::literal("1"))).await.unwrap();
    let pending =
        client.engine().start_session(start("pending")).await.unwrap().into_inner().session.unwrap();
    let other = StartSessionRequest { workflow: "other".into(), ..start("other") };
    let other = client.engine().start_session(other).await.unwrap().into_inner().session.unwrap();

    let tests = || SessionFilter { workflow: "test".into(), ..SessionFilter::default() };
    let (results, summary) = batch(&client, of(SessionAction::Pause, tests(), true)).await;
    assert_eq!((summary.matched, summary.done, summary.refused), (2, 2, 0));
    let named: Vec<&str> = results.iter().map(|r| &*r.session.as_ref().unwrap().session_id).collect();
    assert_eq!(named, [&*running, &*pending.session_id], "oldest first, ended ones never");
    assert_eq!(client.session(&running).await.status(), SessionStatus::Running, "a dry run");

    let (_, summary) = batch(&client, of(SessionAction::Pause, tests(), false)).await;
    assert_eq!((summary.matched, summary.done), (2, 2));
    let paused = SessionFilter { pause_reason: PauseReason::Requested.into(), ..SessionFilter::default() };
    let (_, summary) = batch(&client, of(SessionAction::Resume, paused, false)).await;
    assert_eq!((summary.matched, summary.done), (2, 2));
    let (results, summary) = batch(&client, of(SessionAction::Retry, tests(), false)).await;
    assert_eq!((summary.done, summary.refused, &*results[0].code), (0, 2, "session_not_paused"));
    let (_, summary) = batch(&client, of(SessionAction::Cancel, tests(), false)).await;
    assert_eq!(summary.done, 2);
    let now = SessionFilter { started_before_ms: u64::MAX, ..SessionFilter::default() };
    let (_, summary) = batch(&client, of(SessionAction::Terminate, now, false)).await;
    assert_eq!(summary.done, 2, "the one that was asked to cancel, and the other workflow's");
    assert_eq!(client.session(&other.session_id).await.status(), SessionStatus::Cancelled);
    let request = of(SessionAction::Cancel, SessionFilter::default(), true);
    let everything = client.operator().batch_sessions(request).await;
    assert_eq!(refusal(&everything.unwrap_err()).code, "invalid_argument");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_resumes_with_a_fresh_round_of_attempts() {
    let engine = Engine::start().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("used up").await;
    let pause = Op::SessionPaused(v1::SessionPaused {
        reason: PauseReason::RetriesExhausted.into(),
        step_key: "fetch".into(),
        details: None,
    });
    worker.append(&session, 1, pause).await.unwrap();
    let request =
        v1::RetrySessionRequest { session_id: session.clone(), ..v1::RetrySessionRequest::default() };
    client.operator().retry_session(request.clone()).await.unwrap();
    let resumed = of_kind(&client, &session, "session_resumed").await;
    let Some(Body::SessionResumed(event)) = &resumed[0].body else { panic!("{resumed:?}") };
    assert!(event.retry);
    let refused = client.operator().retry_session(request).await.unwrap_err();
    assert_eq!(refusal(&refused).code, "session_not_paused");
}
