//! Pass `mine logs` (6): a long output becomes its head, its end and the lines that must not be lost, with runs of
//! lines of one template folded.
//!
//! L1. Protected lines stay as long as the budget holds: errors, warnings, exit codes, failing tests and their
//!     assertions, the closing summary.
//! L2. A run of lines that differ only in numbers is stated once, with its count.

use super::handle;

pub const VERSION: u32 = 1;

/// Whether a line must survive (L1).
#[must_use]
pub fn protected(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    const SIGNS: [&str; 12] = [
        "error",
        "fail",
        "panic",
        "exit code",
        "exit status",
        "assert",
        "expected",
        "exception",
        "fatal",
        "traceback",
        "undefined",
        "not found",
    ];
    SIGNS.iter().any(|sign| lower.contains(sign))
}

/// A line without what changes from one to the next: numbers.
fn template(line: &str) -> String {
    let mut out = String::new();
    for c in line.trim().chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !out.ends_with('#') {
            out.push(c);
        }
    }
    out
}

/// Folds runs of one template (L2).
fn fold(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut run: (String, usize) = (String::new(), 0);
    for line in text.lines() {
        let shape = template(line);
        if shape.contains('#') && shape == run.0 {
            run.1 += 1;
            continue;
        }
        close(&mut out, run.1);
        run = (shape, 1);
        out.push(line.to_owned());
    }
    close(&mut out, run.1);
    out
}

fn close(out: &mut [String], count: usize) {
    if count > 1
        && let Some(last) = out.last_mut()
    {
        last.push_str(&format!(" (×{count} alike)"));
    }
}

/// An excerpt of at most about `bytes_max`, ending with what is left out and where it is.
#[must_use]
pub fn excerpt(text: &str, bytes_max: usize, folded: bool, seq: u64) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let lines: Vec<String> = if folded { fold(text) } else { text.lines().map(str::to_owned).collect() };
    let mut keep = vec![false; lines.len()];
    let mut left = bytes_max.saturating_sub(40);
    let mut take = |n: usize, share: usize, left: &mut usize| -> bool {
        let (Some(line), Some(kept)) = (lines.get(n), keep.get_mut(n)) else { return false };
        let cost = line.len() + 1;
        if *kept || cost > *left || cost > share {
            return *kept;
        }
        *kept = true;
        *left -= cost;
        true
    };
    let guarded: Vec<usize> =
        (0..lines.len()).filter(|n| lines.get(*n).is_some_and(|l| protected(l))).collect();
    let mut share = bytes_max / 3;
    for n in guarded.into_iter().rev() {
        let before = left;
        take(n, share, &mut left);
        share -= before - left;
    }
    let mut share = left / 4;
    for n in (0..lines.len()).rev() {
        let before = left;
        if !take(n, share, &mut left) {
            break;
        }
        share -= before - left;
    }
    for n in 0..lines.len() {
        let share = left;
        if !take(n, share, &mut left) {
            break;
        }
    }
    join(&lines, &keep, seq)
}

fn join(lines: &[String], keep: &[bool], seq: u64) -> String {
    let mut out = String::new();
    let mut skipped = 0usize;
    for (line, kept) in lines.iter().zip(keep) {
        if !kept {
            skipped += 1;
            continue;
        }
        if std::mem::take(&mut skipped) > 0 {
            out.push_str("…\n");
        }
        out.push_str(line);
        out.push('\n');
    }
    let left_out = keep.iter().filter(|k| !**k).count();
    out.push_str(&format!("[{left_out} lines left out: {}]", handle::show(seq)));
    out
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn protected_lines_and_the_end_survive() {
        let mut text = String::new();
        for n in 0..400 {
            text.push_str(&format!("compiling unit {n}\n"));
            if n == 200 {
                text.push_str("error: no such thing\n");
            }
        }
        text.push_str("done in 3 s");
        let short = excerpt(&text, 300, true, 7);
        assert!(short.len() < 400, "{short}");
        assert!(
            short.contains("error: no such thing") && short.contains("done in 3 s") && short.contains("§7")
        );
        assert!(short.contains("alike"), "{short}");
    }
}
