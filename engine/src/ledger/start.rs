//! Starts the write path over an opened store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use crossbeam_channel::bounded;
use parking_lot::Mutex;

use super::batch::Deciding;
use super::bell::Bell;
use super::committer::Committing;
use super::decider::Decider;
use super::evidence::EvidenceLog;
use super::handle::{Inlet, Shared};
use super::handover::Handover;
use super::overlay::Overlay;
use super::reader::{ReadError, Reader};
use super::wakeups::Wakeups;
use super::{Handle, HeadCache, HeadWeight, Identity, Settings, Watermark, restore};
use crate::clock::Clock;
use crate::graph::ids::Incarnation;
use crate::ids::Mint;
use crate::storage::{Fault, Store};

/// What a ledger is made of.
pub struct Parts {
    /// Opened and recovered.
    pub store: Arc<dyn Store>,
    /// Limits.
    pub settings: Settings,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and salts.
    pub mint: Mint,
    /// Called once when a commit has failed; must end the process.
    pub on_poison: Box<dyn FnOnce(&Fault) + Send>,
}

/// The write path's threads.
pub struct Threads {
    threads: Vec<JoinHandle<()>>,
    store: Arc<dyn Store>,
}

impl Threads {
    /// Waits until everything queued is decided and answered, and puts the store to rest; close the handle before.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the write path panicked");
            }
        }
        // What is not at rest is in the log, and durable there: the next start reads it.
        if let Err(fault) = self.store.rest() {
            tracing::warn!(%fault, "the store was not put to rest");
        }
    }
}

/// Starts the decider and the committer.
///
/// # Errors
/// If the store cannot be read, or a new ledger's first frame cannot be committed.
pub fn start(parts: Parts) -> Result<(Handle, Threads), ReadError> {
    let Parts { store, settings, clock, mint, on_poison } = parts;
    let watermark = Watermark::at(store.position().frame);
    let wakeups = Arc::new(Wakeups::default());
    let reader = Reader::new(Arc::clone(&store), Arc::clone(&watermark), Arc::clone(&wakeups));
    let incarnation = match reader.incarnation()? {
        Some((incarnation, _)) => incarnation,
        None => first_frame(store.as_ref(), &watermark, clock.as_ref(), &mint)?,
    };
    let position = store.position();
    let cache = Arc::new(HeadCache::with_weighter(
        settings.head_cache_bytes / HEAD_BYTES_TYPICAL,
        settings.head_cache_bytes as u64,
        HeadWeight,
    ));
    let (queue, queued) = bounded(settings.queue_commands_max);
    let bell = Arc::new(Bell::default());
    let handover = Handover::new(Arc::clone(&bell));
    let observers = Arc::new(ArcSwap::from_pointee(Vec::new()));
    let poisoned = Arc::new(AtomicBool::new(false));
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let flag = Arc::clone(&poisoned);
    let committing = Arc::new(Committing {
        store: Arc::clone(&store),
        watermark: Arc::clone(&watermark),
        wakeups,
        observers: Arc::clone(&observers),
        clock: Arc::clone(&clock),
        on_poison: Mutex::new(Some(Box::new(move |fault| {
            flag.store(true, Ordering::Release);
            on_poison(fault);
        }))),
    });
    let decider = Decider {
        queue: queued,
        queued_bytes: Arc::clone(&queued_bytes),
        bell: Arc::clone(&bell),
        handover: Arc::clone(&handover),
        committing: Arc::clone(&committing),
        deciding: Deciding {
            reader: reader.clone(),
            watermark: Arc::clone(&watermark),
            cache: Arc::clone(&cache),
            overlay: Overlay::default(),
            clock,
            settings: settings.clone(),
            position,
            evidence: EvidenceLog::new(settings.evidence_bytes_max),
        },
    };
    let threads = vec![
        spawn("cf-decider", move || decider.run())?,
        spawn("cf-committer", move || handover.serve(&committing))?,
    ];
    let threads = Threads { threads, store };
    let shared = Shared {
        queue: Some(Inlet::new(queue, bell)).into(),
        queued_bytes,
        watermark,
        cache,
        observers,
        settings,
        mint,
        identity: Identity { ledger_id: position.ledger_id.0, incarnation },
        namespaces: tokio::sync::Mutex::new(()),
        poisoned,
    };
    Ok((Handle { shared: Arc::new(shared), reader }, threads))
}

/// What a cached head usually takes in bytes; only sizes the cache's tables.
const HEAD_BYTES_TYPICAL: usize = 1_024;

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ReadError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| ReadError::Fault(format!("cannot start thread {name}: {error}")))
}

/// Gives a new ledger its incarnation.
fn first_frame(
    store: &dyn Store,
    watermark: &Watermark,
    clock: &dyn Clock,
    mint: &Mint,
) -> Result<Incarnation, ReadError> {
    let incarnation = restore::new_incarnation(store, clock, mint)?;
    watermark.publish(store.position().frame);
    Ok(incarnation)
}
