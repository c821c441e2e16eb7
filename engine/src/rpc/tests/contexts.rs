//! Compacted contexts (CX1 to CX4): what is stored comes back, and two compactors never mix.

use std::time::Duration;

use super::*;

fn version(version: u32, covers_seq: u64) -> v1::ContextVersion {
    v1::ContextVersion {
        version,
        covers_seq,
        covers_messages: 4,
        tokens: 100,
        history_tokens: 1_000,
        hash: Bytes::from_static(&[7; 32]),
        reason: v1::SealReason::Cold.into(),
        upto: covers_seq << 16,
        removed: vec![v1::PassTokens { pass: "mask".into(), tokens: 900 }],
        passes: "p1".into(),
        ..v1::ContextVersion::default()
    }
}

fn block(text: &str) -> v1::ContextBlock {
    v1::ContextBlock { kind: v1::BlockKind::Facts.into(), text: text.into(), tokens: 9, breakpoint: true }
}

/// Bytes that do not compress.
fn noise(seed: u32, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Goes on from (version, watermark) to the next version at `to`.
fn put(session: &str, from: (u32, u64), to: u64, state: usize) -> v1::PutContextRequest {
    v1::PutContextRequest {
        session_id: session.into(),
        expected_version: from.0,
        expected_watermark_seq: from.1,
        watermark_seq: to,
        passes: "p1".into(),
        state: noise(from.0 + 1, state),
        version: Some(version(from.0 + 1, to)),
        blocks: vec![block("first"), block("second")],
        ..v1::PutContextRequest::default()
    }
}

fn get(session: &str) -> v1::GetContextRequest {
    v1::GetContextRequest { session_id: session.into(), ..v1::GetContextRequest::default() }
}

impl World {
    async fn put(&self, request: v1::PutContextRequest) -> Result<u32, Status> {
        let stored = self.contexts.put_context(ask(request)).await?;
        Ok(stored.into_inner().version)
    }

    async fn context(&self, request: v1::GetContextRequest) -> v1::GetContextResponse {
        self.contexts.get_context(ask(request)).await.unwrap().into_inner()
    }

    async fn load(&self, session: &str) -> v1::LoadContextResponse {
        let request = v1::LoadContextRequest { session_id: session.into() };
        self.contexts.load_context(ask(request)).await.unwrap().into_inner()
    }
}

fn code(answer: Result<u32, Status>) -> String {
    answer.unwrap_err().message().split(':').next().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_stored_comes_back_and_the_state_shrinks_with_its_rows() {
    let world = world();
    let session = world.begin("k").await;
    assert_eq!(world.context(get(&session)).await.version, None);
    assert_eq!(world.load(&session).await.state, Bytes::new());
    world.commit(&session, "a", b"1").await;
    assert_eq!(world.put(put(&session, (0, 0), 2, 700_000)).await.unwrap(), 1);
    let shown = world.context(get(&session)).await;
    assert_eq!(shown.blocks, [block("first"), block("second")]);
    let wanted = v1::ContextVersion { time_ms: world.clock.wall_ms(), ..version(1, 2) };
    assert_eq!(shown.version, Some(wanted));
    let known = v1::GetContextRequest { known_version: 1, ..get(&session) };
    assert!(world.context(known).await.blocks.is_empty());
    assert_eq!(world.load(&session).await.state, noise(1, 700_000));
    let place = crate::rpc::convert::session_id(&session).unwrap();
    let large = world.engine.0.ledger.reader().context_bytes(place).unwrap();
    assert_eq!(world.put(put(&session, (1, 2), 3, 10)).await.unwrap(), 2);
    let loaded = world.load(&session).await;
    assert_eq!((loaded.state, loaded.version, loaded.watermark_seq), (noise(2, 10), 2, 3));
    let rows = world.engine.0.ledger.reader().context_bytes(place).unwrap();
    assert!(rows < large, "{rows} of {large} bytes are left: pieces of the old state stay behind");
}

#[tokio::test]
async fn the_oldest_texts_are_given_up_and_what_is_known_of_them_stays() {
    let world = world();
    let session = world.begin("k").await;
    for n in 0..3 {
        world.put(put(&session, (n, u64::from(n)), u64::from(n) + 1, 1)).await.unwrap_or_else(|status| {
            panic!("version {n}: {status}");
        });
        world.commit(&session, &format!("s{n}"), b"1").await;
    }
    let of = |version| v1::GetContextRequest { version, ..get(&session) };
    let texts = [world.context(of(1)).await, world.context(of(2)).await, world.context(of(3)).await];
    assert_eq!(
        texts.map(|answer| (answer.version.is_some(), answer.blocks.len())),
        [(true, 0), (true, 2), (true, 2)]
    );
    let listed = v1::ListContextsRequest { session_id: session.clone() };
    let listed = world.contexts.list_contexts(ask(listed)).await.unwrap().into_inner();
    assert_eq!(listed.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(listed.watermark_seq, 3);
}

#[tokio::test]
async fn two_compactors_never_mix_and_nothing_is_stored_of_what_has_ended() {
    let world = world();
    let session = world.begin("k").await;
    // Both in one frame: the second sees the first, which is not durable yet.
    let (one, two) =
        tokio::join!(world.put(put(&session, (0, 0), 1, 1)), world.put(put(&session, (0, 0), 1, 1)),);
    assert_eq!(one.unwrap(), 1);
    assert_eq!(code(two), "context_conflict"); // CX2
    let skipping = v1::PutContextRequest { version: Some(version(3, 1)), ..put(&session, (1, 1), 1, 1) };
    assert_eq!(code(world.put(skipping).await), "invalid_argument"); // CX1
    assert_eq!(code(world.put(put(&session, (1, 1), 99, 1)).await), "invalid_argument"); // CX4
    let large =
        v1::PutContextRequest { blocks: vec![block(&"x".repeat(2 << 20))], ..put(&session, (1, 1), 1, 1) };
    let refused = world.put(large).await.unwrap_err();
    assert!(refused.message().contains("context_bytes_max"), "{refused}");
    world.complete(&session, b"done").await;
    assert_eq!(code(world.put(put(&session, (1, 1), 3, 1)).await), "session_ended"); // CX3
    assert_eq!(world.context(get(&session)).await.blocks.len(), 2, "what was stored can still be read");
}

#[tokio::test]
async fn what_is_behind_is_listed_until_it_is_folded() {
    let world = world();
    let session = world.begin("k").await;
    let list = || world.contexts.list_stale(ask(v1::ListStaleRequest::default()));
    let listed = list().await.unwrap().into_inner().sessions;
    assert_eq!(listed.iter().map(|one| (&*one.session_id, one.seq)).collect::<Vec<_>>(), [(&*session, 2)]);
    world.put(put(&session, (0, 0), 2, 1)).await.unwrap();
    assert!(list().await.unwrap().into_inner().sessions.is_empty());
    let stranger = ask_as(principal(Role::Compactor, "other"), v1::ListStaleRequest::default());
    assert!(world.contexts.list_stale(stranger).await.unwrap().into_inner().sessions.is_empty());
}

#[tokio::test]
async fn who_waits_gets_the_version_that_covers_enough_or_the_reason_why_there_is_none() {
    let world = world();
    let session = world.begin("k").await;
    let wait =
        v1::GetContextRequest { at_least_seq: 2, wait_ms: 30_000, budget_tokens: 8_000, ..get(&session) };
    let alone = world.context(wait.clone()).await;
    assert!(alone.unattended, "nobody folds: there is nothing to wait for"); // 2
    let viewer = world.contexts.get_context(ask_as(principal(Role::Viewer, "prod"), wait.clone())).await;
    assert_eq!(viewer.unwrap_err().code(), tonic::Code::PermissionDenied);
    let take = || v1::AwaitStaleRequest { wait_ms: 30_000, ..v1::AwaitStaleRequest::default() };
    let first = world.contexts.await_stale(ask(take())).await.unwrap().into_inner();
    assert!(first.missed && first.sessions.is_empty(), "a new engine has everything listed");
    let compactor = async {
        let asked = world.contexts.await_stale(ask(take())).await.unwrap().into_inner().sessions;
        let asked: Vec<_> = asked.iter().map(|one| (one.reason(), one.budget_tokens)).collect();
        assert_eq!(asked, [(v1::StaleReason::Asked, 8_000)]);
        world.put(put(&session, (0, 0), 2, 1)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.context(wait.clone()), compactor);
    assert_eq!(answer.version.unwrap().version, 1);
    world.commit(&session, "a", b"1").await;
    let more = v1::GetContextRequest { at_least_seq: 3, ..wait };
    let refuses = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let nothing = v1::PutContextRequest {
            version: None,
            blocks: Vec::new(),
            refused: "nothing would be saved".into(),
            ..put(&session, (1, 2), 3, 1)
        };
        world.put(nothing).await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.context(more), refuses);
    assert_eq!((answer.version.unwrap().version, &*answer.refused), (1, "nothing would be saved"));
}
