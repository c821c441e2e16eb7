//! A session's conversation as a history to fold: which parts it has, and which of them may be folded yet.
//!
//! CV1. Parts are numbered from 1, all of them, in the order of the messages; a number never means another part.
//! CV2. Leading system messages are passed over: agents always send them themselves.
//! CV3. What is given out ends where every call has its result; the newest exchange is held back unless all is asked for.

use std::collections::{BTreeMap, BTreeSet};

use cellaflow_proto::content::{self, file, part::Kind};
use serde::{Deserialize, Serialize};

use crate::ccs::resource::Resource;
use crate::ccs::{self, Body};

/// Declared resources that wait for their call to appear in the conversation; the oldest are forgotten first.
const DECLARED_MAX: usize = 4_096;
/// Ids of calls whose occurrences are counted; the oldest are forgotten first.
const COUNTED_MAX: usize = 4_096;

/// What an event means for the conversation, its texts in full.
#[derive(Debug, Clone, Default)]
pub struct Read {
    pub seq: u64,
    pub delta: Option<content::ConversationDelta>,
    /// A delta is there and cannot be read: a codec of the caller's own.
    pub sealed: bool,
    /// What a step touches: name, step key, resources.
    pub declared: Option<(String, String, Vec<Resource>)>,
}

/// Why a conversation cannot be folded; it stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unfoldable {
    #[error("the conversation is in a codec of its owner's own")]
    Sealed,
    #[error("the conversation was replaced by another one")]
    Replaced,
}

/// How far a conversation is read, and what of it is held back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    messages: u64,
    parts: u64,
    /// Over all messages so far.
    hash: [u8; 32],
    begun: bool,
    waiting: Vec<Message>,
    /// Resources by name and key of the step that is the call.
    declared: BTreeMap<String, (u64, Vec<Resource>)>,
    /// How often a call of this name and id was seen, and when last.
    seen: BTreeMap<String, (u64, u32)>,
    /// What was given out: leading messages, and the event that appended the last of them.
    given: (u64, u64),
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    seq: u64,
    /// Messages up to and including this one.
    count: u64,
    parts: Vec<Item>,
}

/// A part of it that is folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    number: u64,
    what: What,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    User,
    Notice,
    Assistant,
    Reasoning,
    Call { id: String, tool: String, key: String },
    Result { call: String, failed: bool },
}

impl Conversation {
    /// Messages given out, and the event that appended the last of them.
    #[must_use]
    pub fn given(&self) -> (u64, u64) {
        self.given
    }

    /// Parts read so far.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.parts
    }

    /// Reads an event.
    ///
    /// # Errors
    /// See [`Unfoldable`].
    pub fn take(&mut self, read: Read) -> Result<(), Unfoldable> {
        if read.sealed {
            return Err(Unfoldable::Sealed);
        }
        if let Some((name, key, resources)) = read.declared {
            self.declare(read.seq, &name, &key, resources);
        }
        let Some(delta) = read.delta else { return Ok(()) };
        let known = self.messages.saturating_sub(u64::from(delta.keep));
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let (repeated, fresh) = delta.appended.split_at(delta.appended.len().min(known));
        if known > 0 && !self.repeats(u64::from(delta.keep), repeated) {
            return Err(Unfoldable::Replaced);
        }
        fresh.iter().for_each(|message| self.message(read.seq, message));
        Ok(())
    }

    /// True if the messages are what the conversation has after the first `keep`: a run that restates its list says
    /// all of it again.
    fn repeats(&self, keep: u64, repeated: &[content::Message]) -> bool {
        let all = keep == 0 && repeated.len() as u64 == self.messages;
        all && repeated.iter().fold([0; 32], chained) == self.hash
    }

    fn message(&mut self, seq: u64, message: &content::Message) {
        self.messages += 1;
        self.hash = chained(self.hash, message);
        let first = self.parts;
        self.parts += message.parts.len() as u64; // CV1
        self.begun |= message.role != "system";
        if !self.begun {
            self.given = (self.messages, seq); // CV2
            return;
        }
        let numbered = (first + 1..).zip(&message.parts);
        let items = numbered.filter_map(|(number, part)| self.item(number, &message.role, part)).collect();
        self.waiting.push(Message { seq, count: self.messages, parts: items });
    }

    fn item(&mut self, number: u64, role: &str, part: &content::Part) -> Option<Item> {
        let said = || match role {
            "user" | "system" => What::User,
            _ => What::Assistant,
        };
        let (what, text) = match part.kind.as_ref()? {
            Kind::Text(text) => (said(), text.clone()),
            Kind::Reasoning(text) => (What::Reasoning, text.clone()),
            Kind::ToolCall(call) => {
                let key = self.key(number, &call.name, &call.id);
                let what = What::Call { id: call.id.clone(), tool: call.name.clone(), key };
                (what, call.arguments.clone())
            }
            Kind::ToolResult(result) => {
                (What::Result { call: result.id.clone(), failed: result.failed }, result.text.clone())
            }
            Kind::File(file) => (What::Notice, file_line(file)),
            Kind::Custom(json) => (said(), String::from_utf8_lossy(json).into_owned()),
        };
        // A call without arguments is still a call.
        let empty = text.trim().is_empty() && !matches!(what, What::Call { .. } | What::Result { .. });
        (!empty).then_some(Item { number, what, text })
    }

    /// Name and key of the step that runs a call: ids are the provider's, and some count from zero in every answer.
    fn key(&mut self, number: u64, name: &str, id: &str) -> String {
        let seen = self.seen.entry(format!("{name}\n{id}")).or_default();
        *seen = (number, seen.1 + 1);
        let count = seen.1;
        if self.seen.len() > COUNTED_MAX {
            forget_oldest(&mut self.seen);
        }
        let id: String = if id.is_empty() { "call".to_owned() } else { id.chars().take(200).collect() };
        let key = if count == 1 { id } else { format!("{id} {count}") };
        format!("{}@{}", encoded(name), encoded(&key))
    }

    fn declare(&mut self, seq: u64, name: &str, key: &str, resources: Vec<Resource>) {
        // Within scopes, keys have a path before them.
        let step = key.rsplit('/').next().unwrap_or(key);
        if resources.is_empty() || !step.starts_with(&format!("{}@", encoded(name))) {
            return;
        }
        self.declared.insert(step.to_owned(), (seq, resources));
        if self.declared.len() > DECLARED_MAX {
            forget_oldest(&mut self.declared);
        }
    }

    /// Gives out what may be folded (CV3); with `all` the newest exchange, too.
    pub fn give(&mut self, all: bool) -> Vec<ccs::Event> {
        let ends = self.exchanges();
        let kept = usize::from(!all);
        let Some(end) = ends.len().checked_sub(kept + 1).and_then(|last| ends.get(last)).copied() else {
            return Vec::new();
        };
        let given: Vec<Message> = self.waiting.drain(..end).collect();
        if let Some(last) = given.last() {
            self.given = (last.count, last.seq);
        }
        given.into_iter().flat_map(|message| message.parts).map(|item| self.event(item)).collect()
    }

    /// Gives out the parts up to a number: what a seal of that number had been given.
    pub fn give_up_to(&mut self, number: u64) -> Vec<ccs::Event> {
        let past = |message: &Message| message.parts.first().is_some_and(|item| item.number > number);
        let end = self.waiting.iter().position(past).unwrap_or(self.waiting.len());
        let given: Vec<Message> = self.waiting.drain(..end).collect();
        if let Some(last) = given.last() {
            self.given = (last.count, last.seq);
        }
        given.into_iter().flat_map(|message| message.parts).map(|item| self.event(item)).collect()
    }

    /// Where exchanges end: after a message at which every call has its result.
    fn exchanges(&self) -> Vec<usize> {
        let mut open: BTreeSet<&str> = BTreeSet::new();
        let mut ends = Vec::new();
        for (at, message) in self.waiting.iter().enumerate() {
            for item in &message.parts {
                match &item.what {
                    What::Call { id, .. } => drop(open.insert(id)),
                    What::Result { call, .. } => drop(open.remove(call.as_str())),
                    What::User | What::Notice | What::Assistant | What::Reasoning => {}
                }
            }
            if open.is_empty() {
                ends.push(at + 1);
            }
        }
        ends
    }

    fn event(&mut self, item: Item) -> ccs::Event {
        let bytes = item.text.into_bytes();
        let body = match item.what {
            What::User => Body::User(bytes),
            What::Notice => Body::Notice(bytes),
            What::Assistant => Body::Assistant(bytes),
            What::Reasoning => Body::Reasoning(bytes),
            What::Call { id, tool, key } => {
                let resources = self.declared.remove(&key).map(|(_, found)| found).unwrap_or_default();
                Body::Call(ccs::Call { id, tool, arguments: bytes, resources })
            }
            What::Result { call, failed } => {
                Body::Result(ccs::Outcome { call, content: bytes, failed: Some(failed) })
            }
        };
        ccs::Event { seq: item.number, body }
    }
}

fn chained(before: [u8; 32], message: &content::Message) -> [u8; 32] {
    use prost::Message as _;
    *blake3::Hasher::new().update(&before).update(&message.encode_to_vec()).finalize().as_bytes()
}

fn file_line(file: &content::File) -> String {
    match &file.content {
        Some(file::Content::Url(url)) => format!("file {} {} {url}", file.media_type, file.name),
        Some(file::Content::Data(data)) => {
            format!("file {} {} ({} bytes)", file.media_type, file.name, data.len())
        }
        None => format!("file {} {}", file.media_type, file.name),
    }
}

/// A name or key as it stands in step keys: `% / # @` are percent-encoded.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => out.push_str("%25"),
            '/' => out.push_str("%2F"),
            '#' => out.push_str("%23"),
            '@' => out.push_str("%40"),
            c => out.push(c),
        }
    }
    out
}

fn forget_oldest<T>(map: &mut BTreeMap<String, (u64, T)>) {
    let oldest = map.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        map.remove(&oldest);
    }
}
