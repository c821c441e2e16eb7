//! The worker channel: one stream per worker for all its sessions, and the heartbeat.
//!
//! Owns: what a connection may do, the order of its messages and the bytes they may take. Never: judges a command (it
//! submits), chooses a worker (that is `dispatch`) or reads a field (that is `convert`).
//!
//! Invariants:
//! - W1 The first message is Hello. Every later message is authorised by itself: a live token, a role that may send it,
//!   a session of the connection's namespace.
//! - W2 Requests of a connection are submitted in the order in which they came, and each is answered once: ack, nack
//!   or `Assigned`. A refusal never ends the stream; a breach of the protocol does, with a status that says which.
//! - W3 Per session, answers and pushed events leave in ledger order (`outbox` O1), after a replay that ends where the
//!   pushed events begin (`replay` R1).
//! - W4 What a connection holds in memory is bounded by credit (`credit`, `transfers`), whatever the worker does.
//! - W5 A lost connection ends no lease; only the TTL does, or a Goodbye that says that nothing is in flight.
//!
//! One task reads (`reader`); the transport pulls the answers (`stream`), so that what is ready goes out together.

mod credit;
mod fleet;
mod hello;
mod outbox;
mod reader;
mod refuse;
mod register;
mod replay;
mod requests;
mod stream;
mod transfers;

use std::sync::Arc;

use cellaflow_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use crate::config::limits::Limits;
use crate::dispatch::{Dispatch, Renewal};
use crate::rpc::context::{self, Context};
use crate::rpc::convert::{self, TransferIds};
use crate::rpc::status;
use crate::telemetry::Metrics;

use outbox::Outbox;
use replay::Source;
use stream::Responses;
use transfers::Budget;

/// Bytes of messages that the engine takes from one worker before it grants more.
pub const CREDIT_BYTES: u64 = 4 * 1024 * 1024;
/// Smallest receive buffer of a worker in bytes.
pub const WORKER_CREDIT_BYTES_MIN: u64 = 1024 * 1024;
/// Largest `ChannelRequest` in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What all connections share.
pub struct Parts {
    pub context: Context,
    pub dispatch: Arc<Dispatch>,
    pub limits: Limits,
    /// What a step does that used up its attempts and does not say it.
    pub step_exhausted_pauses: bool,
    pub metrics: Metrics,
}

/// The worker service.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    parts: Parts,
    /// Of pieces, over all connections.
    pieces: Budget,
    /// Code that was registered by this process.
    registered: register::Registered,
}

impl Service {
    /// Creates the service.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        // One payload of the largest size is always taken, and as much as the decider's queue would hold.
        let bytes_max = parts.limits.payload_bytes_max.max(parts.limits.queue_bytes_max);
        let pieces = Budget::new(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        Self { shared: Arc::new(Shared { parts, pieces, registered: register::Registered::default() }) }
    }

    /// The tonic server of this service, with its message limits.
    #[must_use]
    pub fn into_server(self) -> v1::worker_service_server::WorkerServiceServer<Self> {
        v1::worker_service_server::WorkerServiceServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl v1::worker_service_server::WorkerService for Service {
    type ChannelStream = Responses;

    async fn channel(
        &self,
        request: Request<Streaming<v1::ChannelRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let principal = context::caller(&request)?;
        let Parts { context, dispatch, metrics, .. } = &self.shared.parts;
        if dispatch.is_stopping() {
            return Err(status::stopping());
        }
        let outbox = Arc::new(Outbox::new(CREDIT_BYTES));
        let source =
            Source { context: context.clone(), transfers: TransferIds::default(), metrics: metrics.clone() };
        let responses = Responses::new(Arc::clone(&outbox), source, CREDIT_BYTES);
        let reading = reader::read(Arc::clone(&self.shared), principal, request.into_inner(), outbox);
        drop(tokio::spawn(reading));
        Ok(Response::new(responses))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let principal = context::caller(&request)?;
        let instance = convert::instance(&request.get_ref().instance);
        let instance = instance.map_err(|rejection| status::rejected(&rejection))?;
        let dispatch = &self.shared.parts.dispatch;
        let renewal = dispatch.heartbeat(instance, |namespace| principal.sees(namespace));
        let known = match renewal {
            Renewal::Known => true,
            Renewal::Unknown => false,
        };
        Ok(Response::new(v1::HeartbeatResponse { ttl_ms: dispatch.lease_ttl_ms(), known }))
    }
}

#[cfg(test)]
mod tests;
