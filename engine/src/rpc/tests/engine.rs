//! Thin clients: start, commit, replay.

use super::*;

fn bodies(messages: Vec<v1::ReplayEvent>) -> Vec<v1::replay_event::Body> {
    messages.into_iter().map(|message| message.body.unwrap()).collect()
}

async fn replay(world: &World, request: v1::ReplayRequest) -> Result<Vec<v1::replay_event::Body>, Status> {
    let stream = world.engine.replay_recovery(ask(request)).await?.into_inner();
    Ok(bodies(all(stream).await))
}

fn of(session_id: &str) -> v1::ReplayRequest {
    v1::ReplayRequest { session_id: session_id.into(), ..v1::ReplayRequest::default() }
}

#[tokio::test]
async fn a_thin_client_starts_commits_and_replays_byte_equal() {
    let world = world();
    let session = world.begin("k").await;
    assert_eq!(world.commit(&session, "a", b"first").await.seq, 3);
    let again = world.commit(&session, "a", b"first").await;
    assert_eq!((again.seq, again.duplicate), (3, true));
    let large: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(world.commit(&session, "b", &large).await.seq, 4);

    let messages = replay(&world, of(&session)).await.unwrap();
    let mut seqs = Vec::new();
    let mut pieces = Vec::new();
    let (mut ended, mut outputs) = (None, Vec::new());
    for message in messages {
        assert_eq!(ended, None, "nothing follows the end");
        match message {
            v1::replay_event::Body::Start(start) => {
                assert_eq!((start.epoch, start.session.unwrap().key), (0, "k".into()));
            }
            v1::replay_event::Body::Piece(piece) => pieces.push(piece),
            v1::replay_event::Body::Event(event) => {
                seqs.push(event.seq);
                if let Some(v1::event::Body::StepCompleted(step)) = event.body {
                    outputs.push(step.output.unwrap());
                }
            }
            v1::replay_event::Body::End(end) => ended = Some(end.seq),
        }
    }
    assert_eq!((seqs, ended), (vec![1, 2, 3, 4], Some(4)));
    assert_eq!(bytes_of(Some(outputs[0].clone())), &b"first"[..]);
    let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
    assert_eq!(outputs[1].body, Some(v1::payload::Body::TransferId(pieces[0].transfer_id)));
    assert_eq!(joined, large);
}

#[tokio::test]
async fn a_replay_from_later_on_sends_the_rest_and_from_beyond_only_the_end() {
    let world = world();
    let session = world.begin("k").await;
    world.commit(&session, "a", b"1").await;
    let rest = replay(&world, v1::ReplayRequest { from_seq: 3, ..of(&session) }).await.unwrap();
    assert!(matches!(&rest[1], v1::replay_event::Body::Event(event) if event.seq == 3));
    assert_eq!(rest.len(), 3);
    let none = replay(&world, v1::ReplayRequest { from_seq: 9, ..of(&session) }).await.unwrap();
    assert!(matches!(&none[..], [_, v1::replay_event::Body::End(v1::ReplayEnd { seq: 0 })]));
}

#[tokio::test]
async fn a_key_names_one_session_and_another_input_is_a_conflict() {
    let world = world();
    let first = world.engine.start_session(ask(begin("k"))).await.unwrap().into_inner();
    assert_eq!((first.created, first.epoch), (true, 1));
    let other = v1::StartSessionRequest { instance: String::new(), ..begin("k") };
    let second = world.engine.start_session(ask(other)).await.unwrap().into_inner();
    assert_eq!((second.created, second.epoch), (false, 0));
    assert_eq!(second.session.unwrap().session_id, first.session.unwrap().session_id);
    let conflict = v1::StartSessionRequest { input: value(b"other"), instance: String::new(), ..begin("k") };
    let refused = world.engine.start_session(ask(conflict)).await.unwrap_err();
    assert!(refused.message().starts_with("key_conflict: "), "{refused}");
}

#[tokio::test]
async fn a_start_without_a_key_is_retried_safely_by_its_dedupe_id() {
    let world = world();
    let request =
        || v1::StartSessionRequest { dedupe_id: vec![4; 16].into(), instance: String::new(), ..begin("") };
    let first = world.engine.start_session(ask(request())).await.unwrap().into_inner();
    let retried = world.engine.start_session(ask(request())).await.unwrap().into_inner();
    let (one, two) = (first.session.unwrap(), retried.session.unwrap());
    assert_eq!((&one.session_id, &*two.key, retried.created), (&two.session_id, "", false));
    let without = v1::StartSessionRequest { dedupe_id: Bytes::new(), ..request() };
    assert!(world.engine.start_session(ask(without)).await.unwrap().into_inner().created);
}

#[tokio::test]
async fn a_namespace_is_the_tokens_own_unless_it_sees_all() {
    let world = world();
    let named = || v1::StartSessionRequest { namespace: "elsewhere".into(), ..begin("k") };
    let refused = world.engine.start_session(ask(named())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(refused.message().starts_with("permission_denied: "), "{refused}");
    let everywhere = ask_as(principal(Role::Admin, "*"), named());
    let started = world.engine.start_session(everywhere).await.unwrap().into_inner();
    assert_eq!(started.session.unwrap().namespace, "elsewhere");
}

#[tokio::test]
async fn a_lease_is_taken_with_the_replay_only_once_its_holder_is_silent() {
    let world = world();
    let session = world.begin("k").await;
    let acquire = || v1::ReplayRequest { acquire_lease: true, instance: TWO.into(), ..of(&session) };
    let refused = replay(&world, acquire()).await.unwrap_err();
    assert!(refused.message().starts_with("lease_held: "), "{refused}");
    world.workers.dead.lock().insert(ONE.parse().unwrap());
    let messages = replay(&world, acquire()).await.unwrap();
    assert!(matches!(&messages[0], v1::replay_event::Body::Start(start) if start.epoch == 2));
    let stale = world.engine.commit_step(ask(step(&session, "a", b"1"))).await.unwrap_err();
    assert!(stale.message().starts_with("fenced: "), "{stale}");
}

#[tokio::test]
async fn every_commit_under_the_lease_is_a_sign_of_life_of_its_holder() {
    let world = world();
    let session = world.begin("k").await;
    world.workers.called.lock().clear();
    world.commit(&session, "a", b"1").await;
    assert_eq!(*world.workers.called.lock(), [ONE.parse().unwrap()]);
    world.workers.called.lock().clear();
    let old = v1::CommitStepRequest { epoch: 9, ..step(&session, "b", b"1") };
    world.engine.commit_step(ask(old)).await.unwrap_err();
    assert!(world.workers.called.lock().is_empty(), "another epoch's commit renews nothing");
}

#[tokio::test]
async fn a_start_of_an_ended_session_answers_with_its_result() {
    let world = world();
    let session = world.begin("k").await;
    world.complete(&session, b"done").await;
    let found = world.engine.start_session(ask(begin("k"))).await.unwrap().into_inner();
    assert_eq!((found.created, found.epoch), (false, 0));
    assert_eq!(bytes_of(found.output), &b"done"[..]);
    let again = v1::StartSessionRequest { if_ended: v1::IfEnded::Restart.into(), ..begin("k") };
    let restarted = world.engine.start_session(ask(again)).await.unwrap().into_inner();
    assert_eq!((restarted.created, restarted.session.unwrap().generation), (true, 2));
}
