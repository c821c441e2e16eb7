//! Runs: publish what was left, list what is cold, claim it partition by partition, archive it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use cellaflow_proto::v1;
use indicatif::{ProgressBar, ProgressStyle};

use super::job::{Done, Error, Partition, Worker};
use super::rewrite;
use super::{beside, incarnation};

/// Most lineages of one claim.
const CLAIM_LINEAGES_MAX: usize = 256;
/// Events after which a claim takes no further lineage.
const CLAIM_EVENTS_MAX: u64 = 200_000;
/// Claims in a row that find the store or the temporary folder failing, after which a round ends.
const TROUBLES_MAX: u32 = 4;

/// What a run is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Only says what it would do.
    pub dry_run: bool,
    /// How long ago a lineage must have ended, in ms; `None`: as the engine is set.
    pub ended_before_ms: Option<u64>,
    /// How long archived lineages are kept after their end, in ms; `None`: for ever.
    pub keep_ms: Option<u64>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// What was archived; in a dry run, what would be.
    pub done: Done,
    /// Claims that came to something.
    pub claims: u64,
    /// Claims that came to nothing.
    pub failed: u64,
    /// Commits of earlier runs that were published.
    pub published: u64,
    /// What was taken out of the archive again.
    pub gone: rewrite::Summary,
}

/// Runs once.
///
/// # Errors
/// If the engine cannot be asked, or the store cannot be used. A claim that comes to nothing is counted, and the run
/// goes on with the next.
pub async fn once(worker: &Worker, settings: Settings) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    if !settings.dry_run {
        beside::refresh(&worker.store).await?;
        summary.published = publish_left(worker).await?;
        incarnation::settle(worker).await?;
    }
    let mut token = String::new();
    let mut troubles = 0;
    let progress = progress();
    loop {
        let request = v1::ListColdRequest {
            namespace: worker.namespace.clone(),
            ended_before_ms: settings.ended_before_ms,
            page_token: token,
        };
        let page = worker.engine.clone().list_cold(request).await?.into_inner();
        for (partition, events) in partitions(&page.lineages) {
            if *worker.stop.borrow() {
                return Ok(summary);
            }
            if settings.dry_run {
                would(&mut summary, &partition, events, &page.lineages);
                continue;
            }
            progress.set_message(format!(
                "{} {} ({} lineages)",
                partition.workflow,
                partition.dt,
                partition.lineages.len()
            ));
            let before = summary.done.events;
            match archive(worker, &partition, &mut summary, &mut troubles).await {
                Ok(()) => progress.inc(summary.done.events - before),
                Err(Error::Stopped) => return Ok(summary),
                Err(error) => return Err(error),
            }
        }
        token = page.next_page_token;
        if token.is_empty() {
            progress.finish_and_clear();
            if !settings.dry_run {
                summary.gone = rewrite::once(worker, settings.keep_ms).await?;
            }
            return Ok(summary);
        }
    }
}

/// Archives a partition: all of it under one claim, or, if that comes to nothing, each lineage under its own, so that one
/// that cannot be archived keeps no other one back.
///
/// # Errors
/// What ends a round: the engine is gone, the worker is to stop, or `TROUBLES_MAX` claims in a row found the store or
/// the temporary folder failing.
async fn archive(
    worker: &Worker,
    partition: &Partition,
    summary: &mut Summary,
    troubles: &mut u32,
) -> Result<(), Error> {
    if let Some(error) = claim(worker, partition, summary, troubles).await? {
        let alone = partition.lineages.len() == 1 || matches!(error, Error::Lost);
        if alone {
            came_to_nothing(worker, partition, &error, summary);
            return Ok(());
        }
        tracing::warn!(workflow = partition.workflow, dt = partition.dt, %error, "trying its lineages one by one");
        let before = (summary.claims, summary.failed);
        for lineage in &partition.lineages {
            let single = Partition { lineages: vec![lineage.clone()], ..partition.clone() };
            if let Some(error) = claim(worker, &single, summary, troubles).await? {
                came_to_nothing(worker, &single, &error, summary);
            }
        }
        if before == (summary.claims, summary.failed) {
            // Nothing of it can be claimed any more: somebody else was faster.
            came_to_nothing(worker, partition, &error, summary);
        }
    }
    Ok(())
}

/// One claim; says why it came to nothing.
async fn claim(
    worker: &Worker,
    partition: &Partition,
    summary: &mut Summary,
    troubles: &mut u32,
) -> Result<Option<Error>, Error> {
    if *worker.stop.borrow() {
        return Err(Error::Stopped);
    }
    match worker.archive(partition).await {
        Ok(done) => {
            *troubles = 0;
            if let Some(done) = done {
                add(summary, done, worker);
                tracing::info!(
                    workflow = partition.workflow,
                    dt = partition.dt,
                    lineages = done.lineages,
                    sessions = done.sessions,
                    events = done.events,
                    bytes = done.bytes,
                    "archived"
                );
            }
            Ok(None)
        }
        Err(error @ (Error::Stopped | Error::Engine(_))) => Err(error),
        Err(error @ (Error::Store(_) | Error::Spool(_) | Error::Temporary(_))) => {
            *troubles += 1;
            if *troubles >= TROUBLES_MAX { Err(error) } else { Ok(Some(error)) }
        }
        Err(error) => Ok(Some(error)),
    }
}

fn came_to_nothing(worker: &Worker, partition: &Partition, error: &Error, summary: &mut Summary) {
    summary.failed += 1;
    worker.metrics.claims_failed.inc();
    let lineage = partition.lineages.first().map(String::as_str).unwrap_or_default();
    tracing::error!(workflow = partition.workflow, dt = partition.dt, lineage, %error, "a claim came to nothing");
}

fn add(summary: &mut Summary, done: Done, worker: &Worker) {
    let metrics = &worker.metrics;
    metrics.claims_committed.inc();
    metrics.lineages_archived.inc_by(done.lineages);
    metrics.sessions_archived.inc_by(done.sessions);
    metrics.events_archived.inc_by(done.events);
    metrics.archive_written.inc_by(done.bytes);
    summary.claims += 1;
    summary.done.lineages += done.lineages;
    summary.done.sessions += done.sessions;
    summary.done.events += done.events;
    summary.done.bytes += done.bytes;
}

fn would(summary: &mut Summary, partition: &Partition, events: u64, cold: &[v1::ColdLineage]) {
    summary.claims += 1;
    summary.done.lineages += partition.lineages.len() as u64;
    summary.done.events += events;
    let sessions = cold.iter().filter(|cold| partition.lineages.contains(&cold.lineage_id));
    summary.done.sessions += sessions.map(|cold| u64::from(cold.sessions)).sum::<u64>();
}

/// A3: what a crash left between commit and publication.
pub(super) async fn publish_left(worker: &Worker) -> Result<u64, Error> {
    let request = v1::ListUnpublishedRequest { namespace: worker.namespace.clone() };
    let left = worker.engine.clone().list_unpublished(request).await?.into_inner().commits;
    let mut published = 0;
    for commit in left {
        match worker.publish(&commit.claim_id, commit.epoch, &commit.manifest, &commit.manifest_digest).await
        {
            Ok(()) => {
                published += 1;
                worker.metrics.manifests_recovered.inc();
            }
            Err(error) => {
                tracing::error!(claim = commit.claim_id, %error, "a committed manifest could not be published");
                return Err(error);
            }
        }
    }
    Ok(published)
}

/// Groups cold lineages by where their files go, in claims of bounded size.
fn partitions(cold: &[v1::ColdLineage]) -> Vec<(Partition, u64)> {
    let mut open: BTreeMap<(String, &str), (Partition, u64)> = BTreeMap::new();
    let mut full = Vec::new();
    for lineage in cold {
        let (dt, workflow) = (day(lineage.started_ms), lineage.workflow.as_str());
        let fresh = || {
            let partition = Partition { dt: dt.clone(), workflow: workflow.to_owned(), lineages: Vec::new() };
            (partition, 0)
        };
        let (partition, events) = open.entry((dt.clone(), workflow)).or_insert_with(fresh);
        partition.lineages.push(lineage.lineage_id.clone());
        *events += lineage.events;
        if partition.lineages.len() >= CLAIM_LINEAGES_MAX || *events >= CLAIM_EVENTS_MAX {
            full.extend(open.remove(&(dt, workflow)));
        }
    }
    full.extend(open.into_values());
    full
}

/// The day of a time, UTC, "2026-11-23".
#[must_use]
pub fn day(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or_default();
    let date = time::OffsetDateTime::from_unix_timestamp(seconds).map_or(time::Date::MIN, |at| at.date());
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec}  {msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cold(n: u32, workflow: &str, started_ms: u64, events: u64) -> v1::ColdLineage {
        v1::ColdLineage {
            lineage_id: n.to_string(),
            workflow: workflow.into(),
            started_ms,
            sessions: 1,
            events,
        }
    }

    #[test]
    fn lineages_of_a_day_and_workflow_share_claims_of_bounded_size() {
        assert_eq!(day(0), "1970-01-01");
        let day_ms = 86_400_000;
        let mut listed = vec![cold(1, "a", 5, 10), cold(2, "b", 5, 10), cold(3, "a", day_ms, 10)];
        listed.push(cold(4, "a", 6, CLAIM_EVENTS_MAX));
        listed.push(cold(5, "a", 7, 1));
        let found = partitions(&listed);
        let shown: Vec<_> = found
            .iter()
            .map(|(p, events)| (p.dt.as_str(), p.workflow.as_str(), p.lineages.join("+"), *events))
            .collect();
        assert_eq!(
            shown,
            [
                ("1970-01-01", "a", "1+4".to_owned(), CLAIM_EVENTS_MAX + 10),
                ("1970-01-01", "a", "5".to_owned(), 1),
                ("1970-01-01", "b", "2".to_owned(), 10),
                ("1970-01-02", "a", "3".to_owned(), 10),
            ]
        );
    }
}
