//! JSON as people give it: as text, from a file, from stdin.

use std::io::Read as _;

use cellaflow_proto::v1;

use super::output::Failure;

/// Reads `@FILE` and `@-`; JSON itself never begins with `@`. What comes back is JSON.
///
/// # Errors
/// A usage failure that names the argument, if the file cannot be read or holds no JSON.
pub(super) fn read(argument: &str, text: &str) -> Result<String, Failure> {
    let json = content(argument, text)?;
    match serde_json::from_str::<serde::de::IgnoredAny>(&json) {
        Ok(_) => Ok(json),
        Err(error) => Err(Failure::usage(format!(
            "{argument} is no JSON ({error}): write for example '{{\"id\": 7}}' or '\"text\"'"
        ))),
    }
}

fn content(argument: &str, text: &str) -> Result<String, Failure> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let mut content = String::new();
    let outcome = if path == "-" {
        std::io::stdin().lock().read_to_string(&mut content).map(|_| content)
    } else {
        std::fs::read_to_string(path)
    };
    outcome.map_err(|error| Failure::usage(format!("cannot read {argument} {text}: {error}")))
}

/// A payload with its bytes inside.
pub(super) fn payload(format: v1::PayloadFormat, bytes: Vec<u8>) -> v1::Payload {
    let body = Some(v1::payload::Body::Data(bytes.into()));
    v1::Payload { format: format.into(), body, ..v1::Payload::default() }
}
