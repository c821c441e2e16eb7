//! Walks what was archived: every file against its manifest, every chain from its first event to the end that the ledger
//! keeps, across commits and from forks into their parents.
//!
//! Memory: about 200 bytes for each archived session; files are read one at a time.

use std::collections::{BTreeMap, HashMap, HashSet};

use cellaflow_proto::v1;
use v1::session_service_client::SessionServiceClient;

use super::job::{Error, Worker};
use super::manifest::{self, File, Manifest};
use super::verify::{self, Chains, Start};

/// Sessions asked for in one request.
const PAGE_SESSIONS: u32 = 1_000;

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// Manifests that count.
    pub manifests: u64,
    /// Files they name.
    pub files: u64,
    /// Events in them.
    pub events: u64,
    /// Sessions they belong to.
    pub sessions: u64,
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

/// The parts of a session: first seq, last seq, last hash; sorted.
type Parts = Vec<(u64, u64, [u8; 32])>;

/// Walks the archive of the worker's namespace. Others may write it meanwhile: what looks wrong is looked at again.
///
/// # Errors
/// If engine or store cannot be asked; what is wrong with files becomes a fault.
pub async fn archive(worker: &Worker, progress: &dyn Fn(u64)) -> Result<Walked, Error> {
    let mut walk = Walk::default();
    walk.look(worker, progress).await?;
    super::job::breakpoint("listed").await;
    let suspects = walk.against_ledger(worker).await?;
    // In this order: what is committed by now waits to be published, or is among the manifests of the second look.
    let waiting = waiting(worker).await?;
    walk.look(worker, progress).await?;
    walk.finish(worker, &suspects, &waiting).await
}

/// Sessions in commits that are not published yet: the next run publishes them.
async fn waiting(worker: &Worker) -> Result<HashSet<String>, Error> {
    let request = v1::ListUnpublishedRequest { namespace: worker.namespace.clone() };
    let commits = worker.engine.clone().list_unpublished(request).await?.into_inner().commits;
    let mut sessions = HashSet::new();
    for commit in commits {
        let pending = manifest::pending(&commit.claim_id, commit.epoch);
        // Published meanwhile: then the second look finds it.
        let Ok(text) = worker.store.get(&pending).await else { continue };
        let lineages = Manifest::read(&pending, &text)?.lineages.into_iter();
        sessions.extend(lineages.flat_map(|lineage| lineage.sessions).map(|session| session.session_id));
    }
    Ok(sessions)
}

#[derive(Default)]
struct Walk {
    /// By the manifest's path.
    looked: BTreeMap<String, Looked>,
}

/// What a manifest holds.
#[derive(Default)]
struct Looked {
    files: u64,
    events: u64,
    faults: Vec<String>,
    parts: Vec<(String, u64, (u64, [u8; 32]))>,
    starts: Vec<Start>,
    /// Files of events, for a second look.
    event_files: Vec<File>,
}

impl Walk {
    /// Reads the manifests that were not read yet, and forgets those that do not count any more.
    async fn look(&mut self, worker: &Worker, progress: &dyn Fn(u64)) -> Result<(), Error> {
        let current: HashSet<String> =
            manifest::current(&worker.store, &worker.namespace).await?.into_iter().collect();
        self.looked.retain(|path, _| current.contains(path));
        for path in current {
            if self.looked.contains_key(&path) {
                continue;
            }
            match Looked::manifest(worker, &path).await {
                Ok(looked) => drop(self.looked.insert(path, looked)),
                // Replaced since it was listed.
                Err(Error::Store(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            progress(self.looked.values().map(|looked| looked.events).sum());
        }
        Ok(())
    }

    fn parts(&self) -> HashMap<&str, Parts> {
        let mut parts: HashMap<&str, Parts> = HashMap::new();
        for (session, first, (last, hash)) in self.looked.values().flat_map(|looked| &looked.parts) {
            parts.entry(session).or_default().push((*first, *last, *hash));
        }
        parts.values_mut().for_each(|parts| parts.sort_unstable());
        parts
    }

    /// Sessions that the ledger says are archived, and that are not there, whole, with the end that the ledger says.
    async fn against_ledger(&self, worker: &Worker) -> Result<Vec<v1::Session>, Error> {
        let parts = self.parts();
        let mut sessions = SessionServiceClient::new(worker.channel.clone());
        let mut page_token = String::new();
        let mut suspects = Vec::new();
        loop {
            let request = v1::ListSessionsRequest {
                namespace: worker.namespace.clone(),
                page_size: PAGE_SESSIONS,
                page_token,
                ..v1::ListSessionsRequest::default()
            };
            let page = sessions.list_sessions(request).await?.into_inner();
            let archived = page.sessions.into_iter().filter(|session| !session.archived.is_empty());
            suspects.extend(archived.filter(|session| unlike(&parts, session).is_some()));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(suspects);
            }
        }
    }

    async fn finish(
        mut self,
        worker: &Worker,
        suspects: &[v1::Session],
        waiting: &HashSet<String>,
    ) -> Result<Walked, Error> {
        let mut found = Walked { manifests: self.looked.len() as u64, ..Walked::default() };
        let mut starts = Vec::new();
        for looked in self.looked.values_mut() {
            found.files += looked.files;
            found.events += looked.events;
            found.faults.append(&mut looked.faults);
            starts.append(&mut looked.starts);
        }
        let event_files = self.looked.values().flat_map(|looked| &looked.event_files);
        follow(worker, starts, event_files, waiting, &mut found.faults).await?;
        let parts = self.parts();
        found.sessions = parts.len() as u64;
        found.faults.extend(parts.iter().filter_map(|(session, parts)| twice(session, parts)));
        for session in suspects.iter().filter(|session| !waiting.contains(&session.session_id)) {
            if let Some(problem) = unlike(&parts, session)
                && is_archived(worker, &session.session_id).await?
            {
                found.faults.push(format!("session {} {problem}", session.session_id));
            }
        }
        Ok(found)
    }
}

/// False: it was restored, or is past its retention, since it was listed.
async fn is_archived(worker: &Worker, session_id: &str) -> Result<bool, Error> {
    let request = v1::GetArchivedRequest { session_id: session_id.to_owned() };
    match worker.engine.clone().get_archived(request).await {
        Ok(known) => Ok(known.into_inner().archived),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
        Err(status) => Err(status.into()),
    }
}

impl Looked {
    async fn manifest(worker: &Worker, path: &str) -> Result<Self, Error> {
        let manifest = manifest::load(&worker.store, path).await?;
        let mut looked = Self::default();
        let mut chains = Chains::default();
        for file in &manifest.files {
            looked.files += 1;
            match worker.store.get(&file.path).await {
                Ok(bytes) => {
                    let checked = tokio::task::block_in_place(|| verify::file(file, bytes, &mut chains));
                    looked.faults.extend(checked.err().map(|bad| bad.to_string()));
                }
                Err(error) => looked.faults.push(format!("{}: {error}", file.path)),
            }
            looked.event_files.extend((file.table == "events").then(|| file.clone()));
        }
        looked.events = chains.events;
        let firsts: HashMap<&str, u64> =
            chains.starts.iter().map(|start| (start.session.as_str(), start.seq)).collect();
        let first = |session: &str| firsts.get(session).copied().unwrap_or(1);
        looked.parts =
            chains.ends.iter().map(|(session, end)| (session.clone(), first(session), *end)).collect();
        looked.starts = chains.starts;
        Ok(looked)
    }
}

/// First events that follow one of another commit or session: that one is looked up.
async fn follow(
    worker: &Worker,
    starts: Vec<Start>,
    event_files: impl Iterator<Item = &File>,
    waiting: &HashSet<String>,
    faults: &mut Vec<String>,
) -> Result<(), Error> {
    let mut wanted: HashMap<(String, u64), Vec<Start>> = HashMap::new();
    for start in starts {
        wanted.entry(start.after.clone()).or_default().push(start);
    }
    for file in event_files {
        if wanted.is_empty() {
            return Ok(());
        }
        let Ok(bytes) = worker.store.get(&file.path).await else { continue };
        let looked = verify::each_hash(file, bytes, |session, seq, hash| {
            for start in wanted.remove(&(session.to_owned(), seq)).unwrap_or_default() {
                if !<[u8; 32]>::try_from(hash).is_ok_and(|hash| start.follows(&hash)) {
                    faults.push(format!("event {} of session {} does not follow", start.seq, start.session));
                }
            }
        });
        let bad = looked.err().map(|bad| bad.to_string());
        faults.extend(bad);
    }
    let missing = wanted.into_values().flatten().filter(|start| !waiting.contains(&start.after.0));
    faults.extend(missing.map(|start| {
        let Start { session, seq, after: (before, last), .. } = start;
        format!(
            "event {seq} of session {session} follows event {last} of {before}, which is not in the archive"
        )
    }));
    Ok(())
}

/// What counts twice in every report; `None`: nothing.
fn twice(session: &str, parts: &Parts) -> Option<String> {
    let pairs = parts.iter().zip(parts.iter().skip(1));
    let mut overlaps = pairs.filter(|((_, last, _), (first, _, _))| first <= last);
    overlaps.next().map(|(_, (first, _, _))| {
        format!("session {session} has event {first} more than once in the archive: run `cellaflow-compactor run --once`, which takes out what the ledger does not know")
    })
}

/// What is wrong with the parts of a session; `None`: nothing.
fn unlike(parts: &HashMap<&str, Parts>, session: &v1::Session) -> Option<String> {
    let Some(parts) = parts.get(session.session_id.as_str()) else {
        return Some("is not in the archive".to_owned());
    };
    let mut end: Option<(u64, [u8; 32])> = None;
    for (first, last, hash) in parts {
        if end.is_some_and(|(end, _)| end + 1 < *first) {
            return Some(format!("lacks events before {first}"));
        }
        end = Some((*last, *hash));
    }
    match end {
        Some((seq, hash)) if seq == session.seq && hash[..] == session.hash[..] => None,
        other => {
            let seq = other.map_or(0, |(seq, _)| seq);
            Some(format!("ends with event {seq} in the archive, and with {} in the ledger", session.seq))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(parts: Parts, seq: u64, hash: u8) -> Option<String> {
        let session = v1::Session {
            session_id: "s".into(),
            seq,
            hash: vec![hash; 32].into(),
            ..v1::Session::default()
        };
        unlike(&[("s", parts)].into(), &session)
    }

    #[test]
    fn parts_must_join_and_end_as_the_ledger_says() {
        let parts: Parts = vec![(1, 3, [1; 32]), (4, 6, [2; 32])];
        assert_eq!(problem(parts.clone(), 6, 2), None);
        assert_eq!(twice("s", &parts), None);
        assert!(problem(parts.clone(), 7, 2).unwrap().contains("with 7 in the ledger"));
        assert!(problem(parts, 6, 1).is_some(), "another hash");
        let holed: Parts = vec![(1, 3, [1; 32]), (5, 6, [2; 32])];
        assert_eq!(problem(holed, 6, 2), Some("lacks events before 5".to_owned()));
    }

    #[test]
    fn what_counts_twice_is_a_fault() {
        // The parts of a session were kept by their first seqs: the second of two equal ones hid the first.
        for again in [(1, 6, [2; 32]), (3, 6, [2; 32])] {
            let parts: Parts = vec![(1, 3, [1; 32]), again];
            assert!(twice("s", &parts).unwrap().contains("more than once"), "{again:?}");
        }
    }
}
