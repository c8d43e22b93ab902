//! URLs as rules see them: in the one form that is shown and allowed, and in all those that programs take it for.

use std::net::{Ipv4Addr, Ipv6Addr};

use percent_encoding::percent_decode_str;
use url::{Host, Position, Url};

use crate::kernel::flat::flat;
use crate::kernel::told::Told;

/// How often a path may be decoded on its way: by what passes a request on, and by what answers it.
const DECODED: usize = 2;

/// What a URL may be taken for.
pub fn tell_url(text: &str) -> Told {
    let Ok(mut url) = Url::parse(text) else { return Told::unknown() };
    url.set_fragment(None);
    let whole = url.to_string();
    let named = !url.username().is_empty() || url.password().is_some();
    if named && url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return Told::unknown().also(Some(whole));
    }
    let mut told = if all_read_alike(text) { Told::surely(url.to_string()) } else { Told::unknown() };
    // What stands before the host looks like one: no rule is to take it for the host.
    told.surely &= !named;
    told.needed = other_places(&url);
    url_forms(&url).into_iter().chain([whole]).fold(told, |told, form| told.also(Some(form)))
}

/// Whether every parser finds the same host in a URL: browsers take a backslash for a slash, leave out tabs and find a
/// host where others find none.
fn all_read_alike(text: &str) -> bool {
    let odd = |c: char| c == '\\' || c.is_whitespace() || c.is_control();
    let Some((scheme, rest)) = text.split_once("://").filter(|_| !text.contains(odd)) else { return false };
    // A file is nobody's where no host stands, and all agree on that.
    !scheme.contains([':', '/', '?', '#'])
        && (scheme.eq_ignore_ascii_case("file") || !rest.is_empty() && !rest.starts_with(['/', '?', '#']))
}

/// A URL as it is, and what a server may take it for: its host told in another way, and its path decoded and flattened,
/// as it is then and as it is written in a URL.
pub fn url_forms(url: &Url) -> Vec<String> {
    let told = |url: Url| {
        let decoded = paths(url.path()).into_iter().flat_map(|path| {
            let written = format!("{}{path}{}", &url[..Position::BeforePath], &url[Position::AfterPath..]);
            [written, with_path(&url, &path)]
        });
        std::iter::once(url.to_string()).chain(decoded).collect::<Vec<_>>()
    };
    let mut forms = Vec::new();
    for form in hosts(url).into_iter().flat_map(told) {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// The URLs that a server may take this one for that lie elsewhere: decoded, its path has other steps.
fn other_places(url: &Url) -> Vec<String> {
    let mut path = url.path().to_owned();
    let steps = path.split('/').count();
    let moves = (0..DECODED).any(|_| {
        path = decoded(&path);
        path.split('/').count() != steps || path.split('/').any(|step| matches!(step, "." | ".."))
    });
    if !moves {
        return Vec::new();
    }
    paths(url.path()).iter().map(|path| with_path(url, path)).filter(|form| form != url.as_str()).collect()
}

fn with_path(url: &Url, path: &str) -> String {
    let mut other = url.clone();
    other.set_path(path);
    other.into()
}

/// A path that is decoded once, as servers do that take a backslash for a slash.
fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().replace('\\', "/")
}

/// What a path becomes when it is decoded, up to [`DECODED`] times, and flattened at the end or after each time.
fn paths(path: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut begun = vec![path.to_owned()];
    for _ in 0..DECODED {
        let read: Vec<String> = begun.iter().map(|path| decoded(path)).collect();
        let flattened: Vec<String> = read.iter().map(|path| flat(path)).collect();
        found.extend(flattened.iter().cloned());
        begun = read.into_iter().chain(flattened).collect();
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The URL with its host as it is, and as others tell it: without a dot behind it, in small letters, as the IPv4 address
/// that an IPv6 address stands for, and for a file without any.
fn hosts(url: &Url) -> Vec<Url> {
    let with_host = |host: Option<&str>| {
        let mut other = url.clone();
        other.set_host(host).is_ok().then_some(other)
    };
    let mut found = vec![url.clone()];
    match url.host() {
        Some(Host::Domain(name)) => {
            found.extend(with_host(Some(name.trim_end_matches('.'))));
            if !is_special(url) {
                found.extend(with_host(Some(known_host(name).trim_end_matches('.'))));
            }
        }
        Some(Host::Ipv6(ip)) => found.extend(stands_for(ip).and_then(|ip| with_host(Some(&ip.to_string())))),
        _ => {}
    }
    if url.scheme() == "file" {
        found.extend(with_host(None));
    }
    found
}

/// Whether the host of a URL is parsed; of the others it is kept as it is written.
pub fn is_special(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https" | "ws" | "wss" | "ftp" | "file")
}

/// A host as it would be told in a URL of the web.
fn known_host(name: &str) -> String {
    let parsed = Url::parse(&format!("http://{name}/")).ok();
    parsed.as_ref().and_then(Url::host_str).map_or_else(|| name.to_lowercase(), str::to_owned)
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, translated (SIIT, NAT64) or 6to4.
fn stands_for(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}
