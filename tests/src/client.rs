//! Every service of an engine over TLS, with a token.

use cellaflow_proto::v1::archive_service_client::ArchiveServiceClient;
use cellaflow_proto::v1::context_service_client::ContextServiceClient;
use cellaflow_proto::v1::engine_service_client::EngineServiceClient;
use cellaflow_proto::v1::operator_service_client::OperatorServiceClient;
use cellaflow_proto::v1::session_service_client::SessionServiceClient;
use cellaflow_proto::v1::worker_service_client::WorkerServiceClient;
use cellaflow_proto::v1::{self, Refusal, Role};
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::connection::Connection;

/// Largest message taken, in bytes: thin clients get whole results inline.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A channel that sends a token with every request.
pub type Authorised = InterceptedService<Channel, Bearer>;

/// Adds the token.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<tonic::metadata::Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// One connection to an engine.
#[derive(Clone, Debug)]
pub struct Client {
    /// The connection itself, without a token.
    pub channel: Channel,
    bearer: Bearer,
}

impl Client {
    /// Connects with the token of a connection; empty: none.
    pub async fn connect(to: &Connection) -> Self {
        let value = format!("Bearer {}", to.token).parse().expect("a token is ASCII");
        Self { channel: to.channel().await, bearer: Bearer((!to.token.is_empty()).then_some(value)) }
    }

    /// The channel with its token.
    pub fn authorised(&self) -> Authorised {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// `EngineService`.
    pub fn engine(&self) -> EngineServiceClient<Authorised> {
        EngineServiceClient::new(self.authorised())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `SessionService`.
    pub fn sessions(&self) -> SessionServiceClient<Authorised> {
        SessionServiceClient::new(self.authorised()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `ArchiveService`.
    pub fn archive(&self) -> ArchiveServiceClient<Authorised> {
        ArchiveServiceClient::new(self.authorised())
    }

    /// `OperatorService`.
    pub fn operator(&self) -> OperatorServiceClient<Authorised> {
        OperatorServiceClient::new(self.authorised())
    }

    /// `ContextService`.
    pub fn contexts(&self) -> ContextServiceClient<Authorised> {
        ContextServiceClient::new(self.authorised()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// `WorkerService`.
    pub fn workers(&self) -> WorkerServiceClient<Authorised> {
        WorkerServiceClient::new(self.authorised()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A session as it is now.
    pub async fn session(&self, session_id: &str) -> v1::Session {
        let answer = self.sessions().get_session(v1::GetSessionRequest { session: by_id(session_id) }).await;
        answer.expect("the session is there").into_inner().session.expect("an answer has it")
    }

    /// Waits until a session is as `wanted` says.
    pub async fn session_when(
        &self,
        what: &str,
        session_id: &str,
        wanted: impl Fn(&v1::Session) -> bool,
    ) -> v1::Session {
        crate::wait::until(what, async || Some(self.session(session_id).await).filter(&wanted)).await
    }

    /// Makes a token; returns its id and its secret.
    pub async fn token(&self, role: Role, namespace: &str, ttl_ms: u64) -> (String, String) {
        let name = format!("{namespace}-{}", role.as_str_name());
        let request =
            v1::CreateTokenRequest { name, role: role.into(), namespace: namespace.to_owned(), ttl_ms };
        let made = self.operator().create_token(request).await.expect("an admin makes tokens").into_inner();
        (made.token.expect("an answer has it").token_id, made.secret)
    }

    /// Revokes a token.
    pub async fn revoke(&self, token_id: &str) {
        let request = v1::RevokeTokenRequest { token_id: token_id.to_owned() };
        self.operator().revoke_token(request).await.expect("an admin revokes tokens");
    }

    /// Walks the ledger, payloads included: chains, heads against folds, digests.
    ///
    /// # Panics
    /// On the first fault, or if the walk was cut off.
    pub async fn verify(&self) -> v1::VerifySummary {
        use v1::verify_ledger_response::Body;
        let request = v1::VerifyLedgerRequest { session_id: String::new(), payloads: true };
        let mut walk =
            self.operator().verify_ledger(request).await.expect("an admin may verify").into_inner();
        let mut summary = None;
        while let Some(message) = walk.message().await.expect("the walk goes on") {
            match message.body {
                Some(Body::Fault(fault)) => panic!("the ledger is damaged: {fault:?}"),
                Some(Body::Summary(last)) => summary = Some(last),
                Some(Body::Progress(_)) | None => {}
            }
        }
        summary.expect("a walk that was not cut off ends with a summary")
    }
}

/// Names a session by its id.
pub fn by_id(session_id: &str) -> Option<v1::SessionRef> {
    Some(v1::SessionRef { by: Some(v1::session_ref::By::SessionId(session_id.to_owned())) })
}

/// `google.rpc.Status`, in which a unary call's refusal is.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The refusal that a status carries.
///
/// # Panics
/// If it carries none: then it was no refusal of a service.
pub fn refusal(status: &Status) -> Refusal {
    let rich = RichStatus::decode(status.details()).expect("details are a google.rpc.Status");
    let any = rich.details.first().unwrap_or_else(|| panic!("no refusal in {status:?}"));
    Refusal::decode(&*any.value).expect("the detail is a Refusal")
}
