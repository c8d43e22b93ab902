//! `host[:port]`, as it stands in `Host`, `:authority` and `Origin`: read strictly, without allocating.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who is meant by an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostName<'a> {
    /// An address, written as `127.0.0.1` or `[::1]`.
    Address(IpAddr),
    /// Letters, digits, `-`, `_` and dots between them.
    Name(&'a str),
}

impl HostName<'_> {
    /// Whether both mean the same host. Names are equal without regard to case (RFC 9110 §4.2.3).
    pub fn is(&self, other: &HostName<'_>) -> bool {
        match (self, other) {
            (HostName::Address(left), HostName::Address(right)) => left == right,
            (HostName::Name(left), HostName::Name(right)) => left.eq_ignore_ascii_case(right),
            _ => false,
        }
    }
}

/// A host and perhaps a port.
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    /// The host.
    pub host: HostName<'a>,
    /// The port, where one is written.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host` or `host:port`. `None` for anything else: user names, empty ports, trailing dots, other alphabets.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let host = HostName::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?));
            let port = if rest.is_empty() { None } else { Some(port(rest.strip_prefix(':')?)?) };
            return Some(Self { host, port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, digits)) => (host, Some(port(digits)?)),
            None => (text, None),
        };
        let host = match host.parse::<Ipv4Addr>() {
            Ok(address) => HostName::Address(IpAddr::V4(address)),
            Err(_) if is_name(host) => HostName::Name(host),
            Err(_) => return None,
        };
        Some(Self { host, port })
    }

    /// The port that is meant under `scheme`.
    pub fn port_under(&self, scheme: &str) -> u16 {
        self.port.unwrap_or(if scheme == "https" { 443 } else { 80 })
    }
}

/// A web origin (RFC 6454): what a browser says a page came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host.
    pub host: HostName<'a>,
    /// The port, the scheme's own where none is written.
    pub port: u16,
}

impl<'a> Origin<'a> {
    /// Reads an origin as browsers write it: in lower case, nothing after the port. `None` for all else and for `null`.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let (scheme, rest) = match (bytes.strip_prefix(b"http://"), bytes.strip_prefix(b"https://")) {
            (Some(rest), _) => ("http", rest),
            (_, Some(rest)) => ("https", rest),
            _ => return None,
        };
        let authority = Authority::parse(rest)?;
        Some(Self { scheme, host: authority.host, port: authority.port_under(scheme) })
    }

    /// Whether both are one origin.
    pub fn is(&self, other: &Origin<'_>) -> bool {
        self.scheme == other.scheme && self.port == other.port && self.host.is(&other.host)
    }
}

fn port(digits: &str) -> Option<u16> {
    // `parse` alone would take a sign.
    let valid = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    if valid { digits.parse().ok() } else { None }
}

fn is_name(text: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
    // A last label of digits would be an address in another spelling, such as `127.1` or `2130706433`.
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(label)
        && !last.bytes().all(|c| c.is_ascii_digit())
        && !last.starts_with("0x")
}
