//! Reads a session's events for the fold: payloads put together, repeated texts in full, resources as they are declared.

use std::collections::HashMap;
use std::sync::Arc;

use cellaflow_proto::v1::session_service_client::SessionServiceClient;
use cellaflow_proto::{content, v1};
use content::part::Kind;
use tonic::{Status, Streaming};

use super::conversation::Read;
use super::texts::{Place, Texts, document};
use crate::ccs::resource::{Mode, Range, Resource};
use crate::connection::Authenticated;

/// Sessions of the engine, as they are read.
pub type Sessions = SessionServiceClient<Authenticated>;

/// A session's events from somewhere to its present end.
pub struct Events {
    sessions: Sessions,
    session_id: String,
    stream: Streaming<v1::SubscribeSessionResponse>,
    pieces: HashMap<u64, Vec<u8>>,
    texts: Texts,
}

impl Events {
    /// Begins at `from`.
    ///
    /// # Errors
    /// What the engine answers.
    pub async fn open(sessions: &Sessions, session_id: &str, from: u64) -> Result<Self, Status> {
        let stream = subscribe(sessions, session_id, from).await?;
        let (sessions, session_id) = (sessions.clone(), session_id.to_owned());
        Ok(Self { sessions, session_id, stream, pieces: HashMap::new(), texts: Texts::default() })
    }

    /// The next event; `None`: that was all.
    ///
    /// # Errors
    /// What the engine answers.
    pub async fn next(&mut self) -> Result<Option<Read>, Status> {
        let Some(mut event) = next_event(&mut self.stream, &mut self.pieces).await? else { return Ok(None) };
        self.texts.note(&event);
        let seq = event.seq;
        let payload = event.conversation_delta.take();
        let delta = document::<content::ConversationDelta>(payload.as_ref());
        let sealed = payload.is_some() && delta.is_none();
        let delta = match delta {
            Some(delta) => Some(self.in_full(seq, delta).await?),
            None => None,
        };
        Ok(Some(Read { seq, delta, sealed, declared: declared(event.body) }))
    }

    async fn in_full(
        &mut self,
        seq: u64,
        mut delta: content::ConversationDelta,
    ) -> Result<content::ConversationDelta, Status> {
        for part in delta.appended.iter_mut().flat_map(|message| &mut message.parts) {
            let Some(same) = part.same_as.take() else { continue };
            let place = (if same.seq == 0 { seq } else { same.seq }, same.part);
            let text = self.text(place).await?;
            match &mut part.kind {
                Some(Kind::Text(empty) | Kind::Reasoning(empty)) => *empty = text.as_ref().into(),
                Some(Kind::ToolResult(result)) => result.text = text.as_ref().into(),
                Some(Kind::ToolCall(_) | Kind::File(_) | Kind::Custom(_)) | None => {}
            }
        }
        Ok(delta)
    }

    /// A text that an event recorded, read again if it is not remembered.
    async fn text(&mut self, place: Place) -> Result<Arc<str>, Status> {
        if let Some(text) = self.texts.get(place) {
            return Ok(text);
        }
        let mut stream = subscribe(&self.sessions, &self.session_id, place.0).await?;
        let event = next_event(&mut stream, &mut HashMap::new()).await?;
        if let Some(event) = event.filter(|event| event.seq == place.0) {
            self.texts.note(&event);
        }
        self.texts.get(place).ok_or_else(|| {
            Status::data_loss(format!(
                "event {} of session {} has no text {}",
                place.0, self.session_id, place.1
            ))
        })
    }
}

async fn subscribe(
    sessions: &Sessions,
    session_id: &str,
    from_seq: u64,
) -> Result<Streaming<v1::SubscribeSessionResponse>, Status> {
    let by = Some(v1::session_ref::By::SessionId(session_id.to_owned()));
    let request = v1::SubscribeSessionRequest {
        session: Some(v1::SessionRef { by }),
        from_seq,
        until_caught_up: true,
        ..v1::SubscribeSessionRequest::default()
    };
    Ok(sessions.clone().subscribe_session(request).await?.into_inner())
}

async fn next_event(
    stream: &mut Streaming<v1::SubscribeSessionResponse>,
    pieces: &mut HashMap<u64, Vec<u8>>,
) -> Result<Option<v1::Event>, Status> {
    use v1::subscribe_session_response::Body;
    while let Some(message) = stream.message().await? {
        match message.body {
            Some(Body::Event(mut event)) => {
                payloads(&mut event).into_iter().for_each(|payload| put_together(payload, pieces));
                pieces.clear();
                return Ok(Some(event));
            }
            Some(Body::Piece(piece)) => {
                pieces.entry(piece.transfer_id).or_default().extend_from_slice(&piece.data);
            }
            Some(Body::End(_)) => return Ok(None),
            Some(Body::CaughtUp(_) | Body::TokenChunk(_) | Body::StreamReset(_)) | None => {}
        }
    }
    Ok(None)
}

fn put_together(payload: &mut v1::Payload, pieces: &mut HashMap<u64, Vec<u8>>) {
    if let Some(v1::payload::Body::TransferId(id)) = payload.body
        && let Some(bytes) = pieces.get(&id)
    {
        payload.body = Some(v1::payload::Body::Data(bytes.clone().into()));
    }
}

/// The payloads in which texts lie.
fn payloads(event: &mut v1::Event) -> Vec<&mut v1::Payload> {
    let mut found: Vec<&mut v1::Payload> = event.conversation_delta.iter_mut().collect();
    match &mut event.body {
        Some(v1::event::Body::StepCompleted(step)) => {
            found.extend(&mut step.output);
            found.extend(
                step.llm.iter_mut().flat_map(|call| call.request.iter_mut().chain(&mut call.response)),
            );
        }
        Some(v1::event::Body::ZoneCommitted(zone)) => {
            found.extend(&mut zone.output);
            found.extend(&mut zone.record);
            let calls = zone.llm_calls.iter_mut();
            found.extend(calls.flat_map(|call| call.request.iter_mut().chain(&mut call.response)));
        }
        Some(v1::event::Body::GuardResolved(resolved)) => found.extend(&mut resolved.output),
        Some(v1::event::Body::ForkEdited(v1::ForkEdited {
            edit: Some(v1::fork_edited::Edit::Output(output)),
            ..
        })) => found.push(output),
        _ => {}
    }
    found
}

fn declared(body: Option<v1::event::Body>) -> Option<(String, String, Vec<Resource>)> {
    let Some(v1::event::Body::StepCompleted(step)) = body else { return None };
    let resources: Vec<Resource> = step.resources.into_iter().map(resource).collect();
    (!resources.is_empty()).then_some((step.name, step.step_key, resources))
}

fn resource(declared: v1::Resource) -> Resource {
    let mode = match declared.mode() {
        v1::ResourceMode::Write => Mode::Write,
        v1::ResourceMode::Delete => Mode::Delete,
        v1::ResourceMode::Run => Mode::Run,
        v1::ResourceMode::Read | v1::ResourceMode::Unspecified => Mode::Read,
    };
    let range = declared.range.split_once('-').and_then(|(first, last)| {
        Some(Range { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
    });
    Resource { kind: declared.kind, id: declared.id, mode, range }
}
