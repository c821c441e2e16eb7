//! Promise: **atomic zone**. A Non-Persistable Zone commits as a whole or leaves nothing in the agent's state.

use cellaflow_engine::storage::keys::{Item, LedgerKey};
use cellaflow_engine::storage::{self, KeyRange, LedgerId, Scan, Store as _, Table};
use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{
    self, LlmCall, PayloadFormat, RollbackReason, SessionStatus, Usage, ZoneCommitted, ZoneEntered,
    ZoneEvidence, ZoneFailed,
};
use cellaflow_tests::Engine;
use cellaflow_tests::channel::{Worker, completed, session_completed};
use cellaflow_tests::events;
use cellaflow_tests::payload;

const ZONE: &str = "audit#1";

fn entered(attempt: u32) -> Op {
    Op::ZoneEntered(ZoneEntered {
        zone_key: ZONE.into(),
        name: "audit".into(),
        attempt,
        ..ZoneEntered::default()
    })
}

fn streamed(attempt: u32, offset: usize, text: &str) -> Op {
    let data = text.as_bytes().to_vec().into();
    Op::ZoneEvidence(ZoneEvidence { zone_key: ZONE.into(), attempt, offset: offset as u64, data })
}

fn committed(attempt: u32, text: &str) -> Op {
    let usage = Usage {
        provider: "test".into(),
        model: "scripted".into(),
        input_tokens: 100,
        output_tokens: 20,
        cost_nanos: Some(3_000),
        price_date: "2026-11-01".into(),
        ..Usage::default()
    };
    Op::ZoneCommitted(ZoneCommitted {
        zone_key: ZONE.into(),
        attempt,
        output: Some(payload::literal(&format!("{text:?}"))),
        record: Some(payload::of(PayloadFormat::ZoneRecord, text)),
        llm_calls: vec![LlmCall {
            request: Some(payload::of(PayloadFormat::LlmRequest, "request")),
            response: Some(payload::of(PayloadFormat::LlmResponse, "response")),
            usage: Some(usage),
        }],
        ..ZoneCommitted::default()
    })
}

fn failed(attempt: u32, is_final: bool) -> Op {
    Op::ZoneFailed(ZoneFailed {
        zone_key: ZONE.into(),
        attempt,
        failure: Some(payload::failure("overloaded")),
        r#final: is_final,
        ..ZoneFailed::default()
    })
}

/// Kills the engine and counts the rows of evidence in its ledger.
fn evidence_rows_left(engine: &mut Engine) -> usize {
    engine.kill();
    let dir = engine.data().join("ledger");
    let opened =
        storage::open(&dir, &storage::Settings::default(), LedgerId([0; 16])).expect("a sound ledger");
    let snapshot = opened.store.snapshot();
    let everything = KeyRange::prefix([]);
    let (mut rows, mut after) = (0, None);
    loop {
        let scan = Scan { after: after.as_deref(), ..Scan::forward(Table::Ledger, &everything) };
        let page = snapshot.scan(&scan).expect("a sound ledger");
        let keys = page.rows.iter().map(|row| LedgerKey::parse(&row.key).expect("a key of ours"));
        rows += keys.filter(|key| matches!(key.item, Item::Evidence { .. })).count();
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

/// Streams a text in pieces of 8 bytes.
async fn stream(worker: &Worker, session: &str, epoch: u64, attempt: u32, text: &str) {
    for (n, chunk) in text.as_bytes().chunks(8).enumerate() {
        let chunk = std::str::from_utf8(chunk).unwrap();
        let ack = worker.append(session, epoch, streamed(attempt, n * 8, chunk)).await.unwrap();
        assert_eq!(ack.seq, 0, "what is streamed becomes no event");
    }
}

const TEXT: &str = "a sentence that was streamed token by token and then lost with its worker";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_commits_as_one_event_and_is_closed() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let _alive = worker.stay_alive();
    let session = worker.begin("zone").await;
    let refused = worker.append(&session, 1, committed(1, "early")).await.unwrap_err();
    assert_eq!(refused.code(), "zone_not_open", "a zone is left only once it was entered");
    let seq = worker.append(&session, 1, entered(1)).await.unwrap().seq;
    let open = client.session(&session).await.open_zones;
    assert_eq!((open.len(), &*open[0].zone_key, open[0].attempt, open[0].seq), (1, ZONE, 1, seq));
    stream(&worker, &session, 1, 1, TEXT).await;
    assert_eq!(client.session(&session).await.seq, seq, "streaming is in nobody's history");

    let ack = worker.append(&session, 1, committed(1, TEXT)).await.unwrap();
    assert_eq!((ack.seq, ack.duplicate), (seq + 1, false));
    let again = worker.append(&session, 1, committed(1, TEXT)).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (seq + 1, true), "the same commit is one event");
    let refused = worker.append(&session, 1, streamed(1, TEXT.len(), "late")).await.unwrap_err();
    assert_eq!(refused.code(), "zone_not_open");
    let after = client.session(&session).await;
    assert_eq!(after.open_zones, []);
    let totals = after.totals.unwrap();
    assert_eq!(
        (totals.llm_calls, totals.output_tokens, totals.cost_nanos, totals.wasted_tokens),
        (1, 20, 3_000, 0)
    );

    worker.append(&session, 1, session_completed(payload::literal("null"))).await.unwrap();
    let kinds = events::kinds(&events::all(&client, &session).await);
    let wanted = ["session_started", "lease_granted", "zone_entered", "zone_committed", "session_completed"];
    assert_eq!(kinds, wanted, "nothing else is left of the zone");
    assert_eq!(evidence_rows_left(&mut engine), 0, "a commit deletes the attempt's evidence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_rolls_back_to_the_entry_and_counts_what_was_wasted() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let loser = Worker::connect(&client).await;
    let session = loser.begin("taken").await;
    let entry = loser.append(&session, 1, entered(1)).await.unwrap().seq;
    stream(&loser, &session, 1, 1, TEXT).await;

    let winner = Worker::connect(&client).await;
    assert_eq!(winner.take_over(&session).await, 2);
    let _alive = winner.stay_alive();
    let after = events::all(&client, &session).await;
    assert_eq!(
        events::kinds(&after)[entry as usize..],
        ["lease_granted", "zone_rolled_back"],
        "both in one frame"
    );
    let Some(Body::ZoneRolledBack(rolled_back)) = &after.last().unwrap().body else {
        panic!("checked above")
    };
    assert_eq!((&*rolled_back.zone_key, rolled_back.attempt), (ZONE, 1));
    assert_eq!(rolled_back.reason(), RollbackReason::Takeover);
    assert_eq!(rolled_back.evidence_bytes, TEXT.len() as u64, "what it streamed stays as evidence");
    assert!(rolled_back.wasted_tokens > 0);
    let shown = client.session(&session).await;
    assert_eq!(shown.open_zones, []);
    assert_eq!(
        shown.totals.unwrap().wasted_tokens,
        rolled_back.wasted_tokens,
        "accounted: every wasted call is counted"
    );

    let late = loser.append(&session, 1, committed(1, TEXT)).await.unwrap_err();
    assert_eq!(late.code(), "fenced", "the loser's zone commits nothing");
    let gap = winner.append(&session, 2, entered(3)).await.unwrap_err();
    assert_eq!(gap.code(), "step_conflict", "attempts count without gaps");
    winner.append(&session, 2, entered(2)).await.unwrap();
    winner.append(&session, 2, failed(2, false)).await.unwrap();
    winner.append(&session, 2, entered(3)).await.unwrap();
    winner.append(&session, 2, committed(3, "at last")).await.unwrap();
    winner.append(&session, 2, session_completed(payload::literal("null"))).await.unwrap();
    assert_eq!(client.session(&session).await.status(), SessionStatus::Completed);
    client.verify().await;
    let kept = TEXT.len().div_ceil(8);
    assert_eq!(evidence_rows_left(&mut engine), kept, "of the attempt that was rolled back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_engine_rolls_nothing_back() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let worker = Worker::connect(&client).await;
    let session = worker.begin("restart").await;
    let entry = worker.append(&session, 1, entered(1)).await.unwrap().seq;
    let (sent, rest) = TEXT.split_at(32);
    stream(&worker, &session, 1, 1, sent).await;

    engine.kill_and_restart().await;
    let client = engine.client().await;
    // Longer than the TTL: expiry alone fences nobody.
    tokio::time::sleep(engine.lease_ttl() * 2).await;
    let worker = Worker::reconnect(&client, &worker.instance).await;
    let bound = worker.attach(&session, 1).await.unwrap();
    assert_eq!(
        (bound.epoch, bound.replay_to_seq),
        (1, entry),
        "the same epoch goes on, and nothing was appended"
    );
    assert_eq!(bound.session.unwrap().open_zones.len(), 1);
    // A worker re-sends what was not acknowledged; it may have arrived.
    worker.append(&session, 1, streamed(1, 24, &sent[24..])).await.unwrap();
    worker.append(&session, 1, streamed(1, 32, rest)).await.unwrap();
    let ack = worker.append(&session, 1, committed(1, TEXT)).await.unwrap();
    assert_eq!(ack.seq, entry + 1);
    let kinds = events::kinds(&events::all(&client, &session).await);
    assert_eq!(kinds, ["session_started", "lease_granted", "zone_entered", "zone_committed"]);
    assert_eq!(client.session(&session).await.totals.unwrap().wasted_tokens, 0);
    assert_eq!(evidence_rows_left(&mut engine), 0, "what was streamed before the restart goes with the rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_streamed_twice_counts_once_and_an_end_rolls_back() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let first = Worker::connect(&client).await;
    let session = first.begin("twice").await;
    first.append(&session, 1, entered(1)).await.unwrap();
    stream(&first, &session, 1, 1, TEXT).await;
    engine.kill_and_restart().await;
    let client = engine.client().await;
    let again = Worker::reconnect(&client, &first.instance).await;
    again.attach(&session, 1).await.unwrap();
    stream(&again, &session, 1, 1, TEXT).await;
    let winner = Worker::connect(&client).await;
    let epoch = winner.take_over(&session).await;
    let _alive = winner.stay_alive();
    let rolled_back = |events: &[v1::Event]| match &events.last().unwrap().body {
        Some(Body::ZoneRolledBack(zone)) => zone.clone(),
        other => panic!("no roll-back but {other:?}"),
    };
    assert_eq!(rolled_back(&events::all(&client, &session).await).evidence_bytes, TEXT.len() as u64);

    winner.append(&session, epoch, completed("outside", payload::literal("1"))).await.unwrap();
    winner.append(&session, epoch, entered(2)).await.unwrap();
    winner.append(&session, epoch, session_completed(payload::literal("null"))).await.unwrap();
    let all = events::all(&client, &session).await;
    assert_eq!(events::kinds(&all)[all.len() - 2..], ["zone_rolled_back", "session_completed"]);
    assert_eq!(rolled_back(&all[..all.len() - 1]).reason(), RollbackReason::Abort);
}
