//! Operators: verify, tokens, status, resolve and resume.

use super::*;
use crate::graph::ids::{Seq, SessionId};
use crate::storage::keys::{Item, LedgerKey};
use crate::storage::{Frame, Op, Table, codec};
use v1::verify_ledger_response::Body;

async fn verify(
    world: &World,
    request: v1::VerifyLedgerRequest,
) -> (Vec<v1::VerifyFault>, v1::VerifySummary) {
    let stream = world.operators.verify_ledger(ask(request)).await.unwrap().into_inner();
    let mut faults = Vec::new();
    let mut summary = None;
    for message in all(stream).await {
        assert!(summary.is_none(), "nothing follows the summary");
        match message.body.unwrap() {
            Body::Progress(_) => {}
            Body::Fault(fault) => faults.push(fault),
            Body::Summary(last) => summary = Some(last),
        }
    }
    (faults, summary.unwrap())
}

#[tokio::test]
async fn a_sound_ledger_verifies_with_every_event_and_payload_counted() {
    let world = world();
    let session = world.begin("k").await;
    world.commit(&session, "a", &[7; 600_000]).await;
    world.begin("other").await;
    let (faults, summary) =
        verify(&world, v1::VerifyLedgerRequest { session_id: String::new(), payloads: true }).await;
    assert_eq!(faults, []);
    // The system session's start; two starts and grants; one step. Payloads: input each, two keys, one output.
    assert_eq!((summary.sessions, summary.events, summary.payloads), (3, 6, 6));
    let (_, one) = verify(&world, v1::VerifyLedgerRequest { session_id: session, payloads: false }).await;
    assert_eq!((one.sessions, one.events, one.payloads), (1, 3, 0));
}

/// Changes a stored row behind the ledger's back, envelope and checksum intact, and opens the ledger again.
fn tamper(world: World, key: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> World {
    let store = Arc::clone(&world.store);
    let snapshot = store.snapshot();
    let row = snapshot.get(Table::Ledger, key).unwrap().unwrap();
    let (format, body) = codec::open(Table::Ledger, key, &row).unwrap();
    let mut body = body.to_vec();
    change(&mut body);
    drop(snapshot);
    world.engine.0.ledger.close();
    let position = store.position();
    let put = Op::put(Table::Ledger, key.clone(), codec::seal(format, &body));
    store.commit(&Frame::follow(&position, position.shard_epoch, vec![put]).unwrap()).unwrap();
    open(store)
}

fn key_of(world: &World, session: &str, item: impl FnOnce(SessionId) -> Item) -> Bytes {
    let session: SessionId = session.parse().unwrap();
    let place = world.engine.0.ledger.lineage(session).unwrap().unwrap();
    LedgerKey::new(place.segment, place.lineage, item(session)).bytes()
}

#[tokio::test]
async fn a_changed_event_is_named_with_its_session_and_seq() {
    let world = world();
    let (sound, spoilt) = (world.begin("sound").await, world.begin("spoilt").await);
    for session in [&sound, &spoilt] {
        for step in ["a", "b", "c"] {
            world.commit(session, step, step.as_bytes()).await;
        }
    }
    let key = key_of(&world, &spoilt, |session| Item::Event { session, seq: Seq(4) });
    // The step's name: one letter of the header, in a record whose envelope is made to fit.
    let world = tamper(world, &key, |body| {
        let at = body.iter().position(|byte| *byte == b'b').unwrap();
        body[at] = b'x';
    });
    let (faults, summary) = verify(&world, v1::VerifyLedgerRequest::default()).await;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((&faults[0].session_id, faults[0].seq), (&spoilt, 4), "{faults:?}");
    assert_eq!((summary.sessions, summary.faults), (3, 1), "the others are walked to their ends");
}

#[tokio::test]
async fn a_changed_payload_is_found_when_payloads_are_asked_for() {
    let world = world();
    let session = world.begin("k").await;
    world.commit(&session, "a", b"the output").await;
    let key = key_of(&world, &session, |session| Item::Event { session, seq: Seq(3) });
    let world = tamper(world, &key, |body| {
        let at = body.windows(10).position(|bytes| bytes == b"the output").unwrap();
        body[at] = b'T';
    });
    let (faults, _) = verify(&world, v1::VerifyLedgerRequest { payloads: true, ..Default::default() }).await;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].seq, 3);
    let (faults, _) = verify(&world, v1::VerifyLedgerRequest::default()).await;
    assert_eq!(faults, [], "headers alone are sound");
}

async fn create(
    world: &World,
    caller: Principal,
    role: v1::Role,
    ns: &str,
) -> Result<v1::CreateTokenResponse, Status> {
    let request =
        v1::CreateTokenRequest { name: "ci".into(), role: role.into(), namespace: ns.into(), ttl_ms: 1_000 };
    Ok(world.operators.create_token(ask_as(caller, request)).await?.into_inner())
}

async fn tokens(world: &World, all: bool) -> Vec<v1::Token> {
    let request = ask(v1::ListTokensRequest { all });
    world.operators.list_tokens(request).await.unwrap().into_inner().tokens
}

#[tokio::test]
async fn a_token_works_from_its_secret_until_it_is_revoked_and_only_its_hash_is_kept() {
    let world = world();
    let created = create(&world, principal(Role::Admin, "prod"), v1::Role::Worker, "").await.unwrap();
    let hash = crate::ids::token_hash(&created.secret);
    let reader = world.engine.0.ledger.reader();
    let row = reader.token(&hash).unwrap().unwrap();
    assert_eq!((row.role, &*row.namespace, row.revoked), (Role::Worker, "prod", None));
    let token = created.token.unwrap();
    assert_eq!(tokens(&world, false).await, std::slice::from_ref(&token));
    let revoke = v1::RevokeTokenRequest { token_id: token.token_id.clone() };
    let revoked = world.operators.revoke_token(ask(revoke)).await.unwrap().into_inner().token.unwrap();
    assert!(revoked.revoked_ms > 0);
    assert!(reader.token(&hash).unwrap().unwrap().revoked.is_some());
    assert_eq!((tokens(&world, false).await.len(), tokens(&world, true).await.len()), (0, 1));
}

#[tokio::test]
async fn only_an_admin_of_all_gives_tokens_away_to_others() {
    let world = world();
    let own = || principal(Role::Admin, "prod");
    let every = || principal(Role::Admin, "*");
    for (namespace, role) in [("other", v1::Role::Viewer), ("*", v1::Role::Admin)] {
        let refused = create(&world, own(), role, namespace).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{namespace}: {refused}");
    }
    assert_eq!(
        create(&world, every(), v1::Role::Worker, "*").await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    let made = create(&world, every(), v1::Role::Admin, "*").await.unwrap().token.unwrap();
    assert_eq!(made.namespace, "*");
    let theirs = create(&world, every(), v1::Role::Viewer, "other").await.unwrap().token.unwrap();
    assert!(tokens(&world, true).await.is_empty(), "an admin of prod sees neither");
    let revoke = v1::RevokeTokenRequest { token_id: theirs.token_id };
    let refused = world.operators.revoke_token(ask(revoke)).await.unwrap_err();
    assert!(refused.message().starts_with("not_found: "), "{refused}");
}

#[tokio::test]
async fn a_token_of_the_configuration_is_listed_and_cannot_be_revoked_here() {
    let world = world();
    let every = || principal(Role::Admin, "*");
    let listed = world.operators.list_tokens(ask_as(every(), v1::ListTokensRequest { all: false })).await;
    let configured = listed.unwrap().into_inner().tokens.remove(0);
    assert!(configured.configured);
    let revoke = v1::RevokeTokenRequest { token_id: configured.token_id };
    let refused = world.operators.revoke_token(ask_as(every(), revoke)).await.unwrap_err();
    assert!(refused.message().ends_with("remove this one from the configuration"), "{refused}");
}

#[tokio::test]
async fn status_counts_what_the_caller_may_see() {
    let world = world();
    world.begin("a").await;
    let ended = world.begin("b").await;
    world.complete(&ended, b"x").await;
    let status = world.operators.get_status(ask(v1::GetStatusRequest {})).await.unwrap().into_inner();
    let running = v1::StatusCount { status: v1::SessionStatus::Running.into(), count: 1 };
    assert_eq!(status.sessions, [running]);
    assert!(status.frame > 0 && status.rss_bytes > 0 && !status.disk_low);
    let stranger = ask_as(principal(Role::Viewer, "other"), v1::GetStatusRequest {});
    assert!(world.operators.get_status(stranger).await.unwrap().into_inner().sessions.is_empty());
}

#[tokio::test]
async fn a_paused_session_is_resumed_and_one_that_runs_is_not() {
    let world = world();
    let session = world.begin("k").await;
    let resume =
        || v1::ResumeSessionRequest { session_id: session.clone(), ..v1::ResumeSessionRequest::default() };
    let refused = world.operators.resume_session(ask(resume())).await.unwrap_err();
    assert!(refused.message().starts_with("session_not_paused: "), "{refused}");
    world
        .append(
            &session,
            v1::append::Op::SessionPaused(v1::SessionPaused {
                reason: v1::PauseReason::Nondeterminism.into(),
                ..v1::SessionPaused::default()
            }),
        )
        .await;
    assert_eq!(world.get(&session).await.session.unwrap().status(), v1::SessionStatus::Paused);
    let resumed = world.operators.resume_session(ask(resume())).await.unwrap().into_inner().session.unwrap();
    assert_eq!(resumed.status(), v1::SessionStatus::Running);
}

#[tokio::test]
async fn an_unknown_effect_is_resolved_by_an_operator_once_it_is_due() {
    let world = world();
    let session = world.begin("k").await;
    let key = v1::Payload { format: v1::PayloadFormat::Bytes.into(), ..value(b"mail-1").unwrap() };
    world
        .append(
            &session,
            v1::append::Op::GuardIntent(v1::GuardIntent {
                step_key: "mail".into(),
                name: "mail".into(),
                attempt: 1,
                input_digest: vec![1; 32].into(),
                attempt_ms: 1_000,
                grace_ms: 500,
                policy: v1::GuardPolicy::Pause.into(),
                idempotency_key: Some(key),
                input_hash: vec![2; 32].into(),
                refuse_in_flight: false,
            }),
        )
        .await;
    let resolve = || v1::ResolveStepRequest {
        session_id: session.clone(),
        step_key: "mail".into(),
        resolution: Some(v1::resolve_step_request::Resolution::Output(value(b"sent").unwrap())),
        ..v1::ResolveStepRequest::default()
    };
    let early = world.operators.resolve_step(ask(resolve())).await.unwrap_err();
    assert!(early.message().starts_with("guard_not_due: "), "{early}");
    world.clock.advance(1_500);
    let resolved = world.operators.resolve_step(ask(resolve())).await.unwrap().into_inner().session.unwrap();
    assert!(resolved.open_intents.is_empty());
}
