//! Facts: ids (commits, issues, records) that were used more than once, and numbers with their names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ccs::{handle, text};

const ROWS_MAX: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Id {
    first: u64,
    last: u64,
    uses: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    value: String,
    seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ids {
    ids: BTreeMap<String, Id>,
    numbers: BTreeMap<String, Number>,
}

impl Ids {
    /// Takes in a text that the user or the agent wrote; `numbers` says whether named numbers count.
    pub fn note(&mut self, content: &str, seq: u64, numbers: bool) {
        for word in content.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '#'))) {
            if is_id(word) {
                let id = self.ids.entry(word.to_owned()).or_insert(Id { first: seq, last: seq, uses: 0 });
                if id.uses == 0 || id.last != seq {
                    id.uses += 1;
                }
                id.last = seq;
            }
        }
        if numbers {
            self.note_numbers(content, seq);
        }
        while self.ids.len() > ROWS_MAX {
            let oldest = self.ids.iter().min_by_key(|(_, i)| (i.uses.min(2), i.last)).map(|(k, _)| k.clone());
            oldest.map(|k| self.ids.remove(&k));
        }
        while self.numbers.len() > ROWS_MAX {
            let oldest = self.numbers.iter().min_by_key(|(_, n)| n.seq).map(|(k, _)| k.clone());
            oldest.map(|k| self.numbers.remove(&k));
        }
    }

    /// `name: 12.5 ms` and `name = 12`, emphasis or not.
    fn note_numbers(&mut self, content: &str, seq: u64) {
        for line in content.lines() {
            let plain: String = line.chars().filter(|c| !matches!(c, '*' | '`' | '|')).collect();
            let Some((name, value)) = plain.split_once([':', '=']) else { continue };
            let name = name.trim().trim_start_matches(['-', '#', '•', ' ']);
            let value =
                value.split_whitespace().next().unwrap_or_default().trim_end_matches([',', '.', ';', ')']);
            let digits = value.chars().filter(char::is_ascii_digit).count();
            let fits = (2..=40).contains(&name.chars().count()) && name.chars().any(char::is_alphabetic);
            let number =
                value.trim_start_matches(['$', '~', '<', '>']).starts_with(|c: char| c.is_ascii_digit());
            if fits && number && digits >= 2 && value.len() <= 16 {
                self.numbers.insert(text::line(name, 40), Number { value: text::line(value, 16), seq });
            }
        }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.ids.len() + self.numbers.len()
    }

    /// Rows that `visible` does not show already.
    #[must_use]
    pub fn render(&self, visible: &str) -> String {
        let mut out = String::new();
        let mut hidden: Vec<_> =
            self.ids.iter().filter(|(id, i)| i.uses > 1 && !visible.contains(id.as_str())).collect();
        hidden.sort_by_key(|(_, i)| i.last);
        if !hidden.is_empty() {
            let rows: Vec<_> =
                hidden.iter().map(|(id, i)| format!("{id} {}", handle::show(i.last))).collect();
            out.push_str(&format!("Ids: {}\n", rows.join(", ")));
        }
        let mut rows: Vec<_> = self.numbers.iter().collect();
        rows.sort_by_key(|(_, n)| n.seq);
        if !rows.is_empty() {
            let rows: Vec<_> =
                rows.iter().map(|(name, n)| format!("{name} {} {}", n.value, handle::show(n.seq))).collect();
            out.push_str(&format!("Numbers: {}\n", rows.join("; ")));
        }
        out
    }
}

/// Commit hashes, issue numbers, UUIDs, booking codes and keys that end in a number.
fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    if let Some(rest) = word.strip_prefix('#') {
        return (2..=6).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit());
    }
    let hex = word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if hex && (7..=40).contains(&word.len()) && digits > 0 && letters > 0 {
        return true;
    }
    let code = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if code && (5..=8).contains(&word.len()) && digits > 0 && letters > 0 {
        return true;
    }
    let uuid = word.len() == 36 && word.bytes().filter(|b| *b == b'-').count() == 4 && digits > 4;
    let keyed = word.rsplit_once('_').is_some_and(|(name, n)| {
        n.len() >= 3 && n.bytes().all(|b| b.is_ascii_digit()) && name.bytes().any(|b| b.is_ascii_alphabetic())
    });
    uuid || keyed
}
