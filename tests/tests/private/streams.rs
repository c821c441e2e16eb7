//! Every arm of every oneof that a client can send inside a stream.

use std::collections::BTreeSet;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::worker_message::Body;
use cellaflow_proto::v1::{self, Role};
use cellaflow_tests::channel::{Introduction, Worker, append, completed, instance, session_completed, start};
use cellaflow_tests::events::POOL;
use cellaflow_tests::{Engine, payload, raw, wait};
use prost::Message as _;
use prost_reflect::{Kind, MessageDescriptor};
use tonic::Code;

use super::{RUNS, tokens};

const CHANNEL: &str = "/cellaflow.v1.WorkerService/Channel";

/// What an arm can reach for in another namespace.
enum Reaches {
    /// A session, named by the arm.
    Session(Body),
    /// A namespace or an instance; refused with this code, on the message or by ending the stream.
    Namespace(Body, &'static str),
    /// Nothing: it concerns the stream itself.
    Nothing,
}

/// Every arm of `WorkerMessage.body`. A new arm does not match, and fails until it is said what it reaches for.
fn message_arm(arm: &str, session: &str) -> Reaches {
    let session_id = session.to_owned();
    match arm {
        "hello" => {
            let hello = v1::Hello {
                instance: instance(),
                credit_bytes: 1 << 20,
                namespace: "red".into(),
                ..v1::Hello::default()
            };
            Reaches::Namespace(Body::Hello(hello), "permission_denied")
        }
        "start" => {
            let request = v1::StartSessionRequest { namespace: "red".into(), ..start("red-key") };
            Reaches::Namespace(
                Body::Start(v1::Start { request_id: 1, request: Some(request) }),
                "namespace_mismatch",
            )
        }
        "attach" => {
            let version = "1".to_owned();
            Reaches::Session(Body::Attach(v1::Attach {
                request_id: 1,
                session_id,
                version,
                ..v1::Attach::default()
            }))
        }
        "append" => Reaches::Session(Body::Append(v1::Append {
            request_id: 1,
            ..append(session, 1, completed("foreign", payload::literal("1")))
        })),
        "release" => {
            let release = v1::Release { request_id: 1, session_id, epoch: 1, ..v1::Release::default() };
            Reaches::Session(Body::Release(release))
        }
        "piece" | "credit" | "capacity" | "goodbye" => Reaches::Nothing,
        new => panic!("say in `message_arm` what the new arm {new} of WorkerMessage reaches for"),
    }
}

fn plain_arm(arm: &str) -> Body {
    match arm {
        "piece" => Body::Piece(v1::PayloadPiece { transfer_id: 1, data: vec![1].into(), last: true }),
        "credit" => Body::Credit(v1::Credit { bytes: 1 }),
        "capacity" => Body::Capacity(v1::Capacity { free: 1 }),
        "goodbye" => Body::Goodbye(v1::Goodbye { nothing_in_flight: true }),
        other => panic!("{other} reaches for something"),
    }
}

/// Every arm of `Append.op`, as something that would change the session if it were let in.
fn append_arm(arm: &str) -> Op {
    let (step_key, zone_key, name) = (|| "s".to_owned(), || "z".to_owned(), || "n".to_owned());
    let attempt = 1;
    match arm {
        "step_completed" => completed("s", payload::literal("1")),
        "step_failed" => Op::StepFailed(v1::StepFailed {
            step_key: step_key(),
            name: name(),
            attempt,
            failure: Some(payload::failure("x")),
            r#final: true,
            ..v1::StepFailed::default()
        }),
        "guard_intent" => Op::GuardIntent(v1::GuardIntent {
            step_key: step_key(),
            name: name(),
            attempt,
            input_digest: vec![0; 32].into(),
            attempt_ms: 1_000,
            idempotency_key: Some(payload::bytes("k")),
            input_hash: vec![0; 32].into(),
            refuse_in_flight: false,
            ..v1::GuardIntent::default()
        }),
        "guard_unknown" => Op::GuardUnknown(v1::GuardUnknown {
            step_key: step_key(),
            attempt,
            reason: v1::UnknownReason::Threw.into(),
            failure: None,
        }),
        "guard_reconciliation" => Op::GuardReconciliation(v1::GuardReconciliation {
            step_key: step_key(),
            attempt,
            finding: Some(v1::guard_reconciliation::Finding::Unknown(true)),
            reconciled: true,
        }),
        "zone_entered" => Op::ZoneEntered(v1::ZoneEntered {
            zone_key: zone_key(),
            name: name(),
            attempt,
            ..v1::ZoneEntered::default()
        }),
        "zone_committed" => Op::ZoneCommitted(v1::ZoneCommitted {
            zone_key: zone_key(),
            attempt,
            record: Some(payload::of(v1::PayloadFormat::ZoneRecord, "r")),
            ..v1::ZoneCommitted::default()
        }),
        "zone_failed" => Op::ZoneFailed(v1::ZoneFailed {
            zone_key: zone_key(),
            attempt,
            failure: Some(payload::failure("x")),
            r#final: true,
            ..v1::ZoneFailed::default()
        }),
        "zone_rolled_back" => Op::ZoneRolledBack(v1::ZoneRolledBack {
            zone_key: zone_key(),
            attempt,
            reason: v1::RollbackReason::Abort.into(),
            ..v1::ZoneRolledBack::default()
        }),
        "zone_evidence" => Op::ZoneEvidence(v1::ZoneEvidence {
            zone_key: zone_key(),
            attempt,
            offset: 0,
            data: vec![1].into(),
        }),
        "session_completed" => session_completed(payload::literal("1")),
        "session_failed" => Op::SessionFailed(v1::SessionFailed { failure: Some(payload::failure("x")) }),
        "session_paused" => Op::SessionPaused(v1::SessionPaused {
            reason: v1::PauseReason::Nondeterminism.into(),
            ..v1::SessionPaused::default()
        }),
        other => later_arm(other),
    }
}

/// The arms that open waits, start and end relatives, and reserve.
fn later_arm(arm: &str) -> Op {
    let (step_key, name) = (|| "s".to_owned(), || "n".to_owned());
    match arm {
        "step_heartbeat" => {
            Op::StepHeartbeat(v1::StepHeartbeat { step_key: step_key(), attempt: 1, details: None })
        }
        "timer_started" => Op::TimerStarted(v1::TimerStarted {
            step_key: step_key(),
            name: name(),
            delay_ms: 60_000,
            ..v1::TimerStarted::default()
        }),
        "signal_awaited" => Op::SignalAwaited(v1::SignalAwaited {
            step_key: step_key(),
            name: name(),
            ..v1::SignalAwaited::default()
        }),
        "approval_requested" => Op::ApprovalRequested(v1::ApprovalRequested {
            step_key: step_key(),
            name: name(),
            call: Some(payload::literal("{}")),
            args_digest: vec![0; 32].into(),
            ..v1::ApprovalRequested::default()
        }),
        "wait_dropped" => Op::WaitDropped(v1::WaitDropped { step_key: step_key() }),
        "child_spawned" => Op::ChildSpawned(v1::ChildSpawned {
            step_key: step_key(),
            name: name(),
            workflow: "test".into(),
            version: "1".into(),
            input: Some(payload::literal("1")),
            input_digest: vec![0; 32].into(),
            ..v1::ChildSpawned::default()
        }),
        "child_cancel_requested" => {
            Op::ChildCancelRequested(v1::ChildCancelRequested { step_key: step_key(), reason: String::new() })
        }
        "session_continued" => Op::SessionContinued(v1::SessionContinued {
            input: Some(payload::literal("1")),
            ..v1::SessionContinued::default()
        }),
        "session_cancelled" => Op::SessionCancelled(v1::SessionCancelled::default()),
        "budget_reserved" => Op::BudgetReserved(v1::BudgetReserved {
            step_key: step_key(),
            attempt: 1,
            call: 1,
            tokens: 1,
            ..v1::BudgetReserved::default()
        }),
        "budget_released" => Op::BudgetReleased(v1::BudgetReleased { step_key: step_key(), attempt: 1 }),
        new => panic!("say in `append_arm` what the new arm {new} of Append sends"),
    }
}

fn arms(message: &str, oneof: &str) -> Vec<String> {
    let message = POOL.get_message_by_name(message).expect("it is in the contract");
    let oneof = message.oneofs().find(|known| known.name() == oneof).expect("it has this oneof");
    oneof.fields().map(|field| field.name().to_owned()).collect()
}

/// Oneofs reachable from a message, as `message.oneof`.
fn oneofs(message: &MessageDescriptor, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
    if !seen.insert(message.full_name().to_owned()) {
        return;
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        found.insert(format!("{}.{}", message.full_name(), oneof.name()));
    }
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            oneofs(&inner, seen, found);
        }
    }
}

#[test]
fn every_oneof_that_a_client_can_stream_is_classified() {
    let streams: Vec<_> = POOL
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .filter(|method| method.is_client_streaming())
        .collect();
    let paths: Vec<_> = streams
        .iter()
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    assert_eq!(paths, [CHANNEL], "a new stream needs its arms tested");
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    streams.iter().for_each(|method| oneofs(&method.input(), &mut seen, &mut found));
    // The last two choose the shape of a value, not what is done.
    let known = [
        "cellaflow.v1.Append.op",
        "cellaflow.v1.GuardReconciliation.finding",
        "cellaflow.v1.Payload.body",
        "cellaflow.v1.WorkerMessage.body",
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), known);
    // Both panic for an arm they do not know.
    arms("cellaflow.v1.WorkerMessage", "body").iter().for_each(|arm| drop(message_arm(arm, "")));
    arms("cellaflow.v1.Append", "op").iter().for_each(|arm| drop(append_arm(arm)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_arm_is_open_to_a_role_that_runs_nothing() {
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let worker = Worker::connect(&admin).await;
    let session = worker.begin("guarded").await;
    let _alive = worker.stay_alive();
    let mut bodies: Vec<Body> = Vec::new();
    for arm in arms("cellaflow.v1.WorkerMessage", "body") {
        bodies.push(match message_arm(&arm, &session) {
            Reaches::Session(body) | Reaches::Namespace(body, _) => body,
            Reaches::Nothing => plain_arm(&arm),
        });
    }
    for arm in arms("cellaflow.v1.Append", "op") {
        bodies.push(Body::Append(v1::Append { request_id: 1, ..append(&session, 1, append_arm(&arm)) }));
    }
    let hello = v1::Hello { instance: instance(), credit_bytes: 1 << 20, ..v1::Hello::default() };
    let wrap = |body: Body| v1::WorkerMessage { body: Some(body) };
    for (role, authorization) in tokens(&engine, "default").await {
        if RUNS.contains(&role) {
            continue;
        }
        for body in &bodies {
            let messages = vec![wrap(Body::Hello(hello.clone())), wrap(body.clone())];
            let request = v1::ChannelRequest { messages }.encode_to_vec();
            let answer = raw::call(&admin.channel, CHANNEL, Some(&authorization), vec![request]).await;
            let refused = answer.is_refused() && answer.code == Code::PermissionDenied;
            assert!(refused, "{body:?} by {}: {answer:?}", role.as_str_name());
        }
    }
    assert_eq!(admin.session(&session).await.seq, 2, "nothing was appended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_arm_reaches_a_session_of_another_namespace() {
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let red = engine.client_with(&admin.token(Role::Worker, "red", 0).await.1).await;
    let red_worker = Worker::connect(&red).await;
    let session = red_worker.begin("red-key").await;
    let _alive = red_worker.stay_alive();
    for role in RUNS {
        let blue = engine.client_with(&admin.token(*role, "blue", 0).await.1).await;
        let connect = async || Worker::connect(&blue).await;
        for arm in arms("cellaflow.v1.WorkerMessage", "body") {
            match message_arm(&arm, &session) {
                Reaches::Session(body) => {
                    let worker = connect().await;
                    assert_eq!(
                        worker.told(body).await,
                        "session_not_found",
                        "{arm} by {}",
                        role.as_str_name()
                    );
                }
                Reaches::Namespace(hello @ Body::Hello(_), _) => {
                    let opened = Worker::open(&blue, instance(), Some(hello)).await;
                    let status = match opened {
                        Ok(worker) => worker.ended().await.expect("it ends with a status"),
                        Err(status) => status,
                    };
                    assert_eq!(status.code(), Code::PermissionDenied);
                }
                Reaches::Namespace(body, code) => assert_eq!(connect().await.told(body).await, code, "{arm}"),
                Reaches::Nothing => {}
            }
        }
        let worker = connect().await;
        for arm in arms("cellaflow.v1.Append", "op") {
            let refused = worker.append(&session, 1, append_arm(&arm)).await.expect_err("it must be refused");
            assert_eq!(refused.code(), "session_not_found", "{arm} by {}", role.as_str_name());
        }
        // Nor does it get in by calling itself the worker that is in.
        let imposter = Introduction { instance: red_worker.instance.clone(), ..Introduction::default() };
        let ended = match Worker::try_introduce(&blue, imposter).await {
            Ok(worker) => worker.ended().await.expect("it ends with a status"),
            Err(status) => status,
        };
        assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    }
    assert!(red_worker.has_ended().is_none(), "an imposter disturbs nobody");
    wait::until("the session as it was", async || (admin.session(&session).await.seq == 2).then_some(()))
        .await;
    red_worker.append(&session, 1, completed("own", payload::literal("1"))).await.unwrap();
}
