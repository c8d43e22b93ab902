//! The handshake of a WebSocket (RFC 6455 §4.2), as the host reads and answers it at every door that has one.
//!
//! Who may open a socket was decided by the gate before; what a socket is for is decided by who asked here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::base::error::Kind;
use crate::edge::failure::problem;
use crate::kernel::call::{Body, Response};

/// The version of the protocol.
pub const VERSION_13: HeaderValue = HeaderValue::from_static("13");

/// Whether a request asks for a WebSocket.
pub enum Asked {
    /// It does not.
    No,
    /// It does, and may have one.
    Socket(Wish),
    /// It does, in a way that nobody can grant; the answer to it.
    Wrong(Box<Response>),
}

/// A valid request for a WebSocket.
pub struct Wish {
    accept: HeaderValue,
    upgrade: OnUpgrade,
}

/// A head as it is looked at here: of hyper or of axum.
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The version.
    pub version: Version,
    /// The headers.
    pub headers: &'a HeaderMap,
}

impl Asked {
    /// Reads the head of a request. Whoever looks for a wish answers it: it is taken out of the extensions.
    pub fn of(head: &Head<'_>, extensions: &mut Extensions) -> Self {
        let headers = head.headers;
        if *head.method != Method::GET || head.version != Version::HTTP_11 || !names(headers, &UPGRADE, "websocket") {
            return Self::No;
        }
        if !names(headers, &CONNECTION, "upgrade") {
            return Self::Wrong(needed("a WebSocket needs the header \"connection: upgrade\""));
        }
        if single(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Self::Wrong(needed("this host speaks version 13 of the WebSocket protocol only (RFC 6455)"));
        }
        let wrong = |detail: &str| {
            let title = Kind::Malformed.title();
            let mut answer = problem(StatusCode::BAD_REQUEST, Kind::Malformed, title, detail, None);
            answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, VERSION_13);
            Self::Wrong(Box::new(answer))
        };
        let Some(key) = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key)) else {
            return wrong("one \"sec-websocket-key\" of 16 random bytes in base64 is needed: use a WebSocket library");
        };
        if headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
            return wrong("a request for a WebSocket has no body");
        }
        match extensions.remove::<OnUpgrade>() {
            Some(upgrade) => Self::Socket(Wish { accept: accept_of(key.as_bytes()), upgrade }),
            None => wrong("this connection cannot become a WebSocket"),
        }
    }
}

impl Wish {
    /// The answer that grants the wish, without an extension or a sub-protocol, and the stream to come after it.
    pub fn grant(self) -> (Response, OnUpgrade) {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        (response, self.upgrade)
    }
}

/// The answer to a request that should have asked for a WebSocket, and did not.
pub fn needed(detail: &str) -> Box<Response> {
    let mut answer = problem(StatusCode::UPGRADE_REQUIRED, Kind::Invalid, "Upgrade required", detail, None);
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, VERSION_13);
    Box::new(answer)
}

/// The `Sec-WebSocket-Accept` that belongs to a key.
pub fn accept_of(key: &[u8]) -> HeaderValue {
    HeaderValue::try_from(derive_accept_key(key)).expect("base64 has only letters that a header may have")
}

/// The sub-protocols that a client offers, in its order.
pub fn protocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Whether a header that is a list has `word` in it, in any case.
pub fn names(headers: &HeaderMap, header: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// The value of a header that stands exactly once.
pub fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16)
}
