//! Pass `coalesce edits` (5): what a writing call changed, without its bodies.
//!
//! Argument names mean nothing here (an agent's own tools have their own): of the texts in a call's arguments, in
//! the order written, the one that names the resource is set aside; two texts left are before and after, one is a body.

use similar::{ChangeTag, TextDiff};

use super::ordered::Ordered;

pub const VERSION: u32 = 1;

/// Texts longer than this are not compared line by line.
const DIFF_BYTES_MAX: usize = 64 * 1024;

/// A change of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    pub added: usize,
    pub removed: usize,
    /// Changed lines, `+` or `-` first.
    pub lines: Vec<String>,
}

/// The texts of a call's arguments in the order in which they were written.
#[must_use]
pub fn texts(arguments: &str) -> Vec<String> {
    let mut out = Vec::new();
    if let Ok(arguments) = serde_json::from_str::<Ordered>(arguments) {
        arguments.texts(&mut out);
    }
    out
}

/// What a writing call changed.
#[must_use]
pub fn change(arguments: &str, resource: &str) -> Change {
    let mut bodies = texts(arguments);
    bodies.retain(|t| t != resource);
    match bodies.as_slice() {
        [before, after] if before.len() + after.len() <= DIFF_BYTES_MAX => diff(before, after),
        bodies => {
            let added = bodies.iter().map(|b| b.lines().count()).sum();
            Change { added, ..Change::default() }
        }
    }
}

fn diff(before: &str, after: &str) -> Change {
    let mut out = Change::default();
    for change in TextDiff::from_lines(before, after).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => continue,
        };
        if sign == '-' {
            out.removed += 1
        } else {
            out.added += 1
        }
        out.lines.push(format!("{sign}{}", change.value().trim()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::change;

    #[test]
    fn an_edit_becomes_its_changed_lines_whatever_its_arguments_are_called() {
        let c = change(r#"{"zz":"a.rs","yy":"let a;\nlet b;","aa":"let a;\nlet c;"}"#, "a.rs");
        assert_eq!((c.added, c.removed), (1, 1));
        assert_eq!(c.lines, ["-let b;", "+let c;"]);
    }
}
