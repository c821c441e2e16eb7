//! The tower layer around the whole router: no request passes it unchecked (A1).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, header::AUTHORIZATION};
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::body::{Watch, Watched};
use super::{Gate, Principal, Refusal, access};
use crate::ids::token_hash;
use crate::telemetry::{Metrics, ReasonLabel};

/// Creates the layer that checks every request against `gate`.
pub fn layer(gate: Gate, metrics: Metrics) -> AuthLayer {
    AuthLayer { gate: Arc::new(gate), metrics }
}

/// See [`layer`].
#[derive(Clone)]
pub struct AuthLayer {
    gate: Arc<Gate>,
    metrics: Metrics,
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, gate: Arc::clone(&self.gate), metrics: self.metrics.clone() }
    }
}

/// A service behind the check of [`layer`].
#[derive(Clone)]
pub struct Auth<S> {
    inner: S,
    gate: Arc<Gate>,
    metrics: Metrics,
}

impl<S> Auth<S> {
    /// Returns who calls and with which token, or why the request is refused.
    fn check(&self, request: &Request<Body>) -> Result<(Principal, [u8; 32]), Refusal> {
        let hash = presented_hash(request)?;
        let principal = self.gate.find(&hash)?;
        access::may_call(principal.role, request.uri().path())?;
        Ok((principal, hash))
    }

    fn refuse(&self, refusal: Refusal, path: &str) -> Response<Body> {
        let reason = refusal.reason();
        tracing::debug!(reason, path, "request refused");
        self.metrics.requests_refused.get_or_create(&ReasonLabel { reason }).inc();
        tonic::Status::from(refusal).into_http()
    }
}

/// Reads the header's token; the token itself is dropped at once, only its hash goes on.
fn presented_hash(request: &Request<Body>) -> Result<[u8; 32], Refusal> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Refusal::Missing) };
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Refusal::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(Refusal::Missing);
    }
    Ok(token_hash(token.trim()))
}

impl<S> Service<Request<Body>> for Auth<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // A caller may carry extensions of its own making when the layer is nested; only ours counts.
        request.extensions_mut().remove::<Principal>();
        if access::is_open(request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let (principal, hash) = match self.check(&request) {
            Ok(passed) => passed,
            Err(refusal) => {
                let response = self.refuse(refusal, request.uri().path());
                return Box::pin(async move { Ok(response) });
            }
        };
        let span = tracing::debug_span!(
            "rpc",
            path = request.uri().path(),
            token = &*principal.name,
            role = principal.role.name(),
            namespace = &*principal.namespace,
        );
        request.extensions_mut().insert(principal);
        let watch = Arc::new(Watch::new(Arc::clone(&self.gate), hash));
        let request = request.map(|body| Body::new(Watched::request(body, Arc::clone(&watch))));
        let response = self.inner.call(request);
        Box::pin(
            async move { Ok(response.await?.map(|body| Body::new(Watched::response(body, watch)))) }
                .instrument(span),
        )
    }
}
