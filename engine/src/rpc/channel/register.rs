//! Registers the code that workers bring, and when it was last served.
//!
//! 1. A worker does not wait for it: what is not registered yet runs as well.
//! 2. What could not be registered is tried again with the next Hello that brings it.
//! 3. What this process registered less than an hour ago is not submitted again: many workers may bring the same.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Shared;
use crate::graph::command::{Command, RegisterWorkflow};
use crate::graph::event::WorkflowRegistered;
use crate::graph::ids::Namespace;
use crate::graph::version::SEEN_EVERY_MS;
use crate::ledger::NamespaceInfo;
use crate::rpc::workflows;

/// Namespace, workflow, version.
type Name = (Namespace, Arc<str>, Arc<str>);

/// What this process has registered last of each version.
#[derive(Default)]
pub struct Registered(Mutex<HashMap<Name, Said>>);

/// Compatible versions, and when they were said.
struct Said {
    compatible: Vec<Arc<str>>,
    mono_ms: u64,
}

impl Registered {
    /// Says whether `code` has to be submitted, and notes that it is.
    fn is_new(&self, namespace: &Namespace, code: &WorkflowRegistered, now_ms: u64) -> bool {
        let mut known = self.0.lock();
        let before = known.get(&name(namespace, code));
        let recent = before.is_some_and(|said| {
            said.compatible == code.compatible && now_ms.saturating_sub(said.mono_ms) < SEEN_EVERY_MS
        });
        if !recent {
            let said = Said { compatible: code.compatible.clone(), mono_ms: now_ms };
            known.insert(name(namespace, code), said);
        }
        !recent // 3
    }
}

/// Registers what is new of `code` in the background (1).
pub fn register(shared: &Arc<Shared>, info: &Arc<NamespaceInfo>, code: &[WorkflowRegistered]) {
    let now_ms = shared.parts.context.clock.mono_ms();
    let new = code.iter().filter(|code| shared.registered.is_new(&info.name, code, now_ms));
    submit(shared, info, new.cloned().collect(), false);
}

/// Notes in the background that the worker which brought `code` was there until now.
pub fn left(shared: &Arc<Shared>, info: &Arc<NamespaceInfo>, code: Vec<WorkflowRegistered>) {
    submit(shared, info, code, true);
}

fn submit(shared: &Arc<Shared>, info: &Arc<NamespaceInfo>, code: Vec<WorkflowRegistered>, leaving: bool) {
    if code.is_empty() {
        return;
    }
    let (shared, info) = (Arc::clone(shared), Arc::clone(info));
    drop(tokio::spawn(async move {
        for code in code {
            let name = name(&info.name, &code);
            let namespace = info.name.clone();
            let register = RegisterWorkflow { session: info.system, namespace, code, leaving };
            let submitted =
                workflows::submit(&shared.parts.context, info.system, Command::RegisterWorkflow(register))
                    .await;
            match submitted {
                Ok(()) => {}
                Err(error) if leaving => tracing::debug!(?error, "not noted that a worker left"),
                Err(error) => {
                    tracing::warn!(
                        ?error,
                        "a workflow's version was not registered; its sessions run all the same"
                    );
                    shared.registered.0.lock().remove(&name); // 2
                }
            }
        }
    }));
}

fn name(namespace: &Namespace, code: &WorkflowRegistered) -> Name {
    (namespace.clone(), Arc::clone(&code.workflow), Arc::clone(&code.version))
}
