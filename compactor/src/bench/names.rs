//! Tool and argument names replaced by meaningless ones: passes that read them would fall apart.

use crate::ccs::ordered::Ordered;
use crate::transcripts::{Part, Transcript};

/// The same transcript with every tool and argument name replaced; resources stay declared.
#[must_use]
pub fn randomised(transcript: &Transcript) -> Transcript {
    let mut out = transcript.clone();
    for event in &mut out.events {
        if let Part::ToolCall(call) = &mut event.part {
            call.name = scrambled(&call.name);
            let renamed = serde_json::from_str::<Ordered>(&call.arguments).map(rename);
            if let Ok(json) = renamed.and_then(|arguments| serde_json::to_string(&arguments)) {
                call.arguments = json;
            }
        }
    }
    out
}

fn rename(value: Ordered) -> Ordered {
    match value {
        Ordered::Object(fields) => {
            Ordered::Object(fields.into_iter().map(|(key, value)| (scrambled(&key), rename(value))).collect())
        }
        Ordered::Array(items) => Ordered::Array(items.into_iter().map(rename).collect()),
        scalar @ Ordered::Scalar(_) => scalar,
    }
}

/// A word of four letters that depends on the name alone.
fn scrambled(name: &str) -> String {
    let mut state = name.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    let mut out = String::new();
    for _ in 0..4 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.push(char::from(b'a' + u8::try_from(state >> 24).unwrap_or(0) % 26));
    }
    out
}
