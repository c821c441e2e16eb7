//! Reads values of the SDK's codec as far as JSON can show them. Only for looking at: what JSON lacks is shown in its
//! nearest form, so nothing here is ever stored or sent again.
//!
//! The first byte says the format, as in the SDK: 0x01 text of the `devalue` library, 0x02 raw bytes, no byte at all
//! undefined, anything else plain JSON text.
//!
//! | value | shown as |
//! |---|---|
//! | undefined, a hole, NaN, the infinities | `null` |
//! | Date, URL, RegExp, bigint, Temporal | its text |
//! | Set, Map | an array, an array of pairs |
//! | bytes | `{"bytes": size}` |
//! | a part that contains itself | `"[circular]"` |

use serde_json::{Map, Number, Value, json};

const DEVALUE: u8 = 0x01;
const RAW_BYTES: u8 = 0x02;
/// JSON text never begins with a control character but white space, which the codec does not write.
const FIRST_TEXT_BYTE: u8 = 0x20;

/// How deep values are followed, in levels; the JSON reader has the same limit.
const DEPTH_MAX: usize = 128;
/// How many parts of one value are shown: parts can be shared, and small bytes may unfold to much.
const PARTS_MAX: usize = 200_000;

/// Reads a value; `None` if it is damaged, too deep, or of a later format.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    match bytes.split_first() {
        None => Some(Value::Null),
        Some((&DEVALUE, text)) => devalue(&serde_json::from_slice(text).ok()?),
        Some((&RAW_BYTES, raw)) => Some(json!({ "bytes": raw.len() })),
        Some((&first, _)) if first >= FIRST_TEXT_BYTE => serde_json::from_slice(bytes).ok(),
        Some(_) => None,
    }
}

fn devalue(flat: &Value) -> Option<Value> {
    match flat {
        Value::Number(_) => Some(Value::Null),
        Value::Array(parts) => Unfold { parts, open: Vec::new(), left: PARTS_MAX }.part(&json!(0)),
        _ => None,
    }
}

/// Puts a flattened value together again: parts name each other by position.
struct Unfold<'a> {
    parts: &'a [Value],
    /// Positions on the way to the current part.
    open: Vec<u64>,
    left: usize,
}

impl Unfold<'_> {
    fn part(&mut self, position: &Value) -> Option<Value> {
        // Negative positions stand for what JSON has no word for.
        let Some(position) = position.as_u64() else { return position.is_i64().then_some(Value::Null) };
        if self.open.contains(&position) {
            return Some("[circular]".into());
        }
        self.left = self.left.checked_sub(1)?;
        if self.open.len() >= DEPTH_MAX {
            return None;
        }
        self.open.push(position);
        let shown = match self.parts.get(usize::try_from(position).ok()?)? {
            Value::Object(fields) => self.object(fields),
            Value::Array(items) => self.array(items),
            plain => Some(plain.clone()),
        };
        self.open.pop();
        shown
    }

    fn object(&mut self, fields: &Map<String, Value>) -> Option<Value> {
        let shown: Option<Map<_, _>> =
            fields.iter().map(|(name, position)| Some((name.clone(), self.part(position)?))).collect();
        shown.map(Value::Object)
    }

    fn array(&mut self, items: &[Value]) -> Option<Value> {
        const SPARSE: i64 = -7;
        match items.split_first() {
            Some((Value::String(tag), rest)) => self.tagged(tag, rest),
            Some((first, rest)) if first.as_i64() == Some(SPARSE) => self.sparse(rest),
            _ => self.list(items),
        }
    }

    fn list(&mut self, items: &[Value]) -> Option<Value> {
        items.iter().map(|position| self.part(position)).collect::<Option<Vec<_>>>().map(Value::Array)
    }

    /// Only the items that are there, by position: the length comes from the bytes and may be anything.
    fn sparse(&mut self, rest: &[Value]) -> Option<Value> {
        let (_length, pairs) = rest.split_first()?;
        let shown: Option<Map<_, _>> = pairs
            .chunks_exact(2)
            .map(|pair| match pair {
                [at, position] => Some((at.to_string(), self.part(position)?)),
                _ => None,
            })
            .collect();
        shown.map(Value::Object)
    }

    fn tagged(&mut self, tag: &str, rest: &[Value]) -> Option<Value> {
        match (tag, rest) {
            ("Set", items) => self.list(items),
            ("Map", items) => {
                let pairs: Option<Vec<_>> = items.chunks_exact(2).map(|pair| self.list(pair)).collect();
                pairs.map(Value::Array)
            }
            ("null", items) => {
                let fields: Option<Map<_, _>> = items
                    .chunks_exact(2)
                    .map(|pair| match pair {
                        [Value::String(name), position] => Some((name.clone(), self.part(position)?)),
                        _ => None,
                    })
                    .collect();
                fields.map(Value::Object)
            }
            ("Object", [position]) => self.part(position),
            ("RegExp", [Value::String(source), flags @ ..]) => {
                let flags = flags.first().and_then(Value::as_str).unwrap_or_default();
                Some(format!("/{source}/{flags}").into())
            }
            ("ArrayBuffer", [Value::String(base64)]) => Some(json!({ "bytes": base64_size(base64) })),
            (_, [Value::String(text)]) => Some(text.as_str().into()),
            // Views of a buffer: type, position of the buffer, offset and length.
            (_, [Value::Number(buffer), ..]) => self.part(&Value::Number(Number::clone(buffer))),
            _ => None,
        }
    }
}

/// Number of bytes that a base64 text stands for.
fn base64_size(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devalue_text(text: &str) -> Option<Value> {
        read(&[&[DEVALUE], text.as_bytes()].concat())
    }

    #[test]
    fn plain_json_is_shown_as_it_is() {
        assert_eq!(read(br#"{"files":[1,"a",null]}"#), Some(json!({ "files": [1, "a", null] })));
        assert_eq!(read(b""), Some(Value::Null));
        assert_eq!(read(&[RAW_BYTES, 1, 2, 3]), Some(json!({ "bytes": 3 })));
    }

    #[test]
    fn what_json_lacks_is_shown_in_its_nearest_form() {
        let text = r#"[{"at":1,"tags":2,"by":4,"big":6,"no":-1,"raw":7,"same":3},["Date","2026-11-23T05:00:00.000Z"],["Set",3],"x",["Map",3,5],9,["BigInt","12345678901234567890"],["Uint8Array",8],["ArrayBuffer","AQID"]]"#;
        assert_eq!(
            devalue_text(text),
            Some(json!({
                "at": "2026-11-23T05:00:00.000Z", "tags": ["x"], "by": [["x", 9]], "big": "12345678901234567890",
                "no": null, "raw": { "bytes": 3 }, "same": "x",
            }))
        );
        assert_eq!(devalue_text("-3"), Some(Value::Null));
        assert_eq!(devalue_text("[[-7,4000000000,2,1],5]"), Some(json!({ "2": 5 })));
    }

    #[test]
    fn damaged_hostile_and_later_bytes_are_no_value_and_never_hang() {
        assert_eq!(read(&[0x03, b'1']), None);
        assert_eq!(read(b"{broken"), None);
        assert_eq!(devalue_text("[[5]]"), None, "a position outside");
        assert_eq!(devalue_text(r#"[["Unknown"]]"#), None);
        assert_eq!(devalue_text(r#"[{"self":0}]"#), Some(json!({ "self": "[circular]" })));
        // Each part names the next one twice: 2^60 parts if nobody counts.
        let doubling: Vec<String> = (1..=60).map(|next| format!("[{next},{next}]")).collect();
        assert_eq!(devalue_text(&format!("[{},1]", doubling.join(","))), None);
        let deep: Vec<String> = (1..=500).map(|next| format!("[{next}]")).collect();
        assert_eq!(devalue_text(&format!("[{},1]", deep.join(","))), None);
    }
}
