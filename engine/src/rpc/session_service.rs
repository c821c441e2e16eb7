//! `SessionService`: the read side. Every answer is a page of events or heads below the watermark.
//!
//! 1. A subscription sends every event once, in order, and its end always comes last.
//! 2. Waiting costs no thread and no reading: a change of the session wakes it; only leases, whose expiry is no event,
//!    are looked at every `LEASE_LOOK_MS`.

use std::sync::Arc;
use std::time::Duration;

use cellaflow_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use v1::subscribe_session_response::Body;

use super::auth::Principal;
use super::context::{Context, Shown, caller};
use super::convert::{self, Detail};
use super::journal::{self, Content, Ended, Journal, Outlet};
use super::listing;
use super::status;
use crate::graph::ids::SessionId;
use crate::graph::session::{Head, Status as SessionStatus};
use crate::ledger::{ReadError, Refused};

/// Longest wait of one call in ms.
const WAIT_MS_MAX: u64 = 60_000;
/// How often a waiting call looks whether a lease has expired, in ms.
const LEASE_LOOK_MS: u64 = 250;

/// See the module.
pub struct Service(pub Context);

impl Service {
    /// Makes a server of it.
    #[must_use]
    pub fn into_server(self) -> v1::session_service_server::SessionServiceServer<Self> {
        v1::session_service_server::SessionServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl v1::session_service_server::SessionService for Service {
    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let caller = caller(&request)?;
        let head = self.0.find(&caller, request.into_inner().session).map_err(status::refused)?;
        let Shown { session, output, failure } =
            self.0.show(&head).map_err(|error| status::unreadable(&error))?;
        Ok(Response::new(v1::GetSessionResponse { session: Some(session), output, failure }))
    }

    async fn await_session(
        &self,
        request: Request<v1::AwaitSessionRequest>,
    ) -> Result<Response<v1::AwaitSessionResponse>, Status> {
        let caller = caller(&request)?;
        let answer = self.wait(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(answer))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let caller = caller(&request)?;
        let query = listing::query(&caller, request.into_inner()).map_err(|no| status::rejected(&no))?;
        let context = self.0.clone();
        let page = journal::blocking(move || listing::page(&context, &query)).await;
        page.map(Response::new).map_err(|error| status::unreadable(&error))
    }

    type SubscribeSessionStream = ReceiverStream<Result<v1::SubscribeSessionResponse, Status>>;

    async fn subscribe_session(
        &self,
        request: Request<v1::SubscribeSessionRequest>,
    ) -> Result<Response<Self::SubscribeSessionStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let head = self.0.find(&caller, request.session).map_err(status::refused)?;
        let detail = if request.headers_only { Detail::Headers } else { Detail::Full };
        let from = convert::from_seq(request.from_seq);
        let journal = Journal::new(self.0.ledger.reader().clone(), head.session, from, detail);
        let subscription =
            Subscription { session: head.session, journal, until_caught_up: request.until_caught_up };
        let (outlet, stream) = journal::stream();
        drop(tokio::spawn(subscription.run(self.0.clone(), outlet)));
        Ok(Response::new(stream))
    }
}

impl Service {
    async fn wait(
        &self,
        caller: &Principal,
        request: v1::AwaitSessionRequest,
    ) -> Result<v1::AwaitSessionResponse, Refused> {
        let context = &self.0;
        let mut head = context.find(caller, request.session)?;
        let deadline_ms = context.clock.mono_ms().saturating_add(request.wait_ms.min(WAIT_MS_MAX));
        loop {
            let leased = self.is_leased(&head);
            let left_ms = deadline_ms.saturating_sub(context.clock.mono_ms());
            let unleased = request.until_unleased && !leased;
            if stands_still(&head.status) || unleased || left_ms == 0 || *context.stopping.borrow() {
                let Shown { session, output, failure } = context.show(&head).map_err(Refused::Failed)?;
                return Ok(v1::AwaitSessionResponse { session: Some(session), output, failure, leased });
            }
            let look_ms = if request.until_unleased { left_ms.min(LEASE_LOOK_MS) } else { left_ms };
            tokio::select! {
                () = context.ledger.reader().changed(head.session, head.seq) => {}
                () = tokio::time::sleep(Duration::from_millis(look_ms)) => {}
                () = context.stopped() => {}
            }
            head = context.visible(caller, head.session)?;
        }
    }

    fn is_leased(&self, head: &Head) -> bool {
        head.holder.is_some_and(|holder| self.0.fleet.holder_alive(holder))
    }
}

/// True for a session that nothing happens to before somebody or something outside acts.
const fn stands_still(status: &SessionStatus) -> bool {
    match status {
        SessionStatus::Pending | SessionStatus::Running => false,
        SessionStatus::Waiting
        | SessionStatus::Paused { .. }
        | SessionStatus::Completed
        | SessionStatus::Failed
        | SessionStatus::Cancelled => true,
    }
}

struct Subscription {
    session: SessionId,
    journal: Journal,
    until_caught_up: bool,
}

impl Subscription {
    async fn run(mut self, context: Context, outlet: Outlet<v1::SubscribeSessionResponse>) {
        tokio::select! {
            ended = self.send(&context, &outlet) => return outlet.end(ended).await,
            () = outlet.gone() => return,
            () = context.stopped() => {}
        }
        outlet.fail(status::stopping()).await;
    }

    async fn send(
        &mut self,
        context: &Context,
        outlet: &Outlet<v1::SubscribeSessionResponse>,
    ) -> Result<(), Ended> {
        let mut caught_up = false;
        loop {
            // The head is read first: the events it counts are there, and a terminal one has no later ones.
            let head = self.head(context).await?;
            self.journal.send_to(head.seq, outlet, || {}).await?;
            let seq = self.journal.passed().min(head.seq).0;
            if self.until_caught_up || head.status.is_terminal() {
                if !caught_up {
                    outlet.send(message(Body::CaughtUp(v1::CaughtUp { seq }))).await?;
                }
                let status = convert::status_to_wire(&head.status).into();
                return outlet.send(message(Body::End(v1::End { seq, status }))).await; // 1
            }
            if !caught_up {
                caught_up = true;
                outlet.send(message(Body::CaughtUp(v1::CaughtUp { seq }))).await?;
            }
            context.ledger.reader().changed(self.session, head.seq).await;
        }
    }

    async fn head(&self, context: &Context) -> Result<Arc<Head>, ReadError> {
        let (reader, session) = (context.ledger.reader().clone(), self.session);
        let head = journal::blocking(move || reader.head(session)).await?;
        head.ok_or_else(|| ReadError::Corrupt(format!("session {session} is gone while it was read")))
    }
}

impl From<Content> for v1::SubscribeSessionResponse {
    fn from(content: Content) -> Self {
        message(match content {
            Content::Event(event) => Body::Event(event),
            Content::Piece(piece) => Body::Piece(piece),
        })
    }
}

const fn message(body: Body) -> v1::SubscribeSessionResponse {
    v1::SubscribeSessionResponse { body: Some(body) }
}
