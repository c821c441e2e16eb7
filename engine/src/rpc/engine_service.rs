//! `EngineService`: the published contract for thin clients. The same commands as on the worker channel, one at a time.
//!
//! 1. A thin client has no heartbeat: each of its calls is its sign of life.
//! 2. A replay that was not cut off ends with `ReplayEnd`, after every event up to the watermark it began with.

use std::sync::Arc;

use cellaflow_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::auth::Principal;
use super::binding::{self, Ask};
use super::context::{Context, Shown, caller, not_found};
use super::convert::{self, Detail, Intake};
use super::journal::{self, Content, Ended, Journal, Outlet};
use super::status;
use crate::graph::command::Reply;
use crate::graph::hold;
use crate::graph::ids::{Epoch, InstanceId, Seq};
use crate::graph::session::Head;
use crate::ledger::{Committed, Origin, ReadError, Refused, Submission};

/// See the module.
pub struct Service(pub Context);

impl Service {
    /// Makes a server of it that takes requests as large as a payload may be.
    #[must_use]
    pub fn into_server(self) -> v1::engine_service_server::EngineServiceServer<Self> {
        let message_bytes_max = self.0.message_bytes_max();
        v1::engine_service_server::EngineServiceServer::new(self).max_decoding_message_size(message_bytes_max)
    }
}

#[tonic::async_trait]
impl v1::engine_service_server::EngineService for Service {
    async fn start_session(
        &self,
        request: Request<v1::StartSessionRequest>,
    ) -> Result<Response<v1::StartSessionResponse>, Status> {
        let caller = caller(&request)?;
        let started = self.start(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(started))
    }

    async fn commit_step(
        &self,
        request: Request<v1::CommitStepRequest>,
    ) -> Result<Response<v1::CommitStepResponse>, Status> {
        let caller = caller(&request)?;
        let committed = self.commit(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(committed))
    }

    type ReplayRecoveryStream = ReceiverStream<Result<v1::ReplayEvent, Status>>;

    async fn replay_recovery(
        &self,
        request: Request<v1::ReplayRequest>,
    ) -> Result<Response<Self::ReplayRecoveryStream>, Status> {
        let caller = caller(&request)?;
        let replay = self.replay(&caller, &request.into_inner()).await.map_err(status::refused)?;
        let (outlet, stream) = journal::stream();
        drop(tokio::spawn(replay.run(self.0.clone(), outlet)));
        Ok(Response::new(stream))
    }
}

impl Service {
    async fn start(
        &self,
        caller: &Principal,
        request: v1::StartSessionRequest,
    ) -> Result<v1::StartSessionResponse, Refused> {
        let start = convert::start(request, &mut |_| None).map_err(Refused::Rejected)?;
        let submission = binding::start(&self.0, caller, start, Origin::default()).await?;
        let (head, created, epoch) = bound(self.0.ledger.submit(submission).await?)?;
        let Shown { session, output, failure } = self.0.show(&head).map_err(Refused::Failed)?;
        Ok(v1::StartSessionResponse { session: Some(session), created, epoch, output, failure })
    }

    async fn commit(
        &self,
        caller: &Principal,
        request: v1::CommitStepRequest,
    ) -> Result<v1::CommitStepResponse, Refused> {
        let context = &self.0;
        let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
        let head = context.visible(caller, session)?;
        if head.is_held(context.ledger.identity().incarnation) {
            return Err(Refused::Rejected(hold::held(&head)));
        }
        if let Some(holder) = head.holder.filter(|_| head.epoch == Epoch(request.epoch)) {
            context.fleet.called(holder, &head.namespace).map_err(Refused::Rejected)?; // 1
        }
        let place = context.ledger.lineage(session).map_err(Refused::Failed)?.ok_or_else(not_found)?;
        let info = context.ledger.namespace(&place.namespace).await?;
        let mut blobs = context.ledger.blobs(&place.salt);
        let mut intake = Intake { blobs: &mut blobs, namespace_salt: &info.salt, transfers: &mut |_| None };
        let command = convert::commit_step(request, &mut intake).map_err(Refused::Rejected)?;
        let submission =
            Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() };
        match context.ledger.submit(submission).await?.reply {
            Reply::Appended { seq, time, duplicate } => {
                Ok(v1::CommitStepResponse { seq: seq.0, time_ms: time.0, duplicate })
            }
            Reply::Recorded { seq } => {
                let event = context.ledger.reader().event(session, seq).map_err(Refused::Failed)?;
                let time_ms = event.map_or(0, |stored| stored.event.time.0);
                Ok(v1::CommitStepResponse { seq: seq.0, time_ms, duplicate: true })
            }
            Reply::Bound { .. } | Reply::Done { .. } => Err(unexpected()),
        }
    }

    async fn replay(&self, caller: &Principal, request: &v1::ReplayRequest) -> Result<Replay, Refused> {
        let context = &self.0;
        let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
        let head = context.visible(caller, session)?;
        let from = convert::from_seq(request.from_seq);
        if !request.acquire_lease {
            return Ok(Replay { head, epoch: 0, from, holder: None });
        }
        let instance = convert::instance(&request.instance).map_err(Refused::Rejected)?;
        context.fleet.called(instance, &head.namespace).map_err(Refused::Rejected)?;
        let ask = Ask { instance, held: None, version: None };
        let submission = binding::acquire(context, &head, ask, Origin::default())?;
        let (head, _, epoch) = bound(context.ledger.submit(submission).await?)?;
        Ok(Replay { head, epoch, from, holder: (epoch > 0).then_some(instance) })
    }
}

/// A replay that was granted.
struct Replay {
    head: Arc<Head>,
    epoch: u64,
    from: Seq,
    /// Whose lease a long replay must keep alive.
    holder: Option<InstanceId>,
}

impl Replay {
    async fn run(self, context: Context, outlet: Outlet<v1::ReplayEvent>) {
        tokio::select! {
            ended = self.send(&context, &outlet) => return outlet.end(ended).await,
            () = outlet.gone() => return,
            () = context.stopped() => {}
        }
        outlet.fail(status::stopping()).await;
    }

    async fn send(&self, context: &Context, outlet: &Outlet<v1::ReplayEvent>) -> Result<(), Ended> {
        let Self { head, epoch, from, holder } = self;
        let start = v1::ReplayStart { session: Some(context.session(head)?), epoch: *epoch };
        outlet.send(message(v1::replay_event::Body::Start(start))).await?;
        let mut journal = Journal::new(context.ledger.reader().clone(), head.session, *from, Detail::Full);
        let alive = || {
            if let Some(instance) = holder {
                // The namespace was checked when the lease was taken.
                let _foreign = context.fleet.called(*instance, &head.namespace).is_err();
            }
        };
        journal.send_to(head.seq, outlet, alive).await?;
        let sent = if *from <= head.seq { head.seq.0 } else { 0 };
        outlet.send(message(v1::replay_event::Body::End(v1::ReplayEnd { seq: sent }))).await // 2
    }
}

impl From<Content> for v1::ReplayEvent {
    fn from(content: Content) -> Self {
        message(match content {
            Content::Event(event) => v1::replay_event::Body::Event(event),
            Content::Piece(piece) => v1::replay_event::Body::Piece(piece),
        })
    }
}

const fn message(body: v1::replay_event::Body) -> v1::ReplayEvent {
    v1::ReplayEvent { body: Some(body) }
}

/// Head, whether it was created, and the epoch granted (0: none) of an answer to a start or lease request.
fn bound(committed: Committed) -> Result<(Arc<Head>, bool, u64), Refused> {
    match (committed.reply, committed.head) {
        (Reply::Bound { created, epoch }, Some(head)) => {
            Ok((head, created, epoch.map_or(0, |epoch| epoch.0)))
        }
        (Reply::Bound { .. }, None)
        | (Reply::Appended { .. } | Reply::Recorded { .. } | Reply::Done { .. }, _) => Err(unexpected()),
    }
}

fn unexpected() -> Refused {
    Refused::Failed(ReadError::Fault("a command was answered with another command's reply".to_owned()))
}
