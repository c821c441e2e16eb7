//! A scripted agent on a raw worker: a conversation that grows turn by turn, as an SDK's run would record it.

use std::fmt::Write as _;

use cellaflow_proto::content::{self, part::Kind};
use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::{self, PayloadFormat};
use prost::Message as _;

use crate::channel::{Worker, append};
use crate::payload;

/// An agent that reads file after file. What it says is a function of the turn.
pub struct Agent {
    /// Its session.
    pub session: String,
    /// Its conversation, texts in full.
    pub messages: Vec<content::Message>,
    committed: usize,
    turns: u32,
}

fn part(kind: Kind) -> content::Part {
    content::Part { kind: Some(kind), ..content::Part::default() }
}

fn message(role: &str, parts: Vec<content::Part>) -> content::Message {
    content::Message { role: role.to_owned(), parts, ..content::Message::default() }
}

impl Agent {
    /// Begins with an instruction.
    pub async fn begin(worker: &Worker, key: &str, instruction: &str) -> Self {
        let session = worker.begin(key).await;
        let said = message("user", vec![part(Kind::Text(instruction.to_owned()))]);
        Self { session, messages: vec![said], committed: 0, turns: 0 }
    }

    /// Takes a turn: a step reads a file and the conversation gets the call and its result, the text of which is not
    /// repeated but named.
    pub async fn turn(&mut self, worker: &Worker, epoch: u64) {
        let n = self.turns;
        self.turns += 1;
        let (id, path) = (format!("call-{n}"), format!("/home/work/project/src/module_{}.rs", n % 13));
        let text = content_of(n);
        let step = v1::StepCompleted {
            step_key: format!("read_file@{id}"),
            name: "read_file".to_owned(),
            attempt: 1,
            output: Some(payload::literal(&serde_json::to_string(&text).expect("a text is JSON"))),
            resources: vec![v1::Resource {
                kind: "file".to_owned(),
                id: path.clone(),
                mode: v1::ResourceMode::Read.into(),
                range: String::new(),
            }],
            ..v1::StepCompleted::default()
        };
        // What was pushed before goes with it, as in an SDK's run; its texts are counted first.
        let first = self.uncommitted_texts();
        let delta = self.delta();
        let ack = self.commit(worker, epoch, Op::StepCompleted(step), delta).await;
        let arguments = format!("{{\"path\":\"{path}\"}}");
        self.messages.push(message(
            "assistant",
            vec![
                part(Kind::Reasoning(format!("module {} comes next", n % 13))),
                part(Kind::ToolCall(content::ToolCall {
                    id: id.clone(),
                    name: "read_file".into(),
                    arguments,
                })),
            ],
        ));
        self.messages.push(message(
            "tool",
            vec![part(Kind::ToolResult(content::ToolResult { id, text, failed: false }))],
        ));
        // Only in what is sent: the agent itself has the text.
        let mut sent = self.messages.clone();
        if let Some(last) = sent.last_mut().and_then(|message| message.parts.last_mut()) {
            last.same_as = Some(content::PartRef { seq: ack.seq, part: first });
            if let Some(Kind::ToolResult(result)) = &mut last.kind {
                result.text.clear();
            }
        }
        let keep = self.committed;
        let delta = Self::delta_of(keep, &sent[keep..]);
        self.committed = self.messages.len();
        let noted = crate::channel::completed(&format!("noted-{n}"), payload::literal("1"));
        self.commit(worker, epoch, noted, Some(delta)).await;
    }

    /// Says something as the user, with the next append.
    pub fn say(&mut self, text: &str) {
        self.messages.push(message("user", vec![part(Kind::Text(text.to_owned()))]));
    }

    /// Parts of the conversation, as handles number them: from 1.
    pub fn parts(&self) -> Vec<Vec<u8>> {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        parts
            .map(|part| match part.kind.as_ref().expect("a part is something") {
                Kind::Text(text) | Kind::Reasoning(text) => text.clone().into_bytes(),
                Kind::ToolCall(call) => call.arguments.clone().into_bytes(),
                Kind::ToolResult(result) => result.text.clone().into_bytes(),
                Kind::File(_) | Kind::Custom(_) => Vec::new(),
            })
            .collect()
    }

    fn uncommitted_texts(&self) -> u32 {
        let parts = self.messages[self.committed..].iter().flat_map(|message| &message.parts);
        let texts = parts.filter(|part| !matches!(part.kind, Some(Kind::ToolCall(_))));
        u32::try_from(texts.count()).expect("few texts")
    }

    fn delta(&mut self) -> Option<v1::Payload> {
        let keep = self.committed;
        self.committed = self.messages.len();
        (keep < self.committed).then(|| Self::delta_of(keep, &self.messages[keep..]))
    }

    fn delta_of(keep: usize, appended: &[content::Message]) -> v1::Payload {
        let keep = u32::try_from(keep).expect("few messages");
        let delta = content::ConversationDelta { keep, appended: appended.to_vec() };
        payload::of(PayloadFormat::ConversationDelta, delta.encode_to_vec())
    }

    async fn commit(&self, worker: &Worker, epoch: u64, op: Op, delta: Option<v1::Payload>) -> v1::Ack {
        let request = v1::Append { conversation_delta: delta, ..append(&self.session, epoch, op) };
        worker.send_append(request).answer().await.expect("it holds the lease")
    }
}

/// What a file holds: about a thousand tokens that no other turn has.
fn content_of(turn: u32) -> String {
    let mut text = format!("//! Module {} as of turn {turn}.\n", turn % 13);
    for line in 0..70 {
        let value = (line * 2_654_435 + turn * 40_503) % 1_000_003;
        writeln!(text, "pub const LIMIT_{turn}_{line}: u32 = {value};").expect("a string takes all");
    }
    text
}
