//! What the services ask of dispatch: who is alive, and why a session does not go on.

use std::sync::Arc;

use cellaflow_proto::v1;

use crate::graph::command::Rejection;
use crate::graph::ids::{InstanceId, Namespace};
use crate::graph::session::Head;

/// Workers and the leases they hold.
pub trait Fleet: Send + Sync + 'static {
    /// Notes the call of a client without a channel as a sign of life: renews its leases.
    ///
    /// # Errors
    /// If another namespace uses this instance.
    fn called(&self, instance: InstanceId, namespace: &Namespace) -> Result<(), Rejection>;

    /// True while the holder of a lease was heard of within the TTL and has not said goodbye.
    fn holder_alive(&self, instance: InstanceId) -> bool;

    /// Says, for a person, why a session that could run does not; empty if it does.
    fn waiting_for(&self, head: &Head) -> String;

    /// The workers connected, of the namespaces that `sees` accepts.
    fn workers(&self, sees: &dyn Fn(&str) -> bool) -> Vec<v1::WorkerStatus>;
}

/// A fleet that is shared.
pub type SharedFleet = Arc<dyn Fleet>;
