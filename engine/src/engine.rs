//! The engine behind the network edge: opens the ledger of a data folder and puts its parts together.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::transport::server::Router;

use crate::clock::Clock;
use crate::config::{Limits, Settings};
use crate::dispatch::Dispatch;
use crate::graph::session::TokenRow;
use crate::ids::Mint;
use crate::ledger::{self, Handle, Reader, Threads};
use crate::rpc::auth::{self, Principal, TokenLookup};
use crate::rpc::context::Context;
use crate::rpc::fleet::SharedFleet;
use crate::rpc::subscription::Subscribers;
use crate::rpc::vitals::Vitals;
use crate::rpc::{
    archive_service, channel, context_service, engine_service, operator_service, session_service,
};
use crate::stale::Stale;
use crate::storage::{self, LedgerId, Store};
use crate::telemetry::Metrics;

/// Exit code after a commit failed: recovery at the next start is the only repair.
pub const EXIT_POISONED: i32 = 74;

/// Opens, recovers and starts the ledger of `settings.data_dir`.
///
/// # Errors
/// In words for the operator: what is wrong with the folder and what to do.
pub fn open(settings: &Settings, clock: Arc<dyn Clock>, mint: Mint) -> Result<(Handle, Threads), String> {
    let limits = &settings.limits;
    let new_id = LedgerId(mint.random());
    let opened = storage::open(&settings.ledger_dir(), &store_settings(limits), new_id)
        .map_err(|error| error.to_string())?;
    tracing::info!(
        created = opened.created, frame = %opened.recovered, marked = %opened.marked, "ledger opened"
    );
    ledger::start(ledger::Parts {
        store: Arc::new(opened.store) as Arc<dyn Store>,
        settings: ledger_settings(limits),
        clock,
        mint,
        on_poison: Box::new(|_| end_process()),
    })
    .map_err(|error| error.to_string())
}

// Not a panic: nothing may run after a failed commit, destructors of the store included.
#[expect(clippy::exit, reason = "a poisoned store ends the process")]
fn end_process() {
    std::process::exit(EXIT_POISONED);
}

/// What the services work with.
pub struct Services {
    /// The ledger.
    pub ledger: Handle,
    /// Who runs what.
    pub dispatch: Arc<Dispatch>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and secrets.
    pub mint: Mint,
    /// What compactors are to fold.
    pub stale: Arc<Stale>,
    /// Counters.
    pub metrics: Metrics,
    /// Becomes true when the engine stops.
    pub stopping: watch::Receiver<bool>,
}

impl Services {
    /// Adds every service of the engine, and reflection, to a router.
    ///
    /// # Errors
    /// If the compiled descriptors cannot be served.
    pub fn add_to<L: Clone>(self, router: Router<L>, settings: &Settings) -> Result<Router<L>, String> {
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(cellaflow_proto::DESCRIPTORS)
        };
        let reflection = described().build_v1().map_err(|error| error.to_string())?;
        // Python's grpcio-reflection and older command-line clients speak only this one.
        let reflection_alpha = described().build_v1alpha().map_err(|error| error.to_string())?;
        let limits = settings.limits.clone();
        let configured = auth::StaticTokens::new(&settings.tokens).principals().collect();
        let vitals =
            Vitals::new(settings.data_dir.clone(), limits.disk_free_min_bytes, Arc::clone(&self.clock));
        let fleet: SharedFleet = Arc::clone(&self.dispatch) as SharedFleet;
        let context = Context {
            ledger: self.ledger,
            fleet,
            clock: self.clock,
            mint: self.mint,
            vitals: Arc::new(vitals),
            backup_dir: settings.backup_dir().into(),
            configured,
            stopping: self.stopping,
        };
        let subscribers = Subscribers::new(&limits);
        let archive_after_ms = limits.archive_after_ms;
        let contexts =
            context_service::Service { context: context.clone(), stale: self.stale, limits: limits.clone() };
        let channel = channel::Service::new(channel::Parts {
            context: context.clone(),
            dispatch: self.dispatch,
            limits,
            step_exhausted_pauses: settings.step_exhausted_pauses,
            metrics: self.metrics,
        });
        Ok(router
            .add_service(reflection)
            .add_service(reflection_alpha)
            .add_service(engine_service::Service(context.clone()).into_server())
            .add_service(session_service::Service { context: context.clone(), subscribers }.into_server())
            .add_service(
                archive_service::Service { context: context.clone(), archive_after_ms }.into_server(),
            )
            .add_service(contexts.into_server())
            .add_service(operator_service::Service(context).into_server())
            .add_service(channel.into_server()))
    }
}

fn store_settings(limits: &Limits) -> storage::Settings {
    storage::Settings {
        block_cache_bytes: size(limits.cache_bytes),
        write_buffers_bytes: size(limits.write_buffer_bytes),
        ..storage::Settings::default()
    }
}

fn ledger_settings(limits: &Limits) -> ledger::Settings {
    ledger::Settings {
        frame_commands_max: size(limits.frame_commands_max),
        frame_bytes_max: size(limits.frame_bytes_max),
        queue_commands_max: size(limits.queue_commands_max),
        queue_bytes_max: size(limits.queue_bytes_max),
        head_cache_bytes: size(limits.head_cache_bytes),
        segment_ms: limits.segment_ms,
        evidence_bytes_max: limits.evidence_bytes_max,
        guard_retention_ms: limits.guard_retention_ms,
        own_frame_commands_max: ledger::Settings::default().own_frame_commands_max,
        reclaim_every_ms: limits.reclaim_every_ms,
        payload: ledger::payload::Limits {
            inline_bytes_max: size(limits.inline_bytes_max),
            chunk_bytes: size(limits.chunk_bytes),
            payload_bytes_max: size(limits.payload_bytes_max),
        },
    }
}

fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Tokens that were created at run time: they are rows of the ledger.
pub struct LedgerTokens(pub Reader);

impl TokenLookup for LedgerTokens {
    fn find(&self, hash: &[u8; 32]) -> Option<Principal> {
        match self.0.token(hash) {
            Ok(row) => row.filter(|row| row.revoked.is_none()).map(|row| principal(&row)),
            Err(error) => {
                // Unreadable means unknown: nobody is let in on a guess.
                tracing::error!(%error, "a token could not be looked up");
                None
            }
        }
    }
}

fn principal(row: &TokenRow) -> Principal {
    Principal {
        token_id: row.token,
        name: Arc::clone(&row.name),
        role: row.role,
        namespace: Arc::clone(&row.namespace),
        expires_ms: row.expires.map(|at| at.0),
    }
}
