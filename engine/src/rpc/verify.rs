//! Walks the ledger: is every event where it belongs, is its hash right, does the head follow from the events?
//!
//! 1. The hash of event n is blake3 over the hash of event n-1 and the header bytes as stored; nothing is re-encoded.
//! 2. A session's walk ends at its first bad event, which is named; the walk of the others goes on.
//! 3. A head is compared with the fold of the events it counts; events that are appended meanwhile are left to the next
//!    walk.
//! 4. A session in the archive is no fault: what was left of it must end as its head does. Its events are walked by the
//!    compactor, which can read them.

use std::sync::Arc;

use cellaflow_proto::v1;
use v1::verify_ledger_response::Body;

use super::context::Context;
use crate::graph::evolve::evolve;
use crate::graph::ids::{Hash, Seq, SessionId};
use crate::graph::session::Head;
use crate::ledger::digest::{self, Salt};
use crate::ledger::{Among, NamespaceInfo, Place, RawEvent, ReadError, Reader};

/// Bytes of events read in one go.
const PAGE_BYTES: usize = 256 * 1024;
/// Sessions listed in one go.
const LIST_ROWS: usize = 256;
/// How often progress is reported, in ms.
const PROGRESS_MS: u64 = 200;

/// What is walked.
#[derive(Clone, Debug)]
pub enum Scope {
    /// One session.
    Session(SessionId),
    /// All sessions of these namespaces, their system sessions included.
    Namespaces(Vec<NamespaceInfo>),
}

/// Takes reports; false: nobody listens any more.
pub type Report<'a> = &'a mut dyn FnMut(Body) -> bool;

/// Walks `scope` and reports progress, faults and at last a summary.
///
/// # Errors
/// As every read that is not of an event: those become faults.
pub fn walk(context: &Context, scope: &Scope, payloads: bool, report: Report<'_>) -> Result<(), ReadError> {
    let mut walk = Walk {
        reader: context.ledger.reader(),
        context,
        payloads,
        report,
        heard: true,
        reported_ms: context.clock.mono_ms(),
        total: 0,
        summary: v1::VerifySummary::default(),
    };
    walk.total = match scope {
        Scope::Session(_) => 1,
        Scope::Namespaces(namespaces) => walk.count(namespaces)?,
    };
    match scope {
        Scope::Session(session) => walk.session(*session)?,
        Scope::Namespaces(namespaces) => walk.namespaces(namespaces)?,
    }
    let summary = walk.summary;
    (walk.report)(Body::Summary(summary));
    Ok(())
}

struct Walk<'a> {
    reader: &'a Reader,
    context: &'a Context,
    payloads: bool,
    report: Report<'a>,
    heard: bool,
    reported_ms: u64,
    total: u64,
    summary: v1::VerifySummary,
}

/// The first thing that is wrong with a session.
struct Bad {
    seq: Seq,
    problem: String,
}

/// Where a session is.
enum Walked {
    Here(Arc<Head>, Arc<Place>),
    Away(Arc<Head>),
    /// Its payloads are going.
    Leaving,
    Nowhere,
}

impl Walk<'_> {
    fn count(&self, namespaces: &[NamespaceInfo]) -> Result<u64, ReadError> {
        let mut total = 0;
        for info in namespaces {
            total += 1;
            self.each_page(info, |heads| {
                total += heads.len() as u64;
                Ok(true)
            })?;
        }
        Ok(total)
    }

    fn namespaces(&mut self, namespaces: &[NamespaceInfo]) -> Result<(), ReadError> {
        for info in namespaces {
            self.session(info.system)?;
            let mut before = None;
            loop {
                let page =
                    self.reader.list(&Among { namespace: &info.name, label: None }, before, LIST_ROWS)?;
                for head in &page.heads {
                    self.session(head.session)?;
                    if !self.heard {
                        return Ok(());
                    }
                }
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn each_page(
        &self,
        info: &NamespaceInfo,
        mut visit: impl FnMut(&[Arc<Head>]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut before = None;
        loop {
            let page = self.reader.list(&Among { namespace: &info.name, label: None }, before, LIST_ROWS)?;
            before = page.next;
            if !visit(&page.heads)? || before.is_none() {
                return Ok(());
            }
        }
    }

    fn session(&mut self, session: SessionId) -> Result<(), ReadError> {
        let walked = match self.place(session)? {
            Walked::Here(head, place) => match self.chain(&head, &place.salt) {
                // It may have been archived under our eyes.
                Err(bad) => match self.place(session)? {
                    Walked::Away(head) => self.stub(&head)?,
                    Walked::Leaving => Ok(()),
                    Walked::Here(..) | Walked::Nowhere => Err(bad),
                },
                walked => walked,
            },
            Walked::Away(head) => self.stub(&head)?,
            Walked::Leaving => Ok(()),
            Walked::Nowhere => Err(Bad { seq: Seq(0), problem: "it has no head".to_owned() }),
        };
        if let Err(Bad { seq, problem }) = walked {
            self.summary.faults += 1;
            let fault = v1::VerifyFault { session_id: session.to_string(), seq: seq.0, message: problem };
            self.tell(Body::Fault(fault));
        }
        self.summary.sessions += 1;
        self.progress();
        Ok(())
    }

    fn place(&self, session: SessionId) -> Result<Walked, ReadError> {
        let Some(head) = self.reader.head(session)? else { return Ok(Walked::Nowhere) };
        match self.reader.place(session) {
            Ok(Some(place)) => Ok(Walked::Here(head, place)),
            Ok(None) => Ok(Walked::Nowhere),
            Err(ReadError::Archived(_)) => Ok(Walked::Away(head)),
            Err(ReadError::Erased) => Ok(match self.reader.lineage_info(head.lineage)? {
                // Until the compactor takes it, its events are here and nobody's.
                Some(_) => Walked::Leaving,
                None => Walked::Away(head),
            }),
            Err(error) => Err(error),
        }
    }

    /// 4.
    fn stub(&mut self, head: &Head) -> Result<Result<(), Bad>, ReadError> {
        self.summary.archived_sessions += 1;
        let stub = self.reader.stub(head.session)?;
        if stub.is_some_and(|stub| stub.seq == head.seq && stub.hash == head.hash) {
            return Ok(Ok(()));
        }
        let problem = "it is archived, and what was left of it is not how it ended".to_owned();
        Ok(Err(Bad { seq: head.seq, problem }))
    }

    fn chain(&mut self, head: &Head, salt: &Salt) -> Result<(), Bad> {
        let mut folded: Option<Head> = None;
        let mut next = Seq(1);
        while next <= head.seq {
            for raw in self.page(head.session, next)? {
                if next > head.seq {
                    break;
                }
                let bad = |problem| Bad { seq: next, problem };
                let before = folded.as_ref().map_or(CHAIN_START, |head| head.hash);
                let hash = link(&raw, before).map_err(bad)?;
                folded =
                    Some(evolve(folded.as_ref(), &raw.stored.event, hash).map_err(|no| bad(no.problem))?);
                self.check_payloads(&raw, salt).map_err(bad)?;
                next = next.next();
                self.summary.events += 1;
                self.progress();
                if !self.heard {
                    return Ok(());
                }
            }
        }
        match folded {
            Some(folded) if folded == *head => Ok(()),
            _ => Err(Bad { seq: head.seq, problem: "the head is not what the events come to".to_owned() }), // 3
        }
    }

    fn page(&self, session: SessionId, next: Seq) -> Result<Vec<RawEvent>, Bad> {
        // A page that cannot be read is read again one by one, so that the event before the bad one still counts.
        let page = self.reader.raw_events(session, next, PAGE_BYTES);
        match page.or_else(|_| self.reader.raw_events(session, next, 1)) {
            Ok(page) if page.is_empty() => Err(Bad { seq: next, problem: "it is missing".to_owned() }),
            Ok(page) => Ok(page),
            Err(error) => Err(Bad { seq: next, problem: error.to_string() }),
        }
    }

    fn check_payloads(&mut self, raw: &RawEvent, salt: &Salt) -> Result<(), String> {
        if !self.payloads {
            return Ok(());
        }
        for payload in raw.stored.event.payloads() {
            let bytes = self.reader.bytes_of(&raw.stored, payload).map_err(|error| error.to_string())?;
            if bytes.len() as u64 != payload.size || digest::content(salt, &bytes) != payload.digest {
                return Err(format!("its payload {} has other bytes than it says", payload.digest));
            }
            self.summary.payloads += 1;
        }
        Ok(())
    }

    fn progress(&mut self) {
        let now_ms = self.context.clock.mono_ms();
        if now_ms.saturating_sub(self.reported_ms) < PROGRESS_MS {
            return;
        }
        self.reported_ms = now_ms;
        let v1::VerifySummary { sessions, events, .. } = self.summary;
        self.tell(Body::Progress(v1::VerifyProgress { sessions, sessions_total: self.total, events }));
    }

    fn tell(&mut self, body: Body) {
        self.heard = self.heard && (self.report)(body);
    }
}

/// The hash that a chain starts from.
const CHAIN_START: Hash = Hash([0; 32]);

/// Recomputes an event's hash (1).
fn link(raw: &RawEvent, before: Hash) -> Result<Hash, String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0).update(&raw.header);
    let hash = Hash(*hasher.finalize().as_bytes());
    if hash == raw.stored.hash {
        Ok(hash)
    } else {
        Err("its hash does not follow from the event before".to_owned())
    }
}
