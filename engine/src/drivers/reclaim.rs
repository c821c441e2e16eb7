//! Gives the space of archived lineages back to the file system.
//!
//! Owns: which segments are worth it, and when they are looked at. Never: decides that something is dead; commits of the
//! archive did, and counted its bytes.
//!
//! - SR1 Only a closed segment is touched, and only one that closed a whole segment ago: no lineage begins or is restored
//!   in it any more.
//! - SR2 A segment without a living row goes whole; one of which half is dead is compacted; another one waits.
//! - SR3 What was given back is journaled, so that it is not counted again. A crash in between costs a repetition.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::graph::archive::{ArchiveCommand, Ask};
use crate::graph::command::Command;
use crate::graph::ids::TimeMs;
use crate::ledger::{Blobs, Handle, Origin, ReadError, Submission};
use crate::storage::keys::Segment;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(60);

/// Looks from time to time; ends when the ledger does.
pub async fn run(ledger: Handle, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = look(&ledger, TimeMs(clock.wall_ms())).await {
            tracing::warn!(%error, "space of archived sessions could not be given back; it is tried again");
        }
    }
}

/// Gives back what is worth it now.
///
/// # Errors
/// As every read.
pub async fn look(ledger: &Handle, now: TimeMs) -> Result<(), ReadError> {
    let present = Segment::at(now, ledger.settings().segment_ms);
    for (segment, dead_bytes) in ledger.reader().dead_segments()? {
        if dead_bytes == 0 || segment.0.saturating_add(1) >= present.0 {
            continue; // SR1
        }
        let reader = ledger.reader().clone();
        let reclaiming = tokio::task::spawn_blocking(move || reader.reclaim(segment, dead_bytes));
        let reclaimed = reclaiming.await.map_err(|error| ReadError::Fault(error.to_string()))??;
        if let Some(reclaimed) = reclaimed {
            let (before, after) = (reclaimed.bytes_before, reclaimed.bytes_after);
            tracing::info!(segment = segment.0, dead_bytes, before, after, "space given back");
            journal(ledger, segment, dead_bytes).await?;
        }
    }
    Ok(())
}

/// SR3.
async fn journal(ledger: &Handle, segment: Segment, dead_bytes: u64) -> Result<(), ReadError> {
    let Some(info) = ledger.reader().namespaces()?.into_iter().next() else { return Ok(()) };
    let ask = Ask::Reclaimed { segment: segment.0, dead_bytes };
    let submission = Submission {
        command: Command::Archive(ArchiveCommand { system: info.system, ask }),
        blobs: Blobs::new(&info.salt, &ledger.settings().payload),
        evidence: None,
        new_lineage: None,
        origin: Origin::default(),
    };
    // Refused or lost: the bytes stay counted, and the next look does it again.
    if let Err(refused) = ledger.submit(submission).await {
        tracing::debug!(?refused, "reclaimed space was not journaled");
    }
    Ok(())
}
