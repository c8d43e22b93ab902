//! What is said on `/ws`: text frames of JSON, `{"channel", "event", "data", "ref"}`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::name::ChannelName;

/// What a client puts on a frame to find its answer: text or an integer, sent back as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ref {
    /// An integer of at most 64 bits.
    Number(i64),
    /// Any text.
    Text(Box<str>),
}

/// One frame from a client, read as far as the host needs; its whole text stays for the handler.
#[derive(Clone, Debug)]
pub struct ClientFrame {
    /// Which channel it is for.
    pub channel: ChannelName,
    /// What it says; empty when the client gave none.
    pub event: Box<str>,
    /// What the answer must carry; without one there is no answer.
    pub reference: Option<Ref>,
    /// The `data`, or `null`.
    pub data: Json,
    /// The whole frame as it came.
    pub text: Json,
}

/// A frame that could not be read, with as much as the error frame can say about it.
#[derive(Debug)]
pub struct BadFrame {
    /// Why.
    pub error: Error,
    /// The channel, where the frame named a valid one.
    pub channel: Option<ChannelName>,
    /// The ref, where the frame had a valid one.
    pub reference: Option<Ref>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref")]
    reference: Option<&'a RawValue>,
}

impl ClientFrame {
    /// Reads a text frame.
    ///
    /// # Errors
    /// `Malformed`: not JSON, or not an object. `Invalid`: no channel or a bad one, an event that is not text, a ref
    /// that is neither text nor a 64-bit integer.
    pub fn parse(text: Bytes) -> Result<Self, BadFrame> {
        let bad = |kind, message: String, channel, reference| BadFrame {
            error: Error::new(kind, message),
            channel,
            reference,
        };
        let raw: Raw<'_> = serde_json::from_slice(&text).map_err(|error| {
            let message = format!("a frame is a JSON object like {{\"channel\": \"chat\", \"data\": {{}}}}: {error}");
            bad(Kind::Malformed, message, None, None)
        })?;
        let reference = match raw.reference.map(RawValue::get) {
            None | Some("null") => None,
            Some(text) => Some(serde_json::from_str::<Ref>(text).map_err(|_| {
                bad(Kind::Invalid, format!("\"ref\" is text or a 64-bit integer, not {}", short(text)), None, None)
            })?),
        };
        let channel = match raw.channel.map(RawValue::get) {
            None => Err("a frame names its \"channel\"".to_owned()),
            Some(text) => match serde_json::from_str::<String>(text) {
                Ok(name) => ChannelName::parse(&name).map_err(|error| error.message().to_owned()),
                Err(_) => Err(format!("\"channel\" is text, not {}", short(text))),
            },
        }
        .map_err(|message| bad(Kind::Invalid, message, None, reference.clone()))?;
        let event = match raw.event.map(RawValue::get) {
            None | Some("null") => Box::default(),
            Some(text) => serde_json::from_str::<Box<str>>(text).map_err(|_| {
                let message = format!("\"event\" is text, not {}", short(text));
                bad(Kind::Invalid, message, Some(channel.clone()), reference.clone())
            })?,
        };
        let slice = |value: &RawValue| text.slice_ref(value.get().as_bytes());
        let data = match raw.data {
            Some(value) => Json::parse(slice(value)),
            None => Ok(Json::NULL),
        };
        let checked = data.and_then(|data| Ok((data, Json::parse(text.clone())?)));
        let (data, whole) = checked.map_err(|error| BadFrame {
            error,
            channel: Some(channel.clone()),
            reference: reference.clone(),
        })?;
        Ok(Self { channel, event, reference, data, text: whole })
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// One frame to a client, already encoded. Cloning is cheap: a broadcast is encoded once.
#[derive(Clone, Debug)]
pub struct ServerFrame(Json);

#[derive(Serialize)]
struct Parts<'a> {
    channel: &'a str,
    event: &'a str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a Ref>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    data: &'a Json,
}

impl ServerFrame {
    /// A frame of `channel`: an event with its data, and the `ref` of the frame that it answers.
    pub fn new(channel: &str, event: &str, reference: Option<&Ref>, data: &Json) -> Self {
        Self(Json::of(&Parts { channel, event, reference, topic: None, data }))
    }

    /// A message of a topic: `{"channel", "event": "message", "topic", "data"}`.
    pub fn message(channel: &str, topic: &str, data: &Json) -> Self {
        Self(Json::of(&Parts { channel, event: "message", reference: None, topic: Some(topic), data }))
    }

    /// A failure: `{"channel", "event": "error", "ref", "data": {"code", "message"}}`.
    pub fn error(channel: &str, reference: Option<&Ref>, error: &Error) -> Self {
        let data = Json::of(&serde_json::json!({ "code": error.kind().code(), "message": error.message() }));
        Self::new(channel, "error", reference, &data)
    }

    /// A frame that a handler wrote whole.
    pub fn whole(frame: Json) -> Self {
        Self(frame)
    }

    /// The frame's text.
    pub fn text(&self) -> Bytes {
        self.0.bytes()
    }
}
