//! The first message: who the worker is and what it serves.

use std::sync::Arc;

use cellaflow_proto::v1;
use tonic::Status;

use super::{CREDIT_BYTES, Parts, WORKER_CREDIT_BYTES_MIN};
use crate::dispatch::Kind;
use crate::graph::command::Rejection;
use crate::graph::event::WorkflowRegistered;
use crate::graph::ids::{Incarnation, InstanceId, Namespace};
use crate::graph::session::OPEN_MAX;
use crate::rpc::auth::{Principal, Role};
use crate::rpc::{convert, status};

/// Workflow versions that one worker may serve.
const KINDS_MAX: usize = 4_096;

/// A Hello that was read and allowed.
pub struct Opening {
    pub instance: InstanceId,
    pub namespace: Namespace,
    pub kinds: Vec<Kind>,
    /// The code that serves them.
    pub code: Vec<WorkflowRegistered>,
    pub capacity: u32,
    pub credit_bytes: u64,
    /// Ledger it last spoke to.
    pub incarnation: Option<Incarnation>,
    /// SDK and version, for the log.
    pub client: String,
}

/// Reads a Hello.
///
/// # Errors
/// `permission_denied` for a namespace the token does not see; `invalid_argument` for a field that says what to send.
pub fn open(hello: v1::Hello, principal: &Principal) -> Result<Opening, Status> {
    let namespace = principal.namespace_for(&hello.namespace)?;
    let instance = convert::instance(&hello.instance).map_err(invalid)?;
    if hello.credit_bytes < WORKER_CREDIT_BYTES_MIN {
        return Err(Status::invalid_argument(format!(
            "hello.credit_bytes must be at least {WORKER_CREDIT_BYTES_MIN}; this one is {}",
            hello.credit_bytes
        )));
    }
    let incarnation = (!hello.incarnation.is_empty())
        .then(|| hello.incarnation.parse())
        .transpose()
        .map_err(|error| Status::invalid_argument(format!("hello.incarnation is {error}")))?;
    // A client runs what it starts or attaches to itself; dispatch gives it nothing.
    let (kinds, code, capacity) = match principal.role {
        Role::Client => (Vec::new(), Vec::new(), 0),
        Role::Worker | Role::Admin | Role::Compactor | Role::Viewer => {
            let code = code(&hello.workflows)?;
            (kinds(hello.workflows, &namespace)?, code, hello.capacity)
        }
    };
    let client = hello.client.chars().filter(|c| !c.is_control()).take(64).collect();
    Ok(Opening {
        instance,
        namespace,
        kinds,
        code,
        capacity,
        credit_bytes: hello.credit_bytes,
        incarnation,
        client,
    })
}

fn kinds(served: Vec<v1::ServedWorkflow>, namespace: &Namespace) -> Result<Vec<Kind>, Status> {
    let mut kinds = Vec::new();
    for served in served {
        let workflow = convert::workflow(served.workflow).map_err(invalid)?;
        for version in served.versions {
            let version = convert::version(version).map_err(invalid)?;
            kinds.push(Kind { namespace: namespace.clone(), workflow: Arc::clone(&workflow), version });
        }
    }
    if kinds.len() > KINDS_MAX {
        return Err(Status::invalid_argument(format!(
            "a worker serves at most {KINDS_MAX} workflow versions; this one names {}",
            kinds.len()
        )));
    }
    Ok(kinds)
}

/// The code that a worker brings; one that names none has one definition per version.
fn code(served: &[v1::ServedWorkflow]) -> Result<Vec<WorkflowRegistered>, Status> {
    let mut code = Vec::new();
    for served in served {
        let workflow = convert::workflow(served.workflow.clone()).map_err(invalid)?;
        let plain =
            |version: &String| v1::WorkflowDefinition { version: version.clone(), compatible: vec![] };
        let definitions = match served.definitions.as_slice() {
            [] => served.versions.iter().map(plain).collect(),
            some => some.to_vec(),
        };
        for v1::WorkflowDefinition { version, compatible } in definitions {
            let version = convert::version(version).map_err(invalid)?;
            let compatible = compatible.into_iter().map(convert::version);
            let compatible = compatible.collect::<Result<_, _>>().map_err(invalid)?;
            code.push(WorkflowRegistered { workflow: Arc::clone(&workflow), version, compatible });
        }
    }
    if code.len() > KINDS_MAX {
        let count = code.len();
        let message = format!("a worker brings at most {KINDS_MAX} definitions; this one names {count}");
        return Err(Status::invalid_argument(message));
    }
    Ok(code)
}

fn invalid(rejection: Rejection) -> Status {
    status::rejected(&rejection)
}

/// The answer.
pub fn welcome(parts: &Parts) -> v1::Welcome {
    let limits = &parts.limits;
    v1::Welcome {
        incarnation: parts.context.ledger.identity().incarnation.to_string(),
        lease_ttl_ms: parts.dispatch.lease_ttl_ms(),
        credit_bytes: CREDIT_BYTES,
        guard_attempt_ms: limits.guard_attempt_ms,
        guard_grace_ms: limits.guard_grace_ms,
        payload_bytes_max: limits.payload_bytes_max,
        open_max: u32::try_from(OPEN_MAX).unwrap_or(u32::MAX),
        replay_stall_ms_max: limits.replay_stall_ms_max,
        evidence_bytes_max: limits.evidence_bytes_max,
        step_attempts_max: u32::try_from(limits.step_attempts_max).unwrap_or(u32::MAX),
        step_backoff_initial_ms: limits.step_backoff_initial_ms,
        step_backoff_max_ms: limits.step_backoff_ms_max,
        step_attempt_ms: limits.step_attempt_ms,
        step_exhausted_pauses: parts.step_exhausted_pauses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ids::TokenId;

    fn principal(role: Role) -> Principal {
        Principal {
            token_id: TokenId::default(),
            name: "t".into(),
            role,
            namespace: "team".into(),
            expires_ms: None,
        }
    }

    fn hello() -> v1::Hello {
        v1::Hello {
            instance: "00000000-0000-4000-8000-000000000001".into(),
            workflows: vec![v1::ServedWorkflow {
                workflow: "audit".into(),
                versions: vec!["1".into(), "2".into()],
                definitions: Vec::new(),
            }],
            capacity: 7,
            credit_bytes: WORKER_CREDIT_BYTES_MIN,
            client: "sdk-ts/0.1.0\n".into(),
            incarnation: String::new(),
            namespace: String::new(),
        }
    }

    #[test]
    fn a_worker_serves_its_versions_in_the_tokens_namespace() {
        let opening = open(hello(), &principal(Role::Worker)).unwrap();
        assert_eq!((opening.kinds.len(), opening.capacity), (2, 7));
        assert!(opening.kinds.iter().all(|kind| &*kind.namespace == "team"));
        let versions: Vec<&str> = opening.code.iter().map(|code| &*code.version).collect();
        assert_eq!(versions, ["1", "2"], "a worker that names no code has one per version");
        assert_eq!(opening.client, "sdk-ts/0.1.0");
    }

    #[test]
    fn a_client_gets_nothing_by_dispatch() {
        let opening = open(hello(), &principal(Role::Client)).unwrap();
        assert_eq!((opening.kinds.len(), opening.capacity), (0, 0));
    }

    #[test]
    fn another_namespace_a_small_buffer_and_a_bad_instance_are_refused() {
        let refused = |hello| open(hello, &principal(Role::Worker)).map(drop).unwrap_err().code();
        assert_eq!(
            refused(v1::Hello { namespace: "other".into(), ..hello() }),
            tonic::Code::PermissionDenied,
            "private: no token sees another namespace"
        );
        assert_eq!(refused(v1::Hello { credit_bytes: 1, ..hello() }), tonic::Code::InvalidArgument);
        assert_eq!(refused(v1::Hello { instance: "me".into(), ..hello() }), tonic::Code::InvalidArgument);
    }
}
