//! `SessionService`: what clients do with sessions that run elsewhere. Every read is a page of events or heads below the
//! watermark.
//!
//! 1. Waiting costs no thread and no reading: a change of the session wakes it; only leases, whose expiry is no event,
//!    are looked at every `LEASE_LOOK_MS`.
//! 2. Who waits for a session that is continued waits for its successor, and so on to the last one.

use std::time::Duration;

use cellaflow_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::auth::Principal;
use super::context::{Context, Shown, caller};
use super::convert::{self, Detail};
use super::fork;
use super::journal::{self, Journal};
use super::status;
use super::subscription::{Subscribers, Subscription};
use super::waits;
use super::{labels, listing};
use crate::graph::command::Rejection;
use crate::graph::ids::Seq;
use crate::graph::session::{Head, Status as SessionStatus};
use crate::graph::stream::Cursor;
use crate::ledger::{ReadError, Refused};

/// Longest wait of one call in ms.
const WAIT_MS_MAX: u64 = 60_000;
/// How often a waiting call looks whether a lease has expired, in ms.
const LEASE_LOOK_MS: u64 = 250;

/// See the module.
pub struct Service {
    /// What every service shares.
    pub context: Context,
    /// Who subscribes.
    pub subscribers: Subscribers,
}

impl Service {
    /// Makes a server of it that takes requests as large as a payload may be.
    #[must_use]
    pub fn into_server(self) -> v1::session_service_server::SessionServiceServer<Self> {
        let message_bytes_max = self.context.message_bytes_max();
        v1::session_service_server::SessionServiceServer::new(self)
            .max_decoding_message_size(message_bytes_max)
    }
}

#[tonic::async_trait]
impl v1::session_service_server::SessionService for Service {
    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let caller = caller(&request)?;
        let head = self.context.find(&caller, request.into_inner().session).map_err(status::refused)?;
        let Shown { session, output, failure } =
            self.context.show_or_stub(&head).map_err(|error| status::unreadable(&error))?;
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
        let context = self.context.clone();
        let page = journal::blocking(move || listing::page(&context, &query)).await;
        page.map(Response::new).map_err(|error| status::unreadable(&error))
    }

    async fn set_labels(
        &self,
        request: Request<v1::SetLabelsRequest>,
    ) -> Result<Response<v1::SetLabelsResponse>, Status> {
        let caller = caller(&request)?;
        let session = labels::set(&self.context, &caller, request.into_inner()).await;
        let session = Some(session.map_err(status::refused)?);
        Ok(Response::new(v1::SetLabelsResponse { session }))
    }

    async fn signal_session(
        &self,
        request: Request<v1::SignalSessionRequest>,
    ) -> Result<Response<v1::SignalSessionResponse>, Status> {
        let caller = caller(&request)?;
        let answer = waits::signal(&self.context, &caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status::refused)
    }

    async fn decide_approval(
        &self,
        request: Request<v1::DecideApprovalRequest>,
    ) -> Result<Response<v1::DecideApprovalResponse>, Status> {
        let caller = caller(&request)?;
        let session = waits::decide(&self.context, &caller, request.into_inner()).await;
        let session = Some(session.map_err(status::refused)?);
        Ok(Response::new(v1::DecideApprovalResponse { session }))
    }

    async fn fork_session(
        &self,
        request: Request<v1::ForkSessionRequest>,
    ) -> Result<Response<v1::ForkSessionResponse>, Status> {
        let caller = caller(&request)?;
        let forked = fork::fork(&self.context, &caller, request.into_inner()).await;
        forked.map(Response::new).map_err(status::refused)
    }

    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let caller = caller(&request)?;
        let head = self.context.find(&caller, request.into_inner().session).map_err(status::refused)?;
        let answer = budgets(&self.context, &head).map_err(|error| status::unreadable(&error))?;
        Ok(Response::new(answer))
    }

    type SubscribeSessionStream = ReceiverStream<Result<v1::SubscribeSessionResponse, Status>>;

    async fn subscribe_session(
        &self,
        request: Request<v1::SubscribeSessionRequest>,
    ) -> Result<Response<Self::SubscribeSessionStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let tokens = subscription_tokens(&request).map_err(|no| status::rejected(&no))?;
        let head = self.context.find(&caller, request.session).map_err(status::refused)?;
        let slot = self.subscribers.admit().map_err(|no| status::rejected(&no))?;
        let detail = if request.headers_only { Detail::Headers } else { Detail::Full };
        let from = convert::from_seq(request.from_seq);
        let subscription = Subscription {
            session: head.session,
            journal: Journal::new(self.context.ledger.reader().clone(), head.session, from, detail),
            until_caught_up: request.until_caught_up,
            tokens,
            _slot: slot,
        };
        let (outlet, stream) = journal::stream();
        let outlet = outlet.patient_for(self.subscribers.stall());
        drop(tokio::spawn(subscription.run(self.context.clone(), outlet)));
        Ok(Response::new(stream))
    }
}

impl Service {
    async fn wait(
        &self,
        caller: &Principal,
        request: v1::AwaitSessionRequest,
    ) -> Result<v1::AwaitSessionResponse, Refused> {
        let context = &self.context;
        let mut head = context.find(caller, request.session)?;
        let deadline_ms = context.clock.mono_ms().saturating_add(request.wait_ms.min(WAIT_MS_MAX));
        loop {
            head = context.continued(&head)?.unwrap_or(head); // 2
            let leased = self.is_leased(&head);
            let left_ms = deadline_ms.saturating_sub(context.clock.mono_ms());
            let waiting = head.status == SessionStatus::Waiting;
            // A waiting session is nobody's to take.
            let unleased = request.until_unleased && !leased && !waiting;
            // The successor of one that is continued is about to begin.
            let goes_on = (waiting && request.through_waits) || head.continued_to.is_some();
            let still = stands_still(&head.status) && !goes_on;
            if still || unleased || left_ms == 0 || *context.stopping.borrow() {
                let Shown { session, output, failure } = context.show(&head).map_err(Refused::Failed)?;
                return Ok(v1::AwaitSessionResponse { session: Some(session), output, failure, leased });
            }
            let look_ms = if request.until_unleased { left_ms.min(LEASE_LOOK_MS) } else { left_ms };
            tokio::select! {
                () = context.ledger.reader().changed(head.session, head.seq), if head.continued_to.is_none() => {}
                () = changed_to(context, &head), if head.continued_to.is_some() => {}
                () = tokio::time::sleep(Duration::from_millis(look_ms)) => {}
                () = context.stopped() => {}
            }
            head = context.visible(caller, head.session)?;
        }
    }

    fn is_leased(&self, head: &Head) -> bool {
        head.holder.is_some_and(|holder| self.context.fleet.holder_alive(holder))
    }
}

/// How far the subscriber has read what zones stream; `None`: it does not want that.
fn subscription_tokens(request: &v1::SubscribeSessionRequest) -> Result<Option<Cursor>, Rejection> {
    let places = convert::token_offsets(&request.from_tokens)?;
    Ok(request.tokens.then(|| Cursor::new(places)))
}

/// Resolves when the successor of a session has begun.
async fn changed_to(context: &Context, head: &Head) {
    if let Some(successor) = head.continued_to {
        context.ledger.reader().changed(successor, Seq(0)).await;
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

/// How the budgets above a session stand, nearest first.
fn budgets(context: &Context, head: &Head) -> Result<v1::GetBudgetResponse, ReadError> {
    let mut budgets = Vec::with_capacity(head.budget.owners.len());
    for owner in &head.budget.owners {
        let row = context.ledger.reader().budget(owner.session)?;
        budgets.extend(row.map(|row| convert::budget_state(owner.session, &row)));
    }
    Ok(v1::GetBudgetResponse { session: Some(context.session(head)?), budgets })
}
