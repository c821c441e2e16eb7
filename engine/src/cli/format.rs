//! How times, sizes, money and names read for a person. Programs get the plain numbers (see `json`).

use cellaflow_proto::v1;

use crate::clock;

/// Formats a time of day for tables: UTC, to the second; `-` for 0, which means "not yet" or "never".
pub(super) fn time(wall_ms: u64) -> String {
    if wall_ms == 0 {
        return "-".to_owned();
    }
    let text = clock::rfc3339(wall_ms);
    // Another length is a time so far off that it is shown as a number.
    match (text.len(), text.get(..10), text.get(11..19)) {
        (24, Some(day), Some(time)) => format!("{day} {time}"),
        _ => text,
    }
}

/// Formats a time of day to the millisecond, without its date, for the lines of one session's events.
pub(super) fn time_of_day(wall_ms: u64) -> String {
    let text = clock::rfc3339(wall_ms);
    text.get(11..23).filter(|_| text.len() == 24).map_or_else(|| text.clone(), str::to_owned)
}

/// Formats how long ago something was, coarsely: `12 s ago`, `3 h ago`; `-` for 0.
pub(super) fn ago(wall_ms: u64, now_ms: u64) -> String {
    if wall_ms == 0 {
        return "-".to_owned();
    }
    match now_ms.checked_sub(wall_ms) {
        Some(0..1_000) => "now".to_owned(),
        Some(ms) => format!("{} ago", coarse(ms)),
        None => format!("in {}", coarse(wall_ms - now_ms)),
    }
}

/// The largest unit alone; what is left over does not help in a table.
fn coarse(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = UNITS.into_iter().find(|(size, _)| ms >= *size);
    unit.map_or_else(|| format!("{ms} ms"), |(size, name)| format!("{} {name}", ms / size))
}

/// Formats a duration with two units at most: `850 ms`, `2.5 s`, `4 min 10 s`, `3 d 2 h`.
pub(super) fn duration_ms(ms: u64) -> String {
    let (s, min, h) = (ms / 1_000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{} s", tenths(ms, 1_000)),
        60_000..3_600_000 => pair(min, "min", s % 60, "s"),
        3_600_000..86_400_000 => pair(h, "h", min % 60, "min"),
        _ => pair(h / 24, "d", h % 24, "h"),
    }
}

/// Formats a measured duration, which may be far below a millisecond.
pub(super) fn duration_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{} ms", tenths(us, 1_000)),
        _ => duration_ms(us / 1_000),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// One digit behind the point, cut off and not rounded; none if it is zero.
fn tenths(amount: u64, unit: u64) -> String {
    let tenth = amount % unit / (unit / 10).max(1);
    if tenth == 0 { (amount / unit).to_string() } else { format!("{}.{tenth}", amount / unit) }
}

/// Reads a duration as people write it: a whole number and one of `ms`, `s`, `m`, `h`, `d`. Returns ms.
///
/// # Errors
/// A sentence that shows how to write one.
pub(super) fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).filter(|ms| *ms > 0);
    ms.ok_or_else(|| "write a number above 0 and a unit, for example 90s, 12h or 30d".to_owned())
}

/// Formats a size in bytes with binary units: `812 B`, `4.2 KiB`.
pub(super) fn bytes(size: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.into_iter().find(|(unit, _)| size >= *unit);
    // In 64 bits the tenths of a TiB count would not overflow: they are taken of the remainder.
    unit.map_or_else(|| format!("{size} B"), |(unit, name)| format!("{} {name}", tenths(size, unit)))
}

/// Formats a session's known cost: `$1.20`; `>= $1.20` if calls without a price are missing, `?` if nothing else is known.
pub(super) fn cost(totals: Option<&v1::Totals>) -> String {
    match totals {
        Some(totals) if totals.unpriced_calls > 0 && totals.cost_nanos == 0 => "?".to_owned(),
        Some(totals) if totals.unpriced_calls > 0 => format!(">= {}", dollars(totals.cost_nanos)),
        Some(totals) => dollars(totals.cost_nanos),
        None => dollars(0),
    }
}

/// Formats limits: `$2.50, 10 000 tokens, 40 steps, 2 h`; what is not limited is left out.
pub(super) fn limits(limits: Option<&v1::Budget>) -> String {
    let Some(limits) = limits else { return "none".to_owned() };
    let mut kinds = Vec::new();
    if limits.cost_nanos != 0 {
        kinds.push(dollars(limits.cost_nanos));
    }
    if limits.tokens != 0 {
        kinds.push(format!("{} tokens", count(limits.tokens)));
    }
    if limits.steps != 0 {
        kinds.push(format!("{} steps", count(limits.steps)));
    }
    if limits.wall_ms != 0 {
        kinds.push(duration_ms(limits.wall_ms));
    }
    kinds.join(", ")
}

/// Formats a count with thin groups of three: `1 234 567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Formats a number of things: `1 session`, `2 sessions`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Formats nano-dollars as dollars: cents for large amounts, as many digits as matter for small ones.
pub(super) fn dollars(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let digits = match nanos {
        0 => return "$0".to_owned(),
        1_000_000_000.. => 2,
        1_000_000.. => 4,
        1_000.. => 6,
        _ => 9,
    };
    let unit = 10_u64.pow(9 - digits);
    // Rounded half up at the last digit shown.
    let shown = (nanos + unit / 2) / unit;
    let scale = 10_u64.pow(digits);
    format!("{sign}${}.{:0width$}", shown / scale, shown % scale, width = digits as usize)
}

/// Reads dollars as whole nano-dollars, for filters.
pub(super) fn nanos(usd: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and a filter beyond it selects nothing anyway"
    )]
    let nanos = (usd * 1e9).round() as i64;
    nanos
}

/// Puts a text on one line of at most `width` columns, its end cut off with `…`.
///
/// Widths are counted in characters: what reaches here are keys, names and JSON, and a line that is a little too long
/// wraps without harm.
pub(super) fn one_line(text: &str, width: usize) -> String {
    let mut line: String = text
        .chars()
        // Control characters from a payload must not reach a terminal.
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(width + 1)
        .collect();
    if line.chars().count() > width {
        line = line.chars().take(width.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

/// The word for a state of a session.
pub(super) const fn status(status: v1::SessionStatus) -> &'static str {
    match status {
        v1::SessionStatus::Unspecified => "unknown",
        v1::SessionStatus::Pending => "pending",
        v1::SessionStatus::Running => "running",
        v1::SessionStatus::Waiting => "waiting",
        v1::SessionStatus::Paused => "paused",
        v1::SessionStatus::Completed => "completed",
        v1::SessionStatus::Failed => "failed",
        v1::SessionStatus::Cancelled => "cancelled",
    }
}

/// Says whether a session in this state accepts no event any more.
pub(super) const fn has_ended(status: v1::SessionStatus) -> bool {
    match status {
        v1::SessionStatus::Completed | v1::SessionStatus::Failed | v1::SessionStatus::Cancelled => true,
        v1::SessionStatus::Unspecified
        | v1::SessionStatus::Pending
        | v1::SessionStatus::Running
        | v1::SessionStatus::Waiting
        | v1::SessionStatus::Paused => false,
    }
}

/// Why a session is paused, in words.
pub(super) const fn pause_reason(reason: v1::PauseReason) -> &'static str {
    match reason {
        v1::PauseReason::Unspecified => "no reason given",
        v1::PauseReason::Requested => "somebody asked for it",
        v1::PauseReason::EffectUnknown => "a guarded step may or may not have happened",
        v1::PauseReason::Nondeterminism => "the run asked for something else than the ledger has",
        v1::PauseReason::RetriesExhausted => "a step used up its attempts",
        v1::PauseReason::Budget => "a budget ran out",
    }
}

/// The word for what happens to an effect that stays unknown.
pub(super) const fn guard_policy(policy: v1::GuardPolicy) -> &'static str {
    match policy {
        v1::GuardPolicy::Unspecified | v1::GuardPolicy::Pause => "pause",
        v1::GuardPolicy::Fail => "fail",
        v1::GuardPolicy::Retry => "retry",
        v1::GuardPolicy::Reconcile => "reconcile",
    }
}

/// The word for a role.
pub(super) const fn decision(decision: v1::ApprovalDecision) -> &'static str {
    match decision {
        v1::ApprovalDecision::Unspecified => "unknown",
        v1::ApprovalDecision::Approved => "approved",
        v1::ApprovalDecision::Rejected => "rejected",
        v1::ApprovalDecision::Expired => "expired",
    }
}

pub(super) const fn role(role: v1::Role) -> &'static str {
    match role {
        v1::Role::Unspecified => "unknown",
        v1::Role::Worker => "worker",
        v1::Role::Client => "client",
        v1::Role::Compactor => "compactor",
        v1::Role::Viewer => "viewer",
        v1::Role::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!(time(1_732_338_000_123), "2024-11-23 05:00:00");
        assert_eq!(time(0), "-");
        assert_eq!(time_of_day(1_732_338_000_123), "05:00:00.123");
        assert_eq!(time(u64::MAX), format!("{} ms since 1970", u64::MAX));
        assert_eq!(ago(1_000, 1_500), "now");
        assert_eq!(ago(1_000, 61_000), "1 min ago");
        assert_eq!(ago(90_000, 10_000), "in 1 min");
        assert_eq!(ago(0, 10_000), "-");
    }

    #[test]
    fn durations_read_with_two_units_at_most_and_are_read_back() {
        let shown: Vec<String> =
            [0, 850, 2_500, 3_000, 250_000, 7_200_000, 266_400_000].map(duration_ms).into();
        assert_eq!(shown, ["0 ms", "850 ms", "2.5 s", "3 s", "4 min 10 s", "2 h", "3 d 2 h"]);
        assert_eq!([999, 1_500, 20_000].map(duration_us), ["999 µs", "1.5 ms", "20 ms"]);
        assert_eq!(parse_duration_ms("30d"), Ok(2_592_000_000));
        assert_eq!(parse_duration_ms("90 s"), Ok(90_000));
        for wrong in ["", "5", "0s", "-1s", "d", "1y", "99999999999999999999d"] {
            assert!(parse_duration_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cost_that_lacks_calls_without_a_price_says_so() {
        let totals =
            |cost_nanos, unpriced_calls| v1::Totals { cost_nanos, unpriced_calls, ..v1::Totals::default() };
        assert_eq!(cost(Some(&totals(0, 2))), "?");
        assert!(cost(Some(&totals(5_000_000, 1))).starts_with(">= $"));
        assert_eq!(cost(Some(&totals(5_000_000, 0))), dollars(5_000_000));
    }

    #[test]
    fn money_shows_the_digits_that_matter() {
        let shown = [0, 7, 12_340, 1_234_567, 1_999_999_999, -2_500_000_000].map(dollars);
        assert_eq!(shown, ["$0", "$0.000000007", "$0.000012", "$0.0012", "$2.00", "-$2.50"]);
        assert!(dollars(i64::MIN).starts_with("-$9223372036."));
    }

    #[test]
    fn sizes_and_counts_are_grouped() {
        assert_eq!([0, 1_023, 1_536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5 GiB"]);
        assert_eq!([0, 1].map(|n| counted(n, "event")), ["0 events", "1 event"]);
        assert_eq!([7, 1_234, 1_234_567].map(count), ["7", "1 234", "1 234 567"]);
        assert!(bytes(u64::MAX).ends_with("TiB"));
    }

    #[test]
    fn a_line_stays_a_line_and_brings_no_control_characters_to_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[31m", 20), "a b [31m");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("abcd", 4), "abcd");
    }
}
