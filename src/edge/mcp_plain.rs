//! The message that agents send most, read and answered without a task and a channel of its own: a call of a tool in the era
//! of 2026-07-28, in its plainest form.
//!
//! Only what is exactly of that form, headers included, is read here. All else, and whatever is wrong with a message, is
//! `rmcp`'s, whose types are used for what both have in common; a test compares the answers of the two ways byte for byte.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method};
use rmcp::model::{
    CallToolResponse, ClientCapabilities, ErrorData, ProtocolVersion, RequestId, ServerJsonRpcMessage, ServerResult,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::base::json::Json;
use crate::kernel::call::Arguments;

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// What begins the name of a header that repeats an argument.
const PARAMETER: &str = "mcp-param-";
/// What marks the value of such a header that is encoded.
const ENCODED: &str = "=?";
/// What in a tool's schema asks for such headers.
const PARAMETERS_IN_HEADERS: &str = "x-mcp-header";

const CALL: &str = "tools/call";

/// A call in its plainest form.
pub struct PlainCall {
    /// What names the message.
    pub id: RequestId,
    /// Which tool.
    pub name: String,
    /// With what.
    pub arguments: Arguments,
    /// What the client can do.
    pub capabilities: ClientCapabilities,
}

/// A JSON object, and nothing else, as `T`: `serde`'s derived types take arrays, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    jsonrpc: &'a str,
    id: RequestId,
    method: &'a str,
    #[serde(borrow)]
    params: Object<Params<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params<'a> {
    name: &'a str,
    #[serde(borrow)]
    arguments: &'a RawValue,
    #[serde(borrow, rename = "_meta")]
    meta: Object<Meta<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta<'a> {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: &'a str,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Value,
    /// Not needed, but read as a whole: what `rmcp` refuses in it is refused.
    #[serde(default, rename = "io.modelcontextprotocol/clientInfo")]
    _client: Option<Value>,
}

impl PlainCall {
    /// Reads a request; `None` when it is of any other form, or when anything is wrong with it.
    pub fn read(method: &Method, headers: &HeaderMap, body: &Bytes) -> Option<Self> {
        if method != Method::POST || one(headers, &METHOD)? != CALL || !is_json(headers) {
            return None;
        }
        let Object(Message { jsonrpc, id, method, params }) = serde_json::from_slice(body).ok()?;
        let Object(Params { name, arguments, meta: Object(meta) }) = params;
        let version = ProtocolVersion::V_2026_07_28;
        let is_plain = jsonrpc == "2.0"
            && method == CALL
            && meta.version == version.as_str()
            && one(headers, &VERSION)? == version.as_str()
            && one(headers, &NAME)? == name
            && !name.starts_with(ENCODED)
            && !headers.keys().any(|name| name.as_str().starts_with(PARAMETER));
        let capabilities = serde_json::from_value(meta.capabilities).ok().filter(|_| is_plain)?;
        // Not as rmcp reads it: an object of a certain name would become another value.
        let arguments = Arguments::parse(Json::found(body, arguments).bytes()).ok()?;
        Some(Self { id, name: name.to_owned(), arguments, capabilities })
    }
}

/// Whether a tool with this schema of its arguments may be called plainly.
pub fn takes_plain_calls(parameters: &Json) -> bool {
    !parameters.as_str().contains(PARAMETERS_IN_HEADERS)
}

/// The message that answers a call.
pub fn answer(id: RequestId, outcome: Result<CallToolResponse, ErrorData>) -> Bytes {
    let message = match outcome {
        Ok(response) => ServerJsonRpcMessage::response(ServerResult::from(response), id),
        Err(error) => ServerJsonRpcMessage::error(error, Some(id)),
    };
    Json::of(&message).bytes()
}

/// The value of a header that stands there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether the body is said to be JSON and JSON is taken, as clients say it that want nothing special.
fn is_json(headers: &HeaderMap) -> bool {
    let accepts = one(headers, &ACCEPT).unwrap_or_default();
    let mut kinds = accepts.split(',').map(str::trim);
    one(headers, &CONTENT_TYPE) == Some("application/json")
        && !accepts.contains('"')
        && kinds.clone().any(|kind| kind == "application/json")
        && kinds.any(|kind| kind == "text/event-stream")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn message() -> Value {
        json!({
            "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": { "name": "echo", "arguments": { "text": "hi" }, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "1" },
            } },
        })
    }

    fn headers() -> HeaderMap {
        let pairs = [
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "echo"),
        ];
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.into_iter().map(pair).collect()
    }

    fn is_plain(headers: &HeaderMap, message: &Value) -> bool {
        PlainCall::read(&Method::POST, headers, &Bytes::from(message.to_string())).is_some()
    }

    #[test]
    fn the_usual_call_is_plain() {
        let call = PlainCall::read(&Method::POST, &headers(), &Bytes::from(message().to_string()));
        let PlainCall { id, name, arguments, .. } = call.expect("it is plain");
        assert_eq!((id, &*name, arguments.value()), (RequestId::Number(7), "echo", &json!({ "text": "hi" })));
        let mut nameless = message();
        nameless["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientInfo");
        assert!(is_plain(&headers(), &nameless), "the client may leave its name out");
    }

    #[test]
    fn whatever_else_a_message_holds_makes_it_no_plain_one() {
        for (place, value) in [
            ("/jsonrpc", json!("1.0")),
            ("/id", json!(1.5)),
            ("/id", Value::Null),
            ("/method", json!("tools/list")),
            ("/params/name", json!("other")),
            ("/params/name", json!(1)),
            ("/params/arguments", Value::Null),
            ("/params/arguments", json!([1])),
            ("/params/arguments/text", json!(1e30)),
            ("/params/_meta/io.modelcontextprotocol~1protocolVersion", json!("2025-11-25")),
            ("/params/_meta/io.modelcontextprotocol~1clientCapabilities", json!(1)),
        ] {
            let mut message = message();
            *message.pointer_mut(place).unwrap() = value.clone();
            let is_same = place.ends_with("text");
            assert_eq!(is_plain(&headers(), &message), is_same, "{place} {value}");
        }
        for (place, name) in [("", "x"), ("/params", "requestState"), ("/params/_meta", "progressToken")] {
            let mut message = message();
            message.pointer_mut(place).and_then(Value::as_object_mut).unwrap().insert(name.into(), json!("1"));
            assert!(!is_plain(&headers(), &message), "{place}/{name}");
        }
        assert!(!is_plain(&headers(), &json!([message()])));
        let meta = json!(["2026-07-28", {}]);
        assert!(!is_plain(&headers(), &json!(["2.0", 1, "tools/call", ["echo", {}, meta]])));
        for (place, value) in [("/params", json!(["echo", {}, meta])), ("/params/_meta", meta)] {
            let mut message = message();
            *message.pointer_mut(place).unwrap() = value;
            assert!(!is_plain(&headers(), &message), "{place}");
        }
        let twice = message().to_string().replace("\"id\":7", "\"id\":7,\"id\":8");
        assert!(PlainCall::read(&Method::POST, &headers(), &Bytes::from(twice)).is_none());
    }

    #[test]
    fn headers_that_are_missing_doubled_or_different_make_it_no_plain_one() {
        for name in headers().keys() {
            let mut missing = headers();
            missing.remove(name);
            let mut doubled = headers();
            doubled.append(name, headers()[name].clone());
            let mut other = headers();
            other.insert(name, HeaderValue::from_static("other"));
            for changed in [missing, doubled, other] {
                assert!(!is_plain(&changed, &message()), "{name}: {:?}", changed.get_all(name));
            }
        }
        let mut quoted = headers();
        let quotes = "x/y;p=\"a, application/json, text/event-stream, b\"";
        quoted.insert("accept", HeaderValue::from_static(quotes));
        assert!(!is_plain(&quoted, &message()));
        let mut more = headers();
        more.insert("mcp-param-text", HeaderValue::from_static("hi"));
        assert!(!is_plain(&more, &message()));
        assert!(PlainCall::read(&Method::PUT, &headers(), &Bytes::from(message().to_string())).is_none());
    }
}
