//! `OperatorService`: what operators do, and what the engine says of itself.
//!
//! 1. A token's secret is minted here, answered once, and known to the ledger only by its hash.
//! 2. Only an admin of all namespaces makes tokens for another namespace than its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use cellaflow_proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::auth::Principal;
use super::context::{Context, caller, not_found};
use super::control::{self, Action, Request as Asked};
use super::convert::{self, Intake};
use super::journal::{self, Ended, Outlet};
use super::tokens;
use super::verify::{self, Scope};
use super::{backup, status, vitals, workflows};
use crate::graph::command::Command;
use crate::graph::ids::SessionId;
use crate::ledger::{Blobs, Origin, ReadError, Refused, Submission};

/// See the module.
pub struct Service(pub Context);

impl Service {
    /// Makes a server of it that takes requests as large as a payload may be.
    #[must_use]
    pub fn into_server(self) -> v1::operator_service_server::OperatorServiceServer<Self> {
        let message_bytes_max = self.0.message_bytes_max();
        v1::operator_service_server::OperatorServiceServer::new(self)
            .max_decoding_message_size(message_bytes_max)
    }
}

#[tonic::async_trait]
impl v1::operator_service_server::OperatorService for Service {
    async fn resume_session(
        &self,
        request: Request<v1::ResumeSessionRequest>,
    ) -> Result<Response<v1::ResumeSessionResponse>, Status> {
        let caller = caller(&request)?;
        let session = self.resume(&caller, &request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(v1::ResumeSessionResponse { session: Some(session) }))
    }

    async fn raise_budget(
        &self,
        request: Request<v1::RaiseBudgetRequest>,
    ) -> Result<Response<v1::RaiseBudgetResponse>, Status> {
        let caller = caller(&request)?;
        let raised = self.raise(&caller, &request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(raised))
    }

    async fn resolve_step(
        &self,
        request: Request<v1::ResolveStepRequest>,
    ) -> Result<Response<v1::ResolveStepResponse>, Status> {
        let caller = caller(&request)?;
        let session = self.resolve(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(v1::ResolveStepResponse { session: Some(session) }))
    }

    async fn accept_divergence(
        &self,
        request: Request<v1::AcceptDivergenceRequest>,
    ) -> Result<Response<v1::AcceptDivergenceResponse>, Status> {
        let caller = caller(&request)?;
        let session = self.accept(&caller, request.into_inner()).await.map_err(status::refused)?;
        Ok(Response::new(v1::AcceptDivergenceResponse { session: Some(session) }))
    }

    async fn pause_session(
        &self,
        request: Request<v1::PauseSessionRequest>,
    ) -> Result<Response<v1::PauseSessionResponse>, Status> {
        let caller = caller(&request)?;
        let sent = request.into_inner();
        let asked = Asked::parse(Action::Pause, &sent.session_id, sent.reason, &sent.dedupe_id);
        let session = Some(self.act(&caller, asked).await?);
        Ok(Response::new(v1::PauseSessionResponse { session }))
    }

    async fn retry_session(
        &self,
        request: Request<v1::RetrySessionRequest>,
    ) -> Result<Response<v1::RetrySessionResponse>, Status> {
        let caller = caller(&request)?;
        let sent = request.into_inner();
        let asked = Asked::parse(Action::Retry, &sent.session_id, sent.reason, &sent.dedupe_id);
        let session = Some(self.act(&caller, asked).await?);
        Ok(Response::new(v1::RetrySessionResponse { session }))
    }

    async fn cancel_session(
        &self,
        request: Request<v1::CancelSessionRequest>,
    ) -> Result<Response<v1::CancelSessionResponse>, Status> {
        let caller = caller(&request)?;
        let sent = request.into_inner();
        let asked = Asked::parse(Action::Cancel, &sent.session_id, sent.reason, &sent.dedupe_id);
        let session = Some(self.act(&caller, asked).await?);
        Ok(Response::new(v1::CancelSessionResponse { session }))
    }

    async fn terminate_session(
        &self,
        request: Request<v1::TerminateSessionRequest>,
    ) -> Result<Response<v1::TerminateSessionResponse>, Status> {
        let caller = caller(&request)?;
        let sent = request.into_inner();
        let asked = Asked::parse(Action::Terminate, &sent.session_id, sent.reason, &sent.dedupe_id);
        let session = Some(self.act(&caller, asked).await?);
        Ok(Response::new(v1::TerminateSessionResponse { session }))
    }

    async fn release_session(
        &self,
        request: Request<v1::ReleaseSessionRequest>,
    ) -> Result<Response<v1::ReleaseSessionResponse>, Status> {
        let caller = caller(&request)?;
        let sent = request.into_inner();
        let asked = Asked::parse(Action::Release, &sent.session_id, String::new(), &sent.dedupe_id);
        let session = Some(self.act(&caller, asked).await?);
        Ok(Response::new(v1::ReleaseSessionResponse { session }))
    }

    type BatchSessionsStream = ReceiverStream<Result<v1::BatchSessionsResponse, Status>>;

    async fn batch_sessions(
        &self,
        request: Request<v1::BatchSessionsRequest>,
    ) -> Result<Response<Self::BatchSessionsStream>, Status> {
        let caller = caller(&request)?;
        let batch = control::batch(&caller, request.into_inner()).map_err(|no| status::rejected(&no))?;
        let (outlet, stream) = journal::stream();
        drop(tokio::spawn(control::run(self.0.clone(), caller, batch, outlet)));
        Ok(Response::new(stream))
    }

    type VerifyLedgerStream = ReceiverStream<Result<v1::VerifyLedgerResponse, Status>>;

    async fn verify_ledger(
        &self,
        request: Request<v1::VerifyLedgerRequest>,
    ) -> Result<Response<Self::VerifyLedgerStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let scope = self.scope(&caller, &request.session_id).map_err(status::refused)?;
        let (outlet, stream) = journal::stream();
        drop(tokio::spawn(verify_to(self.0.clone(), scope, request.payloads, outlet)));
        Ok(Response::new(stream))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let caller = caller(&request)?;
        let created = tokens::create(&self.0, &caller, request.into_inner()).await;
        created.map(Response::new).map_err(status::refused)
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let caller = caller(&request)?;
        let tokens = tokens::list(&self.0, &caller, request.into_inner().all);
        let tokens = tokens.map_err(|error| status::unreadable(&error))?;
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let caller = caller(&request)?;
        let token = tokens::revoke(&self.0, &caller, &request.into_inner().token_id).await;
        let token = Some(token.map_err(status::refused)?);
        Ok(Response::new(v1::RevokeTokenResponse { token }))
    }

    async fn backup_ledger(
        &self,
        request: Request<v1::BackupLedgerRequest>,
    ) -> Result<Response<v1::BackupLedgerResponse>, Status> {
        let caller = caller(&request)?;
        let written = backup::write(&self.0, &caller, request.into_inner()).await;
        written.map(Response::new).map_err(status::refused)
    }

    async fn list_workflows(
        &self,
        request: Request<v1::ListWorkflowsRequest>,
    ) -> Result<Response<v1::ListWorkflowsResponse>, Status> {
        let caller = caller(&request)?;
        let listed = workflows::list(&self.0, &caller, request.into_inner()).await;
        listed.map(Response::new).map_err(status::refused)
    }

    async fn drain_workflow(
        &self,
        request: Request<v1::DrainWorkflowRequest>,
    ) -> Result<Response<v1::DrainWorkflowResponse>, Status> {
        let caller = caller(&request)?;
        let version = workflows::drain(&self.0, &caller, request.into_inner()).await;
        let version = Some(version.map_err(status::refused)?);
        Ok(Response::new(v1::DrainWorkflowResponse { version }))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let caller = caller(&request)?;
        let context = self.0.clone();
        let answer = journal::blocking(move || engine_status(&context, &caller)).await;
        answer.map(Response::new).map_err(|error| status::unreadable(&error))
    }
}

impl Service {
    async fn resume(
        &self,
        caller: &Principal,
        request: &v1::ResumeSessionRequest,
    ) -> Result<v1::Session, Refused> {
        let asked = Asked::parse(Action::Resume, &request.session_id, String::new(), &request.dedupe_id);
        control::act(&self.0, caller, asked.map_err(Refused::Rejected)?).await
    }

    async fn act(
        &self,
        caller: &Principal,
        asked: Result<Asked, crate::graph::command::Rejection>,
    ) -> Result<v1::Session, Status> {
        let asked = asked.map_err(|no| status::rejected(&no))?;
        control::act(&self.0, caller, asked).await.map_err(status::refused)
    }

    async fn raise(
        &self,
        caller: &Principal,
        request: &v1::RaiseBudgetRequest,
    ) -> Result<v1::RaiseBudgetResponse, Refused> {
        let command = convert::raise_budget(request, Arc::clone(&caller.name)).map_err(Refused::Rejected)?;
        let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
        self.0.visible(caller, session)?;
        let (blobs, _) = self.intake(session).await?;
        let shown = self.carry_out(command, blobs, session).await?;
        let row = self.0.ledger.reader().budget(session).map_err(Refused::Failed)?;
        let budget = row.map(|row| convert::budget_state(session, &row));
        Ok(v1::RaiseBudgetResponse { session: Some(shown), budget })
    }

    async fn resolve(
        &self,
        caller: &Principal,
        request: v1::ResolveStepRequest,
    ) -> Result<v1::Session, Refused> {
        let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
        self.0.visible(caller, session)?;
        let (mut blobs, namespace_salt) = self.intake(session).await?;
        let mut intake =
            Intake { blobs: &mut blobs, namespace_salt: &namespace_salt, transfers: &mut |_| None };
        let by = Arc::clone(&caller.name);
        let command = convert::resolve_step(request, by, &mut intake).map_err(Refused::Rejected)?;
        self.carry_out(command, blobs, session).await
    }

    async fn accept(
        &self,
        caller: &Principal,
        request: v1::AcceptDivergenceRequest,
    ) -> Result<v1::Session, Refused> {
        let session = convert::session_id(&request.session_id).map_err(Refused::Rejected)?;
        self.0.visible(caller, session)?;
        let (blobs, _) = self.intake(session).await?;
        let command = convert::accept(request, Arc::clone(&caller.name)).map_err(Refused::Rejected)?;
        self.carry_out(command, blobs, session).await
    }

    /// Where the payloads of a session's command go, and the salt of its namespace.
    async fn intake(&self, session: SessionId) -> Result<(Blobs, crate::ledger::digest::Salt), Refused> {
        let place = self.0.ledger.lineage(session).map_err(Refused::Failed)?.ok_or_else(not_found)?;
        let info = self.0.ledger.namespace(&place.namespace).await?;
        Ok((self.0.ledger.blobs(&place.salt), info.salt))
    }

    async fn carry_out(
        &self,
        command: Command,
        blobs: Blobs,
        session: SessionId,
    ) -> Result<v1::Session, Refused> {
        let submission =
            Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() };
        let committed = self.0.ledger.submit(submission).await?;
        let head = match committed.head {
            Some(head) => head,
            None => self.0.ledger.reader().head(session).map_err(Refused::Failed)?.ok_or_else(not_found)?,
        };
        self.0.session(&head).map_err(Refused::Failed)
    }

    fn scope(&self, caller: &Principal, session_id: &str) -> Result<Scope, Refused> {
        if !session_id.is_empty() {
            let session = convert::session_id(session_id).map_err(Refused::Rejected)?;
            return self.0.visible(caller, session).map(|head| Scope::Session(head.session));
        }
        let mut namespaces = self.0.ledger.reader().namespaces().map_err(Refused::Failed)?;
        namespaces.retain(|info| caller.sees(&info.name));
        Ok(Scope::Namespaces(namespaces))
    }
}

async fn verify_to(context: Context, scope: Scope, payloads: bool, outlet: Outlet<v1::VerifyLedgerResponse>) {
    let walked = journal::blocking(move || {
        let mut report = |body| {
            let going_on = !*context.stopping.borrow();
            going_on && outlet.send_blocking(v1::VerifyLedgerResponse { body: Some(body) }).is_ok()
        };
        let walked = verify::walk(&context, &scope, payloads, &mut report);
        Ok((outlet, walked))
    })
    .await;
    if let Ok((outlet, walked)) = walked {
        outlet.end(walked.map_err(Ended::Failed)).await;
    }
}

fn engine_status(context: &Context, caller: &Principal) -> Result<v1::GetStatusResponse, ReadError> {
    let reader = context.ledger.reader();
    let identity = context.ledger.identity();
    let mut by_status: BTreeMap<i32, u64> = BTreeMap::new();
    for session in reader.live()? {
        let head = reader.head(session)?.filter(|head| caller.sees(&head.namespace));
        if let Some(head) = head {
            *by_status.entry(convert::status_to_wire(&head.status).into()).or_default() += 1;
        }
    }
    let stats = reader.stats()?;
    let tables = [stats.rows, stats.ledger];
    Ok(v1::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ledger_id: SessionId(identity.ledger_id).to_string(),
        incarnation: identity.incarnation.to_string(),
        frame: reader.watermark().0,
        uptime_ms: context.vitals.uptime_ms(),
        sessions: by_status.into_iter().map(|(status, count)| v1::StatusCount { status, count }).collect(),
        workers: context.fleet.workers(&|namespace| caller.sees(namespace)),
        disk_bytes: tables.iter().map(|table| table.disk_bytes + table.buffered_bytes).sum(),
        disk_free_bytes: context.vitals.disk_free_bytes(),
        rss_bytes: vitals::rss_bytes(),
        disk_low: context.vitals.disk_low(),
    })
}
