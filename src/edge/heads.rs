//! The head of a server's answer: what of it goes to the client, where its body ends, and for how long its connection
//! serves.
//!
//! Where two readers could disagree about the end of a body, the answer is none.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use crate::edge::chunks::Chunks;
use crate::edge::headers;

/// How long a connection may be unused. Node's own limit is 5 s, and a request that crosses its end is lost.
pub const IDLE_TIME: Duration = Duration::from_secs(4);

/// What a head may have.
const HEAD_BYTES: usize = 128 << 10;
const HEADERS: usize = 100;
/// Room for what an answer usually has, with what the host adds; more than this is made when it is needed.
const USUAL_HEADERS: usize = 6;
/// What every head begins with, before the digit of the version.
const BEGINNING: &[u8] = b"HTTP/1.";

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// What the client gets of it.
    pub response: Response<()>,
    /// Where its body ends.
    pub rest: Rest,
    /// For how long the connection serves behind it; zero when it does not.
    pub kept: Duration,
}

/// What is to come of an answer.
#[derive(Debug)]
pub enum Rest {
    /// Its head.
    Head,
    /// So many bytes, more than none.
    Length(u64),
    /// Chunks.
    Chunks(Chunks),
    /// Whatever comes until the connection ends.
    UntilEnd,
    /// Nothing.
    Nothing,
}

/// What a head says of its body and its connection, while it is read.
#[derive(Default)]
struct Said<'h> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    keep_time: Option<Duration>,
    connection: Vec<&'h [u8]>,
}

/// Takes the head of the answer to a request with `method` out of `bytes`, of which `known` were looked at before;
/// `None` when more of them are needed. Interim answers are left out, but for 101.
///
/// # Errors
/// What is wrong with it.
pub fn take(bytes: &mut BytesMut, known: usize, method: &Method) -> Result<Option<AnswerHead>, &'static str> {
    let mut known = known;
    loop {
        let begun = bytes.len().min(BEGINNING.len());
        if bytes[..begun] != BEGINNING[..begun] {
            return Err("it does not begin as HTTP");
        }
        let Some(end) = end_of_head(bytes, known) else {
            return if bytes.len() > HEAD_BYTES { Err("its head is too long") } else { Ok(None) };
        };
        let head = read(&bytes.split_to(end).freeze(), method)?;
        let status = head.response.status();
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
        known = 0;
    }
}

/// Where the first empty line ends.
fn end_of_head(bytes: &[u8], known: usize) -> Option<usize> {
    let from = known.saturating_sub(3);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| match &bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Reads one whole head.
fn read(bytes: &Bytes, method: &Method) -> Result<AnswerHead, &'static str> {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut room);
    match read {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err("it has too many headers"),
        Ok(httparse::Status::Partial) | Err(_) => return Err("its head is not that of an answer"),
    }
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| "its status is none")?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    let mut headers = HeaderMap::with_capacity(USUAL_HEADERS);
    let mut said = Said::default();
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("keep-alive") {
            said.keep_time = keep_time(header.value);
            continue;
        }
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| "a header's name is none")?;
        said.hear(&name, header.value)?;
        if name == CONTENT_LENGTH && headers.contains_key(CONTENT_LENGTH) {
            continue;
        }
        if !headers::stops_coming(name.as_str()) {
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value));
            headers.append(name, value.map_err(|_| "a header's value is none")?);
        }
    }
    for name in headers::named(said.connection.iter().copied()) {
        headers.remove(name);
    }
    headers::seal(&mut headers);
    *response.headers_mut() = headers;
    if let Some(reason) = parsed.reason.filter(|reason| status.canonical_reason() != Some(reason))
        && let Ok(reason) = ReasonPhrase::try_from(Bytes::copy_from_slice(reason.as_bytes()))
    {
        response.extensions_mut().insert(reason);
    }
    let is_new = parsed.version == Some(1);
    let rest = said.rest(status, method, is_new)?;
    let kept = said.kept(&rest, is_new);
    Ok(AnswerHead { response, rest, kept })
}

impl<'h> Said<'h> {
    /// Hears one line.
    fn hear(&mut self, name: &HeaderName, value: &'h [u8]) -> Result<(), &'static str> {
        match name.as_str() {
            "content-length" => {
                let length = number(value).ok_or("its content-length is no number")?;
                if self.length.is_some_and(|known| known != length) {
                    return Err("it has two lengths");
                }
                self.length = Some(length);
            }
            "transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("its transfer-encoding is not \"chunked\"");
                }
                self.chunked = true;
            }
            "connection" => {
                let has = |word: &str| words(value).any(|each| each.eq_ignore_ascii_case(word.as_bytes()));
                self.close |= has("close");
                self.keep_alive |= has("keep-alive");
                self.connection.push(value);
            }
            _ => {}
        }
        Ok(())
    }

    /// Where the body ends (RFC 9112 §6.3).
    fn rest(&self, status: StatusCode, method: &Method, is_new: bool) -> Result<Rest, &'static str> {
        if self.chunked && (self.length.is_some() || !is_new) {
            return Err("it has chunks, and says something else");
        }
        let is_empty = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || method == Method::HEAD;
        Ok(match self.length {
            _ if is_empty => Rest::Nothing,
            _ if self.chunked => Rest::Chunks(Chunks::default()),
            Some(0) => Rest::Nothing,
            Some(bytes) => Rest::Length(bytes),
            None => Rest::UntilEnd,
        })
    }

    fn kept(&self, rest: &Rest, is_new: bool) -> Duration {
        if self.close || !(is_new || self.keep_alive) || matches!(rest, Rest::UntilEnd) {
            return Duration::ZERO;
        }
        self.keep_time.map_or(IDLE_TIME, |time| time.min(IDLE_TIME))
    }
}

/// For how long a server says that it keeps a connection, less what a request is on its way.
fn keep_time(value: &[u8]) -> Option<Duration> {
    let seconds = words(value).find_map(|word| number(word.strip_prefix(b"timeout=")?))?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A number of digits alone.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str, method: &Method) -> Result<Option<AnswerHead>, &'static str> {
        let mut whole = BytesMut::from(text);
        let at_once = take(&mut whole, 0, method);
        // The same when it comes byte by byte.
        let (mut here, mut found) = (BytesMut::new(), Ok(None));
        for byte in text.bytes() {
            let known = here.len();
            here.extend_from_slice(&[byte]);
            found = take(&mut here, known, method);
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        assert_eq!(at_once.as_ref().map(Option::is_some), found.as_ref().map(Option::is_some), "{text:?}");
        at_once
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        let table = [
            ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", "Length(3)", 4),
            ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\n", "Length(3)", 4),
            ("GET", "HTTP/1.1 200\r\ncontent-length: 0\r\nkeep-alive: timeout=3, max=9\r\n\r\n", "Nothing", 2),
            ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nkeep-alive: timeout=1\r\n\r\n", "Nothing", 0),
            ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "Nothing", 4),
            ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\n", "Nothing", 4),
            ("GET", "HTTP/1.1 304 Not Modified\r\nkeep-alive: timeout=60\r\n\r\n", "Nothing", 4),
            ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "Chunks", 4),
            ("GET", "HTTP/1.1 200 OK\r\n\r\n", "UntilEnd", 0),
            ("GET", "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", "Length(3)", 0),
            ("GET", "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 3\r\n\r\n", "Length(3)", 4),
            ("GET", "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 3\r\n\r\n", "Length(3)", 0),
            ("GET", "HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", "Nothing", 4),
            (
                "GET",
                "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                "UntilEnd",
                0,
            ),
            ("GET", "HTTP/1.1 200 OK\ncontent-length: 3\n\n", "Length(3)", 4),
        ];
        for (method, text, rest, kept_s) in table {
            let found = head(text, &method.parse().expect("a method")).expect(text).expect(text);
            assert!(format!("{:?}", found.rest).starts_with(rest), "{text}: {:?}", found.rest);
            assert_eq!(found.kept.as_secs(), kept_s, "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_no_answer() {
        let headers: String = (0..101).map(|number| format!("a{number}: b\r\n")).collect();
        let long = "x".repeat(HEAD_BYTES);
        let lines = [
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            "content-length: 3\r\ncontent-length: 4\r\n",
            "content-length: 3, 3\r\n",
            "content-length: +3\r\n",
            "content-length: 0x3\r\n",
            "content-length: \r\n",
            "content-length: 18446744073709551616\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked, identity\r\n",
            "transfer-encoding: identity\r\n",
            "transfer-encoding: \x0bchunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding : chunked\r\n",
            " content-length: 3\r\n",
            "a: b\r\n content-length: 3\r\n",
            "a: b\r\n\tfolded\r\n",
            "a: b\0c\r\n",
            "a: b\rc\r\n",
            "a\0b: c\r\n",
            "no colon\r\n",
            ": b\r\n",
            &headers,
            &long,
        ];
        let mut wrong: Vec<String> = lines.iter().map(|lines| format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).collect();
        wrong.push("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into());
        let begins =
            ["\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n"];
        wrong.extend(begins.map(String::from));
        wrong.extend(
            ["HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n"].map(String::from),
        );
        wrong.extend(["HTTP/1.1 099 OK\r\n\r\n", "SSH-2.0-OpenSSH\r\n"].map(String::from));
        for text in wrong {
            let found = head(&text, &Method::GET);
            assert!(found.is_err(), "{found:?} of {:?}", &text[..text.len().min(90)]);
        }
    }

    #[test]
    fn what_belongs_to_the_connection_or_to_the_host_stops() {
        let text = "HTTP/1.1 201 Made it\r\nSet-Cookie: a\r\nx-hop: 1\r\nX-Own: 1\r\nx-own: 2\r\nconnection: X-Hop, close\r\n\
                    keep-alive: timeout=5\r\ncontent-type: text/plain\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n";
        let found = head(text, &Method::GET).expect("an answer").expect("a whole one");
        let mut lines: Vec<_> = found
            .response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        lines.sort_unstable();
        let expected = [
            ("content-length", "1"),
            ("content-type", "text/plain"),
            ("x-content-type-options", "nosniff"),
            ("x-own", "1"),
            ("x-own", "2"),
        ];
        assert_eq!(lines, expected);
        let reason = found.response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
        assert_eq!(reason, Some(&b"Made it"[..]));
    }
}
