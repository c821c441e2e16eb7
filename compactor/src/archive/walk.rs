//! Walks what was archived: every file against its manifest, every chain from its first event to the end that the ledger
//! keeps, across commits and from forks into their parents.
//!
//! Memory: about 200 bytes for each archived session; files are read one at a time.

use std::collections::{BTreeMap, HashMap};

use cellaflow_proto::v1;
use v1::session_service_client::SessionServiceClient;

use super::job::{Error, Worker};
use super::manifest::{self, File};
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

/// The parts of a session, by their first seqs: last seq and hash.
type Parts = BTreeMap<u64, (u64, [u8; 32])>;

/// Walks the archive of the worker's namespace.
///
/// # Errors
/// If engine or store cannot be asked; what is wrong with files becomes a fault.
pub async fn archive(worker: &Worker, progress: &dyn Fn(u64)) -> Result<Walked, Error> {
    let mut walk = Walk::default();
    for path in manifest::current(&worker.store, &worker.namespace).await? {
        walk.manifest(worker, &path).await?;
        progress(walk.found.events);
    }
    walk.starts(worker).await?;
    walk.found.sessions = walk.parts.len() as u64;
    walk.against_ledger(worker).await?;
    Ok(walk.found)
}

#[derive(Default)]
struct Walk {
    found: Walked,
    parts: HashMap<String, Parts>,
    starts: Vec<Start>,
    /// Files of events, for a second look.
    event_files: Vec<File>,
}

impl Walk {
    async fn manifest(&mut self, worker: &Worker, path: &str) -> Result<(), Error> {
        let manifest = manifest::load(&worker.store, path).await?;
        self.found.manifests += 1;
        let mut chains = Chains::default();
        for file in &manifest.files {
            self.found.files += 1;
            match worker.store.get(&file.path).await {
                Ok(bytes) => {
                    let checked = tokio::task::block_in_place(|| verify::file(file, bytes, &mut chains));
                    self.found.faults.extend(checked.err().map(|bad| bad.to_string()));
                }
                Err(error) => self.found.faults.push(format!("{}: {error}", file.path)),
            }
            self.event_files.extend((file.table == "events").then(|| file.clone()));
        }
        self.found.events += chains.events;
        let firsts: HashMap<&str, u64> =
            chains.starts.iter().map(|start| (start.session.as_str(), start.seq)).collect();
        for (session, end) in &chains.ends {
            let first = firsts.get(session.as_str()).copied().unwrap_or(1);
            self.parts.entry(session.clone()).or_default().insert(first, *end);
        }
        self.starts.append(&mut chains.starts);
        Ok(())
    }

    /// First events that follow one of another commit or session: that one is looked up.
    async fn starts(&mut self, worker: &Worker) -> Result<(), Error> {
        let mut wanted: HashMap<(String, u64), Vec<Start>> = HashMap::new();
        for start in self.starts.drain(..) {
            wanted.entry(start.after.clone()).or_default().push(start);
        }
        let mut faults = Vec::new();
        for file in &self.event_files {
            if wanted.is_empty() {
                break;
            }
            let Ok(bytes) = worker.store.get(&file.path).await else { continue };
            let looked = verify::each_hash(file, bytes, |session, seq, hash| {
                for start in wanted.remove(&(session.to_owned(), seq)).unwrap_or_default() {
                    if !<[u8; 32]>::try_from(hash).is_ok_and(|hash| start.follows(&hash)) {
                        faults.push(format!(
                            "event {} of session {} does not follow",
                            start.seq, start.session
                        ));
                    }
                }
            });
            self.found.faults.extend(looked.err().map(|bad| bad.to_string()));
        }
        let missing = wanted.into_values().flatten();
        faults.extend(missing.map(|start| {
            let Start { session, seq, after: (before, last), .. } = start;
            format!("event {seq} of session {session} follows event {last} of {before}, which is not in the archive")
        }));
        self.found.faults.append(&mut faults);
        Ok(())
    }

    /// Each session that the ledger says is archived is there, whole, and ends as the ledger says.
    async fn against_ledger(&mut self, worker: &Worker) -> Result<(), Error> {
        let mut sessions = SessionServiceClient::new(worker.channel.clone());
        let mut page_token = String::new();
        loop {
            let request = v1::ListSessionsRequest {
                namespace: worker.namespace.clone(),
                page_size: PAGE_SESSIONS,
                page_token,
                ..v1::ListSessionsRequest::default()
            };
            let page = sessions.list_sessions(request).await?.into_inner();
            for session in page.sessions.iter().filter(|session| !session.archived.is_empty()) {
                let problem = match self.parts.get(&session.session_id) {
                    None => Some("is not in the archive".to_owned()),
                    Some(parts) => unlike(parts, session),
                };
                let problem = problem.map(|problem| format!("session {} {problem}", session.session_id));
                self.found.faults.extend(problem);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }
}

/// What is wrong with the parts of a session; `None`: nothing.
fn unlike(parts: &Parts, session: &v1::Session) -> Option<String> {
    let mut last: Option<(u64, [u8; 32])> = None;
    for (first, end) in parts {
        if last.is_some_and(|(last, _)| last + 1 != *first) {
            return Some(format!("lacks events before {first}"));
        }
        last = Some(*end);
    }
    match last {
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

    fn session(seq: u64, hash: u8) -> v1::Session {
        v1::Session { seq, hash: vec![hash; 32].into(), ..v1::Session::default() }
    }

    #[test]
    fn parts_must_join_and_end_as_the_ledger_says() {
        let parts: Parts = [(1, (3, [1; 32])), (4, (6, [2; 32]))].into();
        assert_eq!(unlike(&parts, &session(6, 2)), None);
        assert!(unlike(&parts, &session(7, 2)).unwrap().contains("with 7 in the ledger"));
        assert!(unlike(&parts, &session(6, 1)).is_some(), "another hash");
        let holed: Parts = [(1, (3, [1; 32])), (5, (6, [2; 32]))].into();
        assert_eq!(unlike(&holed, &session(6, 2)), Some("lacks events before 5".to_owned()));
    }
}
