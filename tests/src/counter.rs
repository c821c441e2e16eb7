//! A server that counts what it is asked to do: the outside world of a guarded effect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Counts calls by the key they carry. A call is counted when it arrives and answered when the gate opens.
pub struct Counter {
    /// `host:port`.
    pub address: String,
    counts: Arc<Mutex<HashMap<String, u32>>>,
    gate: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Counter {
    /// Starts; answers at once if `open`.
    pub async fn start(open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let counts = Arc::<Mutex<HashMap<String, u32>>>::default();
        let (gate, opened) = watch::channel(open);
        let seen = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&seen), opened.clone()));
            }
        });
        Self { address, counts, gate, accepting }
    }

    /// How often an effect was asked for.
    pub fn count(&self, key: &str) -> u32 {
        self.counts.lock().expect("no test panics in here").get(key).copied().unwrap_or(0)
    }

    /// Answers all calls, those that wait too.
    pub fn open(&self) {
        self.gate.send_replace(true);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut socket: TcpStream,
    counts: Arc<Mutex<HashMap<String, u32>>>,
    mut gate: watch::Receiver<bool>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.split_whitespace().nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    *counts.lock().expect("no test panics in here").entry(key).or_default() += 1;
    if gate.wait_for(|open| *open).await.is_ok() {
        // Who asked may be gone.
        let _ =
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    }
}

/// Asks a counting server for an effect; returns when it was answered.
///
/// # Errors
/// If the server cannot be reached or closes without an answer: then the outcome is unknown.
pub async fn call(address: &str, key: &str) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket
        .write_all(format!("POST /{key} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other(answer)) }
}
