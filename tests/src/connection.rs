//! The connection file of a dev engine, and channels made from it.

use std::path::Path;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

/// What a client needs to reach an engine.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Address, `https://127.0.0.1:PORT`.
    pub url: String,
    /// Bearer token.
    pub token: String,
    /// Certificate authority, PEM.
    pub ca: String,
}

/// A channel that sends a token with every request.
pub type Authenticated = InterceptedService<Channel, Bearer>;

/// Adds a token to every request.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Connection {
    /// Reads a connection file; `None` while there is none, or not a whole one.
    pub fn read(path: &Path) -> Option<(Self, u64)> {
        let text = std::fs::read_to_string(path).ok()?;
        let file: serde_json::Value = serde_json::from_str(&text).ok()?;
        let field = |name: &str| file.get(name)?.as_str().map(str::to_owned);
        let connection = Self { url: field("url")?, token: field("token")?, ca: field("ca")? };
        Some((connection, file.get("pid")?.as_u64()?))
    }

    /// Opens a channel without a token, as somebody who has none would.
    pub async fn channel(&self) -> Channel {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca));
        let endpoint = Endpoint::from_shared(self.url.clone()).unwrap().tls_config(tls).unwrap();
        endpoint.connect_timeout(Duration::from_secs(5)).connect().await.unwrap()
    }

    /// Opens a channel with this connection's token.
    pub async fn authenticated(&self) -> Authenticated {
        self.with_token(&self.token).await
    }

    /// Opens a channel with another token.
    pub async fn with_token(&self, token: &str) -> Authenticated {
        let bearer = format!("Bearer {token}").parse().unwrap();
        InterceptedService::new(self.channel().await, Bearer(bearer))
    }
}
