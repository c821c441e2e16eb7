//! Every method with a token of another namespace: what exists there looks as if it did not.

use std::collections::BTreeSet;

use cellaflow_proto::v1::{self, Role};
use cellaflow_tests::channel::{self, Worker, completed};
use cellaflow_tests::client::{Client, by_id};
use cellaflow_tests::{Engine, payload, raw};
use prost::Message as _;
use tonic::Code;

use super::methods::METHODS;
use super::{bearer, token, tokens};

/// What the red namespace has, and blue tokens must not see.
struct Red {
    session: String,
    instance: String,
    token_id: String,
}

impl Red {
    /// Texts that must not occur in anything a blue token is answered.
    fn secrets(&self) -> [&str; 5] {
        [&self.session, &self.instance, &self.token_id, "red-key", "red-output"]
    }
}

async fn red(client: &Client, admin: &Client) -> (Red, Worker) {
    let worker = Worker::connect(client).await;
    let session = worker.begin("red-key").await;
    worker.append(&session, 1, completed("first", payload::literal("\"red-output\""))).await.unwrap();
    let (token_id, _) = admin.token(Role::Worker, "red", 0).await;
    (Red { session, instance: worker.instance.clone(), token_id }, worker)
}

/// What a foreign request must be answered with.
#[derive(Clone, Copy)]
enum Expect {
    /// Turned away: this namespace is not yours.
    Denied,
    /// As if it did not exist.
    Absent,
    /// Served, from the caller's own namespace: nothing of the other one is in it.
    Own,
}

/// A request that reaches for red's things.
struct Reach {
    what: &'static str,
    path: &'static str,
    request: Vec<u8>,
    expect: Expect,
}

fn reach(what: &'static str, path: &'static str, request: &impl prost::Message, expect: Expect) -> Reach {
    Reach { what, path, request: request.encode_to_vec(), expect }
}

fn by_key(namespace: &str) -> Option<v1::SessionRef> {
    let key = v1::SessionKey { namespace: namespace.into(), workflow: "test".into(), key: "red-key".into() };
    Some(v1::SessionRef { by: Some(v1::session_ref::By::Key(key)) })
}

/// For every method all the ways in which a request can name something of another namespace.
fn reaches(red: &Red) -> Vec<Reach> {
    use Expect::{Absent, Denied, Own};
    let id = || red.session.clone();
    let step = v1::StepCompleted {
        step_key: "foreign".into(),
        name: "foreign".into(),
        attempt: 1,
        output: Some(payload::literal("1")),
        ..Default::default()
    };
    let mut all = vec![
        reach(
            "its namespace",
            "/cellaflow.v1.EngineService/StartSession",
            &v1::StartSessionRequest { namespace: "red".into(), ..channel::start("red-key") },
            Denied,
        ),
        reach("its key", "/cellaflow.v1.EngineService/StartSession", &channel::start("red-key"), Own),
        reach(
            "its worker's instance",
            "/cellaflow.v1.EngineService/StartSession",
            &v1::StartSessionRequest { instance: red.instance.clone(), ..channel::start("blue-key") },
            Denied,
        ),
        reach(
            "its session",
            "/cellaflow.v1.EngineService/CommitStep",
            &v1::CommitStepRequest {
                session_id: id(),
                epoch: 1,
                outcome: Some(v1::commit_step_request::Outcome::Completed(step)),
                ..Default::default()
            },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.EngineService/ReplayRecovery",
            &v1::ReplayRequest { session_id: id(), ..Default::default() },
            Absent,
        ),
        reach(
            "its lease",
            "/cellaflow.v1.EngineService/ReplayRecovery",
            &v1::ReplayRequest {
                session_id: id(),
                acquire_lease: true,
                instance: channel::instance(),
                ..Default::default()
            },
            Absent,
        ),
        // Arm by arm in `streams`.
        reach("an empty stream", "/cellaflow.v1.WorkerService/Channel", &v1::ChannelRequest::default(), Own),
        reach(
            "its worker",
            "/cellaflow.v1.WorkerService/Heartbeat",
            &v1::HeartbeatRequest { instance: red.instance.clone() },
            Own,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.SessionService/ListSessions",
            &v1::ListSessionsRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "everything",
            "/cellaflow.v1.SessionService/ListSessions",
            &v1::ListSessionsRequest::default(),
            Own,
        ),
        reach(
            "its session",
            "/cellaflow.v1.OperatorService/ResumeSession",
            &v1::ResumeSessionRequest { session_id: id(), ..Default::default() },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.OperatorService/ResolveStep",
            &v1::ResolveStepRequest {
                session_id: id(),
                step_key: "first".into(),
                resolution: Some(v1::resolve_step_request::Resolution::NotApplied(true)),
                ..Default::default()
            },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.OperatorService/VerifyLedger",
            &v1::VerifyLedgerRequest { session_id: id(), payloads: true },
            Absent,
        ),
        reach(
            "everything",
            "/cellaflow.v1.OperatorService/VerifyLedger",
            &v1::VerifyLedgerRequest::default(),
            Own,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.OperatorService/CreateToken",
            &v1::CreateTokenRequest {
                name: "x".into(),
                role: Role::Viewer.into(),
                namespace: "red".into(),
                ttl_ms: 0,
            },
            Denied,
        ),
        reach(
            "all namespaces",
            "/cellaflow.v1.OperatorService/CreateToken",
            &v1::CreateTokenRequest {
                name: "x".into(),
                role: Role::Admin.into(),
                namespace: "*".into(),
                ttl_ms: 0,
            },
            Denied,
        ),
        reach(
            "everything",
            "/cellaflow.v1.OperatorService/ListTokens",
            &v1::ListTokensRequest { all: true },
            Own,
        ),
        reach(
            "its token",
            "/cellaflow.v1.OperatorService/RevokeToken",
            &v1::RevokeTokenRequest { token_id: red.token_id.clone() },
            Absent,
        ),
        reach("everything", "/cellaflow.v1.OperatorService/GetStatus", &v1::GetStatusRequest {}, Own),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/ListCold",
            &v1::ListColdRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/ClaimLineages",
            &v1::ClaimLineagesRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/DropClaim",
            &v1::DropClaimRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/ReadLineage",
            &v1::ReadLineageRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/CommitArchive",
            &v1::CommitArchiveRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/ListUnpublished",
            &v1::ListUnpublishedRequest { namespace: "red".into() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/MarkPublished",
            &v1::MarkPublishedRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/RestorePage",
            &v1::RestorePageRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/FinishRestore",
            &v1::FinishRestoreRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/ImportSession",
            &v1::ImportSessionRequest {
                start: Some(v1::StartSessionRequest {
                    namespace: "red".into(),
                    ..cellaflow_tests::channel::start("imported")
                }),
                ..Default::default()
            },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/ListGoing",
            &v1::ListGoingRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ArchiveService/CommitRewrite",
            &v1::CommitRewriteRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its session",
            "/cellaflow.v1.ArchiveService/EraseLineage",
            &v1::EraseLineageRequest { session_id: id(), reason: "asked".into() },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.ArchiveService/HoldLineage",
            &v1::HoldLineageRequest { session_id: id(), held: true, reason: "court".into() },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.ContextService/GetContext",
            &v1::GetContextRequest { session_id: id(), ..Default::default() },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.ContextService/ListContexts",
            &v1::ListContextsRequest { session_id: id() },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.ContextService/LoadContext",
            &v1::LoadContextRequest { session_id: id() },
            Absent,
        ),
        reach(
            "its session",
            "/cellaflow.v1.ContextService/PutContext",
            &v1::PutContextRequest { session_id: id(), ..Default::default() },
            Absent,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ContextService/ListStale",
            &v1::ListStaleRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach(
            "its namespace",
            "/cellaflow.v1.ContextService/AwaitStale",
            &v1::AwaitStaleRequest { namespace: "red".into(), ..Default::default() },
            Denied,
        ),
        reach("everything", "/cellaflow.v1.ContextService/ListStale", &v1::ListStaleRequest::default(), Own),
        reach(
            "everything",
            "/cellaflow.v1.ContextService/AwaitStale",
            &v1::AwaitStaleRequest::default(),
            Own,
        ),
        reach(
            "its session",
            "/cellaflow.v1.ArchiveService/GetArchived",
            &v1::GetArchivedRequest { session_id: id() },
            Absent,
        ),
        // The contract itself is no secret among those who have a token.
        reach("the contract", METHODS[METHODS.len() - 1].0, &v1::GetStatusRequest {}, Own),
    ];
    // By id, by key in its namespace, and by the same key in the caller's own, where it names nothing.
    for (what, session, expect) in [
        ("its session", by_id(&red.session), Absent),
        ("its key", by_key("red"), Denied),
        ("the same key", by_key(""), Absent),
    ] {
        let session = || session.clone();
        let get = v1::GetSessionRequest { session: session() };
        all.push(reach(what, "/cellaflow.v1.SessionService/GetSession", &get, expect));
        let wait = v1::AwaitSessionRequest {
            session: session(),
            wait_ms: 0,
            until_unleased: true,
            through_waits: false,
        };
        all.push(reach(what, "/cellaflow.v1.SessionService/AwaitSession", &wait, expect));
        let subscribe = v1::SubscribeSessionRequest { session: session(), ..Default::default() };
        all.push(reach(what, "/cellaflow.v1.SessionService/SubscribeSession", &subscribe, expect));
        all.extend(touches(what, &session(), expect));
    }
    all.extend(verbs(&red.session));
    all
}

/// The requests that name a session by id or by key and change it, or what belongs to it.
fn touches(what: &'static str, session: &Option<v1::SessionRef>, expect: Expect) -> Vec<Reach> {
    let session = || session.clone();
    let signal = v1::SignalSessionRequest {
        session: session(),
        name: "foreign".into(),
        value: Some(payload::literal("1")),
        signal_id: "foreign".into(),
    };
    let labels = v1::SetLabelsRequest {
        session: session(),
        set: [("foreign".into(), "1".into())].into(),
        dedupe_id: vec![1; 16].into(),
        ..Default::default()
    };
    let decide = v1::DecideApprovalRequest {
        session: session(),
        step_key: "first".into(),
        decision: v1::ApprovalDecision::Approved.into(),
        args_digest: vec![0; 32].into(),
        dedupe_id: vec![1; 16].into(),
        ..Default::default()
    };
    let fork = v1::ForkSessionRequest {
        session: session(),
        from_seq: 2,
        dedupe_id: vec![1; 16].into(),
        ..Default::default()
    };
    let budget = v1::GetBudgetRequest { session: session() };
    vec![
        reach(what, "/cellaflow.v1.SessionService/SignalSession", &signal, expect),
        reach(what, "/cellaflow.v1.SessionService/SetLabels", &labels, expect),
        reach(what, "/cellaflow.v1.SessionService/DecideApproval", &decide, expect),
        reach(what, "/cellaflow.v1.SessionService/ForkSession", &fork, expect),
        reach(what, "/cellaflow.v1.SessionService/GetBudget", &budget, expect),
    ]
}

/// What operators do to one session or to many.
fn verbs(session: &str) -> Vec<Reach> {
    use Expect::{Absent, Denied, Own};
    let (session_id, reason) = (|| session.to_owned(), || "foreign".to_owned());
    let dedupe_id = || prost::bytes::Bytes::from_static(&[1; 16]);
    let pause =
        v1::PauseSessionRequest { session_id: session_id(), reason: reason(), dedupe_id: dedupe_id() };
    let retry =
        v1::RetrySessionRequest { session_id: session_id(), reason: reason(), dedupe_id: dedupe_id() };
    let cancel =
        v1::CancelSessionRequest { session_id: session_id(), reason: reason(), dedupe_id: dedupe_id() };
    let terminate =
        v1::TerminateSessionRequest { session_id: session_id(), reason: reason(), dedupe_id: dedupe_id() };
    let release = v1::ReleaseSessionRequest { session_id: session_id(), dedupe_id: dedupe_id() };
    let accept = v1::AcceptDivergenceRequest {
        session_id: session_id(),
        step_key: "first".into(),
        drop: true,
        dedupe_id: dedupe_id(),
        ..Default::default()
    };
    let raise = v1::RaiseBudgetRequest {
        session_id: session_id(),
        limits: Some(v1::Budget { tokens: 1, ..Default::default() }),
        dedupe_id: dedupe_id(),
    };
    let batch = |namespace: &str| v1::BatchSessionsRequest {
        action: v1::SessionAction::Terminate.into(),
        filter: Some(v1::SessionFilter {
            namespace: namespace.into(),
            workflow: "test".into(),
            ..Default::default()
        }),
        reason: reason(),
        dry_run: false,
    };
    let versions =
        |namespace: &str| v1::ListWorkflowsRequest { workflow: String::new(), namespace: namespace.into() };
    let drain = |namespace: &str| v1::DrainWorkflowRequest {
        workflow: "test".into(),
        version: "1".into(),
        draining: true,
        namespace: namespace.into(),
        dedupe_id: dedupe_id(),
    };
    vec![
        reach("its versions", "/cellaflow.v1.OperatorService/ListWorkflows", &versions("red"), Denied),
        reach("all versions", "/cellaflow.v1.OperatorService/ListWorkflows", &versions(""), Own),
        reach("its version", "/cellaflow.v1.OperatorService/DrainWorkflow", &drain("red"), Denied),
        reach("a version of its name", "/cellaflow.v1.OperatorService/DrainWorkflow", &drain(""), Own),
        reach("its session", "/cellaflow.v1.OperatorService/PauseSession", &pause, Absent),
        reach("its session", "/cellaflow.v1.OperatorService/RetrySession", &retry, Absent),
        reach("its session", "/cellaflow.v1.OperatorService/CancelSession", &cancel, Absent),
        reach("its session", "/cellaflow.v1.OperatorService/TerminateSession", &terminate, Absent),
        reach("its session", "/cellaflow.v1.OperatorService/ReleaseSession", &release, Absent),
        reach("its session", "/cellaflow.v1.OperatorService/AcceptDivergence", &accept, Absent),
        reach("its session", "/cellaflow.v1.OperatorService/RaiseBudget", &raise, Absent),
        reach("its namespace", "/cellaflow.v1.OperatorService/BatchSessions", &batch("red"), Denied),
        reach("its workflow", "/cellaflow.v1.OperatorService/BatchSessions", &batch(""), Own),
        reach(
            "everything",
            "/cellaflow.v1.OperatorService/BackupLedger",
            &v1::BackupLedgerRequest { name: "foreign".into() },
            Denied,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_sees_another_namespace_through_any_method() {
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let red_worker = engine.client_with(&admin.token(Role::Worker, "red", 0).await.1).await;
    let (red, worker) = red(&red_worker, &admin).await;
    let _alive = worker.stay_alive();
    let blue = tokens(&engine, "blue").await;
    let before = admin.session(&red.session).await;

    let mut covered = BTreeSet::new();
    // Reads before the start under the same key: after it, blue has a session of that key of its own.
    let mut reaches = reaches(&red);
    reaches.sort_by_key(|reach| reach.path.ends_with("StartSession"));
    for Reach { what, path, request, expect } in reaches {
        covered.insert(path);
        let roles = METHODS.iter().find(|(known, _)| *known == path).expect("a method that is classified").1;
        for role in roles {
            let authorization = token(&blue, *role);
            let answer = raw::call(&admin.channel, path, Some(authorization), vec![request.clone()]).await;
            let fits = match expect {
                Expect::Denied => answer.code == Code::PermissionDenied && answer.bytes.is_empty(),
                Expect::Absent => answer.code == Code::NotFound && answer.bytes.is_empty(),
                Expect::Own => !matches!(answer.code, Code::PermissionDenied | Code::Unauthenticated),
            };
            assert!(
                fits,
                "{path} reaching for {what} of another namespace as {}: {answer:?}",
                role.as_str_name()
            );
            // What a caller sends may come back to it; ids of red's that it did not send must not.
            let sent = |secret: &str| request.windows(secret.len()).any(|window| window == secret.as_bytes());
            let leaked = red.secrets().into_iter().find(|secret| !sent(secret) && answer.contains(secret));
            assert_eq!(leaked, None, "{path} reaching for {what}: {answer:?}");
        }
    }
    let all: BTreeSet<&str> = METHODS.iter().map(|(path, _)| *path).collect();
    assert_eq!(
        covered, all,
        "say in `reaches` how a request of a new method can name another namespace's things"
    );
    let after = admin.session(&red.session).await;
    assert_eq!((after.seq, after.epoch, after.instance), (before.seq, before.epoch, before.instance));
    assert!(admin.engine().start_session(channel::start("x")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_and_what_is_foreign_are_told_alike() {
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let red_worker = engine.client_with(&admin.token(Role::Worker, "red", 0).await.1).await;
    let (red, _worker) = red(&red_worker, &admin).await;
    let blue = bearer(&admin.token(Role::Client, "blue", 0).await.1);
    let nobody = "01935a2b-0000-7000-8000-00000000ffff";
    for path in ["GetSession", "AwaitSession", "SubscribeSession"] {
        let path = format!("/cellaflow.v1.SessionService/{path}");
        let ask = async |id: &str| {
            let request = v1::GetSessionRequest { session: by_id(id) }.encode_to_vec();
            raw::call(&admin.channel, &path, Some(&blue), vec![request]).await
        };
        let (foreign, absent) = (ask(&red.session).await, ask(nobody).await);
        assert_eq!((foreign.code, &foreign.message), (absent.code, &absent.message), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_heartbeat_keeps_no_lease_alive() {
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let red_client = engine.client_with(&admin.token(Role::Worker, "red", 0).await.1).await;
    let (red, worker) = red(&red_client, &admin).await;
    drop(worker);
    let blue = engine.client_with(&admin.token(Role::Worker, "blue", 0).await.1).await;
    let beating = tokio::spawn(async move {
        loop {
            let request = v1::HeartbeatRequest { instance: red.instance.clone() };
            let answer = blue.workers().heartbeat(request).await.expect("it is answered").into_inner();
            assert!(!answer.known, "to another namespace the instance is not known");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let next = Worker::connect(&red_client).await;
    assert_eq!(next.take_over(&red.session).await, 2);
    assert!(!beating.is_finished());
    beating.abort();
}
