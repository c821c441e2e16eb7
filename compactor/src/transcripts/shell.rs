//! What a shell line touches: always the command itself, and the files that plain readers name.

use super::{Mode, Range, Resource};

/// The resources of a command line.
pub(super) fn resources(command: &str) -> Vec<Resource> {
    let mut out = vec![Resource::new("command", command.trim(), Mode::Run)];
    let simple = !command.contains(['|', ';', '>', '<', '`', '\n']) && !command.contains("&&");
    if simple {
        out.extend(reads(&words(command)));
    }
    out
}

fn reads(words: &[String]) -> Vec<Resource> {
    let mut names = words.iter().skip(1).filter(|w| !w.starts_with('-'));
    let file = |id: &String| Resource::new("file", id, Mode::Read);
    match words.first().map(String::as_str) {
        Some("cat") => names.map(file).collect(),
        Some("head" | "tail") => names.filter(|w| w.parse::<u64>().is_err()).map(file).collect(),
        Some("sed") if words.iter().any(|w| w == "-n") => {
            let range = names.next().and_then(|script| line_range(script));
            names.map(file).map(|r| r.within(range)).collect()
        }
        _ => Vec::new(),
    }
}

/// `10,20p` of `sed -n`.
fn line_range(script: &str) -> Option<Range> {
    let (first, last) = script.strip_suffix('p')?.split_once(',')?;
    Some(Range { first: first.parse().ok()?, last: last.parse().ok()? })
}

/// Splits a line into words, honouring quotes; an open quote ends with the line.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => out.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}
