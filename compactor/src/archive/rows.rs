//! From stored events to rows of the tables.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use cellaflow_proto::{content, disk, v1};
use content::part::Kind;
use disk::event_header::Body;
use prost::Message as _;

use super::decode::{self, Part, Unreadable};
use super::spool::{self, Cell, Finished, Spool};
use super::tables::Table;
use super::texts::{Counting, Texts};

/// Bytes of a payload beside its event up to which its text is looked at.
const BESIDE_BYTES_MAX: usize = 4 << 20;

/// Names of steps that are remembered in a session: many more than can be open in it.
const NAMES_MAX: usize = 4_096;

/// Why rows could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine sent what is no event.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A file could not be written.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The chain does not hold.
    #[error("session {session} breaks its hash chain at event {seq}: run `cellaflow ledger verify`")]
    Chain {
        /// The session.
        session: String,
        /// The first event that does not follow.
        seq: u64,
    },
}

/// The files of one claim, in the making.
pub struct Rows {
    sessions: Spool,
    events: Spool,
    llm_calls: Spool,
    messages: Spool,
    payloads: Spool,
    /// Events written.
    pub count: u64,
}

/// Sums of a session that its head does not have.
#[derive(Default)]
struct Sums {
    failed_attempts: u64,
    unknown_effects: u64,
    replays: u64,
    saved_tokens: u64,
    saved_cost: i64,
    /// Spent so far, what a fork has from its parent included: what a replay takes from the ledger.
    spent_tokens: u64,
    spent_cost: i64,
    failure: Option<content::StepFailure>,
}

/// A lineage on its way into rows.
pub struct Lineage<'a> {
    rows: &'a mut Rows,
    lineage_id: String,
    session: Option<Writing>,
    /// Payloads beside events that have arrived.
    beside: Beside,
    /// Parts that are written already. Copies: a slice of a message would keep all of it.
    written: HashSet<(Digest, u32)>,
    /// Hashes at the cuts of forks: the last hash of every session's event, by session.
    done: Vec<v1::CommittedSession>,
    texts: Texts,
}

/// Digest of a payload.
type Digest = [u8; 32];

/// Digest → bytes so far.
type Beside = HashMap<Digest, Vec<u8>>;

struct Writing {
    session: v1::Session,
    first_seq: u64,
    archived_seq: u64,
    next: u64,
    hash: Option<[u8; 32]>,
    sums: Sums,
    names: Names,
    events: u64,
}

/// Names by step key: what follows a beginning says only its key.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    /// The name of an event's step, if it says it, or one before it has.
    fn of(&mut self, header: &disk::EventHeader) -> String {
        let Step { key, name, .. } = step(header);
        if name.is_empty() {
            return self.0.get(key).cloned().unwrap_or_default();
        }
        if !key.is_empty() && !matches!(header.body, Some(Body::StepCompleted(_))) {
            if self.0.len() >= NAMES_MAX {
                self.0.clear();
            }
            self.0.insert(key.to_owned(), name.to_owned());
        }
        name.to_owned()
    }
}

/// One event's figures.
#[derive(Default)]
struct Figures {
    usage: disk::Usage,
    cost: Option<i64>,
    wasted_tokens: u64,
    wasted_cost: Option<i64>,
    saved: Option<(u64, i64)>,
}

impl Rows {
    /// No rows yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sessions: Spool::new(Table::Sessions),
            events: Spool::new(Table::Events),
            llm_calls: Spool::new(Table::LlmCalls),
            messages: Spool::new(Table::Messages),
            payloads: Spool::new(Table::Payloads),
            count: 0,
        }
    }

    /// Begins a lineage.
    pub fn lineage(&mut self, lineage_id: &str) -> Lineage<'_> {
        Lineage {
            rows: self,
            lineage_id: lineage_id.to_owned(),
            session: None,
            beside: HashMap::new(),
            written: HashSet::new(),
            done: Vec::new(),
            texts: Texts::default(),
        }
    }

    /// Closes all files.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn finish(self) -> Result<Vec<Finished>, spool::Error> {
        let tables = [self.sessions, self.events, self.llm_calls, self.messages, self.payloads];
        let mut finished = Vec::new();
        for table in tables {
            finished.extend(table.finish()?);
        }
        Ok(finished)
    }
}

impl Default for Rows {
    fn default() -> Self {
        Self::new()
    }
}

impl Lineage<'_> {
    /// A session begins; the one before is complete.
    ///
    /// # Errors
    /// As `Error`.
    pub fn session(&mut self, begins: v1::LineageSession) -> Result<(), Error> {
        self.end_session()?;
        let session = begins.session.unwrap_or_default();
        let first = begins.first_seq.max(begins.archived_seq + 1);
        let inherited = session.inherited_totals.unwrap_or_default();
        let mut sums =
            Sums { spent_tokens: tokens(&inherited), spent_cost: inherited.cost_nanos, ..Sums::default() };
        if !session.forked_from_session.is_empty() {
            (sums.saved_tokens, sums.saved_cost) = (sums.spent_tokens, sums.spent_cost);
        }
        self.texts.session(&session.session_id, &session.forked_from_session, session.forked_from_seq);
        self.session = Some(Writing {
            next: first,
            hash: (first == 1).then_some([0; 32]),
            first_seq: begins.first_seq,
            archived_seq: begins.archived_seq,
            session,
            sums,
            names: Names::default(),
            events: 0,
        });
        Ok(())
    }

    /// A part of a payload that an event after it names.
    ///
    /// # Errors
    /// As `Error`.
    pub fn chunk(&mut self, chunk: v1::RawChunk) -> Result<(), Error> {
        let digest = Digest::try_from(chunk.digest.as_ref())
            .map_err(|_| Unreadable("a digest has not 32 bytes".to_owned()))?;
        if self.written.insert((digest, chunk.n)) {
            let n = Cell::count(u64::from(chunk.n));
            let row = [Cell::Text(&self.lineage_id), Cell::Bytes(&digest), n, Cell::Bytes(&chunk.data)];
            self.rows.payloads.push(row)?;
        }
        if chunk.n == 0 {
            self.beside.insert(digest, Vec::new());
        }
        if let Some(known) = self.beside.get_mut(&digest) {
            known.extend_from_slice(&chunk.data);
            if known.len() > BESIDE_BYTES_MAX {
                self.beside.remove(&digest);
            }
        }
        Ok(())
    }

    /// Events of the session.
    ///
    /// # Errors
    /// As `Error`.
    pub fn events(&mut self, events: v1::RawEvents) -> Result<(), Error> {
        for event in &events.events {
            self.event(event)?;
        }
        // Parts that no event named are of events before: the engine sends them again if they are named again.
        self.beside.clear();
        Ok(())
    }

    /// The lineage is complete; says up to where its sessions were written.
    ///
    /// # Errors
    /// As `Error`.
    pub fn finish(mut self) -> Result<Vec<v1::CommittedSession>, Error> {
        self.end_session()?;
        Ok(self.done)
    }

    fn event(&mut self, raw: &v1::RawEvent) -> Result<(), Error> {
        let Some(writing) = &mut self.session else {
            return Err(Unreadable("events came before their session".to_owned()).into());
        };
        let broken = |seq| Error::Chain { session: writing.session.session_id.clone(), seq };
        let hash = <[u8; 32]>::try_from(raw.hash.as_ref()).map_err(|_| broken(raw.seq))?;
        let follows = writing.hash.is_none_or(|before| decode::chain(&before, &raw.header) == hash);
        if raw.seq != writing.next || !follows {
            return Err(broken(raw.seq));
        }
        let event = decode::event(&raw.header, &raw.payloads)?;
        (writing.next, writing.hash) = (raw.seq + 1, Some(hash));
        writing.events += 1;
        self.rows.count += 1;
        let documents = Documents::read(&event, &self.beside);
        let calls = calls(&event.header);
        let figures = writing.sums.take(&event.header, &documents, &calls);
        let name = writing.names.of(&event.header);
        let at =
            At { lineage: &self.lineage_id, session: &writing.session, header: &event.header, name: &name };
        at.write_event(&mut self.rows.events, raw, &figures, &documents)?;
        for (n, call) in calls.iter().enumerate() {
            at.write_call(&mut self.rows.llm_calls, n, call, &documents)?;
        }
        at.write_messages(&mut self.rows.messages, &documents, &mut self.texts)?;
        Ok(())
    }

    fn end_session(&mut self) -> Result<(), Error> {
        let Some(writing) = self.session.take() else { return Ok(()) };
        let Writing { session, first_seq, archived_seq, next, hash, sums, events, .. } = writing;
        if next != session.seq + 1 || (events > 0 && hash.is_some_and(|hash| hash[..] != session.hash)) {
            return Err(Error::Chain { session: session.session_id.clone(), seq: next });
        }
        self.done.push(v1::CommittedSession {
            session_id: session.session_id.clone(),
            seq: session.seq,
            hash: session.hash.clone(),
        });
        if archived_seq < session.seq {
            write_session(&mut self.rows.sessions, &self.lineage_id, &session, (first_seq, events), &sums)?;
        }
        Ok(())
    }
}

/// All tokens of a call: input, read from a cache, written to it or neither, and output.
fn paid(usage: &disk::Usage) -> u64 {
    usage.input_tokens + usage.cached_read_tokens + usage.cache_write_tokens + usage.output_tokens
}

fn tokens(totals: &v1::Totals) -> u64 {
    totals.input_tokens + totals.cached_read_tokens + totals.cache_write_tokens + totals.output_tokens
}

fn write_session(
    to: &mut Spool,
    lineage_id: &str,
    session: &v1::Session,
    (first_seq, events): (u64, u64),
    sums: &Sums,
) -> Result<(), Error> {
    let totals = session.totals.unwrap_or_default();
    let inherited = session.inherited_totals.unwrap_or_default();
    let own = |of: fn(&v1::Totals) -> u64| Cell::count(of(&totals).saturating_sub(of(&inherited)));
    let labels = match session.labels.is_empty() {
        true => String::new(),
        false => {
            let sorted: std::collections::BTreeMap<_, _> = session.labels.iter().collect();
            serde_json::to_string(&sorted).unwrap_or_default()
        }
    };
    let failure = sums.failure.as_ref();
    let failed = |of: fn(&content::StepFailure) -> &str| Cell::some(failure.map(of).unwrap_or_default());
    let time = |ms: u64| Cell::positive(ms);
    let duration = session.ended_ms.saturating_sub(session.started_ms);
    to.push([
        Cell::Text(lineage_id),
        Cell::Text(&session.session_id),
        Cell::Text(&session.namespace),
        Cell::Text(&session.workflow),
        Cell::Text(&session.version),
        Cell::some(&session.key),
        Cell::count(u64::from(session.generation)),
        Cell::Text(status(session.status())),
        time(session.started_ms),
        time(session.ended_ms),
        Cell::count(duration),
        Cell::Text(&session.root_id),
        Cell::some(&session.parent_id),
        Cell::some(&session.top_id),
        Cell::some(&session.forked_from_session),
        Cell::positive(session.forked_from_seq),
        Cell::some(&session.continued_from),
        Cell::some(&session.continued_to),
        Cell::some(&labels),
        Cell::count(first_seq),
        Cell::count(session.seq),
        Cell::Bytes(&session.hash),
        Cell::count(events),
        Cell::count(session.steps.saturating_sub(session.inherited_steps)),
        Cell::count(sums.failed_attempts),
        Cell::count(sums.unknown_effects),
        own(|totals| totals.llm_calls),
        own(|totals| totals.input_tokens),
        own(|totals| totals.cached_read_tokens),
        own(|totals| totals.cache_write_tokens),
        own(|totals| totals.output_tokens),
        Cell::Int(totals.cost_nanos - inherited.cost_nanos),
        own(|totals| totals.unpriced_calls),
        own(|totals| totals.wasted_tokens),
        Cell::Int(totals.wasted_cost_nanos - inherited.wasted_cost_nanos),
        Cell::count(sums.replays),
        Cell::count(sums.saved_tokens),
        Cell::Int(sums.saved_cost),
        failed(|failure| &failure.name),
        failed(|failure| &failure.code),
        failed(|failure| &failure.message),
    ])?;
    Ok(())
}

fn status(status: v1::SessionStatus) -> &'static str {
    match status {
        v1::SessionStatus::Unspecified => "unknown",
        v1::SessionStatus::Pending => "pending",
        v1::SessionStatus::Running => "running",
        v1::SessionStatus::Waiting => "waiting",
        v1::SessionStatus::Paused => "paused",
        v1::SessionStatus::Completed => "completed",
        v1::SessionStatus::Failed => "failed",
        v1::SessionStatus::Cancelled => "cancelled",
    }
}

/// A model call of an event.
struct Call<'a> {
    usage: &'a disk::Usage,
    wasted: bool,
    duration_us: Option<u64>,
    in_zone: bool,
}

fn calls(header: &disk::EventHeader) -> Vec<Call<'_>> {
    let call = |usage, wasted, duration_us, in_zone| Call { usage, wasted, duration_us, in_zone };
    match &header.body {
        Some(Body::StepCompleted(step)) => {
            let usage = step.llm.iter().filter_map(|call| call.usage.as_ref());
            usage.map(|usage| call(usage, false, Some(step.duration_us), false)).collect()
        }
        Some(Body::StepFailed(step)) => {
            step.usage.iter().map(|usage| call(usage, true, Some(step.duration_us), false)).collect()
        }
        Some(Body::ZoneCommitted(zone)) => {
            let usage = zone.llm_calls.iter().filter_map(|call| call.usage.as_ref());
            usage.map(|usage| call(usage, false, None, true)).collect()
        }
        Some(Body::ZoneFailed(zone)) => {
            zone.usage.iter().map(|usage| call(usage, true, None, true)).collect()
        }
        _ => Vec::new(),
    }
}

impl Sums {
    fn take(&mut self, header: &disk::EventHeader, documents: &Documents, calls: &[Call<'_>]) -> Figures {
        let mut figures = Figures::default();
        for call in calls {
            let (sum, usage) = (&mut figures.usage, call.usage);
            sum.input_tokens += usage.input_tokens;
            sum.cached_read_tokens += usage.cached_read_tokens;
            sum.cache_write_tokens += usage.cache_write_tokens;
            sum.output_tokens += usage.output_tokens;
            let paid = paid(usage);
            self.spent_tokens += paid;
            if let Some(cost) = usage.cost_nanos {
                *figures.cost.get_or_insert(0) += cost;
            }
            if call.wasted {
                figures.wasted_tokens += paid;
                if let Some(cost) = usage.cost_nanos {
                    *figures.wasted_cost.get_or_insert(0) += cost;
                }
            }
        }
        match &header.body {
            Some(Body::StepCompleted(step)) if step.cost_nanos != 0 => {
                *figures.cost.get_or_insert(0) += step.cost_nanos;
            }
            Some(Body::ZoneCommitted(zone)) if zone.cost_nanos != 0 => {
                *figures.cost.get_or_insert(0) += zone.cost_nanos;
            }
            Some(Body::StepFailed(_) | Body::ZoneFailed(_)) => self.failed_attempts += 1,
            // That its time is over is said of an outcome that is unknown already.
            Some(Body::GuardUnknown(unknown)) if unknown.reason() != disk::UnknownReason::GraceOver => {
                self.unknown_effects += 1;
            }
            Some(Body::ZoneRolledBack(zone)) => figures.wasted_tokens += zone.wasted_tokens,
            Some(Body::LeaseGranted(grant)) if grant.takeover => {
                self.replays += 1;
                self.saved_tokens += self.spent_tokens;
                self.saved_cost += self.spent_cost;
                figures.saved = Some((self.spent_tokens, self.spent_cost));
            }
            Some(Body::SessionStarted(started)) if !started.parent_id.is_empty() => {
                figures.saved = Some((self.spent_tokens, self.spent_cost));
            }
            Some(Body::SessionFailed(_)) => self.failure.clone_from(&documents.failure),
            _ => {}
        }
        self.spent_cost += figures.cost.unwrap_or(0);
        figures
    }
}

/// The documents of an event that columns are made of.
#[derive(Default)]
struct Documents {
    conversation: Option<content::ConversationDelta>,
    /// The output, if it is one string.
    output_text: Option<String>,
    output_answer: Option<content::LlmResponse>,
    record: Option<content::ZoneRecord>,
    requests: HashMap<usize, content::LlmRequest>,
    responses: HashMap<usize, content::LlmResponse>,
    failure: Option<content::StepFailure>,
    /// What a prompt was made of.
    context: Option<content::ContextUsed>,
    /// What could not be read of what has texts.
    unread: Vec<Part>,
}

impl Documents {
    /// Reads what can be read: a payload in a codec of its caller's own, or one that is not at hand, is left out.
    fn read(event: &decode::Event, beside: &Beside) -> Self {
        let mut documents = Documents::default();
        for piece in &event.pieces {
            let size = usize::try_from(piece.payload.size_bytes).unwrap_or(usize::MAX);
            let bytes = match &piece.inline {
                Some(bytes) => Some(bytes.clone()),
                None => {
                    let digest = Digest::try_from(piece.payload.digest.as_ref()).ok();
                    let found = digest.and_then(|digest| beside.get(&digest));
                    found.filter(|found| found.len() == size).map(|found| Bytes::copy_from_slice(found))
                }
            };
            match bytes.filter(|_| piece.payload.codec.is_empty()) {
                Some(bytes) => documents.take(piece.part, piece.payload.format(), bytes),
                None => documents.unread.push(piece.part),
            }
        }
        documents
    }

    fn take(&mut self, part: Part, format: disk::Format, bytes: Bytes) {
        match (part, format) {
            (Part::Conversation, _) => {
                self.conversation = content::ConversationDelta::decode(bytes).ok();
            }
            (Part::Failure, disk::Format::Failure) => self.failure = content::StepFailure::decode(bytes).ok(),
            (Part::Output, disk::Format::LlmResponse) => {
                self.output_answer = content::LlmResponse::decode(bytes).ok();
            }
            (Part::Output, disk::Format::Context) => {
                self.context = content::ContextUsed::decode(bytes).ok();
            }
            (Part::Output, disk::Format::Value | disk::Format::Json) => {
                self.output_text = serde_json::from_slice::<String>(&bytes).ok();
            }
            (Part::Record, _) => self.record = content::ZoneRecord::decode(bytes).ok(),
            (Part::Request(n), _) => {
                self.requests.extend(content::LlmRequest::decode(bytes).ok().map(|request| (n, request)));
            }
            (Part::Response(n), _) => {
                self.responses.extend(content::LlmResponse::decode(bytes).ok().map(|answer| (n, answer)));
            }
            _ => {}
        }
    }

    /// The answer of a model call, wherever it is stored.
    fn answer(&self, n: usize) -> Option<&content::LlmResponse> {
        use content::zone_outcome::Outcome;
        self.responses
            .get(&n)
            .or_else(|| {
                let record = self.record.as_ref()?;
                let answers = record.outcomes.iter().filter_map(|outcome| match &outcome.outcome {
                    Some(Outcome::Llm(answer)) => Some(answer),
                    _ => None,
                });
                answers.clone().nth(n)
            })
            .or(self.output_answer.as_ref().filter(|_| n == 0))
    }
}

/// Where rows of an event belong.
struct At<'a> {
    lineage: &'a str,
    session: &'a v1::Session,
    header: &'a disk::EventHeader,
    name: &'a str,
}

/// What a header says of its step.
#[derive(Default)]
struct Step<'a> {
    key: &'a str,
    name: &'a str,
    attempt: u32,
    is_final: Option<bool>,
    guarded: Option<bool>,
    duration_us: Option<u64>,
    deduplicated_from: Option<(String, u64)>,
    resources: String,
    detail: String,
}

impl At<'_> {
    fn write_event(
        &self,
        to: &mut Spool,
        raw: &v1::RawEvent,
        figures: &Figures,
        documents: &Documents,
    ) -> Result<(), Error> {
        let step = step(self.header);
        let context = documents.context.as_ref().map(context_figures).unwrap_or_default();
        let record = decode::record(&raw.header, &raw.payloads);
        let failure = documents.failure.as_ref();
        let failed = |of: fn(&content::StepFailure) -> &str| Cell::some(failure.map(of).unwrap_or_default());
        let author = match self.header.author() {
            disk::Author::Unspecified => "unknown",
            disk::Author::Worker => "worker",
            disk::Author::Client => "client",
            disk::Author::Driver => "driver",
            disk::Author::Operator => "operator",
        };
        let paid = paid(&figures.usage);
        let tokens = |n: u64| if paid > 0 { Cell::count(n) } else { Cell::Null };
        let flag = |flag: Option<bool>| flag.map_or(Cell::Null, Cell::Flag);
        let from = step.deduplicated_from.as_ref();
        to.push([
            Cell::Text(self.lineage),
            Cell::Text(&self.session.session_id),
            Cell::count(raw.seq),
            Cell::Text(&self.session.workflow),
            Cell::Text(&self.session.version),
            Cell::count(self.header.time_ms),
            self.header.body.as_ref().map_or(Cell::Null, |body| Cell::Text(decode::name(body))),
            Cell::Text(author),
            Cell::positive(self.header.epoch),
            Cell::some(step.key),
            Cell::some(self.name),
            Cell::positive(u64::from(step.attempt)),
            flag(step.is_final),
            flag(step.guarded),
            step.duration_us.map_or(Cell::Null, Cell::count),
            Cell::maybe(figures.cost),
            tokens(figures.usage.input_tokens),
            tokens(figures.usage.cached_read_tokens),
            tokens(figures.usage.cache_write_tokens),
            tokens(figures.usage.output_tokens),
            Cell::positive(figures.wasted_tokens),
            Cell::maybe(figures.wasted_cost),
            figures.saved.map_or(Cell::Null, |(tokens, _)| Cell::count(tokens)),
            Cell::maybe(figures.saved.map(|(_, cost)| cost)),
            from.map_or(Cell::Null, |(session, _)| Cell::Text(session)),
            from.map_or(Cell::Null, |(_, seq)| Cell::count(*seq)),
            Cell::some(&step.resources),
            Cell::some(documents.context.as_ref().map_or(&step.detail, |_| &context)),
            failed(|failure| &failure.name),
            failed(|failure| &failure.code),
            failed(|failure| &failure.message),
            Cell::Bytes(&raw.hash),
            Cell::Bytes(&record),
        ])?;
        Ok(())
    }

    fn write_call(
        &self,
        to: &mut Spool,
        n: usize,
        call: &Call<'_>,
        documents: &Documents,
    ) -> Result<(), Error> {
        let (step, usage) = (step(self.header), call.usage);
        let finish = documents.answer(n).map(|answer| answer.finish_reason.as_str()).unwrap_or_default();
        let messages = documents.requests.get(&n).map(|request| u64::from(request.messages));
        to.push([
            Cell::Text(self.lineage),
            Cell::Text(&self.session.session_id),
            Cell::count(self.header.seq),
            Cell::count(n as u64),
            Cell::Text(&self.session.workflow),
            Cell::Text(&self.session.version),
            Cell::count(self.header.time_ms),
            Cell::some(step.key),
            Cell::some(self.name),
            Cell::positive(u64::from(step.attempt)),
            Cell::Flag(call.in_zone),
            Cell::some(&usage.provider),
            Cell::some(&usage.model),
            Cell::count(usage.input_tokens),
            Cell::count(usage.cached_read_tokens),
            Cell::count(usage.cache_write_tokens),
            Cell::count(usage.output_tokens),
            Cell::Flag(usage.estimated),
            Cell::maybe(usage.cost_nanos),
            Cell::some(&usage.price_date),
            Cell::Flag(call.wasted),
            call.duration_us.map_or(Cell::Null, Cell::count),
            Cell::some(finish),
            messages.map_or(Cell::Null, Cell::count),
        ])?;
        Ok(())
    }

    /// In the order in which texts are counted (`texts`).
    fn write_messages(&self, to: &mut Spool, documents: &Documents, texts: &mut Texts) -> Result<(), Error> {
        use content::zone_outcome::Outcome;
        let mut counting = texts.of_event(self.header.seq);
        let place = |source, call, position| Place { source, call, position };
        let lost = |part| documents.unread.contains(&part);
        if lost(Part::Conversation) {
            counting.lose();
        }
        if let Some(delta) = &documents.conversation {
            for (n, message) in (u64::from(delta.keep)..).zip(&delta.appended) {
                self.write_message(to, &place("conversation", None, n), message, &mut counting)?;
            }
        }
        if lost(Part::Output) {
            counting.lose();
        }
        if let Some(text) = &documents.output_text {
            counting.text(text);
        } else if let Some(message) =
            documents.output_answer.as_ref().and_then(|answer| answer.message.as_ref())
        {
            let position = documents.requests.get(&0).map_or(0, |request| u64::from(request.messages));
            self.write_message(to, &place("response", Some(0), position), message, &mut counting)?;
        }
        if lost(Part::Record) {
            counting.lose();
        }
        let mut call = 0;
        for outcome in documents.record.iter().flat_map(|record| &record.outcomes) {
            match &outcome.outcome {
                Some(Outcome::Output(bytes)) => {
                    if let Ok(text) = serde_json::from_slice::<String>(bytes) {
                        counting.text(&text);
                    }
                }
                Some(Outcome::Llm(answer)) => {
                    if let Some(message) = &answer.message {
                        let request = documents.requests.get(&call);
                        let position = request.map_or(0, |request| u64::from(request.messages));
                        let place = place("response", Some(call as u64), position);
                        self.write_message(to, &place, message, &mut counting)?;
                    }
                    call += 1;
                }
                Some(Outcome::Failure(_)) | None => {}
            }
        }
        for n in 0..documents.calls() {
            let request = documents.requests.get(&n);
            if lost(Part::Request(n)) {
                counting.lose();
            }
            if let Some(request) = request {
                for (at, message) in (u64::from(request.keep)..).zip(&request.appended) {
                    self.write_message(to, &place("request", Some(n as u64), at), message, &mut counting)?;
                }
            }
            if lost(Part::Response(n)) {
                counting.lose();
            }
            if let Some(message) = documents.responses.get(&n).and_then(|answer| answer.message.as_ref()) {
                let position = request.map_or(0, |request| u64::from(request.messages));
                self.write_message(to, &place("response", Some(n as u64), position), message, &mut counting)?;
            }
        }
        Ok(())
    }

    fn write_message(
        &self,
        to: &mut Spool,
        place: &Place,
        message: &content::Message,
        counting: &mut Counting<'_>,
    ) -> Result<(), Error> {
        for (n, part) in (0u64..).zip(&message.parts) {
            let counted = counting.part(part);
            let shown = Shown::of(part);
            let text = match &counted {
                Some(counted) => counted.text.as_deref().map_or(Cell::Null, Cell::Text),
                None => Cell::some(&shown.text),
            };
            let index = counted.as_ref().and_then(|counted| counted.index);
            let same = counted.as_ref().and_then(|counted| counted.same_as);
            to.push([
                Cell::Text(self.lineage),
                Cell::Text(&self.session.session_id),
                Cell::count(self.header.seq),
                Cell::Text(place.source),
                place.call.map_or(Cell::Null, Cell::count),
                Cell::count(place.position),
                Cell::count(n),
                Cell::Text(&self.session.workflow),
                Cell::count(self.header.time_ms),
                Cell::some(&message.role),
                Cell::some(shown.kind),
                text,
                Cell::some(shown.tool_name),
                Cell::some(shown.tool_call_id),
                shown.failed.map_or(Cell::Null, Cell::Flag),
                Cell::some(shown.media_type),
                index.map_or(Cell::Null, |_| Cell::count(self.header.seq)),
                index.map_or(Cell::Null, |index| Cell::count(u64::from(index))),
                same.map_or(Cell::Null, |(seq, _)| Cell::count(seq)),
                same.map_or(Cell::Null, |(_, part)| Cell::count(u64::from(part))),
            ])?;
        }
        Ok(())
    }
}

impl Documents {
    /// Model calls that have documents of their own, those before them included.
    fn calls(&self) -> usize {
        let unread = self.unread.iter().filter_map(|part| match part {
            Part::Request(n) | Part::Response(n) => Some(n),
            _ => None,
        });
        let last = self.requests.keys().chain(self.responses.keys()).chain(unread).max();
        last.map_or(0, |last| last + 1)
    }
}

/// Where a message stands.
struct Place {
    source: &'static str,
    call: Option<u64>,
    position: u64,
}

/// A part, as its columns show it.
#[derive(Default)]
struct Shown<'a> {
    kind: &'static str,
    text: String,
    tool_name: &'a str,
    tool_call_id: &'a str,
    failed: Option<bool>,
    media_type: &'a str,
}

impl<'a> Shown<'a> {
    fn of(part: &'a content::Part) -> Self {
        match &part.kind {
            Some(Kind::Text(_)) => Shown { kind: "text", ..Shown::default() },
            Some(Kind::Reasoning(_)) => Shown { kind: "reasoning", ..Shown::default() },
            Some(Kind::ToolCall(call)) => Shown {
                kind: "tool_call",
                text: call.arguments.clone(),
                tool_name: &call.name,
                tool_call_id: &call.id,
                ..Shown::default()
            },
            Some(Kind::ToolResult(result)) => Shown {
                kind: "tool_result",
                tool_call_id: &result.id,
                failed: Some(result.failed),
                ..Shown::default()
            },
            Some(Kind::File(file)) => {
                let text = match &file.content {
                    Some(content::file::Content::Url(url)) => url.clone(),
                    Some(content::file::Content::Data(_)) | None => file.name.clone(),
                };
                Shown { kind: "file", text, media_type: &file.media_type, ..Shown::default() }
            }
            Some(Kind::Custom(json)) => {
                Shown { kind: "custom", text: String::from_utf8_lossy(json).into_owned(), ..Shown::default() }
            }
            None => Shown::default(),
        }
    }
}

fn step(header: &disk::EventHeader) -> Step<'_> {
    let none = Step::default();
    let keyed = |key, name, attempt| Step { key, name, attempt, ..Step::default() };
    match &header.body {
        Some(Body::StepCompleted(step)) => Step {
            guarded: Some(step.guarded),
            is_final: Some(true),
            duration_us: Some(step.duration_us),
            deduplicated_from: uuid(&step.deduplicated_from_session)
                .map(|session| (session, step.deduplicated_from_seq)),
            resources: resources(&step.resources),
            ..keyed(&step.step_key, &step.name, step.attempt)
        },
        Some(Body::StepFailed(step)) => Step {
            guarded: Some(step.guarded),
            is_final: Some(step.r#final),
            duration_us: Some(step.duration_us),
            ..keyed(&step.step_key, &step.name, step.attempt)
        },
        Some(Body::StepHeartbeat(beat)) => keyed(&beat.step_key, "", beat.attempt),
        Some(Body::GuardIntent(intent)) => {
            Step { guarded: Some(true), ..keyed(&intent.step_key, &intent.name, intent.attempt) }
        }
        Some(Body::GuardUnknown(unknown)) => Step {
            guarded: Some(true),
            detail: unknown.reason().as_str_name().trim_start_matches("UNKNOWN_REASON_").to_lowercase(),
            ..keyed(&unknown.step_key, "", unknown.attempt)
        },
        Some(Body::GuardResolved(resolved)) => Step {
            guarded: Some(true),
            detail: resolved.resolution().as_str_name().trim_start_matches("RESOLUTION_").to_lowercase(),
            ..keyed(&resolved.step_key, "", resolved.attempt)
        },
        Some(Body::ZoneEntered(zone)) => keyed(&zone.zone_key, &zone.name, zone.attempt),
        Some(Body::ZoneCommitted(zone)) => Step {
            is_final: Some(true),
            duration_us: Some(zone.duration_us),
            ..keyed(&zone.zone_key, "", zone.attempt)
        },
        Some(Body::ZoneFailed(zone)) => {
            Step { is_final: Some(zone.r#final), ..keyed(&zone.zone_key, "", zone.attempt) }
        }
        Some(Body::ZoneRolledBack(zone)) => Step {
            detail: zone.reason().as_str_name().trim_start_matches("ROLLBACK_REASON_").to_lowercase(),
            ..keyed(&zone.zone_key, "", zone.attempt)
        },
        Some(Body::TimerStarted(timer)) => keyed(&timer.step_key, &timer.name, 0),
        Some(Body::TimerFired(timer)) => keyed(&timer.step_key, "", 0),
        Some(Body::SignalAwaited(signal)) => keyed(&signal.step_key, &signal.name, 0),
        Some(Body::SignalDelivered(signal)) => keyed(&signal.step_key, "", 0),
        Some(Body::SignalReceived(signal)) => keyed("", &signal.name, 0),
        Some(Body::WaitDropped(wait)) => keyed(&wait.step_key, "", 0),
        Some(Body::ApprovalRequested(asked)) => keyed(&asked.step_key, &asked.name, 0),
        Some(Body::ApprovalDecided(decided)) => Step {
            detail: decided.decision().as_str_name().trim_start_matches("APPROVAL_DECISION_").to_lowercase(),
            ..keyed(&decided.step_key, "", 0)
        },
        Some(Body::ChildSpawned(child)) => Step {
            detail: uuid(&child.child_id).unwrap_or_default(),
            ..keyed(&child.step_key, &child.name, 0)
        },
        Some(Body::ChildEnded(ended)) => {
            Step { detail: uuid(&ended.child_id).unwrap_or_default(), ..keyed(&ended.step_key, "", 0) }
        }
        Some(Body::ChildCancelRequested(asked)) => {
            Step { detail: asked.reason.clone(), ..keyed(&asked.step_key, "", 0) }
        }
        Some(Body::BudgetReserved(reserved)) => keyed(&reserved.step_key, "", reserved.attempt),
        Some(Body::BudgetReleased(released)) => keyed(&released.step_key, "", released.attempt),
        Some(Body::ForkEdited(edited)) => keyed(&edited.step_key, "", 0),
        Some(Body::DivergenceAccepted(accepted)) => keyed(&accepted.step_key, "", 0),
        Some(Body::SessionPaused(paused)) => Step {
            detail: paused.reason().as_str_name().trim_start_matches("PAUSE_REASON_").to_lowercase(),
            ..keyed(&paused.step_key, "", 0)
        },
        Some(Body::SessionCancelled(cancelled)) => Step { detail: cancelled.reason.clone(), ..none },
        Some(Body::CancelRequested(asked)) => Step { detail: asked.reason.clone(), ..none },
        Some(Body::LeaseGranted(grant)) => {
            Step { detail: if grant.takeover { "takeover".to_owned() } else { String::new() }, ..none }
        }
        _ => none,
    }
}

/// What a use of a context says in figures, as JSON: the texts are in `raw`, or beside it.
fn context_figures(used: &content::ContextUsed) -> String {
    let source = match used.source() {
        content::ContextSource::Unspecified => "",
        content::ContextSource::Raw => "raw",
        content::ContextSource::Ccs => "ccs",
        content::ContextSource::Window => "window",
    };
    serde_json::json!({
        "base_tokens": used.base_tokens,
        "budget_tokens": used.budget_tokens,
        "fallback": used.fallback,
        "messages": used.messages,
        "raw_tokens": used.raw_tokens,
        "shared_tokens": used.shared_tokens,
        "source": source,
        "tokens": used.tokens,
        "version": used.version,
        "waited_ms": used.waited_ms,
    })
    .to_string()
}

fn resources(resources: &[disk::Resource]) -> String {
    if resources.is_empty() {
        return String::new();
    }
    let shown: Vec<_> = resources
        .iter()
        .map(|resource| {
            let mode = resource.mode().as_str_name().trim_start_matches("RESOURCE_MODE_").to_lowercase();
            serde_json::json!({"kind": resource.kind, "id": resource.id, "mode": mode, "range": resource.range})
        })
        .collect();
    serde_json::to_string(&shown).unwrap_or_default()
}

/// An id as people write it; `None`: there is none.
#[must_use]
pub fn uuid(id: &[u8]) -> Option<String> {
    let id = <[u8; 16]>::try_from(id).ok()?;
    let hex = hex::encode(id);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

#[cfg(test)]
mod tests;
