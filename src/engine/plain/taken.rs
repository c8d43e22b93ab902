//! What a compiled route takes of a request, read without Python as Starlette reads it.
//!
//! Where the two could differ, such as text that is not UTF-8, nothing is taken, and the app answers.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts as Head;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// One argument of a compiled handler.
#[derive(Clone, Debug)]
pub enum Source {
    /// The parameter of the path with this number, as text.
    Path(usize),
    /// The last value of a query parameter; `None` when there is none.
    Query(Box<str>),
    /// All values of a query parameter, as a list; `None` when there is none.
    Queries(Box<str>),
    /// The first header of this name; `None` when there is none.
    Header(HeaderName),
    /// All headers of this name, as a list; `None` when there is none.
    Headers(HeaderName),
    /// The whole query, as bytes.
    RawQuery,
    /// All headers, as a list of pairs of bytes.
    RawHeaders,
}

/// How a compiled route takes the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// Not at all.
    None,
    /// As bytes of JSON.
    Json {
        /// Whether a body without a content type is JSON too.
        untyped: bool,
        /// Whether the handler reads it with pydantic's JSON reader rather than Python's.
        direct: bool,
    },
}

/// A path, percent-decoded; `None` when Starlette's reading of it is not certain to be this.
pub fn path(path: &str) -> Option<Cow<'_, str>> {
    let path = decoded(path)?;
    // In Starlette's patterns a dot does not match it, and the end of a pattern stands before it too.
    (!path.contains('\n')).then_some(path)
}

/// The pairs of a query as `urllib.parse.parse_qsl` gives them, blank values kept; `None` when that is not certain.
pub fn query(query: &str) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let piece = |text| -> Option<Cow<'_, str>> {
        let text: &str = text;
        if text.as_bytes().contains(&b'+') {
            return Some(Cow::Owned(decoded(&text.replace('+', " "))?.into_owned()));
        }
        decoded(text)
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| Some((piece(key)?, piece(value)?)))
        .collect()
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.is_ascii() {
        return None;
    }
    if !text.as_bytes().contains(&b'%') {
        return Some(Cow::Borrowed(text));
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// Whether the handler may take this body. An empty one is read by nobody.
pub fn is_json(body: &Bytes, headers: &HeaderMap, usage: BodyUse) -> bool {
    let BodyUse::Json { untyped, direct } = usage else { return true };
    if body.is_empty() {
        return true;
    }
    let typed = match headers.get(CONTENT_TYPE) {
        Some(kind) => names_json(kind),
        None => untyped,
    };
    typed && !(direct && has_long_number(body))
}

/// `application/json` and `application/…+json`, parameters aside, as `email.message` reads them.
fn names_json(kind: &HeaderValue) -> bool {
    if kind == "application/json" {
        return true;
    }
    let Ok(kind) = kind.to_str() else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = kind.strip_prefix("application/") else { return false };
    let plain = subtype.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
    plain && (subtype == "json" || subtype.ends_with("+json"))
}

/// Whether there are so many digits in a row that the two readers of numbers may part: beyond 64 bits.
fn has_long_number(body: &[u8]) -> bool {
    body.len() > LONG
        && body
            .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
            .any(|run| run.len() > LONG && run[0].is_ascii_digit())
}

/// The most digits in a row that both readers of JSON surely read alike.
const LONG: usize = 18;

/// The value of a [`Source`] in one request.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// There is none.
    Absent,
    /// One.
    Text(String),
    /// Several, in their order.
    Texts(Vec<String>),
    /// What is read from the head when Python asks for it.
    Raw(Raw),
}

/// A part of the head that is given as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    /// The query.
    Query,
    /// The headers.
    Headers,
}

/// Reads the sources from a request's head. `path` is decoded, and `parameters` are ranges of it. `None` when it is not
/// certain that Starlette reads them so.
pub fn read(sources: &[Source], head: &Head, path: &str, parameters: &[Range<usize>]) -> Option<Vec<Value>> {
    let asks = sources.iter().any(|source| matches!(source, Source::Query(_) | Source::Queries(_)));
    let pairs = match head.uri.query() {
        Some(text) if asks => query(text)?,
        _ => Vec::new(),
    };
    let texts = |texts: Vec<String>| if texts.is_empty() { Value::Absent } else { Value::Texts(texts) };
    let value = |source: &Source| match source {
        Source::Path(number) => Value::Text(path[parameters[*number].clone()].to_owned()),
        Source::Query(name) => {
            let found = pairs.iter().rev().find(|(key, _)| *key == **name);
            found.map_or(Value::Absent, |(_, value)| Value::Text(value.to_string()))
        }
        Source::Queries(name) => {
            texts(pairs.iter().filter(|(key, _)| *key == **name).map(|(_, value)| value.to_string()).collect())
        }
        Source::Header(name) => head.headers.get(name).map_or(Value::Absent, |value| Value::Text(latin(value))),
        Source::Headers(name) => texts(head.headers.get_all(name).iter().map(latin).collect()),
        Source::RawQuery => Value::Raw(Raw::Query),
        Source::RawHeaders => Value::Raw(Raw::Headers),
    };
    Some(sources.iter().map(value).collect())
}

/// A header as Starlette decodes it: Latin-1.
fn latin(value: &HeaderValue) -> String {
    match value.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_python_reads_it() {
        let pairs = |text: &str| {
            query(text).map(|pairs| pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>())
        };
        let read = |text: &str| pairs(text).map(|pairs| pairs.join("|")).unwrap_or_else(|| "unsure".into());
        assert_eq!(read(""), "");
        assert_eq!(read("a=1&&b&c=&=d&a=2"), "a=1|b=|c=|=d|a=2");
        assert_eq!(read("a+b=c%20d%2B+e&x=1=2"), "a b=c d+ e|x=1=2");
        assert_eq!(read("a=%zz%4"), "a=%zz%4");
        assert_eq!(read("a=%e2%82%ac"), "a=€");
        assert_eq!(read("a=%ff"), "unsure");
    }

    #[test]
    fn a_content_type_is_json_when_its_subtype_says_so() {
        let json = |text: &'static str| names_json(&HeaderValue::from_static(text));
        assert!(json("application/json"));
        assert!(json("Application/JSON ; charset=utf-8"));
        assert!(json("application/problem+json"));
        assert!(!json("text/json"));
        assert!(!json("application/jsonl"));
        assert!(!json("application/x/json"));
        assert!(!json("application/json, text/plain"));
    }

    #[test]
    fn a_number_beyond_64_bits_is_seen() {
        assert!(!has_long_number(br#"{"a": 123456789012345678, "b": "text"}"#));
        assert!(has_long_number(br#"{"a": 1234567890123456789}"#));
    }
}
