//! Events as they are read: whole, and put in words for comparison.

use std::collections::HashMap;
use std::sync::LazyLock;

use cellaflow_proto::v1::{Event, PayloadPiece, ReplayRequest, Session, replay_event};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};

use crate::client::Client;

/// All descriptors of the wire contract.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(cellaflow_proto::DESCRIPTORS).expect("the compiled descriptors are whole")
});

/// Pieces of payloads, put together until their event comes.
#[derive(Debug, Default)]
pub struct Pieces(HashMap<u64, (Vec<u8>, bool)>);

impl Pieces {
    /// Takes a piece.
    pub fn take(&mut self, piece: PayloadPiece) {
        let (bytes, whole) = self.0.entry(piece.transfer_id).or_default();
        assert!(!*whole, "a piece came after the last one of transfer {}", piece.transfer_id);
        bytes.extend_from_slice(&piece.data);
        *whole = piece.last;
    }

    /// Puts the bytes that came as pieces into the event that names them.
    pub fn complete(&mut self, event: Event) -> Event {
        if self.0.is_empty() {
            return event;
        }
        let descriptor = POOL.get_message_by_name("cellaflow.v1.Event").expect("it is in the contract");
        let mut dynamic =
            DynamicMessage::decode(descriptor, &*event.encode_to_vec()).expect("the same message");
        self.fill(&mut dynamic);
        Event::decode(&*dynamic.encode_to_vec()).expect("the same message")
    }

    /// True if every piece found its event.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn fill(&mut self, message: &mut DynamicMessage) {
        if message.descriptor().full_name() == "cellaflow.v1.Payload"
            && message.has_field_by_name("transfer_id")
        {
            let id =
                message.get_field_by_name("transfer_id").and_then(|value| value.as_u64()).expect("a number");
            let (bytes, whole) = self.0.remove(&id).unwrap_or_else(|| panic!("transfer {id} was not sent"));
            assert!(whole, "transfer {id} lacks its last piece");
            message.set_field_by_name("data", Value::Bytes(bytes.into()));
            return;
        }
        for (_, value) in message.fields_mut() {
            match value {
                Value::Message(inner) => self.fill(inner),
                Value::List(items) => {
                    items
                        .iter_mut()
                        .filter_map(|item| item.as_message_mut())
                        .for_each(|inner| self.fill(inner));
                }
                _ => {}
            }
        }
    }
}

/// A whole replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The session as the first message says.
    pub session: Session,
    /// Epoch of the acquired lease; 0: none.
    pub epoch: u64,
    /// Its events, payloads inside.
    pub events: Vec<Event>,
}

/// Replays a session and checks that nothing is missing: start, contiguous seqs, end.
///
/// # Errors
/// The status it was refused with.
pub async fn replay(client: &Client, request: ReplayRequest) -> Result<Replay, tonic::Status> {
    let first = request.from_seq.max(1);
    let mut stream = client.engine().replay_recovery(request).await?.into_inner();
    let (mut start, mut pieces, mut events, mut end) = (None, Pieces::default(), Vec::new(), None);
    while let Some(message) = stream.message().await? {
        assert!(end.is_none(), "nothing follows the end of a replay");
        match message.body.expect("a body we know") {
            replay_event::Body::Start(first) => start = Some(first),
            replay_event::Body::Event(event) => {
                events.push(pieces.complete(event));
                assert!(pieces.is_empty(), "pieces that the event after them does not name: {pieces:?}");
            }
            replay_event::Body::Piece(piece) => pieces.take(piece),
            replay_event::Body::End(last) => end = Some(last.seq),
        }
        assert!(start.is_some(), "a replay begins with its start");
    }
    let start = start.expect("checked above");
    let session = start.session.expect("a start has it");
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    let wanted: Vec<u64> = (first..=session.seq).collect();
    assert_eq!(seqs, wanted, "the events up to the watermark, without gap or repetition");
    assert_eq!(
        end,
        Some(seqs.last().copied().unwrap_or(0)),
        "a replay that was not cut off says where it ends"
    );
    Ok(Replay { session, epoch: start.epoch, events })
}

/// Replays a session from its start, without taking its lease.
pub async fn all(client: &Client, session_id: &str) -> Vec<Event> {
    let request = ReplayRequest { session_id: session_id.to_owned(), ..ReplayRequest::default() };
    replay(client, request).await.expect("a session can be replayed").events
}

/// What can happen, as the contract spells it.
static KINDS: LazyLock<Vec<FieldDescriptor>> = LazyLock::new(|| {
    let event = POOL.get_message_by_name("cellaflow.v1.Event").expect("it is in the contract");
    let body = event.oneofs().find(|known| known.name() == "body").expect("an event says what happened");
    body.fields().collect()
});

/// The name of what happened, as the contract spells it.
pub fn kind(event: &Event) -> &'static str {
    let descriptor = POOL.get_message_by_name("cellaflow.v1.Event").expect("it is in the contract");
    let event = DynamicMessage::decode(descriptor, &*event.encode_to_vec()).expect("the same message");
    let kind = KINDS.iter().find(|kind| event.has_field(kind));
    kind.expect("an event says what happened").name()
}

/// What happened, in order.
pub fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(kind).collect()
}
