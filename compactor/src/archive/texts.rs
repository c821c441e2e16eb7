//! The texts of a lineage by where they were recorded, so that a part which repeats one is readable (T1, T2 of the SDK's
//! `runtime/texts.ts`, whose numbering this follows).
//!
//! X1. One bound for all sessions of a lineage: the oldest texts are forgotten first, and a part whose text is forgotten
//!     still names it.
//! X2. A fork finds what its parent recorded up to the cut, and nothing after it.
//! X3. No text is ever shown for another: once a payload of an event could not be read, its later texts are not counted.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use cellaflow_proto::content;
use content::part::Kind;

/// Bytes that are remembered of a lineage's texts.
const BYTES_MAX: usize = 24 << 20;
/// Bytes that a text takes besides itself: its place, twice, and its counts.
const ENTRY_BYTES: usize = 96;

/// Seq of an event, and which text of it.
type Place = (u64, u32);

/// Texts of one lineage.
#[derive(Default)]
pub struct Texts {
    sessions: Vec<Session>,
    /// By the session's position in `sessions`.
    known: HashMap<(usize, Place), Rc<str>>,
    oldest: VecDeque<(usize, Place)>,
    bytes: usize,
}

struct Session {
    id: String,
    /// Position of the session it was forked from, and the last event that it has from there.
    parent: Option<(usize, u64)>,
}

/// Counts the texts of one event.
pub struct Counting<'a> {
    texts: &'a mut Texts,
    seq: u64,
    /// `None`: what lies between could not be read (X3).
    next: Option<u32>,
}

/// A text of a part, and where it stands.
pub struct Counted {
    /// The text; `None`: it repeats one that is forgotten.
    pub text: Option<Rc<str>>,
    /// Which text of its event it is; `None`: nobody can tell (X3).
    pub index: Option<u32>,
    /// The text that it repeats.
    pub same_as: Option<Place>,
}

impl Texts {
    /// Begins a session: what is counted from now on is of it.
    pub fn session(&mut self, id: &str, forked_from: &str, forked_from_seq: u64) {
        let parent = self.sessions.iter().position(|known| known.id == forked_from);
        let parent = parent.map(|parent| (parent, forked_from_seq));
        self.sessions.push(Session { id: id.to_owned(), parent });
    }

    /// Begins the texts of an event of the session that was begun last.
    pub fn of_event(&mut self, seq: u64) -> Counting<'_> {
        Counting { texts: self, seq, next: Some(0) }
    }

    fn present(&self) -> usize {
        self.sessions.len().saturating_sub(1)
    }

    /// X2.
    fn find(&self, place: Place) -> Option<&Rc<str>> {
        let mut session = self.present();
        while let Some((parent, cut)) = self.sessions.get(session).and_then(|session| session.parent)
            && place.0 <= cut
        {
            session = parent;
        }
        self.known.get(&(session, place))
    }

    /// X1.
    fn remember(&mut self, place: Place, text: &Rc<str>) {
        let place = (self.present(), place);
        self.bytes += text.len() + ENTRY_BYTES;
        self.oldest.push_back(place);
        let before = self.known.insert(place, Rc::clone(text));
        self.bytes -= before.map_or(0, |text| text.len() + ENTRY_BYTES);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.oldest.pop_front() else { return };
            self.bytes -= self.known.remove(&oldest).map_or(0, |text| text.len() + ENTRY_BYTES);
        }
    }
}

impl Counting<'_> {
    /// A payload that may have texts could not be read: what follows in the event has no known numbers (X3).
    pub fn lose(&mut self) {
        self.next = None;
    }

    /// The next text of the event.
    pub fn text(&mut self, text: &str) {
        let index = self.take();
        self.keep(index, &text.into());
    }

    /// The text of a part, if it is of a kind that counts.
    pub fn part(&mut self, part: &content::Part) -> Option<Counted> {
        let text = match part.kind.as_ref()? {
            Kind::Text(text) | Kind::Reasoning(text) => text,
            Kind::ToolResult(result) => &result.text,
            Kind::ToolCall(_) | Kind::File(_) | Kind::Custom(_) => return None,
        };
        let index = self.take();
        let Some(same) = &part.same_as else {
            let text: Rc<str> = text.as_str().into();
            self.keep(index, &text);
            return Some(Counted { text: Some(text), index, same_as: None });
        };
        let same_as = (if same.seq == 0 { self.seq } else { same.seq }, same.part);
        let text = self.texts.find(same_as).cloned();
        if let Some(text) = &text {
            self.keep(index, text);
        }
        Some(Counted { text, index, same_as: Some(same_as) })
    }

    fn take(&mut self) -> Option<u32> {
        let index = self.next;
        self.next = index.map(|index| index.saturating_add(1));
        index
    }

    fn keep(&mut self, index: Option<u32>, text: &Rc<str>) {
        if let Some(index) = index {
            self.texts.remember((self.seq, index), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str, same_as: Option<(u64, u32)>) -> content::Part {
        let same_as = same_as.map(|(seq, part)| content::PartRef { seq, part });
        content::Part { kind: Some(Kind::Text(text.into())), same_as, ..content::Part::default() }
    }

    #[test]
    fn a_repeated_text_is_found_where_it_was_recorded() {
        let mut texts = Texts::default();
        let mut third = texts.of_event(3);
        third.text("an output");
        assert_eq!(third.part(&part("hello", None)).unwrap().index, Some(1), "outputs count, too");
        let mut fifth = texts.of_event(5);
        let repeated = fifth.part(&part("", Some((3, 1)))).unwrap();
        assert_eq!((repeated.text.as_deref(), repeated.same_as), (Some("hello"), Some((3, 1))));
        let own = fifth.part(&part("", Some((0, 0)))).unwrap();
        assert_eq!(
            (own.text.as_deref(), own.same_as),
            (Some("hello"), Some((5, 0))),
            "0 is the event itself"
        );
        let unknown = fifth.part(&part("", Some((4, 0)))).unwrap();
        assert_eq!((unknown.text, unknown.same_as), (None, Some((4, 0))));
    }

    #[test]
    fn memory_is_bounded_over_all_sessions_of_a_lineage() {
        // X1: 40 forks of a long talk had 24 MB each.
        let mut texts = Texts::default();
        let large = "x".repeat(1 << 20);
        for session in 0..40 {
            texts.session(&session.to_string(), "0", 1);
            (1..=3).for_each(|seq| texts.of_event(seq).text(&large));
        }
        let kept: usize = texts.known.values().map(|text| text.len()).sum();
        assert!(texts.bytes <= BYTES_MAX && kept <= BYTES_MAX, "{kept} bytes");
        assert!(!texts.known.contains_key(&(0, (1, 0))) && texts.known.contains_key(&(39, (3, 0))));
        let mut short = Texts::default();
        (1..=1_000_000).for_each(|seq| short.of_event(seq).text("x"));
        assert!(short.known.len() <= BYTES_MAX / ENTRY_BYTES, "short texts take room, too");
        assert!(short.oldest.len() <= BYTES_MAX / ENTRY_BYTES);
    }

    #[test]
    fn each_fork_finds_what_its_parent_recorded_up_to_the_cut() {
        // X2: the first fork took its parent's texts away, so the second showed null.
        let mut texts = Texts::default();
        texts.session("parent", "", 0);
        texts.of_event(2).text("before the cut");
        texts.of_event(4).text("after the cut");
        for fork in ["first", "second"] {
            texts.session(fork, "parent", 3);
            let mut fifth = texts.of_event(5);
            let repeated = fifth.part(&part("", Some((2, 0)))).unwrap();
            assert_eq!(repeated.text.as_deref(), Some("before the cut"), "{fork}");
            let not_its_own = fifth.part(&part("", Some((4, 0)))).unwrap();
            assert_eq!(not_its_own.text, None, "{fork}");
        }
        texts.session("of a fork", "second", 6);
        let far = texts.of_event(7).part(&part("", Some((2, 0)))).unwrap();
        assert_eq!(far.text.as_deref(), Some("before the cut"), "through both cuts");
    }

    #[test]
    fn a_text_after_one_that_was_not_read_is_not_shown_for_another() {
        // X3
        let mut texts = Texts::default();
        let mut third = texts.of_event(3);
        third.text("first");
        third.lose();
        let after = third.part(&part("of unknown number", None)).unwrap();
        assert_eq!((after.text.as_deref(), after.index), (Some("of unknown number"), None));
        let mut fifth = texts.of_event(5);
        assert_eq!(fifth.part(&part("", Some((3, 0)))).unwrap().text.as_deref(), Some("first"));
        assert_eq!(fifth.part(&part("", Some((3, 1)))).unwrap().text, None);
    }

    #[test]
    fn a_place_that_is_taken_twice_is_counted_once() {
        let mut texts = Texts::default();
        texts.of_event(1).text("long ago");
        texts.of_event(1).text("x");
        assert_eq!(texts.bytes, 1 + ENTRY_BYTES);
    }
}
