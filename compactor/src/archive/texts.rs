//! The texts of a session by where they were recorded, so that a part which repeats one is readable (T1, T2 of the SDK's
//! `runtime/texts.ts`, whose numbering this follows). Bounded: the oldest are forgotten first, and a part whose text is
//! forgotten still names it.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use cellaflow_proto::content;
use content::part::Kind;

/// Bytes of texts that are remembered.
const BYTES_MAX: usize = 24 << 20;

type Place = (u64, u32);

/// Texts of one session, and of those that it was forked from.
#[derive(Default)]
pub struct Texts {
    known: HashMap<Place, Rc<str>>,
    oldest: VecDeque<Place>,
    bytes: usize,
}

/// Counts the texts of one event.
pub struct Counting<'a> {
    texts: &'a mut Texts,
    seq: u64,
    next: u32,
}

/// A text of a part, and where it stands.
pub struct Counted {
    /// The text; `None`: it repeats one that is forgotten.
    pub text: Option<Rc<str>>,
    /// Which text of its event it is.
    pub index: u32,
    /// The text that it repeats.
    pub same_as: Option<Place>,
}

impl Texts {
    /// Begins the texts of an event.
    pub fn of_event(&mut self, seq: u64) -> Counting<'_> {
        Counting { texts: self, seq, next: 0 }
    }

    fn remember(&mut self, place: Place, text: &Rc<str>) {
        self.bytes += text.len();
        self.oldest.push_back(place);
        self.known.insert(place, Rc::clone(text));
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.oldest.pop_front() else { return };
            self.bytes -= self.known.remove(&oldest).map_or(0, |text| text.len());
        }
    }
}

impl Counting<'_> {
    /// The next text of the event.
    pub fn text(&mut self, text: &str) {
        let place = (self.seq, self.next);
        self.next += 1;
        self.texts.remember(place, &text.into());
    }

    /// The text of a part, if it is of a kind that counts.
    pub fn part(&mut self, part: &content::Part) -> Option<Counted> {
        let text = match part.kind.as_ref()? {
            Kind::Text(text) | Kind::Reasoning(text) => text,
            Kind::ToolResult(result) => &result.text,
            Kind::ToolCall(_) | Kind::File(_) | Kind::Custom(_) => return None,
        };
        let index = self.next;
        self.next += 1;
        let place = (self.seq, index);
        let Some(same) = &part.same_as else {
            let text: Rc<str> = text.as_str().into();
            self.texts.remember(place, &text);
            return Some(Counted { text: Some(text), index, same_as: None });
        };
        let same_as = (if same.seq == 0 { self.seq } else { same.seq }, same.part);
        let text = self.texts.known.get(&same_as).cloned();
        if let Some(text) = &text {
            self.texts.remember(place, text);
        }
        Some(Counted { text, index, same_as: Some(same_as) })
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
        assert_eq!(third.part(&part("hello", None)).unwrap().index, 1, "outputs count, too");
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
    fn memory_is_bounded() {
        let mut texts = Texts::default();
        let large = "x".repeat(1 << 20);
        for seq in 1..=40 {
            texts.of_event(seq).text(&large);
        }
        assert!(
            texts.bytes <= BYTES_MAX
                && !texts.known.contains_key(&(1, 0))
                && texts.known.contains_key(&(40, 0))
        );
    }
}
