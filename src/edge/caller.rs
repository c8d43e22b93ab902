//! The one gate in front of every route: from where a request may come, who asks, and whether they may ask here.
//!
//! HTTP, WebSocket upgrades and preflights all pass it before any route sees them; no route checks a `Host`, an `Origin`
//! or a credential by itself. No byte of a request may make it panic.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderName, ORIGIN, UPGRADE, VARY,
};
use http::request::Parts as Head;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use crate::base::authority::{Authority, HostName, Origin};
use crate::base::error::{Error, Kind, Result};
use crate::edge::forwarded::Forwarded;
use crate::edge::page;
use crate::edge::parts::Parts;
use crate::engine::process::jobs::JOB_PREFIX;
use crate::kernel::auth::{Auth, Principal, Scope, Scopes};
use crate::kernel::call::{Body, Caller, Response};
use crate::kernel::secret::TOKEN_PREFIX;

/// Below it clients read what credential they need (RFC 9728).
const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the gate says to a request.
pub enum Admission {
    /// It goes on to its route.
    Pass(Caller),
    /// It was a CORS preflight, and this is the answer to it.
    Preflight(Response),
}

/// The gate in front of every route. Cloning is cheap.
#[derive(Clone)]
pub struct Gatekeeper {
    shared: Arc<Shared>,
}

struct Shared {
    auth: Auth,
    /// Where the host listens.
    bound: SocketAddr,
    /// Further hosts that it is known by, as `name` or `name:port`.
    names: Vec<Box<str>>,
    /// The origins of its own pages, beside the one that the request itself names.
    own_origins: Vec<Box<str>>,
    foreign_origins: Vec<Box<str>>,
    proxies: Vec<IpNet>,
    nobody: Principal,
    /// Begins every request id of this start.
    start: u32,
    requests: AtomicU64,
}

/// Where a request comes from, as its `Origin` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// It does not say: a program, or a page's plain link.
    Unsaid,
    /// From one of this host's own pages.
    Own,
    /// From an origin that the operator allowed.
    Allowed,
}

/// What a path asks of those who ask it.
enum Need {
    Nothing,
    Principal,
    Scope(Scope),
}

impl Gatekeeper {
    /// A gate for the host that listens at `bound`.
    pub fn new(parts: &Parts, bound: SocketAddr) -> Self {
        let settings = &parts.settings;
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let text = |url: &url::Url| url.origin().ascii_serialization().into_boxed_str();
        let mut names: Vec<Box<str>> = settings.allow_hosts.iter().map(|name| name.as_str().into()).collect();
        if let Some(url) = &settings.public_url {
            let port = url.port_or_known_default().unwrap_or_default();
            names.push(format!("{}:{port}", url.host_str().unwrap_or_default()).into());
            // Without the port too, where it is the scheme's own: the connection's scheme may be another.
            names.extend(url.port().is_none().then(|| url.host_str().unwrap_or_default().into()));
        }
        let mut own_origins = vec![format!("{scheme}://localhost:{}", bound.port()).into_boxed_str()];
        if !bound.ip().is_unspecified() {
            own_origins.push(format!("{scheme}://{bound}").into());
        }
        own_origins.extend(settings.public_url.as_ref().map(text));
        let shared = Shared {
            auth: parts.auth.clone(),
            bound,
            names,
            own_origins,
            foreign_origins: settings.allow_origins.iter().map(text).collect(),
            proxies: settings.trust_proxies.clone(),
            nobody: Principal::new("nobody", Scopes::default()),
            // Ids need to differ between starts, not to be secret; without random bytes the process id does.
            start: getrandom::u32().unwrap_or_else(|_| std::process::id()),
            requests: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lets a request through or refuses it. To be called before anything of the request is logged or routed: it takes
    /// tokens out of the query.
    ///
    /// `peer` and `local` are the two ends of the connection, `scheme` is `http` or `https` as the connection has it.
    ///
    /// # Errors
    /// `Malformed`: no `Host`, or several. `Misdirected`: a `Host` that is not ours. `Denied`: an `Origin` that is not
    /// allowed, a cookie from elsewhere, or a scope that is missing. `Unauthenticated`: no valid credential.
    pub fn admit(
        &self,
        head: &mut Head,
        peer: SocketAddr,
        local: SocketAddr,
        scheme: &'static str,
    ) -> Result<Admission> {
        let query_token = match head.uri.query() {
            None => None,
            Some(_) => take_tokens(&mut head.uri, names(&head.headers, &UPGRADE, b"websocket")),
        };
        let query_token = query_token.filter(|_| is_handshake(head));
        let asked = asked_host(head)?;
        let mut authority = self.shared.served(asked, local, scheme)?;
        let mut caller_scheme = scheme;
        let mut client = peer;
        if self.shared.proxies.iter().any(|range| range.contains(&peer.ip().to_canonical())) {
            let said = Forwarded::read(&head.headers, &self.shared.proxies);
            client = said.client.unwrap_or(peer);
            caller_scheme = said.scheme.unwrap_or(scheme);
            if let Some(host) = said.host {
                authority = self.shared.served(host.as_bytes(), local, caller_scheme)?;
            }
        }
        let from = self.shared.origin(&head.headers, authority, caller_scheme)?;
        if from == From::Allowed
            && head.method == Method::OPTIONS
            && let Some(method) = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Ok(Admission::Preflight(preflight(method, &head.headers)));
        }
        complete(head);
        let known = self.shared.identify(head, from, query_token.as_deref());
        let principal = match need(&head.method, head.uri.path()) {
            Need::Nothing => known.ok().flatten().unwrap_or_else(|| self.shared.nobody.clone()),
            Need::Principal => known?.ok_or_else(unauthenticated)?,
            Need::Scope(scope) => {
                let principal = known?.ok_or_else(unauthenticated)?;
                if !principal.has(scope) {
                    let error = without_scope(&principal, scope);
                    // For whoever records the refusal.
                    head.extensions.insert(principal);
                    return Err(error);
                }
                principal
            }
        };
        let request_id = self.shared.request_id();
        Ok(Admission::Pass(Caller { principal, client, server: local, scheme: caller_scheme, request_id }))
    }

    /// The request's origin, where it is a foreign one that the operator allowed. Whatever becomes of the request, its
    /// answer is then to carry the headers of [`share`].
    pub fn foreign_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let value = headers.get(ORIGIN)?;
        let origin = Origin::parse(value.as_bytes())?;
        is_among(&origin, &self.shared.foreign_origins).then(|| value.clone())
    }

    /// A new id for a request that does not reach the gate.
    pub fn request_id(&self) -> Arc<str> {
        self.shared.request_id()
    }
}

/// Lets pages of a foreign origin read an answer (CORS). Cookies stay out of it: such pages ask with a token.
pub fn share(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

impl Shared {
    /// The host that a request asks, if it is this one.
    fn served<'a>(&self, asked: &'a [u8], local: SocketAddr, scheme: &str) -> Result<Authority<'a>> {
        let authority = Authority::parse(asked).filter(|authority| self.is_served(authority, local, scheme));
        authority.ok_or_else(|| {
            let message = format!(
                "this host is not {}: it answers as localhost:{} and by its address; to give it another name, start it \
                 with --allow-host NAME or --public-url URL",
                shown(asked),
                self.bound.port()
            );
            Error::new(Kind::Misdirected, message)
        })
    }

    fn is_served(&self, authority: &Authority<'_>, local: SocketAddr, scheme: &str) -> bool {
        let own = match authority.host {
            HostName::Address(address) => {
                let loopback = self.bound.ip().is_loopback() || self.bound.ip().is_unspecified();
                address == local.ip().to_canonical() || (loopback && is_usual_loopback(address))
            }
            HostName::Name(name) => name.eq_ignore_ascii_case("localhost"),
        };
        (own && authority.port_under(scheme) == local.port()) || self.is_named(authority, scheme)
    }

    fn is_named(&self, authority: &Authority<'_>, scheme: &str) -> bool {
        self.names.iter().filter_map(|name| Authority::parse(name.as_bytes())).any(|known| {
            known.host.is(&authority.host) && known.port.is_none_or(|port| port == authority.port_under(scheme))
        })
    }

    fn origin(&self, headers: &HeaderMap, authority: Authority<'_>, scheme: &'static str) -> Result<From> {
        let mut values = headers.get_all(ORIGIN).iter();
        let Some(value) = values.next() else { return Ok(From::Unsaid) };
        let origin = Origin::parse(value.as_bytes()).filter(|_| values.next().is_none());
        if let Some(origin) = origin {
            let asked = Origin { scheme, host: authority.host, port: authority.port_under(scheme) };
            if origin.is(&asked) || is_among(&origin, &self.own_origins) {
                return Ok(From::Own);
            }
            if is_among(&origin, &self.foreign_origins) {
                return Ok(From::Allowed);
            }
        }
        let message = format!(
            "pages from {} may not ask this host: to let them, start it with --allow-origin URL, or with --public-url URL \
             if that is this host's own address",
            shown(value.as_bytes())
        );
        Err(Error::new(Kind::Denied, message))
    }

    /// Whose credential the request carries. A bearer token that is not of this host's form is left to the plugin.
    fn identify(&self, head: &Head, from: From, query_token: Option<&[u8]>) -> Result<Option<Principal>> {
        let headers = &head.headers;
        let bearer = bearer(headers)?;
        for token in bearer.into_iter().chain(query_token) {
            if let Some(principal) = self.auth.token(token) {
                return Ok(Some(principal));
            }
            if token.starts_with(TOKEN_PREFIX.as_bytes()) && self.auth.anonymous().is_none() {
                let message = "this token is unknown, was revoked or has expired: ask for another";
                return Err(Error::new(Kind::Unauthenticated, message));
            }
        }
        // What a browser adds by itself counts only when the page that made it ask is one of ours.
        let own_page = match fetch_site(headers) {
            None => from == From::Own || (from == From::Unsaid && is_seen(head)),
            Some(b"same-origin" | b"none") => from != From::Allowed,
            Some(_) => false,
        };
        if let Some(principal) = self.session(headers) {
            if own_page {
                return Ok(Some(principal));
            }
            let message = "a session cookie counts only for this host's own pages: use a token elsewhere";
            return Err(Error::new(Kind::Denied, message));
        }
        let Some(local) = self.auth.anonymous() else { return Ok(None) };
        // A program says neither where it comes from nor for which page.
        if own_page || from == From::Allowed || (from == From::Unsaid && fetch_site(headers).is_none()) {
            return Ok(Some(local));
        }
        let message = "a page of another site made this request: to let it, start the host with --allow-origin URL";
        Err(Error::new(Kind::Denied, message))
    }

    fn session(&self, headers: &HeaderMap) -> Option<Principal> {
        sessions(headers, self.auth.cookie_name()).find_map(|id| self.auth.session(id))
    }

    fn request_id(&self) -> Arc<str> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        // Eight digits of the start, then as many as the number needs, at least eight.
        let high = u32::try_from(number >> 32).unwrap_or_default();
        let mut id = String::with_capacity(24);
        for part in [Some(self.start), (high != 0).then_some(high), Some(number as u32)].into_iter().flatten() {
            let digits = (0..8).rev().map(|place| char::from(b"0123456789abcdef"[(part >> (4 * place)) as usize & 15]));
            id.extend(digits);
        }
        id.into()
    }
}

/// The one host that a request names: its `Host`, or in HTTP/2 its `:authority`; both must agree.
fn asked_host(head: &Head) -> Result<&[u8]> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let malformed = |message: &'static str| Err(Error::new(Kind::Malformed, message));
    match (hosts.next().map(HeaderValue::as_bytes), hosts.next(), authority) {
        (_, Some(_), _) => malformed("the request has several Host headers: send one"),
        (None, _, None) => malformed("the request has no Host header: send one, as HTTP/1.1 asks"),
        (Some(host), None, Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            malformed("the request's Host header and its target name different hosts: send one of them")
        }
        (Some(host), None, _) => Ok(host),
        (None, None, Some(authority)) => Ok(authority),
    }
}

fn need(method: &Method, path: &str) -> Need {
    let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if matches!(path, "/healthz" | "/readyz") || path.starts_with("/sign-in/") || below(RESOURCE_METADATA) {
        Need::Nothing
    } else if below("/api/host/tokens") || below("/api/host/audit") || below("/api/host/permissions") {
        Need::Scope(Scope::Admin)
    } else if below("/mcp") {
        // The scope is asked for where the tool is known, so that the refusal of a call is recorded.
        Need::Principal
    } else if below("/api/host/tools") && *method == Method::POST {
        Need::Scope(Scope::Call)
    } else if below("/api/host/plugins") && !is_look(method, path) {
        Need::Scope(Scope::Admin)
    } else if below("/api/host") {
        Need::Principal
    } else if below("/api") || below("/plugin-ws") {
        Need::Scope(Scope::Call)
    } else {
        Need::Principal
    }
}

/// The tool that a request calls by its path; `None` when it calls none.
pub fn called<'a>(method: &Method, path: &'a str) -> Option<Cow<'a, str>> {
    let name = path.strip_prefix("/api/host/tools/").filter(|name| !name.is_empty() && !name.contains('/'))?;
    (*method == Method::POST).then(|| percent_decode_str(name).decode_utf8_lossy())
}

/// Whether a request only looks at the plugins, or at one of them: what is below may hold what is not for everybody.
fn is_look(method: &Method, path: &str) -> bool {
    let below = path.strip_prefix("/api/host/plugins").unwrap_or_default().trim_start_matches('/');
    // No id needs an escape, and a job's could hide behind one.
    matches!(*method, Method::GET | Method::HEAD) && !below.contains(['/', '%']) && !below.starts_with(JOB_PREFIX)
}

/// What a principal is told that lacks a scope.
pub fn without_scope(principal: &Principal, scope: Scope) -> Error {
    let message = format!("{} may not do this: its token needs the scope {:?}", principal.name(), scope.as_str());
    Error::new(Kind::Denied, message)
}

fn unauthenticated() -> Error {
    let message = "this needs a credential: send the header \"Authorization: Bearer TOKEN\" with a token of this host (the \
                   owner's is in the file `token` of its home folder), or sign in with the link that `plugbay sign-in` prints";
    Error::new(Kind::Unauthenticated, message)
}

/// What the cookies of that name hold.
pub fn sessions<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|c| *c == b';')).map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Whether a request is for what a page of the host shows. Over plain HTTP browsers say where a page lies on loopback
/// alone, and no origin where they only look; a look changes nothing, its answer is for nobody else's page to read, and
/// pages of other sites send no cookie at all, since it is `SameSite=Strict`.
fn is_seen(head: &Head) -> bool {
    matches!(head.method, Method::GET | Method::HEAD) && page::is_shown(head.uri.path())
}

/// The token of `Authorization: Bearer TOKEN`. Other schemes are left to the plugin.
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let message = "the request has several Authorization headers: send one";
        return Err(Error::new(Kind::Unauthenticated, message));
    }
    let value = value.as_bytes().trim_ascii();
    let (scheme, token) = value.split_at_checked(7).unwrap_or((value, b""));
    Ok(scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()))
}

/// Where a browser says that the page lies; several words, which no browser sends, are as good as a foreign one.
pub fn fetch_site(headers: &HeaderMap) -> Option<&[u8]> {
    let mut sites = headers.get_all(FETCH_SITE).iter();
    let site = sites.next()?;
    Some(if sites.next().is_none() { site.as_bytes() } else { b"" })
}

/// Gives a request of HTTP/2 the form that it has in HTTP/1.1, which apps know: a `Host`, and one `Cookie` (RFC 9113
/// §8.2.3).
fn complete(head: &mut Head) {
    if head.version != Version::HTTP_2 {
        return;
    }
    if !head.headers.contains_key(HOST)
        && let Some(host) = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        head.headers.insert(HOST, host);
    }
    let crumbs: Vec<&[u8]> = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        head.headers.insert(COOKIE, cookie);
    }
}

/// Whether a request opens a WebSocket, as only browsers' scripts need to without a header of their own.
fn is_handshake(head: &Head) -> bool {
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && names(&head.headers, &CONNECTION, b"upgrade")
        && names(&head.headers, &UPGRADE, b"websocket")
}

/// Whether a header that is a list has `word` in it.
fn names(headers: &HeaderMap, header: &HeaderName, word: &[u8]) -> bool {
    let mut words = headers.get_all(header).iter().flat_map(|line| line.as_bytes().split(|c| *c == b','));
    words.any(|each| each.trim_ascii().eq_ignore_ascii_case(word))
}

/// Takes every `token` out of a WebSocket's query, and of other queries those that are tokens of this host, so that none
/// is seen by a handler or written to a log. Returns the first.
fn take_tokens(uri: &mut Uri, upgrade: bool) -> Option<Vec<u8>> {
    let query = uri.query()?;
    let mut token = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value: Vec<u8> = percent_decode_str(value).collect();
        let is_token = percent_decode_str(key).eq(b"token".iter().copied());
        if is_token && (upgrade || value.starts_with(TOKEN_PREFIX.as_bytes())) {
            token.get_or_insert(value);
        } else {
            rest.push(pair);
        }
    }
    token.as_ref()?;
    let target = if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), rest.join("&")) };
    let mut parts = std::mem::take(uri).into_parts();
    // A part of a target is a target; were it ever not, the request would go to "/" and not leak its token.
    parts.path_and_query = target.try_into().ok().or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
    *uri = Uri::from_parts(parts).unwrap_or_default();
    token
}

fn preflight(method: &HeaderValue, headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if headers.contains_key("access-control-request-private-network") {
        answer.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn is_among(origin: &Origin<'_>, list: &[Box<str>]) -> bool {
    list.iter().filter_map(|text| Origin::parse(text.as_bytes())).any(|known| known.is(origin))
}

/// `127.0.0.1` or `[::1]`: what people type for this machine.
fn is_usual_loopback(address: IpAddr) -> bool {
    address == IpAddr::from([127, 0, 0, 1]) || address == IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
}

/// Bytes of a peer as short quoted text for a message.
fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes).chars().take(80).collect::<String>())
}
