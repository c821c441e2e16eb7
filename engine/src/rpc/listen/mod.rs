//! The gRPC port: accepts connections, insists on TLS, and tells plaintext callers what to do.
//!
//! Owns: the accept loop, the choice by a connection's first byte, handshakes and their limits. Never: reads a request
//! (tonic does), knows a token (`rpc::auth`).
//!
//! Invariants:
//! - N1 Only connections that finished a TLS handshake reach the router.
//! - N2 The accept loop never waits for a peer: classification, handshakes and refusals run in tasks of their own, at
//!   most `handshakes_max` at a time and `handshake_ms_max` each.
//! - N3 At most `connections_max` connections are open; the one above is closed at once, without a task.
//! - N4 Plaintext HTTP gets an answer that a person understands, in its own protocol, and is then closed.

mod connection;
mod plaintext;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

pub use connection::Connection;

use crate::config::Limits;
use crate::telemetry::{Metrics, ReasonLabel};

/// First byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Pause after a failed accept: the usual cause, no free file descriptor, does not pass by itself at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What the accept loop needs besides its socket.
#[derive(Clone)]
pub struct Options {
    /// Server side of TLS, as new handshakes find it.
    pub tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    /// Connections open at a time.
    pub connections_max: usize,
    /// Handshakes and refusals under way at a time.
    pub handshakes_max: usize,
    /// Time for one handshake or refusal.
    pub handshake_max: Duration,
    /// Where connections and refusals are counted.
    pub metrics: Metrics,
}

impl Options {
    /// Takes the limits from the settings.
    pub fn new(tls: watch::Receiver<Arc<rustls::ServerConfig>>, limits: &Limits, metrics: Metrics) -> Self {
        let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            tls,
            connections_max: count(limits.connections_max),
            handshakes_max: count(limits.handshakes_max),
            handshake_max: Duration::from_millis(limits.handshake_ms_max),
            metrics,
        }
    }
}

/// Binds the gRPC port, ready for [`incoming`]; port 0 takes any free one.
///
/// # Errors
/// The system's reason with what to do about it.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            io::Error::new(error.kind(), "taken by another program: stop it, or choose another port")
        }
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            "not allowed: choose a port above 1023, or grant CAP_NET_BIND_SERVICE",
        ),
        kind => io::Error::new(kind, format!("{error}; choose an address of this machine")),
    })
}

/// Starts the accept loop; the stream yields connections for `serve_with_incoming_shutdown`.
///
/// The loop ends, and the port closes, when `shutdown` completes or the stream is dropped. Must be called inside a
/// tokio runtime.
pub fn incoming(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, stream) = mpsc::channel(options.handshakes_max);
    tokio::spawn(async move {
        tokio::select! {
            () = accept(&listener, &options, &ready) => {}
            () = shutdown => {}
            () = ready.closed() => {}
        }
    });
    ReceiverStream::new(stream)
}

type Ready = mpsc::Sender<io::Result<Connection>>;

/// What a connection holds while it is open, and what it holds until it is admitted.
struct Permits {
    connection: OwnedSemaphorePermit,
    handshake: OwnedSemaphorePermit,
}

struct Slots {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl Slots {
    /// Takes one slot of each kind, or says which kind ran out.
    fn take(&self) -> Result<Permits, &'static str> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| "connections_max")?;
        let handshake = Arc::clone(&self.handshakes).try_acquire_owned().map_err(|_| "handshakes_max")?;
        Ok(Permits { connection, handshake })
    }
}

async fn accept(listener: &TcpListener, options: &Options, ready: &Ready) {
    let slots = Slots {
        connections: Arc::new(Semaphore::new(options.connections_max)),
        handshakes: Arc::new(Semaphore::new(options.handshakes_max)),
    };
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; raise the limit of open files if this repeats");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        match slots.take() {
            Ok(permits) => drop(tokio::spawn(admit(socket, options.clone(), ready.clone(), permits))),
            // The socket is dropped: its peer sees a closed connection and backs off (N3).
            Err(reason) => refused(options, reason),
        }
    }
}

/// Finds out what a connection speaks and hands it on, answers it, or drops it (N2, N4).
async fn admit(socket: TcpStream, options: Options, ready: Ready, permits: Permits) {
    let work = async {
        let mut first = [0; 1];
        // A peer that closes without a byte is a port probe, not worth a count.
        if socket.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        if first != [TLS_HANDSHAKE] {
            refused(&options, "plaintext");
            plaintext::refuse(socket).await;
            return Ok(None);
        }
        // Small messages must not wait for an acknowledgement of the one before.
        socket.set_nodelay(true)?;
        let tls = Arc::clone(&options.tls.borrow());
        TlsAcceptor::from(tls).accept(socket).await.map(Some)
    };
    match tokio::time::timeout(options.handshake_max, work).await {
        Ok(Ok(Some(tls))) => {
            drop(permits.handshake);
            let open = options.metrics.connections_open.clone();
            // A send fails when the server has stopped: the connection is closed with it.
            let _ = ready.send(Ok(Connection::new(tls, permits.connection, open))).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            refused(&options, "handshake");
        }
        Err(_) => refused(&options, "handshake_ms_max"),
    }
}

fn refused(options: &Options, reason: &'static str) {
    options.metrics.connections_refused.get_or_create(&ReasonLabel { reason }).inc();
}

#[cfg(test)]
mod tests;
