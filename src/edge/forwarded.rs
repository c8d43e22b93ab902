//! What a trusted proxy says of the client: `X-Forwarded-*`, else `Forwarded` (RFC 7239).
//!
//! Whether the peer is a trusted proxy is decided before anything here is called.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the proxy says; what it does not say is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// The nearest address that is not a trusted proxy; port 0 where none is given.
    pub client: Option<SocketAddr>,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// The host that the client asked.
    pub host: Option<&'a str>,
}

impl<'a> Forwarded<'a> {
    /// Reads the headers. `X-Forwarded-*` go first: a proxy that sets them often passes a client's `Forwarded` on as it
    /// came. Of several hops the last counts, which is the one that the trusted proxy itself wrote.
    pub fn read(headers: &'a HeaderMap, trusted: &[IpNet]) -> Self {
        let old = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];
        if old.iter().any(|name| headers.contains_key(name)) {
            return Self {
                client: client(items(headers, &FORWARDED_FOR), trusted),
                scheme: items(headers, &FORWARDED_PROTO).last().and_then(scheme),
                host: items(headers, &FORWARDED_HOST).last(),
            };
        }
        let hops: Vec<&str> = items(headers, &FORWARDED).collect();
        let Some(last) = hops.last() else { return Self::default() };
        Self {
            client: client(hops.iter().filter_map(|hop| parameter(hop, "for")), trusted),
            scheme: parameter(last, "proto").and_then(scheme),
            host: parameter(last, "host"),
        }
    }
}

/// The items of a list header, over all its lines, in order. Lines that are not visible ASCII are left out.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    let items: Vec<&str> = lines.into_iter().flat_map(split_list).collect();
    items.into_iter()
}

/// Splits at commas that are not inside quotes.
fn split_list(line: &str) -> Vec<&str> {
    let mut quoted = false;
    line.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
    .collect()
}

/// One parameter of a hop: `proto` of `for=192.0.2.1;proto=https`.
fn parameter<'a>(hop: &'a str, name: &str) -> Option<&'a str> {
    hop.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// From the nearest hop back to the first that is not trusted. A hop that is no address ends the search: what lies
/// before it cannot be believed.
fn client<'a>(hops: impl DoubleEndedIterator<Item = &'a str>, trusted: &[IpNet]) -> Option<SocketAddr> {
    let mut found = None;
    for hop in hops.rev() {
        let Some(address) = address(hop) else { break };
        found = Some(address);
        if !trusted.iter().any(|range| range.contains(&address.ip())) {
            break;
        }
    }
    found
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<SocketAddr> {
    let plain = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    text.parse().ok().or_else(plain)
}

fn scheme(word: &str) -> Option<&'static str> {
    match word {
        _ if word.eq_ignore_ascii_case("https") || word.eq_ignore_ascii_case("wss") => Some("https"),
        _ if word.eq_ignore_ascii_case("http") || word.eq_ignore_ascii_case("ws") => Some("http"),
        _ => None,
    }
}
