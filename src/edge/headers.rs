//! Which headers and which part of a query pass between a client and a plugin's server, and which stop at the host.
//!
//! The request to the server is a new one, not a copy: what belongs to one connection, what lets a client in here and
//! what only the host may say never passes. The answer may not speak for the host either.

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// A document of a plugin is shown in an origin of its own, where this host's cookie and API are out of reach.
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox allow-scripts allow-forms allow-popups");

/// Whether a header belongs to one connection (RFC 9110 §7.6.1), in both directions.
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy-connection"
    )
}

/// Whether a header lets a client in here, says where it comes from, or is what the host says in its own words.
fn is_of_client(name: &str) -> bool {
    let exact = matches!(
        name,
        "authorization"
            | "cookie"
            | "cookie2"
            | "origin"
            | "referer"
            | "host"
            | "expect"
            | "content-length"
            | "forwarded"
    );
    exact || begins(name, &["x-host-", "x-plugin-", "x-forwarded-", "proxy-"])
}

/// Whether an answer's header would speak for the whole host: to browsers about its origin, to clients about their
/// credentials.
fn is_of_host(name: &str) -> bool {
    let exact = matches!(
        name,
        "set-cookie"
            | "set-cookie2"
            | "content-security-policy"
            | "content-security-policy-report-only"
            | "strict-transport-security"
            | "clear-site-data"
            | "x-refreshed-token"
            | "x-request-id"
            | "www-authenticate"
            | "authentication-info"
            | "alt-svc"
            | "public-key-pins"
            | "expect-ct"
            | "nel"
            | "report-to"
            | "reporting-endpoints"
            | "service-worker-allowed"
            | "origin-agent-cluster"
    );
    exact || begins(name, &["access-control-", "x-auth-", "x-host-", "x-plugin-", "cross-origin-", "proxy-"])
}

fn begins(name: &str, words: &[&str]) -> bool {
    words.iter().any(|word| name.starts_with(word))
}

/// Writes the lines of a client's headers that its plugin's server may see. Those of the framing are not among them.
pub fn forward(headers: &HeaderMap, into: &mut Vec<u8>) {
    let named = named(headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes));
    for (name, value) in headers {
        if !stops_going(name.as_str()) && !named.contains(name) {
            put(into, name.as_str(), value.as_bytes());
        }
    }
}

/// Writes one line of a head.
pub fn put(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}

/// Whether a client's header stops here. To CGI, and so to WSGI, `_` is as `-`: a server of that kind would take
/// `x_host_user` for the host's own word.
fn stops_going(name: &str) -> bool {
    let stops = |name: &str| is_of_connection(name) || is_of_client(name);
    stops(name) || (name.contains('_') && stops(&name.replace('_', "-")))
}

/// Whether a server's header stops here.
pub fn stops_coming(name: &str) -> bool {
    is_of_connection(name) || is_of_host(name)
}

/// What a client gets of the fields behind an answer's body.
pub fn passing(mut trailers: HeaderMap) -> HeaderMap {
    let stopped: Vec<HeaderName> = trailers.keys().filter(|name| stops_coming(name.as_str())).cloned().collect();
    for name in stopped {
        trailers.remove(name);
    }
    trailers
}

/// Says in a server's answer what the host says in every one.
pub fn seal(headers: &mut HeaderMap) {
    if is_document(headers) {
        headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The headers that the values of `Connection` name: they belong to one connection too.
pub fn named<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<HeaderName> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Vec::new();
    }
    let words = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // The usual words are no headers, or such as stop anyway.
    let usual: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    let names = words.filter(|word| !usual.iter().any(|usual| word.eq_ignore_ascii_case(usual)));
    names.filter_map(|word| HeaderName::from_bytes(word).ok()).collect()
}

/// Whether a browser may make a document of the body, which can then run scripts: HTML, SVG and other XML, parts of
/// them, and what does not say what it is.
fn is_document(headers: &HeaderMap) -> bool {
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    let Some(media_type) = media_types.next() else { return true };
    let text = media_type.as_bytes();
    let essence = text.split(|byte| *byte == b';').next().unwrap_or(text).trim_ascii();
    // Most answers, and quickly said of them.
    let usual: [&[u8]; 3] = [b"application/json", b"text/plain", b"text/event-stream"];
    let is_one_of_several = media_types.next().is_some();
    if usual.contains(&essence) && !is_one_of_several && !text.contains(&b',') {
        return false;
    }
    let contains = |word: &[u8]| essence.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    let is_active = [&b"html"[..], b"xml", b"xsl", b"multipart/"].into_iter().any(contains);
    // Of several types, in one line or in several, a browser takes the last.
    is_active || is_one_of_several || text.contains(&b',') || !essence.contains(&b'/')
}

/// A query without its parameters of the name `token`, the rest byte for byte; `None` when nothing is left.
pub fn without_tokens(query: &str) -> Option<Cow<'_, str>> {
    // Without these bytes none can be written, plain or percent-encoded.
    if !query.contains('%') && !query.contains("token") {
        return Some(Cow::Borrowed(query));
    }
    let is_token = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        percent_decode_str(name).eq(b"token".iter().copied())
    };
    if !query.split('&').any(|pair| is_token(&pair)) {
        return Some(Cow::Borrowed(query));
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn forwarded(lines: &[(&'static str, &'static str)]) -> String {
        let mut bytes = Vec::new();
        forward(&map(lines), &mut bytes);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn what_only_the_host_says_stops_also_when_it_is_written_with_underscores() {
        let lines = [("x_host_user", "a"), ("x-plugin_secret-key", "b"), ("x_own", "c"), ("x-host-time", "1")];
        assert_eq!(forwarded(&lines), "x_own: c\r\n");
    }

    #[test]
    fn what_frames_a_request_and_what_its_connection_names_stops() {
        let lines = [
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("x-hop", "1"),
            ("connection", "close, X-Hop"),
            ("accept", "*/*"),
        ];
        assert_eq!(forwarded(&lines), "accept: */*\r\n");
    }

    #[test]
    fn what_a_browser_may_make_a_document_of_is_sandboxed() {
        for lines in [
            &[][..],
            &[("content-type", "text/HTML; charset=utf-8")],
            &[("content-type", "image/svg+xml")],
            &[("content-type", "text/xsl")],
            &[("content-type", "text/plain, text/html")],
            &[("content-type", "text/plain"), ("content-type", "text/html")],
        ] {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|(name, value)| _ = headers.append(*name, HeaderValue::from_static(value)));
            assert!(is_document(&headers), "{lines:?}");
        }
        assert!(!is_document(&map(&[("content-type", "application/json")])));
    }
}
