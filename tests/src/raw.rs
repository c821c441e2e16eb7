//! Calls of any method by its path, with bytes for messages: what somebody sends who has only a socket and TLS.

use std::time::Duration;

use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// How long a stream that goes on is listened to.
const LISTEN: Duration = Duration::from_millis(300);

/// What a call was answered with.
#[derive(Debug)]
pub struct Answer {
    /// How it ended; `Ok` if it was still going on.
    pub code: Code,
    /// Words of the status.
    pub message: String,
    /// The messages that came, one after the other.
    pub bytes: Vec<u8>,
    /// The first of them.
    pub first: Vec<u8>,
}

impl Answer {
    /// True if it was turned away at the door: nothing of a service was reached.
    pub fn is_refused(&self) -> bool {
        matches!(self.code, Code::Unauthenticated | Code::PermissionDenied) && self.bytes.is_empty()
    }

    /// True if some text occurs in what came.
    pub fn contains(&self, text: &str) -> bool {
        let needle = text.as_bytes();
        let windows = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        !needle.is_empty() && (windows(&self.bytes) || windows(self.message.as_bytes()))
    }
}

/// Calls a method with an `authorization` header; `None`: without.
pub async fn call(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
    messages: Vec<Vec<u8>>,
) -> Answer {
    exchange(channel, path, authorization, tokio_stream::iter(messages)).await
}

/// As [`call`], but the caller's side of the stream stays open.
pub async fn call_and_stay(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
    messages: Vec<Vec<u8>>,
) -> Answer {
    let stay = tokio_stream::StreamExt::chain(tokio_stream::iter(messages), tokio_stream::pending());
    exchange(channel, path, authorization, stay).await
}

async fn exchange(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
    messages: impl tokio_stream::Stream<Item = Vec<u8>> + Send + 'static,
) -> Answer {
    let mut request = Request::new(messages);
    if let Some(value) = authorization {
        let value: MetadataValue<_> = value.parse().expect("a header is ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    let path: PathAndQuery = path.parse().expect("a path");
    let (mut bytes, mut first) = (Vec::new(), Vec::new());
    let ended = tokio::time::timeout(LISTEN * 20, async {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut stream = grpc.streaming(request, path, Raw).await?.into_inner();
        while let Ok(message) = tokio::time::timeout(LISTEN, stream.message()).await {
            let Some(message) = message? else { break };
            if bytes.is_empty() {
                first.clone_from(&message);
            }
            bytes.extend_from_slice(&message);
        }
        Ok::<(), Status>(())
    });
    let status = match ended.await {
        Ok(Ok(())) => Status::ok(""),
        Ok(Err(status)) => status,
        Err(_) => panic!("a call was not answered at all"),
    };
    Answer { code: status.code(), message: status.message().to_owned(), bytes, first }
}

/// Bytes in, bytes out.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
