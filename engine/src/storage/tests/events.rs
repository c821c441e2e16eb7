//! Promise: immutable. The stored form of events and rows (`storage::events`, `storage::heads`).

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::disk;
use prost::Message;

use super::samples;
use crate::graph::event::{Author, Body, Event};
use crate::graph::ids::{Epoch, Hash, Seq};
use crate::storage::events::{chain, decode, encode};

fn inline(event: &Event) -> Vec<Bytes> {
    let refs = event.payloads().into_iter().filter(|payload| payload.inline);
    refs.map(|payload| Bytes::from(vec![b'x'; usize::try_from(payload.size).unwrap()])).collect()
}

/// R4: the header of one event of every kind, in hexadecimal. A line here never changes; a new kind adds one.
const GOLDEN: &[(&str, &str)] = &include!("golden_events.in");

#[test]
fn the_bytes_of_every_kind_of_event_are_pinned() {
    let events = samples::events();
    let actual: Vec<(String, String)> = events
        .iter()
        .map(|event| {
            let header = encode(event, &inline(event)).unwrap().header_bytes();
            (samples::kind(&event.body).to_owned(), hex::encode(header))
        })
        .collect();
    let table: String = actual.iter().map(|(kind, bytes)| format!("(\"{kind}\", \"{bytes}\"),\n")).collect();
    assert_eq!(actual.len(), GOLDEN.len(), "the table as it is now:\n{table}");
    for ((kind, bytes), (golden_kind, golden)) in actual.iter().zip(GOLDEN) {
        assert_eq!(
            (kind.as_str(), bytes.as_str()),
            (*golden_kind, *golden),
            "the table as it is now:\n{table}"
        );
    }
}

/// A start under budgets, beside the plain one: each stays readable.
#[test]
fn the_bytes_of_a_start_under_budgets_are_pinned() {
    let mut event = samples::events().remove(0);
    let Body::SessionStarted(started) = &mut event.body else { panic!() };
    started.budget = samples::budget_start();
    let encoded = encode(&event, &inline(&event)).unwrap();
    let pinned = "8a01230a0b08f40310d804184620c03e12140a10444444444444444444444444444444441005";
    assert!(hex::encode(encoded.header_bytes()).ends_with(pinned));
    assert_eq!(decode(&encoded.bytes).unwrap().event, event);
}

/// What an earlier version wrote reads back as what it meant.
#[test]
fn pinned_bytes_read_back() {
    for (event, (kind, golden)) in samples::events().iter().zip(GOLDEN) {
        let header = hex::decode(golden).unwrap();
        let mut record = u32::try_from(header.len()).unwrap().to_be_bytes().to_vec();
        record.extend(header);
        inline(event).iter().for_each(|bytes| record.extend_from_slice(bytes));
        let decoded = decode(&record.into()).unwrap();
        assert_eq!((&decoded.event, decoded.inline), (event, inline(event)), "{kind}");
    }
}

#[test]
fn the_chain_covers_the_header_and_what_came_before() {
    let event = &samples::events()[0];
    let encoded = encode(event, &inline(event)).unwrap();
    let header = encoded.header_bytes();
    let expected = blake3::hash(&[&[0; 32], &header[..]].concat());
    assert_eq!(chain(Hash::default(), &header), Hash(*expected.as_bytes())); // R1
    assert_eq!(decode(&encoded.bytes).unwrap().header, header);
}

#[test]
fn inline_bytes_are_as_long_as_the_header_says() {
    let event = &samples::events()[0];
    let good = inline(event);
    assert!(encode(event, &good[1..]).is_err()); // R2
    let mut longer = good.clone();
    longer[0] = Bytes::from_static(b"much too long");
    assert!(encode(event, &longer).is_err());
    let record = encode(event, &good).unwrap().bytes;
    let surplus = Bytes::from([&record[..], b"x"].concat());
    assert_eq!(decode(&surplus).unwrap_err().field, "inline payload");
    for length in 0..record.len() {
        assert!(decode(&record.slice(..length)).is_err(), "cut at {length}");
    }
}

/// Encodes a stored header that this version would not write, and returns the field that the error names.
fn refused(change: impl FnOnce(&mut disk::EventHeader)) -> &'static str {
    let event = Event { seq: Seq(1), ..samples::around(Author::Worker(Epoch(2)), samples::step_failed()) };
    let encoded = encode(&event, &inline(&event)).unwrap();
    let mut header = disk::EventHeader::decode(encoded.header_bytes()).unwrap();
    change(&mut header);
    record_refused(header.encode_to_vec(), &inline(&event))
}

fn record_refused(header: Vec<u8>, inline: &[Bytes]) -> &'static str {
    let mut record = u32::try_from(header.len()).unwrap().to_be_bytes().to_vec();
    record.extend(header);
    inline.iter().for_each(|bytes| record.extend_from_slice(bytes));
    decode(&record.into()).unwrap_err().field
}

fn failed(header: &mut disk::EventHeader) -> &mut disk::StepFailed {
    match &mut header.body {
        Some(disk::event_header::Body::StepFailed(step)) => step,
        other => panic!("{other:?}"),
    }
}

/// R3: unknown or missing is an error that names the field, never a guess.
#[test]
fn what_this_version_does_not_know_is_refused_by_name() {
    assert_eq!(refused(|header| header.body = None), "body");
    assert_eq!(refused(|header| header.seq = 0), "seq");
    assert_eq!(refused(|header| header.author = 99), "author");
    assert_eq!(refused(|header| header.author = 0), "author");
    assert_eq!(refused(|header| header.epoch = 0), "author");
    assert_eq!(refused(|header| header.dedupe_id = vec![1; 3].into()), "dedupe_id");
    assert_eq!(refused(|header| header.after_seq = None), "after_seq");
    assert_eq!(refused(|header| failed(header).failure = None), "step_failed.failure");
    assert_eq!(refused(|header| failed(header).failure.as_mut().unwrap().format = 42), "format");
    assert_eq!(
        refused(|header| failed(header).failure.as_mut().unwrap().digest = Bytes::new()),
        "payload.digest"
    );
    assert_eq!(refused(|header| failed(header).input_digest = vec![1].into()), "step_failed.input_digest");
}

/// R3: a field or kind of event of a later version would be skipped by the decoder; the length tells.
#[test]
fn a_field_of_a_later_version_is_refused() {
    let event = &samples::events()[0];
    let encoded = encode(event, &inline(event)).unwrap();
    let unknown_field = [0xfa, 0x06, 0x00]; // field 111, empty
    let header = [&encoded.header_bytes()[..], &unknown_field].concat();
    assert_eq!(record_refused(header, &inline(event)), "header");
}

#[test]
fn every_kind_of_event_is_sampled() {
    let kinds: std::collections::BTreeSet<_> =
        samples::events().iter().map(|event| samples::kind(&event.body)).collect();
    assert_eq!(kinds.len(), samples::KINDS);
    let resumed = Body::SessionResumed { by: Arc::from("ada"), retry: false };
    assert!(kinds.contains(samples::kind(&resumed)));
}

/// What the archive does is one kind of event with several meanings: each reads back.
#[test]
fn everything_the_archive_does_reads_back() {
    for event in samples::archive_events() {
        let event = samples::around(Author::Operator(None), Body::Archive(event));
        let encoded = encode(&event, &[]).unwrap();
        assert_eq!(decode(&encoded.bytes).unwrap().event, event);
    }
}
