//! Which headers and which part of a query pass between a client and a plugin's server, and which stop at the host.
//!
//! The request to the server is a new one, not a copy: what belongs to one connection, what lets a client in here and
//! what only the host may say never passes. The answer may not speak for the host either.

use std::borrow::Cow;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::percent_decode_str;

/// A document of a plugin is shown in an origin of its own, where this host's cookie and API are out of reach.
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox allow-scripts allow-forms allow-popups");

/// What belongs to one connection (RFC 9110 §7.6.1), in both directions.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "proxy-connection"];
/// What lets a client in here, where it comes from, and what the host says in its own words.
const OF_CLIENTS: [&str; 9] =
    ["authorization", "cookie", "cookie2", "origin", "referer", "host", "expect", "content-length", "forwarded"];
const OF_CLIENTS_BEGIN: [&str; 4] = ["x-host-", "x-plugin-", "x-forwarded-", "proxy-"];
/// What an answer would say for the whole host: to browsers about its origin, to clients about their credentials.
const OF_THE_HOST: [&str; 18] = [
    "set-cookie",
    "set-cookie2",
    "content-security-policy",
    "content-security-policy-report-only",
    "strict-transport-security",
    "clear-site-data",
    "x-refreshed-token",
    "x-request-id",
    "www-authenticate",
    "authentication-info",
    "alt-svc",
    "public-key-pins",
    "expect-ct",
    "nel",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "origin-agent-cluster",
];
const OF_THE_HOST_BEGIN: [&str; 6] = ["access-control-", "x-auth-", "x-host-", "x-plugin-", "cross-origin-", "proxy-"];

/// Takes out of a client's request what its plugin's server must not see. The framing is made anew: `body_bytes` is the
/// length of the body where that is known.
pub fn forward(headers: &mut HeaderMap, method: &Method, body_bytes: Option<u64>) {
    strip(headers, is_of_clients);
    if body_bytes.is_none() {
        // hyper takes a GET without a length for one without a body, and would lose it.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let may_have_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(bytes) = body_bytes.filter(|bytes| *bytes > 0 || may_have_body) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
}

/// Whether a client's header stops here. To CGI, and so to WSGI, `_` is as `-`: a server of that kind would take
/// `x_host_user` for the host's own word.
fn is_of_clients(name: &str) -> bool {
    let stops = |name: &str| OF_CLIENTS.contains(&name) || OF_CLIENTS_BEGIN.iter().any(|begin| name.starts_with(begin));
    stops(name) || (name.contains('_') && stops(&name.replace('_', "-")))
}

/// Takes out of a server's answer what only the host may say, and says what the host says of every plugin's answer.
pub fn pass_back(headers: &mut HeaderMap) {
    strip(headers, |name| OF_THE_HOST.contains(&name) || OF_THE_HOST_BEGIN.iter().any(|begin| name.starts_with(begin)));
    if is_document(headers) {
        headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Removes what belongs to one connection, what `Connection` names, and what `stops` says.
fn strip(headers: &mut HeaderMap, stops: impl Fn(&str) -> bool) {
    let stopped = |name: &HeaderName| HOP_BY_HOP.contains(&name.as_str()) || stops(name.as_str());
    let mut out: Vec<HeaderName> = headers.keys().filter(|name| stopped(name)).cloned().collect();
    for value in headers.get_all(CONNECTION) {
        let words = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // The usual words are no headers, or such as are taken out anyway.
        let named =
            words.filter(|word| !word.eq_ignore_ascii_case(b"close") && !word.eq_ignore_ascii_case(b"keep-alive"));
        out.extend(named.filter_map(|word| HeaderName::from_bytes(word).ok()));
    }
    for name in out {
        headers.remove(name);
    }
    debug_assert!(!headers.contains_key(TRANSFER_ENCODING));
}

/// Whether a browser may make a document of the body, which can then run scripts: HTML, SVG and other XML, parts of
/// them, and what does not say what it is.
fn is_document(headers: &HeaderMap) -> bool {
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    let Some(media_type) = media_types.next() else { return true };
    let text = media_type.as_bytes();
    let essence = text.split(|byte| *byte == b';').next().unwrap_or(text).trim_ascii();
    let contains = |word: &[u8]| essence.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    let is_active = [&b"html"[..], b"xml", b"xsl", b"multipart/"].into_iter().any(contains);
    // Of several types, in one line or in several, a browser takes the last.
    is_active || media_types.next().is_some() || text.contains(&b',') || !essence.contains(&b'/')
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

    #[test]
    fn what_only_the_host_says_stops_also_when_it_is_written_with_underscores() {
        let mut headers =
            map(&[("x_host_user", "a"), ("x-plugin_secret-key", "b"), ("x_own", "c"), ("x-host-time", "1")]);
        forward(&mut headers, &Method::GET, Some(0));
        assert_eq!(headers, map(&[("x_own", "c")]));
    }

    #[test]
    fn a_body_of_unknown_length_is_announced_whatever_the_method() {
        let mut headers = map(&[("transfer-encoding", "chunked"), ("te", "trailers")]);
        forward(&mut headers, &Method::GET, None);
        assert_eq!(headers, map(&[("transfer-encoding", "chunked")]));
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
