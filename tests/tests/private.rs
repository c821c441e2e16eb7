//! Promise: **private**. No request without TLS and a valid token is served (health and loopback metrics excepted); no
//! token sees another namespace.
//!
//! The tables in here are complete and do not come from the engine: a new method, service or arm of a streamed oneof
//! fails these tests until somebody has said who may use it.

#[path = "private/methods.rs"]
mod methods;
#[path = "private/namespaces.rs"]
mod namespaces;
#[path = "private/plaintext.rs"]
mod plaintext;
#[path = "private/streams.rs"]
mod streams;
#[path = "private/while_open.rs"]
mod while_open;

use cellaflow_proto::v1::Role;
use cellaflow_tests::Engine;

const ROLES: [Role; 5] = [Role::Worker, Role::Client, Role::Compactor, Role::Viewer, Role::Admin];
/// Who runs sessions: clients do so in their own process.
const RUNS: &[Role] = &[Role::Worker, Role::Client, Role::Admin];

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

/// One token of every role in a namespace, as header values.
async fn tokens(engine: &Engine, namespace: &str) -> Vec<(Role, String)> {
    let admin = engine.client().await;
    let mut made = Vec::new();
    for role in ROLES {
        made.push((role, bearer(&admin.token(role, namespace, 0).await.1)));
    }
    made
}

fn token(of: &[(Role, String)], wanted: Role) -> &str {
    &of.iter().find(|(role, _)| *role == wanted).expect("there is one of every role").1
}
