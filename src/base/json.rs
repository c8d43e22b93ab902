//! JSON text that was checked once: passed on byte for byte, parsed only where its content matters.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

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
        serde_json::from_slice(&self.0).unwrap_or(Value::Null)
    }
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
