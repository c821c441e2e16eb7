//! Dispatch, as the other services see it.

use cellaflow_proto::v1;

use crate::dispatch::{Dispatch, Foreign};
use crate::graph::command::{Code, Rejection};
use crate::graph::ids::{InstanceId, Namespace};
use crate::graph::session::Head;
use crate::rpc::fleet::Fleet;

impl Fleet for Dispatch {
    fn called(&self, instance: InstanceId, namespace: &Namespace) -> Result<(), Rejection> {
        Self::called(self, instance, namespace).map_err(foreign)
    }

    fn holder_alive(&self, instance: InstanceId) -> bool {
        Self::holder_alive(self, instance)
    }

    fn waiting_for(&self, head: &Head) -> String {
        Self::waiting_for(self, head)
    }

    fn workers(&self, sees: &dyn Fn(&str) -> bool) -> Vec<v1::WorkerStatus> {
        let worker = |worker: crate::dispatch::WorkerView| v1::WorkerStatus {
            instance: worker.instance.to_string(),
            client: worker.client.to_string(),
            workflows: worker
                .kinds
                .iter()
                .map(|kind| format!("{}@{}", kind.workflow, kind.version))
                .collect(),
            sessions: u32::try_from(worker.sessions).unwrap_or(u32::MAX),
            free: worker.free,
            idle_ms: worker.idle_ms,
        };
        self.workers(sees).into_iter().map(worker).collect()
    }
}

/// Another namespace uses the instance.
pub fn foreign(_: Foreign) -> Rejection {
    Rejection {
        code: Code::NamespaceMismatch,
        message: "this instance belongs to another namespace: mint one per process".to_owned(),
        retry_after_ms: None,
    }
}
