//! JSON in the order in which it was written: what comes first in a call's arguments (before, after; subject,
//! description) has a meaning that a sorted map would lose.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// JSON whose objects keep their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Ordered {
    Object(Vec<(String, Ordered)>),
    Array(Vec<Ordered>),
    Scalar(Value),
}

impl Ordered {
    /// The texts in it, numbers included, in order.
    pub fn texts(&self, out: &mut Vec<String>) {
        match self {
            Self::Object(fields) => fields.iter().for_each(|(_, v)| v.texts(out)),
            Self::Array(items) => items.iter().for_each(|v| v.texts(out)),
            Self::Scalar(Value::String(s)) => out.push(s.clone()),
            Self::Scalar(Value::Number(n)) => out.push(n.to_string()),
            Self::Scalar(_) => {}
        }
    }

    fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            Self::Array(_) | Self::Scalar(_) => None,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn str(&self) -> Option<&str> {
        match self {
            Self::Scalar(Value::String(s)) => Some(s),
            Self::Object(_) | Self::Array(_) | Self::Scalar(_) => None,
        }
    }
}

/// The arguments of every tool call in a record (`input` or `arguments` of what has an `id` and a `name`), by id.
#[must_use]
pub fn arguments(record: &Ordered) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let parts = record.get("message").and_then(|m| m.get("content"));
    if let Some(Ordered::Array(parts)) = parts {
        for part in parts {
            let input = part.get("input").or_else(|| part.get("arguments"));
            if let (Some(id), Some(input)) = (part.get("id").and_then(Ordered::str), input)
                && let Ok(json) = serde_json::to_string(input)
            {
                out.insert(id.to_owned(), json);
            }
        }
    }
    out
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Array(items) => items.serialize(serializer),
            Self::Scalar(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Ordered;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, v: bool) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(v.into()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(v.into()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(v.into()))
            }
            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
                let mut out = Vec::new();
                while let Some(item) = seq.next_element()? {
                    out.push(item);
                }
                Ok(Ordered::Array(out))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut out = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    out.push(entry);
                }
                Ok(Ordered::Object(out))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
