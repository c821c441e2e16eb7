//! Pass `route` (2): what kind of content an observation is, told by its text and never by the tool that made it.

pub const VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Source,
    Hits,
    Log,
    Diff,
    Json,
    Prose,
    Binary,
}

/// Lines that are looked at.
const LINES_MAX: usize = 60;

#[must_use]
pub fn content(text: &str) -> Content {
    let trimmed = text.trim_start();
    if trimmed.starts_with(['{', '[']) && trimmed.contains('"') && trimmed.trim_end().ends_with(['}', ']']) {
        return Content::Json;
    }
    let mut seen = 0usize;
    let (mut diff, mut hits, mut source, mut prose, mut odd) = (0usize, 0usize, 0usize, 0usize, 0usize);
    for line in text.lines().filter(|l| !l.trim().is_empty()).take(LINES_MAX) {
        seen += 1;
        odd += usize::from(line.contains('\u{fffd}'));
        diff += usize::from(
            line.starts_with("@@ ") || line.starts_with("diff --git") || line.starts_with("+++ "),
        );
        hits += usize::from(hit(line));
        let code = body(line).trim_end();
        source += usize::from(code.ends_with(['{', '}', ';', ',', '(', ')', ':']));
        prose += usize::from(code.ends_with(['.', '?', '!']) && code.contains(' '));
    }
    match () {
        () if odd * 3 > seen => Content::Binary,
        () if diff >= 2 => Content::Diff,
        () if hits * 2 > seen => Content::Hits,
        () if source * 2 > seen => Content::Source,
        () if prose * 3 > seen => Content::Prose,
        () => Content::Log,
    }
}

/// `path:12:text`, or a path alone on its line.
fn hit(line: &str) -> bool {
    let mut parts = line.splitn(3, ':');
    let path = parts.next().unwrap_or_default();
    let named = path.contains(['/', '.']) && !path.contains(' ');
    named && parts.next().is_none_or(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// A line without the number that viewers put before it.
#[must_use]
pub fn body(line: &str) -> &str {
    let rest = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
    if rest.len() == line.trim_start().len() {
        return line;
    }
    rest.strip_prefix('→')
        .or_else(|| rest.strip_prefix('\t'))
        .or_else(|| rest.strip_prefix(':'))
        .unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::{Content, content};

    #[test]
    fn contents_are_told_apart() {
        assert_eq!(content("{\"a\": 1}"), Content::Json);
        assert_eq!(content("src/a.rs:1:fn a\nsrc/b.rs:22:fn b"), Content::Hits);
        assert_eq!(content("     1→fn main() {\n     2→    go();\n     3→}"), Content::Source);
        assert_eq!(content("diff --git a/x b/x\n@@ -1 +1 @@\n-a\n+b"), Content::Diff);
        assert_eq!(content("compiling\nlinking\ndone"), Content::Log);
    }
}
