//! Events in the making. Owns seqs and ledger time of one decision (D3, D4); never judges anything.

use super::command::{Append, Descent, Reply};
use super::decide::Decision;
use super::event::{Author, Body, Event, PayloadRef};
use super::ids::{Seq, SessionId, TimeMs};
use super::session::Head;

/// The events of one decision, in order.
pub(super) struct Draft {
    session: SessionId,
    seq: Seq,
    time: TimeMs,
    events: Vec<Event>,
}

impl Draft {
    /// Continues a session.
    pub fn after(head: &Head, now: TimeMs) -> Self {
        Self { session: head.session, seq: head.seq, time: ledger_time(head, now), events: Vec::new() }
    }

    /// Begins a fork of `base`: its events go on where that one was cut.
    pub fn fork(session: SessionId, base: &Head, now: TimeMs) -> Self {
        Self { session, ..Self::after(base, now) }
    }

    /// Begins a session.
    pub fn first(session: SessionId, now: TimeMs) -> Self {
        Self { session, seq: Seq(0), time: now, events: Vec::new() }
    }

    /// Goes on after the first events of a session.
    pub fn going_on(session: SessionId, events: Vec<Event>) -> Self {
        let (seq, time) = events.last().map_or((Seq(0), TimeMs(0)), |last| (last.seq, last.time));
        Self { session, seq, time, events }
    }

    /// Dates what is added from now on, if that is not before what was added.
    pub fn at(&mut self, time: TimeMs) {
        self.time = self.time.max(time);
    }

    /// Adds an event of a session that was run elsewhere.
    pub fn push_imported(&mut self, conversation_delta: Option<PayloadRef>, body: Body) -> Seq {
        let seq = self.push(Author::Client(None), body);
        if let Some(event) = self.events.last_mut() {
            event.conversation_delta = conversation_delta;
        }
        seq
    }

    /// Adds an event and returns its seq.
    pub fn push(&mut self, author: Author, body: Body) -> Seq {
        self.seq = self.seq.next();
        self.events.push(Event {
            seq: self.seq,
            time: self.time,
            author,
            after: None,
            state_delta: None,
            conversation_delta: None,
            body,
        });
        self.seq
    }

    /// Adds the event that a run's append becomes: what it had seen and written goes with it.
    pub fn push_append(&mut self, append: &Append, body: Body) -> Seq {
        let seq = self.push(Author::Worker(append.epoch), body);
        if let Some(event) = self.events.last_mut() {
            event.after = append.after;
            event.state_delta.clone_from(&append.state_delta);
            event.conversation_delta.clone_from(&append.conversation_delta);
        }
        seq
    }

    /// Adds the first event of a session that the engine itself starts: what it begins with goes with it.
    pub fn push_start(&mut self, descent: &Descent, body: Body) -> Seq {
        let seq = self.push(Author::Driver, body);
        if let Some(event) = self.events.last_mut() {
            event.state_delta.clone_from(&descent.state);
            event.conversation_delta.clone_from(&descent.conversation);
        }
        seq
    }

    /// Answers that the event at `seq` was appended.
    pub fn appended(self, seq: Seq) -> Decision {
        let reply = Reply::Appended { seq, time: self.time, duplicate: false };
        self.answer(reply)
    }

    /// Answers with `reply`.
    pub fn answer(self, reply: Reply) -> Decision {
        Decision { session: self.session, events: self.events, reply, evidence: None }
    }
}

/// Ledger time of what is appended to `head` now (D4).
pub(super) fn ledger_time(head: &Head, now: TimeMs) -> TimeMs {
    head.time.max(now)
}
