//! JSON text that was checked once: passed on byte for byte, parsed only where its content matters.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::base::error::{Error, Kind, Result};

/// One JSON value (RFC 8259) as UTF-8 text. Cloning is cheap: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// The value `null`.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Checks that `text` is one JSON value.
    ///
    /// # Errors
    /// `Malformed`: it is not; the message says where.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        match serde_json::from_slice::<&RawValue>(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(Error::new(Kind::Malformed, format!("expected JSON, found {error}"))),
        }
    }

    /// A value that a parser has found inside `within`; it must point into it.
    pub fn found(within: &Bytes, value: &RawValue) -> Self {
        Self(within.slice_ref(value.get().as_bytes()))
    }

    /// Writes `value` as JSON.
    ///
    /// # Panics
    /// Never for the host's own types: their maps have text keys and their serializers do not fail.
    pub fn of(value: &impl Serialize) -> Self {
        let text = serde_json::to_vec(value).expect("the host's own types have text keys and serialize without fail");
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Checked by `parse` (serde_json refuses what is not UTF-8) or written by serde_json.
        std::str::from_utf8(&self.0).expect("JSON was checked to be UTF-8")
    }

    /// The text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text as bytes, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The value, parsed anew. Numbers beyond 64 bits lose digits here; the text keeps them.
    pub fn value(&self) -> Value {
        read(&self.0).unwrap_or(Value::Null)
    }
}

/// Reads JSON text as a value: the one that every other reader of the text finds.
///
/// Not so `serde_json`'s own way: it takes an object with one certain name for another value, whose text it holds, so that
/// what is judged would not be what is passed on.
///
/// # Errors
/// The text is no JSON value, or one of more than 127 levels.
pub fn read(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice::<Plain>(text).map(|Plain(value)| value)
}

struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            found.push(item);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some((name, Plain(value))) = members.next_entry::<String, Plain>()? {
            found.insert(name, value);
        }
        Ok(Value::Object(found))
    }
}

/// Such a number has at least so many digits.
const WIDE_DIGITS: usize = 19;

/// The first integer of JSON text that 64 bits do not hold: read as a number it would silently be another.
pub fn wide_integer(text: &[u8]) -> Option<&str> {
    if !may_be_wide(text) {
        return None;
    }
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(byte) = text.get(at).filter(|byte| **byte != b'"') {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let rest = &text[at..];
                let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
                let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
                let number = std::str::from_utf8(&rest[..length]).unwrap_or_default();
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// Whether so many digits stand in a row anywhere. Of each such row one byte is looked at.
fn may_be_wide(text: &[u8]) -> bool {
    (0..text.len()).step_by(WIDE_DIGITS).filter(|at| text[*at].is_ascii_digit()).any(|at| {
        let before = text[..at].iter().rev().take(WIDE_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
        let after = text[at..].iter().take(WIDE_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
        before + after >= WIDE_DIGITS
    })
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_any_other_reader_reads_it() {
        let usual =
            r#"{"a": [null, true, -1, 18446744073709551615, 1.5e3, -0, "\u00e9\ud83d\ude00"], "b": {"a": 1, "a": 2}}"#;
        assert_eq!(read(usual.as_bytes()).unwrap(), serde_json::from_str::<Value>(usual).unwrap());
        for name in ["$serde_json::private::RawValue", "\\u0024serde_json::private::RawValue"] {
            let (inner, outer) = (format!(r#"{{"{name}": "{{}}"}}"#), format!(r#"[{{"{name}": "{{}}"}}]"#));
            let expected = serde_json::json!("{}");
            let found = read(inner.as_bytes()).unwrap();
            assert_eq!(found.get("$serde_json::private::RawValue"), Some(&expected), "{inner}");
            assert_eq!(read(outer.as_bytes()).unwrap(), Value::Array(vec![found]));
        }
        for wrong in ["", "{", "[1,]", "{\"a\":1} x", "\"\\ud800\"", "1e999"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(deep(127).as_bytes()).is_ok());
        assert!(read(deep(128).as_bytes()).is_err());
    }

    #[test]
    fn an_integer_is_wide_when_64_bits_do_not_hold_it() {
        for (text, found) in [
            ("18446744073709551615", None),
            ("-9223372036854775808", None),
            ("18446744073709551616", Some("18446744073709551616")),
            ("-9223372036854775809", Some("-9223372036854775809")),
            ("[1, 99999999999999999999]", Some("99999999999999999999")),
            ("{\"a\": 1e40, \"b\": 123456789012345678901234567890.5}", None),
            ("\"99999999999999999999\"", None),
            ("{\"a\\\"99999999999999999999\": 1}", None),
            ("{\"\\\\\":99999999999999999999}", Some("99999999999999999999")),
            ("", None),
        ] {
            assert_eq!(wide_integer(text.as_bytes()), found, "{text}");
        }
    }
}
