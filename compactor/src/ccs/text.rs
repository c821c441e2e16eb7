//! Small text tools that passes share: pure, locale-free, linear.

/// One line for a stub: control characters and line breaks become spaces, runs of spaces one, the handle sign is
/// taken out (C6: foreign text never forges a handle), and at most `max` characters stay.
#[must_use]
pub fn line(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() || c == super::handle::SIGN {
            gap = !out.is_empty();
            continue;
        }
        if count + usize::from(gap) >= max {
            out.pop();
            out.push('…');
            return out;
        }
        if std::mem::take(&mut gap) {
            out.push(' ');
            count += 1;
        }
        out.push(c);
        count += 1;
    }
    out
}

/// Like `line`, cutting the middle out instead of the end.
#[must_use]
pub fn ends(text: &str, max: usize) -> String {
    let whole = line(text, usize::MAX);
    let length = whole.chars().count();
    if length <= max {
        return whole;
    }
    let half = max / 2;
    let head: String = whole.chars().take(half).collect();
    let tail: String = whole.chars().skip(length - half).collect();
    format!("{head}…{tail}")
}

/// The longest beginning of at most so many bytes that ends between characters.
#[must_use]
pub fn prefix(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The longest end of at most so many bytes that begins between characters.
#[must_use]
pub fn suffix(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

/// The first sentence of prose, or its first line.
#[must_use]
pub fn sentence(text: &str, max: usize) -> String {
    let first = text.trim().lines().find(|l| l.chars().any(char::is_alphanumeric)).unwrap_or_default();
    let end = first.find(". ").map_or(first.len(), |at| at + 1);
    line(first.get(..end).unwrap_or(first), max)
}

/// FNV-1a, 64 bits: names equal contents within a session; nothing trusts it against an attacker.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The identifiers of a text: runs of letters, digits, `_`, `.` and `-` that look made up rather than spoken.
pub fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))
        .map(|w| w.trim_matches(|c| matches!(c, '.' | '-')))
        .filter(|w| looks_made(w))
}

fn looks_made(word: &str) -> bool {
    if !(4..=64).contains(&word.len()) || !word.bytes().any(|b| b.is_ascii_alphabetic()) {
        return false;
    }
    let mut before = b' ';
    let mut made = false;
    for b in word.bytes() {
        made |= matches!(b, b'_' | b'.' | b'-') || b.is_ascii_digit();
        made |= b.is_ascii_uppercase() && before.is_ascii_lowercase();
        before = b;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::{ends, identifiers, line};

    #[test]
    fn a_line_is_one_line_without_handles_and_no_longer_than_asked() {
        assert_eq!(line(" a\n\tb §12 c\u{7} ", 80), "a b 12 c");
        assert_eq!(line("12345", 5), "12345");
        assert_eq!(line("123456", 5), "1234…");
        assert_eq!(ends("0123456789", 4), "01…89");
    }

    #[test]
    fn identifiers_are_names_that_nobody_speaks() {
        let found: Vec<&str> = identifiers("call getUser in src/main.rs with max_size, not now").collect();
        assert_eq!(found, ["getUser", "main.rs", "max_size"]);
    }
}
