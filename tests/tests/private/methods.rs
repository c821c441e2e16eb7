//! Every method of every service: without a token, with a dead one, with each role.

use std::collections::BTreeSet;

use cellaflow_proto::v1::Role;
use cellaflow_tests::Engine;
use cellaflow_tests::events::POOL;
use cellaflow_tests::raw;
use tonic::Code;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

use super::{ROLES, RUNS, bearer, tokens};

const EVERYONE: &[Role] = &ROLES;
const REPAIRS: &[Role] = &[Role::Client, Role::Admin];
const AUDITS: &[Role] = &[Role::Compactor, Role::Admin];
const ADMINS: &[Role] = &[Role::Admin];

/// Every method that needs a token, and who may call it.
pub const METHODS: &[(&str, &[Role])] = &[
    ("/cellaflow.v1.EngineService/StartSession", RUNS),
    ("/cellaflow.v1.EngineService/CommitStep", RUNS),
    ("/cellaflow.v1.EngineService/ReplayRecovery", RUNS),
    ("/cellaflow.v1.WorkerService/Channel", RUNS),
    ("/cellaflow.v1.WorkerService/Heartbeat", RUNS),
    ("/cellaflow.v1.SessionService/GetSession", EVERYONE),
    ("/cellaflow.v1.SessionService/AwaitSession", EVERYONE),
    ("/cellaflow.v1.SessionService/ListSessions", EVERYONE),
    ("/cellaflow.v1.SessionService/SubscribeSession", EVERYONE),
    ("/cellaflow.v1.SessionService/SignalSession", RUNS),
    ("/cellaflow.v1.SessionService/SetLabels", RUNS),
    ("/cellaflow.v1.SessionService/DecideApproval", REPAIRS),
    ("/cellaflow.v1.SessionService/ForkSession", REPAIRS),
    ("/cellaflow.v1.SessionService/GetBudget", EVERYONE),
    ("/cellaflow.v1.OperatorService/RaiseBudget", REPAIRS),
    ("/cellaflow.v1.OperatorService/AcceptDivergence", REPAIRS),
    ("/cellaflow.v1.OperatorService/PauseSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/ResumeSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/RetrySession", REPAIRS),
    ("/cellaflow.v1.OperatorService/CancelSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/TerminateSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/BatchSessions", REPAIRS),
    ("/cellaflow.v1.OperatorService/ReleaseSession", REPAIRS),
    ("/cellaflow.v1.OperatorService/BackupLedger", ADMINS),
    ("/cellaflow.v1.OperatorService/ResolveStep", REPAIRS),
    ("/cellaflow.v1.OperatorService/VerifyLedger", AUDITS),
    ("/cellaflow.v1.OperatorService/CreateToken", ADMINS),
    ("/cellaflow.v1.OperatorService/ListTokens", ADMINS),
    ("/cellaflow.v1.OperatorService/RevokeToken", ADMINS),
    ("/cellaflow.v1.OperatorService/ListWorkflows", EVERYONE),
    ("/cellaflow.v1.OperatorService/DrainWorkflow", REPAIRS),
    ("/cellaflow.v1.OperatorService/GetStatus", EVERYONE),
    ("/cellaflow.v1.ArchiveService/ListCold", AUDITS),
    ("/cellaflow.v1.ArchiveService/ClaimLineages", AUDITS),
    ("/cellaflow.v1.ArchiveService/DropClaim", AUDITS),
    ("/cellaflow.v1.ArchiveService/ReadLineage", AUDITS),
    ("/cellaflow.v1.ArchiveService/CommitArchive", AUDITS),
    ("/cellaflow.v1.ArchiveService/ListUnpublished", AUDITS),
    ("/cellaflow.v1.ArchiveService/MarkPublished", AUDITS),
    ("/cellaflow.v1.ArchiveService/GetArchived", AUDITS),
    ("/cellaflow.v1.ArchiveService/RestorePage", AUDITS),
    ("/cellaflow.v1.ArchiveService/FinishRestore", AUDITS),
    ("/cellaflow.v1.ArchiveService/ListGoing", AUDITS),
    ("/cellaflow.v1.ArchiveService/CommitRewrite", AUDITS),
    ("/cellaflow.v1.ArchiveService/EraseLineage", ADMINS),
    ("/cellaflow.v1.ArchiveService/HoldLineage", ADMINS),
    ("/cellaflow.v1.ContextService/GetContext", EVERYONE),
    ("/cellaflow.v1.ContextService/ListContexts", EVERYONE),
    ("/cellaflow.v1.ContextService/LoadContext", AUDITS),
    ("/cellaflow.v1.ContextService/PutContext", AUDITS),
    ("/cellaflow.v1.ContextService/ListStale", AUDITS),
    ("/cellaflow.v1.ContextService/AwaitStale", AUDITS),
    ("/cellaflow.v1.ArchiveService/ImportSession", AUDITS),
    (REFLECTION, EVERYONE),
];

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// What even an admin may not do whose token is of one namespace.
const OF_ALL_NAMESPACES: [&str; 1] = ["/cellaflow.v1.OperatorService/BackupLedger"];
/// The only ones that need no token.
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

#[test]
fn every_method_of_the_contract_is_classified() {
    let described: BTreeSet<String> = POOL
        .services()
        .flat_map(|service| {
            let service_name = service.full_name().to_owned();
            service.methods().map(|method| format!("/{service_name}/{}", method.name())).collect::<Vec<_>>()
        })
        .collect();
    let ours = METHODS.iter().map(|(path, _)| (*path).to_owned()).filter(|path| *path != REFLECTION);
    assert_eq!(ours.collect::<BTreeSet<_>>(), described, "say in METHODS who may call a new method");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_serves_nothing_that_is_not_classified() {
    let engine = Engine::quick().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(engine.client().await.authorised());
    let answer = reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let served: BTreeSet<String> = list.service.into_iter().map(|ServiceResponse { name }| name).collect();
    let service = |path: &str| path.trim_start_matches('/').split('/').next().unwrap().to_owned();
    let known: BTreeSet<String> = METHODS.iter().map(|(path, _)| *path).chain(OPEN).map(service).collect();
    let unknown: Vec<_> = served.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} are served and nobody said to whom");
    assert!(served.contains("cellaflow.v1.EngineService"), "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_health_answers_without_a_live_token() {
    let engine = Engine::quick().await;
    let admin = engine.client().await;
    let (revoked_id, revoked) = admin.token(Role::Admin, "default", 0).await;
    admin.revoke(&revoked_id).await;
    let (_, expired) = admin.token(Role::Admin, "default", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let live = engine.connection.token.clone();
    let dead = [
        ("none", None),
        ("empty", Some(String::new())),
        ("unknown", Some(bearer("cf_0000000000000000000000000000000000000000000"))),
        ("expired", Some(bearer(&expired))),
        ("revoked", Some(bearer(&revoked))),
        ("another scheme", Some(format!("Basic {live}"))),
        ("half a token", Some(bearer(&live[..live.len() / 2]))),
    ];
    for (path, _) in METHODS {
        for (what, authorization) in &dead {
            let answer = raw::call(&admin.channel, path, authorization.as_deref(), vec![Vec::new()]).await;
            assert!(
                answer.code == Code::Unauthenticated && answer.is_refused(),
                "{path} with a token that is {what}: {answer:?}"
            );
            assert!(!answer.contains(&live) && !answer.contains(&revoked) && !answer.contains(&expired));
        }
    }
    for path in ["/cellaflow.v1.EngineService/NoSuchMethod", "/no.such.Service/Method", "/"] {
        let stranger = raw::call(&admin.channel, path, None, vec![Vec::new()]).await;
        assert_eq!(stranger.code, Code::Unauthenticated, "{path}: strangers learn nothing of what there is");
        let insider = raw::call(&admin.channel, path, Some(&bearer(&live)), vec![Vec::new()]).await;
        assert_eq!(insider.code, Code::Unimplemented, "{path}");
    }
    for path in OPEN {
        let answer = raw::call(&admin.channel, path, None, vec![Vec::new()]).await;
        assert!(answer.code == Code::Ok && !answer.bytes.is_empty(), "{path} is open: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_call_what_is_its_own_and_nothing_else() {
    let engine = Engine::quick().await;
    let tokens = tokens(&engine, "default").await;
    let channel = engine.client().await.channel;
    for (path, allowed) in METHODS {
        for (role, authorization) in &tokens {
            let answer = raw::call(&channel, path, Some(authorization), vec![Vec::new()]).await;
            let shown = role.as_str_name();
            if OF_ALL_NAMESPACES.contains(path) {
                assert_eq!(answer.code, Code::PermissionDenied, "{path} by {shown} of one namespace");
            } else if allowed.contains(role) {
                let passed = !matches!(
                    answer.code,
                    Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented | Code::Unavailable
                );
                assert!(passed, "{path} by {shown}: {answer:?}");
            } else {
                assert!(
                    answer.is_refused() && answer.code == Code::PermissionDenied,
                    "{path} by {shown}: {answer:?}"
                );
            }
        }
    }
}
