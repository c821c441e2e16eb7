//! Folds sessions: those that the engine hands out, and those that are behind.

use cellaflow_proto::v1::context_service_client::ContextServiceClient;
use cellaflow_proto::v1::session_service_client::SessionServiceClient;
use cellaflow_proto::v1::{self, StaleReason};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::fold::{Folded, Made, passes};
use super::reader::{Events, Sessions};
use crate::ccs::{Reason, Settings};
use crate::connection::Authenticated;

/// How long one request for sessions waits.
const WAIT_MS: u64 = 20_000;
/// How often a session is tried that other compactors fold at the same time.
const TRIES_MAX: u32 = 4;
/// Largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// Why a session was not folded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refused or could not be asked.
    #[error("the engine answered: {0}")]
    Engine(Box<Status>),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Engine(Box::new(status))
    }
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sessions of which something was stored.
    pub sessions: u64,
    /// Versions that were made.
    pub versions: u64,
    /// Sessions that came to nothing; the next round tries again.
    pub failed: u64,
}

/// Makes contexts of the sessions of one namespace.
#[derive(Clone)]
pub struct Contexts {
    contexts: ContextServiceClient<Authenticated>,
    sessions: Sessions,
    namespace: String,
    settings: Settings,
    stop: watch::Receiver<bool>,
}

/// What is known of a session while it is folded.
struct Open {
    session_id: String,
    version: u32,
    watermark: u64,
    folded: Folded,
    made: u64,
}

impl Contexts {
    /// Works on a namespace until `stop` becomes true.
    #[must_use]
    pub fn new(
        channel: &Authenticated,
        namespace: &str,
        settings: Settings,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let contexts = ContextServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let sessions =
            SessionServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self { contexts, sessions, namespace: namespace.to_owned(), settings, stop }
    }

    /// Folds every session that is behind, once.
    ///
    /// # Errors
    /// If the engine cannot be asked which those are. A session's own trouble is counted.
    pub async fn once(&self) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let mut page_token = String::new();
        loop {
            let request = v1::ListStaleRequest { namespace: self.namespace.clone(), page_token };
            let page = self.contexts.clone().list_stale(request).await?.into_inner();
            self.all(&page.sessions, &mut summary).await;
            page_token = page.next_page_token;
            if page_token.is_empty() || *self.stop.borrow() {
                return Ok(summary);
            }
        }
    }

    /// Folds what the engine hands out, until it is told to stop; `went_well` is told after each answer.
    ///
    /// # Errors
    /// If the engine cannot be asked any more: the caller finds it again.
    pub async fn follow(&self, mut went_well: impl FnMut()) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        while !*stop.borrow() {
            tokio::select! {
                round = self.round() => round?,
                // An error means that nobody is left who could say stop.
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
            went_well();
        }
        Ok(())
    }

    async fn round(&self) -> Result<(), Error> {
        let request =
            v1::AwaitStaleRequest { namespace: self.namespace.clone(), wait_ms: WAIT_MS, sessions_max: 0 };
        let due = self.contexts.clone().await_stale(request).await?.into_inner();
        let mut summary = Summary::default();
        self.all(&due.sessions, &mut summary).await;
        if due.missed {
            self.once().await?;
        }
        Ok(())
    }

    async fn all(&self, sessions: &[v1::StaleSession], summary: &mut Summary) {
        for stale in sessions {
            if *self.stop.borrow() {
                return;
            }
            match self.until_stored(stale).await {
                Ok(versions) => {
                    summary.sessions += 1;
                    summary.versions += versions;
                }
                // It has ended, or other compactors are at it.
                Err(Error::Engine(status)) if is_over(&status) => {}
                Err(error) => {
                    summary.failed += 1;
                    tracing::error!(session = stale.session_id, %error, "a session was not folded"); // CT4
                }
            }
        }
    }

    /// Folds one session; where another compactor was faster, goes on from what that one stored: it may not know why this
    /// session was handed out.
    async fn until_stored(&self, stale: &v1::StaleSession) -> Result<u64, Error> {
        for _ in 1..TRIES_MAX {
            match self.one(stale).await {
                Err(Error::Engine(status)) if code(&status) == "context_conflict" => {}
                settled => return settled,
            }
        }
        self.one(stale).await
    }

    /// Folds one session up to its present end; how many versions it made.
    async fn one(&self, stale: &v1::StaleSession) -> Result<u64, Error> {
        let (mut open, status) = self.load(&stale.session_id).await?;
        open.folded.has_room(stale.budget_tokens);
        let mut events = Events::open(&self.sessions, &open.session_id, open.folded.read() + 1).await?;
        while let Some(read) = events.next().await? {
            open.folded.take(read);
            if open.folded.is_high() {
                self.seal(&mut open, Reason::HighMark).await?;
            }
        }
        let asleep = matches!(status, v1::SessionStatus::Waiting | v1::SessionStatus::Paused);
        match stale.reason() {
            StaleReason::Asked => {
                open.folded.give_all();
                if !self.seal(&mut open, Reason::Limit).await? {
                    let why = refusal(&open.folded);
                    self.store(&mut open, None, &why).await?;
                }
            }
            StaleReason::Suspended | StaleReason::Gap if open.folded.is_worth_it() => {
                self.seal(&mut open, Reason::Cold).await?;
            }
            StaleReason::Behind if asleep && open.folded.is_worth_it() => {
                self.seal(&mut open, Reason::Cold).await?;
            }
            StaleReason::Suspended
            | StaleReason::Gap
            | StaleReason::Behind
            | StaleReason::HighMark
            | StaleReason::Unspecified => {}
        }
        if open.folded.read() > open.watermark && open.folded.talks() {
            self.store(&mut open, None, "").await?;
        }
        Ok(open.made)
    }

    async fn load(&self, session_id: &str) -> Result<(Open, v1::SessionStatus), Error> {
        let request = v1::LoadContextRequest { session_id: session_id.to_owned() };
        let stored = self.contexts.clone().load_context(request).await?.into_inner();
        let status = stored.session.as_ref().map_or(v1::SessionStatus::Unspecified, v1::Session::status);
        let known = Folded::from_bytes(&stored.state, &stored.passes, &self.settings);
        let open = Open {
            session_id: session_id.to_owned(),
            version: stored.version,
            watermark: stored.watermark_seq,
            // Of other passes: folded anew from the first event.
            folded: known.unwrap_or_else(|| Folded::new(self.settings.clone())),
            made: 0,
        };
        Ok((open, status))
    }

    /// Seals and stores what came of it; false: the gate turned it down.
    async fn seal(&self, open: &mut Open, reason: Reason) -> Result<bool, Error> {
        let Some(seal) = open.folded.seal(reason) else { return Ok(false) };
        let made = open.folded.made(open.version + 1, seal);
        let (tokens, of) = (made.version.tokens, made.version.history_tokens);
        self.store(open, Some(made), "").await?;
        open.made += 1;
        tracing::info!(session = open.session_id, version = open.version, tokens, of, ?reason, "compacted");
        Ok(true)
    }

    async fn store(&self, open: &mut Open, made: Option<Made>, refused: &str) -> Result<(), Error> {
        let (version, blocks) = made.map(|made| (made.version, made.blocks)).unzip();
        let watermark_seq = open.folded.read().max(open.watermark);
        let request = v1::PutContextRequest {
            session_id: open.session_id.clone(),
            expected_version: open.version,
            expected_watermark_seq: open.watermark,
            watermark_seq,
            passes: passes(&self.settings),
            state: open.folded.to_bytes().into(),
            version,
            blocks: blocks.unwrap_or_default(),
            refused: refused.to_owned(),
        };
        open.version = self.contexts.clone().put_context(request).await?.into_inner().version;
        open.watermark = watermark_seq;
        Ok(())
    }
}

fn refusal(folded: &Folded) -> String {
    match folded.unfoldable() {
        Some(why) => why.to_string(),
        None => "nothing would be saved".to_owned(),
    }
}

fn is_over(status: &Status) -> bool {
    status.code() == Code::NotFound
        || matches!(code(status), "session_ended" | "context_conflict" | "archived")
}

/// The reason code with which an engine's refusals begin.
fn code(status: &Status) -> &str {
    status.message().split(':').next().unwrap_or_default()
}
