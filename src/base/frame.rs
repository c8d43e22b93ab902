//! What is said on `/ws`: text frames of JSON, `{"channel", "event", "data", "ref"}`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::name::ChannelName;

/// What a client puts on a frame to find its answer: text or an integer, sent back as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
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

/// The fields that the host reads, each still as text; one that is `null` counts as missing.
#[derive(Deserialize)]
struct Fields<'a> {
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
    /// `Malformed`: not JSON, not an object, or one of the four fields twice. `Invalid`: no channel or a bad one, an
    /// event that is not text, a ref that is neither text nor a 64-bit integer.
    pub fn parse(text: Bytes) -> Result<Self, BadFrame> {
        let (whole, fields) = split(&text).map_err(|error| BadFrame { error, channel: None, reference: None })?;
        let channel = read_channel(fields.channel);
        let reference = read_ref(fields.reference);
        let event = read_event(fields.event);
        // The first problem is told, with whatever else could be read.
        let (channel, reference, event) = match (channel, reference, event) {
            (Ok(channel), Ok(reference), Ok(event)) => (channel, reference, event),
            (Err(error), reference, _) => {
                return Err(BadFrame { error, channel: None, reference: reference.unwrap_or_default() });
            }
            (Ok(channel), Err(error), _) => {
                return Err(BadFrame { error, channel: Some(channel), reference: None });
            }
            (Ok(channel), Ok(reference), Err(error)) => {
                return Err(BadFrame { error, channel: Some(channel), reference });
            }
        };
        let data = fields.data.map_or(Json::NULL, |data| Json::found(&text, data));
        let text = Json::found(&text, whole);
        Ok(Self { channel, event, reference, data, text })
    }
}

/// The whole frame and its fields, all still inside `text`.
fn split(text: &Bytes) -> Result<(&RawValue, Fields<'_>)> {
    let malformed = |why: &dyn std::fmt::Display| {
        let message = format!("a frame is a JSON object like {{\"channel\": \"chat\", \"data\": {{}}}}: {why}");
        Error::new(Kind::Malformed, message)
    };
    let whole: &RawValue = serde_json::from_slice(text).map_err(|error| malformed(&error))?;
    // Without this a list would be read as the fields in their order.
    if !whole.get().starts_with('{') {
        return Err(malformed(&format_args!("it cannot be {}", short(whole.get()))));
    }
    let fields = serde_json::from_str(whole.get()).map_err(|error| malformed(&error))?;
    Ok((whole, fields))
}

fn read_channel(value: Option<&RawValue>) -> Result<ChannelName> {
    let Some(text) = value.map(RawValue::get) else {
        return Err(Error::new(Kind::Invalid, "a frame names its \"channel\", for example \"system\""));
    };
    match serde_json::from_str::<String>(text) {
        Ok(name) => ChannelName::parse(&name),
        Err(_) => Err(Error::new(Kind::Invalid, format!("\"channel\" is text, not {}", short(text)))),
    }
}

fn read_ref(value: Option<&RawValue>) -> Result<Option<Ref>> {
    let Some(text) = value.map(RawValue::get) else { return Ok(None) };
    let read = match text.as_bytes() {
        [b'"', ..] => serde_json::from_str(text).map(Ref::Text),
        _ => serde_json::from_str(text).map(Ref::Number),
    };
    read.map(Some)
        .map_err(|_| Error::new(Kind::Invalid, format!("\"ref\" is text or a 64-bit integer, not {}", short(text))))
}

fn read_event(value: Option<&RawValue>) -> Result<Box<str>> {
    let Some(text) = value.map(RawValue::get) else { return Ok(Box::default()) };
    serde_json::from_str(text).map_err(|_| Error::new(Kind::Invalid, format!("\"event\" is text, not {}", short(text))))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// One frame to a client, already encoded. Cloning is cheap: a broadcast is encoded once.
#[derive(Clone, Debug)]
pub struct ServerFrame(Bytes);

impl ServerFrame {
    /// A frame of `channel`: an event with its data, and the `ref` of the frame that it answers.
    pub fn new(channel: &str, event: &str, reference: Option<&Ref>, data: &Json) -> Self {
        let mut text = Vec::with_capacity(data.as_bytes().len() + channel.len() + event.len() + 64);
        begin(&mut text, channel, event);
        if let Some(reference) = reference {
            text.extend_from_slice(b",\"ref\":");
            write(&mut text, reference);
        }
        Self::end(text, data)
    }

    /// A message of a topic: `{"channel", "event": "message", "topic", "data"}`.
    pub fn message(channel: &str, topic: &str, data: &Json) -> Self {
        let mut text = Vec::with_capacity(data.as_bytes().len() + channel.len() + topic.len() + 64);
        begin(&mut text, channel, "message");
        text.extend_from_slice(b",\"topic\":");
        write(&mut text, topic);
        Self::end(text, data)
    }

    /// A failure: `{"channel", "event": "error", "ref", "data": {"code", "message"}}`.
    pub fn error(channel: &str, reference: Option<&Ref>, error: &Error) -> Self {
        let data = Json::of(&serde_json::json!({ "code": error.kind().code(), "message": error.message() }));
        Self::new(channel, "error", reference, &data)
    }

    /// A frame that a handler wrote whole.
    pub fn whole(frame: Json) -> Self {
        Self(frame.bytes())
    }

    /// The frame's text, which is UTF-8.
    pub fn text(&self) -> &Bytes {
        &self.0
    }

    /// The frame's text, taken out.
    pub fn into_text(self) -> Bytes {
        self.0
    }

    fn end(mut text: Vec<u8>, data: &Json) -> Self {
        text.extend_from_slice(b",\"data\":");
        text.extend_from_slice(data.as_bytes());
        text.push(b'}');
        Self(text.into())
    }
}

fn begin(text: &mut Vec<u8>, channel: &str, event: &str) {
    text.extend_from_slice(b"{\"channel\":");
    write(text, channel);
    text.extend_from_slice(b",\"event\":");
    write(text, event);
}

fn write(text: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(text, value).expect("text and numbers can be written as JSON, and a Vec takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<ClientFrame, BadFrame> {
        ClientFrame::parse(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_frame_is_read_and_its_text_is_kept_as_it_came() {
        let frame =
            parse(" {\"channel\":\"chat\",\"event\":\"say\",\"data\":{\"n\": 1.0},\"ref\":7,\"more\":[]}\n").unwrap();
        assert_eq!((frame.channel.as_str(), &*frame.event), ("chat", "say"));
        assert_eq!(frame.reference, Some(Ref::Number(7)));
        assert_eq!(frame.data.as_str(), "{\"n\": 1.0}");
        assert!(frame.text.as_str().starts_with('{') && frame.text.as_str().ends_with('}'));
    }

    #[test]
    fn all_but_the_channel_may_be_missing_or_null() {
        for text in ["{\"channel\":\"c\"}", "{\"channel\":\"c\",\"event\":null,\"ref\":null,\"data\":null}"] {
            let frame = parse(text).unwrap();
            assert_eq!((&*frame.event, frame.reference, frame.data.as_str()), ("", None, "null"));
        }
    }

    #[test]
    fn what_is_no_json_object_is_malformed() {
        for text in
            ["", "{", "1", "\"chat\"", "[\"chat\"]", "[]", "null", "{\"channel\":\"a\",\"channel\":\"b\"}", "{} {}"]
        {
            let bad = parse(text).unwrap_err();
            assert_eq!(bad.error.kind(), Kind::Malformed, "{text}");
            assert!(bad.channel.is_none() && bad.reference.is_none(), "{text}");
        }
    }

    #[test]
    fn a_bad_field_is_invalid_and_what_could_be_read_is_told() {
        let table = [
            ("{\"ref\":1}", None, Some(Ref::Number(1))),
            ("{\"channel\":5,\"ref\":1}", None, Some(Ref::Number(1))),
            ("{\"channel\":\"Bad Name\",\"ref\":\"x\"}", None, Some(Ref::Text("x".into()))),
            ("{\"channel\":\"c\",\"ref\":1.5}", Some("c"), None),
            ("{\"channel\":\"c\",\"ref\":9223372036854775808}", Some("c"), None),
            ("{\"channel\":\"c\",\"ref\":true}", Some("c"), None),
            ("{\"channel\":\"c\",\"ref\":{}}", Some("c"), None),
            ("{\"channel\":\"c\",\"event\":1,\"ref\":2}", Some("c"), Some(Ref::Number(2))),
        ];
        for (text, channel, reference) in table {
            let bad = parse(text).unwrap_err();
            assert_eq!(bad.error.kind(), Kind::Invalid, "{text}");
            assert_eq!(bad.channel.as_ref().map(ChannelName::as_str), channel, "{text}");
            assert_eq!(bad.reference, reference, "{text}");
        }
    }

    #[test]
    fn a_server_frame_escapes_its_texts_and_passes_data_on_byte_for_byte() {
        let data = Json::parse("{\"n\": 1.0}").unwrap();
        let frame = ServerFrame::new("c", "reply", Some(&Ref::Text("a\"b\n".into())), &data);
        assert_eq!(frame.text().as_ref(), br#"{"channel":"c","event":"reply","ref":"a\"b\n","data":{"n": 1.0}}"#);
        let frame = ServerFrame::message("c", "c/\"", &Json::NULL);
        assert_eq!(frame.text().as_ref(), br#"{"channel":"c","event":"message","topic":"c/\"","data":null}"#);
        let frame = ServerFrame::error("c", None, &Error::new(Kind::Busy, "full"));
        assert_eq!(
            frame.text().as_ref(),
            br#"{"channel":"c","event":"error","data":{"code":"busy","message":"full"}}"#
        );
    }
}
