//! Transcripts to fill a ledger with: sessions of the shape that coding agents have, with texts whose lengths are spread
//! as theirs are, and that compress about as prose and code do.
//!
//! Lengths follow what was measured on real sessions (median and mean, in characters): answers 100 and 300, reasoning
//! 150 and 410, arguments of tools 120 and 580, their results 460 and 2,360, a person's messages 80 and 370. Words are
//! drawn by Zipf's law from 20,000; every call has an id that nothing can compress.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::random::Random;

/// Events of a session: its start, calls of model and tool in turn, its end.
pub const EVENTS: usize = 58;
/// Most characters of one text.
const CHARACTERS_MAX: f64 = 60_000.0;
const WORDS: usize = 20_000;

/// Median and mean of a text's length, in characters.
#[derive(Clone, Copy)]
struct Length(f64, f64);

const ANSWER: Length = Length(100.0, 300.0);
const REASONING: Length = Length(150.0, 410.0);
const ARGUMENTS: Length = Length(120.0, 580.0);
const RESULT: Length = Length(460.0, 2_360.0);
const QUESTION: Length = Length(80.0, 370.0);

/// Writes transcripts.
pub struct Transcripts {
    random: Random,
    words: Vec<String>,
    written: u64,
}

impl Transcripts {
    /// The same ones each time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let words = (0..WORDS).map(|_| word(&mut random)).collect();
        Self { random, words, written: 0 }
    }

    /// Says yes with a chance of `percent`.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// Writes a session that ended at `ended_ms` to a file, one record a line.
    ///
    /// # Errors
    /// As writing does.
    pub fn write(&mut self, file: &Path, ended_ms: u64) -> std::io::Result<()> {
        self.written += 1;
        let session = format!("{:08x}-0000-4000-8000-{:012x}", self.written, self.random.next());
        let turns = (EVENTS - 2) / 2;
        let step_ms = 2_000;
        let mut at = ended_ms - (turns as u64 * 2) * step_ms;
        let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
        let mut line = |role: &str, at: u64, message: serde_json::Value| {
            let record = json!({"type": role, "sessionId": session, "timestamp": at, "message": message});
            writeln!(out, "{record}")
        };
        line("user", at, json!({"role": "user", "content": self.text(QUESTION)}))?;
        for turn in 0..turns {
            at += step_ms;
            let tool = format!("toolu_{:016x}{:08x}", self.random.next(), turn);
            line("assistant", at, self.answer(turn, &tool))?;
            at += step_ms;
            let part = json!({"type": "tool_result", "tool_use_id": tool, "content": self.text(RESULT)});
            line("user", at, json!({"role": "user", "content": [part]}))?;
        }
        out.flush()
    }

    fn answer(&mut self, turn: usize, tool: &str) -> serde_json::Value {
        let mut content = Vec::new();
        if self.chance(50) {
            content.push(json!({"type": "thinking", "thinking": self.text(REASONING)}));
        }
        if self.chance(50) {
            content.push(json!({"type": "text", "text": self.text(ANSWER)}));
        }
        let name = ["Read", "Edit", "Bash", "Grep"][self.random.below(4) as usize];
        let module = self.pick().to_owned();
        let path = format!("/src/{module}/{}.rs", self.pick());
        let input = json!({"file_path": path, "command": self.text(ARGUMENTS)});
        content.push(json!({"type": "tool_use", "id": tool, "name": name, "input": input}));
        json!({
            "id": format!("msg_{:016x}", self.random.next()), "role": "assistant", "model": "gpt-5.4", "content": content,
            "usage": {
                "input_tokens": 3 + self.random.below(400), "cache_read_input_tokens": 9_000 + 700 * turn,
                "cache_creation_input_tokens": self.random.below(1_500), "output_tokens": 20 + self.random.below(600),
            },
        })
    }

    fn text(&mut self, Length(median, mean): Length) -> String {
        // Log-normal: mean = median · exp(σ²/2).
        let sigma = (2.0 * (mean / median).ln()).sqrt();
        let length = (median * (sigma * self.random.normal()).exp()).min(CHARACTERS_MAX) as usize;
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            match self.random.below(40) {
                0 => text.push('\n'),
                1 => write!(text, "{} ", self.random.below(100_000)).expect("memory takes it"),
                2 => write!(text, "{:012x} ", self.random.next() >> 16).expect("memory takes it"),
                _ => {
                    text.push_str(self.pick());
                    text.push(' ');
                }
            }
        }
        text
    }

    /// A word, by Zipf's law: the nth is drawn in proportion to 1/n.
    fn pick(&mut self) -> &str {
        let rank = (WORDS as f64).powf(self.random.unit()) as usize;
        &self.words[rank.min(WORDS - 1)]
    }
}

fn word(random: &mut Random) -> String {
    let length = 2 + random.below(5) + random.below(5);
    (0..length).map(|_| char::from(b'a' + (random.below(26) as u8))).collect()
}
