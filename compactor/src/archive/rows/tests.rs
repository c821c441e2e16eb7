use super::*;

const CHUNK_BYTES: usize = 256 << 10;

fn begins(seq: u64, hash: [u8; 32]) -> v1::LineageSession {
    let session =
        v1::Session { session_id: "s".into(), seq, hash: hash.to_vec().into(), ..v1::Session::default() };
    v1::LineageSession { session: Some(session), archived_seq: 0, first_seq: 1 }
}

/// The event of a step whose output lies beside it, and its hash.
fn step(seq: u64, before: &[u8; 32], digest: &[u8]) -> (v1::RawEvent, [u8; 32]) {
    let output = disk::PayloadRef {
        digest: digest.to_vec().into(),
        size_bytes: CHUNK_BYTES as u64,
        format: disk::Format::Json.into(),
        ..disk::PayloadRef::default()
    };
    let completed = disk::StepCompleted { output: Some(output), ..disk::StepCompleted::default() };
    let header =
        disk::EventHeader { seq, body: Some(Body::StepCompleted(completed)), ..disk::EventHeader::default() };
    let header = Bytes::from(header.encode_to_vec());
    let hash = decode::chain(before, &header);
    (v1::RawEvent { seq, header, payloads: Bytes::new(), hash: hash.to_vec().into() }, hash)
}

/// A chunk as it arrives: digest and data are slices of one message.
fn chunk(n: u64) -> (Bytes, v1::RawChunk) {
    let mut message = vec![b'x'; 32 + CHUNK_BYTES];
    message[..8].copy_from_slice(&n.to_be_bytes());
    let message = Bytes::from(message);
    let chunk = v1::RawChunk { digest: message.slice(..32), n: 0, data: message.slice(32..) };
    (message, chunk)
}

#[test]
fn nothing_of_a_chunk_is_kept_once_its_event_is_written() {
    // A4. The digests that were kept were slices of their messages: a lineage with 700 MB of payloads needed 849 MB.
    const EVENTS: u64 = 40;
    let mut ends = vec![[0; 32]];
    for seq in 1..=EVENTS {
        let digest = chunk(seq).1.digest;
        ends.push(step(seq, &ends[ends.len() - 1], &digest).1);
    }
    let mut rows = Rows::new();
    let mut lineage = rows.lineage("l");
    lineage.session(begins(EVENTS, ends[ends.len() - 1])).unwrap();
    let mut messages = Vec::new();
    for (seq, before) in (1..=EVENTS).zip(&ends) {
        let (message, chunk) = chunk(seq);
        let (event, _) = step(seq, before, &chunk.digest);
        lineage.chunk(chunk).unwrap();
        lineage.events(v1::RawEvents { events: vec![event] }).unwrap();
        messages.push(message);
    }
    let kept = messages.iter().filter(|message| !message.is_unique()).count();
    assert_eq!(kept, 0, "messages of {EVENTS} that something still points into");
    assert_eq!(lineage.written.len(), EVENTS as usize, "so that each is written once");
    assert!(lineage.beside.is_empty());
    lineage.finish().unwrap();
}

#[test]
fn texts_after_a_payload_that_is_not_at_hand_have_no_number() {
    // X3: an output of more than 4 MiB is not read, so the request after it began with number 0.
    let message = content::Message {
        parts: vec![content::Part { kind: Some(Kind::Text("hello".into())), ..content::Part::default() }],
        ..content::Message::default()
    };
    let request = content::LlmRequest { appended: vec![message], ..content::LlmRequest::default() };
    let header = disk::EventHeader { seq: 3, ..disk::EventHeader::default() };
    let session = v1::Session::default();
    let at = At { lineage: "l", session: &session, header: &header, name: "" };
    let texts_after = |unread: Vec<Part>| {
        let documents = Documents { requests: [(0, request.clone())].into(), unread, ..Documents::default() };
        let mut texts = Texts::default();
        at.write_messages(&mut Spool::new(Table::Messages), &documents, &mut texts).unwrap();
        let again = content::Part {
            kind: Some(Kind::Text(String::new())),
            same_as: Some(content::PartRef { seq: 3, part: 0 }),
            ..content::Part::default()
        };
        texts.of_event(4).part(&again).unwrap().text
    };
    assert_eq!(texts_after(vec![]).as_deref(), Some("hello"));
    assert_eq!(texts_after(vec![Part::Failure]).as_deref(), Some("hello"), "failures have no texts");
    assert_eq!(texts_after(vec![Part::Output]), None);
}
