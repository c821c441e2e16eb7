//! Reads one connection: the Hello, then message after message until the worker, its token or the engine ends it.

use std::sync::Arc;
use std::time::Duration;

use cellaflow_proto::v1;
use prost::Message as _;
use tonic::{Status, Streaming};
use v1::worker_message::Body;

use super::Shared;
use super::credit::{FRAMING_BYTES, Overrun};
use super::fleet;
use super::hello::{self, Opening};
use super::outbox::Outbox;
use super::register;
use super::transfers::{TRANSFERS_MAX, Transfers};
use crate::dispatch::{ConnId, Joining, Peer, Pulse};
use crate::graph::event::WorkflowRegistered;
use crate::graph::ids::InstanceId;
use crate::ledger::NamespaceInfo;
use crate::rpc::auth::{self, Principal, access};
use crate::rpc::status;

/// How long a new connection may take to say Hello.
const HELLO_MS_MAX: u64 = 10_000;

/// One connection after its Hello.
pub struct Connection {
    pub shared: Arc<Shared>,
    pub principal: Principal,
    pub outbox: Arc<Outbox>,
    pub namespace: Arc<NamespaceInfo>,
    pub instance: InstanceId,
    pub conn: ConnId,
    pub transfers: Transfers,
    /// True if the worker's epochs are of another incarnation of the ledger.
    pub other_incarnation: bool,
    /// Code that the worker brought.
    code: Vec<WorkflowRegistered>,
    pulse: Pulse,
    nothing_in_flight: bool,
}

/// Why reading ended.
enum Ended {
    /// The worker said all it had to say.
    Politely,
    /// The protocol was broken, or the token is no longer good.
    With(Status),
}

/// Reads until the connection ends, then forgets it.
pub async fn read(
    shared: Arc<Shared>,
    principal: Principal,
    mut inbound: Streaming<v1::ChannelRequest>,
    outbox: Arc<Outbox>,
) {
    let opened = open(&shared, &principal, &mut inbound, &outbox).await;
    let (mut connection, rest) = match opened {
        Ok(opened) => opened,
        Err(status) => return outbox.abort(status),
    };
    shared.parts.metrics.workers_connected.inc();
    let ended = connection.serve(&mut inbound, rest).await;
    shared.parts.metrics.workers_connected.dec();
    let Connection { instance, conn, nothing_in_flight, namespace, code, .. } = connection;
    shared.parts.dispatch.disconnect(instance, conn, nothing_in_flight);
    register::left(&shared, &namespace, code);
    match ended {
        Ended::Politely => outbox.finish(None),
        Ended::With(status) => {
            tracing::info!(%instance, reason = status.message(), "worker's stream ended");
            outbox.abort(status);
        }
    }
}

/// Waits for the Hello and answers it; returns the messages that came with it.
async fn open(
    shared: &Arc<Shared>,
    principal: &Principal,
    inbound: &mut Streaming<v1::ChannelRequest>,
    outbox: &Arc<Outbox>,
) -> Result<(Connection, Vec<v1::WorkerMessage>), Status> {
    let first = tokio::time::timeout(Duration::from_millis(HELLO_MS_MAX), inbound.message());
    let first =
        first.await.map_err(|_| Status::deadline_exceeded("no Hello came within 10 s: send it first"))??;
    let mut messages = first.map(|request| request.messages).unwrap_or_default().into_iter();
    let Some(v1::WorkerMessage { body: Some(Body::Hello(hello)) }) = messages.next() else {
        return Err(Status::failed_precondition("the first message of a channel must be Hello"));
    };
    access::may_send(principal.role, access::WORKER_MESSAGE, "hello")?;
    let opening = hello::open(hello, principal)?;
    let connection = Connection::join(shared, principal, opening, outbox).await?;
    Ok((connection, messages.collect()))
}

impl Connection {
    async fn join(
        shared: &Arc<Shared>,
        principal: &Principal,
        opening: Opening,
        outbox: &Arc<Outbox>,
    ) -> Result<Self, Status> {
        let parts = &shared.parts;
        let namespace = parts.context.ledger.namespace(&opening.namespace).await.map_err(status::refused)?;
        outbox.open(hello::welcome(parts), opening.credit_bytes);
        let joining = Joining {
            instance: opening.instance,
            namespace: opening.namespace,
            kinds: opening.kinds,
            capacity: opening.capacity,
            client: opening.client.as_str().into(),
            peer: Arc::clone(outbox) as Arc<dyn Peer>,
        };
        let connected = parts.dispatch.connect(joining);
        let (conn, pulse) = connected.map_err(|other| status::rejected(&fleet::foreign(other)))?;
        tracing::info!(instance = %opening.instance, client = opening.client, "worker connected");
        register::register(shared, &namespace, &opening.code);
        let payload_bytes_max = usize::try_from(parts.limits.payload_bytes_max).unwrap_or(usize::MAX);
        let incarnation = parts.context.ledger.identity().incarnation;
        Ok(Self {
            shared: Arc::clone(shared),
            principal: principal.clone(),
            outbox: Arc::clone(outbox),
            namespace,
            instance: opening.instance,
            conn,
            transfers: Transfers::new(payload_bytes_max, shared.pieces.clone()),
            other_incarnation: opening.incarnation.is_some_and(|theirs| theirs != incarnation),
            code: opening.code,
            pulse,
            nothing_in_flight: false,
        })
    }

    async fn serve(
        &mut self,
        inbound: &mut Streaming<v1::ChannelRequest>,
        mut messages: Vec<v1::WorkerMessage>,
    ) -> Ended {
        loop {
            self.pulse.beat(self.shared.parts.context.clock.mono_ms());
            if let Err(ended) = self.batch(messages).await {
                return ended;
            }
            if self.outbox.is_ending() {
                return Ended::Politely;
            }
            let next = tokio::select! {
                biased;
                next = inbound.message() => next,
                // Replaced, drained, or the transport is gone.
                () = self.outbox.ending() => return Ended::Politely,
            };
            messages = match next {
                Ok(Some(request)) => request.messages,
                Ok(None) => return Ended::Politely,
                Err(status) => return Ended::With(status),
            };
        }
    }

    async fn batch(&mut self, messages: Vec<v1::WorkerMessage>) -> Result<(), Ended> {
        self.check_token()?;
        for message in messages {
            let cost = (message.encoded_len() + FRAMING_BYTES) as u64;
            let body = message.body.ok_or_else(|| {
                Ended::With(Status::invalid_argument("a message has no body this engine knows: update it"))
            })?;
            self.message(body, cost).await?;
        }
        Ok(())
    }

    /// The token's expiry; a revocation ends the stream's body, which the auth layer watches.
    fn check_token(&self) -> Result<(), Ended> {
        match self.principal.expires_ms {
            Some(at_ms) if at_ms <= self.shared.parts.context.clock.wall_ms() => {
                let name = Arc::clone(&self.principal.name);
                Err(Ended::With(auth::Refusal::Expired { name, at_ms }.into()))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn message(&mut self, body: Body, cost: u64) -> Result<(), Ended> {
        let allowed = access::may_send(self.principal.role, access::WORKER_MESSAGE, arm(&body));
        if let Err(refusal) = allowed {
            return Err(Ended::With(refusal.into()));
        }
        match body {
            Body::Hello(_) => {
                return Err(Ended::With(Status::failed_precondition(
                    "Hello is sent once, as the first message",
                )));
            }
            Body::Start(start) => {
                self.asked(cost)?;
                self.start(start, cost).await;
            }
            Body::Attach(attach) => {
                self.asked(cost)?;
                self.attach(attach, cost);
            }
            Body::Append(append) => {
                self.asked(cost)?;
                self.append(append, cost);
            }
            Body::Release(release) => {
                self.asked(cost)?;
                self.release(release, cost);
            }
            Body::Piece(piece) => {
                self.transfers.piece(piece.transfer_id, piece.data, piece.last).map_err(|_too_many| {
                    let message = format!(
                        "more than {TRANSFERS_MAX} transfers are open: send a request that names them first"
                    );
                    Ended::With(Status::resource_exhausted(message))
                })?;
                self.outbox.released(cost);
            }
            Body::Credit(credit) => {
                self.outbox.granted(credit.bytes);
                self.outbox.released(cost);
            }
            Body::Capacity(capacity) => {
                self.shared.parts.dispatch.set_capacity(self.conn, capacity.free);
                self.outbox.released(cost);
            }
            Body::Goodbye(goodbye) => {
                self.nothing_in_flight = goodbye.nothing_in_flight;
                return Err(Ended::Politely);
            }
        }
        Ok(())
    }

    fn asked(&self, cost: u64) -> Result<(), Ended> {
        self.outbox.asked(cost).map_err(|Overrun { held, window }| {
            Ended::With(Status::resource_exhausted(format!(
                "the worker has {held} bytes of unanswered requests and its credit is {window}: send no more than was granted"
            )))
        })
    }
}

/// Name of a message's arm, as the access table spells it.
const fn arm(body: &Body) -> &'static str {
    match body {
        Body::Hello(_) => "hello",
        Body::Start(_) => "start",
        Body::Attach(_) => "attach",
        Body::Append(_) => "append",
        Body::Release(_) => "release",
        Body::Piece(_) => "piece",
        Body::Credit(_) => "credit",
        Body::Capacity(_) => "capacity",
        Body::Goodbye(_) => "goodbye",
    }
}
