//! JSON text that was checked once: passed on byte for byte, parsed only where its content matters.

use std::fmt;

use bytes::Bytes;
use memchr::memmem;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::base::error::{Error, Kind, Result};

/// JSON of more levels than this is refused: readers differ in how many they take.
const LEVELS: usize = 127;

/// One JSON value (RFC 8259) as UTF-8 text. Cloning is cheap: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// The value `null`.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Checks that `text` is one JSON value.
    ///
    /// # Errors
    /// `Malformed`: it is not, and the message says where; or it has more than 127 levels.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        match serde_json::from_slice::<&RawValue>(&text) {
            Ok(_) if is_too_deep(&text) => Err(Error::new(Kind::Malformed, TOO_DEEP)),
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(Error::new(Kind::Malformed, format!("this is not JSON: {error}"))),
        }
    }

    /// Writes a value that came from outside.
    ///
    /// # Errors
    /// `Malformed`: it has more than 127 levels.
    pub fn written(value: &Value) -> Result<Self> {
        let json = Self::of(value);
        if is_too_deep(&json.0) { Err(Error::new(Kind::Malformed, TOO_DEEP)) } else { Ok(json) }
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
    ///
    /// # Errors
    /// `Malformed`: it cannot be read, as when it has more than 127 levels.
    pub fn value(&self) -> Result<Value> {
        read(&self.0).map_err(|error| Error::new(Kind::Malformed, format!("the value cannot be read: {error}")))
    }
}

const TOO_DEEP: &str = "the value has more than 127 levels, one in another: make it flatter";

/// Whether JSON text has more levels than are taken.
pub fn is_too_deep(text: &[u8]) -> bool {
    if memchr::memchr2_iter(b'[', b'{', text).nth(LEVELS).is_none() {
        return false;
    }
    let (mut level, mut at) = (0_usize, 0);
    while let Some(found) = text[at..].iter().position(|byte| matches!(byte, b'"' | b'[' | b'{' | b']' | b'}')) {
        at += found;
        match text[at] {
            b'"' => at = end_of_string(text, at) - 1,
            b'[' | b'{' => level += 1,
            _ => level = level.saturating_sub(1),
        }
        if level > LEVELS {
            return true;
        }
        at += 1;
    }
    false
}

/// Where a string that begins at `at` ends: one beyond its last quotation mark, or the end of the text.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(byte) = text.get(at).filter(|byte| **byte != b'"') {
        at += if *byte == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// The beginning of the names by which `serde_json`'s own way of reading takes an object for another value.
const MISREAD: &str = "$serde_json::private::";

/// Whether JSON text holds an object that `serde_json`'s own way of reading takes for another value.
pub fn is_misread(text: &[u8]) -> bool {
    // Without an escape the name stands there as it is.
    let may = [&b"serde_json"[..], b"\\u"].iter().any(|part| memmem::find(text, part).is_some());
    may && read(text).is_ok_and(|value| has_misread(&value))
}

fn has_misread(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_misread),
        Value::Object(members) => members.iter().any(|(name, value)| name.starts_with(MISREAD) || has_misread(value)),
        _ => false,
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
            b'"' => at = end_of_string(text, at),
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
    fn what_is_too_deep_to_be_read_is_no_json_of_ours() {
        let deep = |levels: usize| format!("{}\"[[{{\\\"\"{}", "[".repeat(levels), "]".repeat(levels));
        let wide = format!("[{}]", vec!["[{}]"; 1000].join(","));
        for (text, is_deep) in [(deep(127), false), (deep(128), true), (deep(100_000), true), (wide, false)] {
            assert_eq!(is_too_deep(text.as_bytes()), is_deep);
            assert_eq!(Json::parse(text.clone()).is_err(), is_deep);
            assert_eq!(read(text.as_bytes()).is_err(), is_deep);
        }
    }

    #[test]
    fn an_object_that_is_misread_is_found_however_its_name_is_written() {
        for (text, found) in [
            (r#"{"$serde_json::private::RawValue": "[1]"}"#, true),
            (r#"[{"a": {"\u0024serde_js\u006fn::private::RawValue": "[1]"}}]"#, true),
            (r#"{"a": "$serde_json::private::RawValue", "b": "\u00e9"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(is_misread(text.as_bytes()), found, "{text}");
        }
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
