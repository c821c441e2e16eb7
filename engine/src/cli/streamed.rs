//! What zones stream, put together for a reader that may lose its connection.
//!
//! X1. Every byte of an attempt is shown once and in order: while it is streamed, or at its commit from the record.
//! X2. Of an attempt that was rolled back or has failed, nothing is shown after that; the reader is told (`Reset`).

use std::collections::BTreeMap;

use cellaflow_proto::{content, v1};
use prost::Message as _;

/// Text of a zone's attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Zone.
    pub(super) zone_key: String,
    /// Attempt.
    pub(super) attempt: u32,
    /// Offset of its first byte within the attempt.
    pub(super) byte: u64,
    /// The text.
    pub(super) text: String,
}

/// How far each open zone was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<String, (u32, u64)>);

impl Places {
    /// How a subscription names them.
    pub(super) fn offsets(&self) -> Vec<v1::TokenOffset> {
        let offset = |(zone_key, &(attempt, byte)): (&String, &(u32, u64))| v1::TokenOffset {
            zone_key: zone_key.clone(),
            attempt,
            byte,
        };
        self.0.iter().map(offset).collect()
    }

    /// Takes what was streamed; `None`: it was shown before (X1).
    pub(super) fn take(&mut self, chunk: v1::TokenChunk) -> Option<Tokens> {
        let v1::TokenChunk { zone_key, attempt, offset, data } = chunk;
        self.rest(zone_key, attempt, offset, &data)
    }

    /// Takes the commit of a zone: what was not shown of it yet, from its record.
    pub(super) fn commit(&mut self, zone: &v1::ZoneCommitted) -> Option<Tokens> {
        let streamed = zone.record.as_ref().and_then(record).map(|record| streamed(&record));
        let tokens = self.rest(zone.zone_key.clone(), zone.attempt, 0, &streamed.unwrap_or_default());
        self.0.remove(&zone.zone_key);
        tokens
    }

    /// What was shown of a zone is void.
    pub(super) fn reset(&mut self, zone_key: &str) {
        self.0.remove(zone_key);
    }

    fn rest(&mut self, zone_key: String, attempt: u32, offset: u64, data: &[u8]) -> Option<Tokens> {
        let byte = self.0.get(&zone_key).filter(|place| place.0 == attempt).map_or(0, |place| place.1);
        let known = usize::try_from(byte.checked_sub(offset)?).ok()?;
        let fresh = data.get(known..).filter(|fresh| !fresh.is_empty())?;
        self.0.insert(zone_key.clone(), (attempt, offset + data.len() as u64));
        Some(Tokens { zone_key, attempt, byte, text: String::from_utf8_lossy(fresh).into_owned() })
    }
}

/// The record of a committed zone; `None` if it is not here, or sealed.
fn record(payload: &v1::Payload) -> Option<content::ZoneRecord> {
    match &payload.body {
        Some(v1::payload::Body::Data(bytes)) if payload.codec.is_empty() => {
            content::ZoneRecord::decode(bytes.as_ref()).ok()
        }
        _ => None,
    }
}

/// What a committed attempt streamed.
fn streamed(record: &content::ZoneRecord) -> Vec<u8> {
    use content::streamed::From;
    let mut answers: Vec<Vec<u8>> = record.outcomes.iter().map(answer).collect();
    if record.streamed.is_empty() {
        return record
            .outcomes
            .iter()
            .zip(&answers)
            .filter(|(outcome, _)| was_streamed(outcome))
            .flat_map(|(_, text)| text.clone())
            .collect();
    }
    let mut all = Vec::new();
    for stretch in &record.streamed {
        match &stretch.from {
            Some(From::Data(data)) => all.extend_from_slice(data),
            Some(From::TextOf(index)) => {
                let Some(text) = answers.get_mut(*index as usize) else { continue };
                let end = text.len().min(stretch.length as usize);
                all.extend(text.drain(..end));
            }
            None => {}
        }
    }
    all
}

fn was_streamed(outcome: &content::ZoneOutcome) -> bool {
    matches!(&outcome.outcome, Some(content::zone_outcome::Outcome::Llm(answer)) if !answer.chunk_lengths.is_empty())
}

/// The text of a model's answer; empty for other outcomes.
fn answer(outcome: &content::ZoneOutcome) -> Vec<u8> {
    use content::part::Kind;
    use content::zone_outcome::Outcome;
    let Some(Outcome::Llm(content::LlmResponse { message: Some(message), .. })) = &outcome.outcome else {
        return Vec::new();
    };
    let text = |part: &content::Part| match &part.kind {
        Some(Kind::Text(text)) => text.clone().into_bytes(),
        _ => Vec::new(),
    };
    message.parts.iter().flat_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, chunk_lengths: &[u32]) -> content::ZoneOutcome {
        let kind = Some(content::part::Kind::Text(text.into()));
        let message = content::Message {
            parts: vec![content::Part { kind, ..Default::default() }],
            ..Default::default()
        };
        let response = content::LlmResponse {
            message: Some(message),
            chunk_lengths: chunk_lengths.to_vec(),
            ..Default::default()
        };
        let outcome = Some(content::zone_outcome::Outcome::Llm(response));
        content::ZoneOutcome { outcome, ..Default::default() }
    }

    fn committed(record: &content::ZoneRecord) -> v1::ZoneCommitted {
        let body = Some(v1::payload::Body::Data(record.encode_to_vec().into()));
        let record = Some(v1::Payload { body, ..Default::default() });
        v1::ZoneCommitted { zone_key: "z".into(), attempt: 1, record, ..Default::default() }
    }

    fn chunk(offset: u64, text: &str) -> v1::TokenChunk {
        let data = text.as_bytes().to_vec().into();
        v1::TokenChunk { zone_key: "z".into(), attempt: 1, offset, data }
    }

    #[test]
    fn x1_the_record_has_what_was_not_streamed_in_time() {
        let record = content::ZoneRecord {
            outcomes: vec![said("Dear ", &[5]), said("not streamed", &[]), said("reader", &[2, 4])],
            ..Default::default()
        };
        let mut places = Places::default();
        assert_eq!(places.take(chunk(0, "Dea")).unwrap().text, "Dea");
        assert_eq!(places.take(chunk(0, "Dea")), None);
        let rest = places.commit(&committed(&record)).unwrap();
        assert_eq!((rest.byte, &*rest.text), (3, "r reader"));
        assert_eq!(places.offsets(), []);
    }

    #[test]
    fn x1_interleaved_answers_and_bytes_of_no_answer_come_as_they_were_streamed() {
        use content::streamed::From;
        let of = |index, length| content::Streamed { from: Some(From::TextOf(index)), length };
        let lost = From::Data(b"lost".as_slice().into());
        let record = content::ZoneRecord {
            outcomes: vec![said("aAa", &[3]), said("bB", &[2])],
            streamed: vec![
                of(0, 1),
                of(1, 1),
                content::Streamed { from: Some(lost), length: 0 },
                of(0, 2),
                of(1, 1),
            ],
            ..Default::default()
        };
        assert_eq!(Places::default().commit(&committed(&record)).unwrap().text, "ablostAaB");
    }

    #[test]
    fn x2_what_is_void_is_read_anew() {
        let mut places = Places::default();
        places.take(chunk(0, "first"));
        places.reset("z");
        let second = places.take(v1::TokenChunk { attempt: 2, ..chunk(0, "second") }).unwrap();
        assert_eq!((second.attempt, second.byte), (2, 0));
    }
}
