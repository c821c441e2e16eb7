//! Reading loosely typed JSON: absent and of another type are the same.

use serde_json::Value;

pub(super) fn str<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

pub(super) fn u64(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// The text of a content field: a string, or the text parts of a list; other parts are named.
pub(super) fn text(content: &Value) -> String {
    match content {
        Value::String(s) => s.clone(),
        Value::Array(parts) => parts.iter().map(part).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn part(value: &Value) -> String {
    if let Value::String(s) = value {
        return s.clone();
    }
    match str(value, "text") {
        Some(text) => text.to_owned(),
        None => format!("[{}]", str(value, "type").unwrap_or("part")),
    }
}

/// Milliseconds since 1970 of an RFC 3339 time in UTC (`2026-02-12T09:31:52.081Z`), or of a number of milliseconds.
pub(super) fn time_ms(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => rfc3339_ms(s),
        _ => None,
    }
}

fn rfc3339_ms(s: &str) -> Option<i64> {
    let (date, time) = s.trim_end_matches('Z').split_once('T')?;
    let mut d = date.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (d.next()??, d.next()??, d.next()??);
    let mut t = time.splitn(3, ':');
    let (hour, minute) = (t.next()?.parse::<i64>().ok()?, t.next()?.parse::<i64>().ok()?);
    let seconds: f64 = t.next()?.parse().ok()?;
    let sane = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let sane = sane && (0..24).contains(&hour) && (0..60).contains(&minute) && (0.0..61.0).contains(&seconds);
    if !sane {
        return None;
    }
    // Days since 1970 of the proleptic Gregorian calendar, with years that start in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    #[expect(clippy::cast_possible_truncation, reason = "below 61,000 by the check above")]
    let ms = (seconds * 1000.0).round() as i64;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + ms)
}

#[cfg(test)]
mod tests {
    use super::rfc3339_ms;

    #[test]
    fn times_are_read_to_the_millisecond() {
        assert_eq!(rfc3339_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(rfc3339_ms("2000-02-29T12:00:00.250Z"), Some(951_825_600_250));
        assert_eq!(rfc3339_ms("2026-02-30"), None);
        assert_eq!(rfc3339_ms("2026-99-01T00:00:00Z"), None);
    }
}
