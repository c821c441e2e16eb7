//! Gives the space of archived lineages back to the file system.
//!
//! Owns: which segments are worth it, and when they are looked at. Never: decides that something is dead; commits of the
//! archive did, and counted its bytes.
//!
//! - SR1 Only a closed segment is touched, and only one that closed a whole segment ago: no lineage begins or is restored
//!   in it any more.
//! - SR2 A segment without a living row goes whole; one of which half is dead is compacted; another one waits.
//!   It waits until noticeably more of it is dead: to find out what lives means to read it.
//! - SR3 What was given back is journaled, so that it is not counted again. A crash in between costs a repetition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::graph::archive::{ArchiveCommand, Ask};
use crate::graph::command::Command;
use crate::graph::ids::TimeMs;
use crate::ledger::{Blobs, Handle, Origin, ReadError, Submission};
use crate::storage::keys::Segment;

/// Looks from time to time; ends when the ledger does.
pub async fn run(ledger: Handle, clock: Arc<dyn Clock>) {
    let mut waiting = Waiting::default();
    loop {
        tokio::time::sleep(Duration::from_millis(ledger.settings().reclaim_every_ms)).await;
        if let Err(error) = look(&ledger, TimeMs(clock.wall_ms()), &mut waiting).await {
            tracing::warn!(%error, "space of archived sessions could not be given back; it is tried again");
        }
    }
}

/// Segments of which too little was dead, and how many bytes those were (SR2).
#[derive(Default)]
pub struct Waiting(HashMap<Segment, u64>);

impl Waiting {
    /// Nobody has looked, or a twentieth more is dead since.
    fn is_over(&self, segment: Segment, dead_bytes: u64) -> bool {
        self.0.get(&segment).is_none_or(|before| dead_bytes > before.saturating_add(before / 20))
    }
}

/// Gives back what is worth it now.
///
/// # Errors
/// As every read.
pub async fn look(ledger: &Handle, now: TimeMs, waiting: &mut Waiting) -> Result<(), ReadError> {
    let present = Segment::at(now, ledger.settings().segment_ms);
    for (segment, dead_bytes) in ledger.reader().dead_segments()? {
        if dead_bytes == 0 || segment.0.saturating_add(1) >= present.0 {
            continue; // SR1
        }
        if !waiting.is_over(segment, dead_bytes) {
            continue; // SR2
        }
        let reader = ledger.reader().clone();
        let reclaiming = tokio::task::spawn_blocking(move || reader.reclaim(segment, dead_bytes));
        let reclaimed = reclaiming.await.map_err(|error| ReadError::Fault(error.to_string()))??;
        if let Some(reclaimed) = reclaimed {
            let (before, after) = (reclaimed.bytes_before, reclaimed.bytes_after);
            tracing::info!(segment = segment.0, dead_bytes, before, after, "space given back");
            journal(ledger, segment, dead_bytes).await?;
            waiting.0.remove(&segment);
        } else {
            waiting.0.insert(segment, dead_bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_is_not_half_dead_is_not_read_again_until_more_of_it_is() {
        // SR2: gigabytes were read every minute to find the same.
        let segment = Segment(3);
        let mut waiting = Waiting::default();
        assert!(waiting.is_over(segment, 1_000), "nobody has looked");
        waiting.0.insert(segment, 1_000);
        assert!(!waiting.is_over(segment, 1_000) && !waiting.is_over(segment, 1_050));
        assert!(waiting.is_over(segment, 1_051), "a twentieth more");
        assert!(waiting.is_over(Segment(4), 1), "another one");
    }
}
