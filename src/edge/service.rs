//! One request from its head to the head of its answer: the gate, the limits, then a plugin's route or the host's own
//! router. Every answer passes here, whoever gave it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::response::Response as AxumResponse;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts as Head;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tower_service::Service as _;

use crate::base::error::{Error, Kind, Result};
use crate::base::log;
use crate::base::shutdown::panic_text;
use crate::edge::access::{AccessLog, Account};
use crate::edge::caller::{self, Admission, Gatekeeper};
use crate::edge::failure;
use crate::edge::leash::{Cut, leash};
use crate::edge::link::{Link, Protocol, Service, Turn};
use crate::edge::mcp_auth;
use crate::edge::metrics::{self, Group, Metrics};
use crate::edge::page;
use crate::edge::parts::Parts;
use crate::edge::plugin_ws;
use crate::edge::proxy::{self, Proxy};
use crate::edge::reply::{Content, Outgoing, leashed};
use crate::edge::routes::{self, Found};
use crate::edge::upload::{self, Terms, Verdict};
use crate::kernel::auth::Principal;
use crate::kernel::call::{Body, Caller, Door};
use crate::kernel::toolbox::Misfit;

/// The header that names a request, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const REQUEST_ID_BYTES: usize = 64;

/// What answers requests, for every connection.
pub struct Core {
    parts: Parts,
    gate: Gatekeeper,
    router: Router,
    proxy: Proxy,
    metrics: Metrics,
    log: AccessLog,
}

/// What becomes of a request before its body is looked at.
enum Entry {
    /// It has its answer.
    Answered(Response<Body>),
    /// It goes on to whom it asks.
    Asks(Found, Caller),
}

/// What a connection of the reserve may ask.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
/// The one path that is answered here: what is counted is counted here.
const METRICS: &str = "/metrics";

impl Core {
    /// Answers with the plugins of `parts` and, for every other path, with `router`. Needs a tokio runtime around the
    /// caller.
    pub fn new(parts: Parts, gate: Gatekeeper, router: Router, metrics: Metrics) -> Self {
        let log = if parts.settings.access_log { AccessLog::On } else { AccessLog::Off };
        let proxy = Proxy::new(&parts);
        Self { parts, gate, router, proxy, metrics, log }
    }

    /// The parts that it answers with.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one request of `link`. Dropping the answer cancels the handler.
    ///
    /// # Errors
    /// None: whatever fails is an answer too.
    pub fn call(
        self: &Arc<Self>,
        link: &Arc<Link>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Outgoing>, Infallible>> + Send + use<> {
        let turn = Turn::begin(link);
        let (core, link) = (self.clone(), link.clone());
        async move { Ok(core.respond(&link, turn, request).await) }
    }

    async fn respond(&self, link: &Link, turn: Turn, request: Request<Incoming>) -> Response<Outgoing> {
        let (mut head, incoming) = request.into_parts();
        let origin = self.gate.foreign_origin(&head.headers);
        let own_id = own_id(&head.headers);
        // First of all: it takes tokens out of the target.
        let mut admission = self.gate.admit(&mut head, link.peer, link.local, link.scheme);
        let id = match (&mut admission, own_id) {
            (Ok(Admission::Pass(caller)), Some(id)) => {
                caller.request_id = id.clone();
                id
            }
            (Ok(Admission::Pass(caller)), None) => caller.request_id.clone(),
            (_, own_id) => own_id.unwrap_or_else(|| self.gate.request_id()),
        };
        let challenge = mcp_auth::challenge(&self.parts.settings, &head, link.scheme);
        let mut account = Account::open(turn, self.log, &head, &id);
        let answered = {
            let mut answer = pin!(self.answer(link, admission, (head, incoming), &mut account));
            poll_fn(|context| {
                let _request = log::within_request(&id);
                catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)))
                    .unwrap_or_else(|panic| Poll::Ready(Err(self.panicked(&*panic))))
            })
            .await
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                let _request = log::within_request(&id);
                refusal(&error).map(Content::Kernel)
            }
        };
        let is_unknown = response.status() == StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        if let Some(challenge) = challenge.filter(|_| is_unknown) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(origin) = origin {
            caller::share(origin, headers);
        }
        if link.service == Service::Reserve {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let named = HeaderValue::from_str(&id).expect("an id has only letters that a header may have");
        headers.insert(X_REQUEST_ID, named);
        account.answered(response.status().as_u16());
        response.map(|content| Outgoing::new(content, account))
    }

    async fn answer(
        &self,
        link: &Link,
        admission: Result<Admission>,
        request: (Head, Incoming),
        account: &mut Account,
    ) -> Result<Response<Content>> {
        let (head, mut incoming) = request;
        let (found, caller) = match self.enter(link, admission, &head, account) {
            Ok(Entry::Asks(found, caller)) => (found, caller),
            Ok(Entry::Answered(response)) => {
                let open = !upload::discard(&mut incoming).await;
                return Ok(ending(link, open, response.map(Content::Kernel)));
            }
            Err(error) => {
                let open = !upload::discard(&mut incoming).await;
                let page = page::refusal(&head, &error).map(|page| page.map(Content::Axum));
                return Ok(ending(link, open, page.unwrap_or_else(|| refusal(&error).map(Content::Kernel))));
            }
        };
        let (body, verdict) = match upload::receive(&head, incoming, self.terms(&found)).await {
            Ok(received) => received,
            Err(error) => {
                let error = self.recorded(&head, Some(&caller.principal), error);
                return Ok(ending(link, true, refusal(&error).map(Content::Kernel)));
            }
        };
        let principal = caller.principal.clone();
        // Some behind a pointer: every request moves through a future that has room for all of them.
        let response = match found {
            Found::Mount(mount) => {
                routes::ask(&self.parts, link, &mount, head, (body, caller)).await.map(|it| leashed(it, principal))
            }
            Found::Server => {
                let asked = proxy::Asked { head, body, verdict: verdict.clone(), caller };
                Box::pin(self.proxy.ask(link, asked)).await.map(|it| leashed(it, principal))
            }
            Found::Tunnel => {
                let opened = Box::pin(plugin_ws::open(&self.parts, &self.metrics, head, caller));
                Ok(opened.await.map(Content::Kernel))
            }
            Found::Host | Found::Nobody => self.route(head, body, caller).await.map(|it| it.map(Content::Axum)),
        };
        let response = match self.judged(&verdict, response) {
            Ok(response) => response,
            Err(error) => refusal(&error).map(Content::Kernel),
        };
        // A handler that answers in pieces may still be reading: an echo, say.
        let streams = matches!(response.body(), Content::Kernel(Body::Stream(_)));
        if verdict.is_open() && streams {
            link.pulse.owe();
        }
        Ok(ending(link, verdict.is_open() && !streams, response))
    }

    /// Records the refusal of a call whose body is not read: its caller lacks the scope, or it is announced as too large.
    fn recorded(&self, head: &Head, principal: Option<&Principal>, error: Error) -> Error {
        match (caller::called(&head.method, head.uri.path()), principal) {
            (Some(tool), Some(principal)) => {
                self.parts.toolbox.refuse(&Misfit { door: Door::Http, principal, tool: &tool }, error)
            }
            _ => error,
        }
    }

    /// What needs no body: whether the request may go on, and to whom.
    fn enter(&self, link: &Link, admission: Result<Admission>, head: &Head, account: &mut Account) -> Result<Entry> {
        let path = head.uri.path();
        if link.service == Service::Reserve && !HEALTH.contains(&path) {
            return Err(full());
        }
        let caller = match admission.map_err(|error| self.recorded(head, head.extensions.get(), error))? {
            Admission::Pass(caller) => caller,
            Admission::Preflight(response) => return Ok(Entry::Answered(response)),
        };
        account.asked_by(caller.principal.name());
        if path == METRICS && matches!(head.method, Method::GET | Method::HEAD) {
            return Ok(Entry::Answered(self.counts()));
        }
        if head.method == Method::CONNECT {
            // A handler's 200 to it would turn the connection into a tunnel.
            return Err(Error::new(Kind::Invalid, "this host is no proxy: it does not answer CONNECT"));
        }
        let found = routes::find(&self.parts, path);
        if !matches!(found, Found::Host) {
            account.answered_by(Group::Plugin);
            routes::awake(&self.parts)?;
        }
        if matches!(found, Found::Nobody) {
            return Err(routes::nobody(path));
        }
        Ok(Entry::Asks(found, caller))
    }

    /// How much of a body is taken, and how patiently.
    fn terms(&self, found: &Found) -> Terms {
        let limits = &self.parts.settings.limits;
        let limit = match found {
            Found::Server => limits.proxy_body_bytes.unwrap_or(usize::MAX),
            Found::Mount(_) | Found::Tunnel | Found::Nobody | Found::Host => limits.body_bytes,
        };
        Terms { limit, stall_time: limits.stall_time }
    }

    /// Asks the host's own router. While the bytes of a request come its token may be taken back: then it is refused,
    /// whatever its handler made of what it got. A call of a tool sees to that by itself, and records it.
    async fn route(&self, head: Head, body: Body, caller: Caller) -> Result<AxumResponse> {
        let is_call = caller::called(&head.method, head.uri.path()).is_some() || head.uri.path() == mcp_auth::PATH;
        let (body, cut) = match body {
            Body::Stream(_) if !is_call => leash(body, &caller.principal),
            other => (other, None),
        };
        let body = match body {
            Body::Empty => AxumBody::empty(),
            Body::Full(bytes) => AxumBody::from(bytes),
            Body::Stream(stream) => AxumBody::new(Body::Stream(stream)),
        };
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(caller);
        let Ok(response) = self.router.clone().call(request).await;
        cut.and_then(Cut::take).map_or(Ok(response), Err)
    }

    /// A request whose body broke a limit is answered so, whatever its handler made of it.
    fn judged(&self, verdict: &Verdict, response: Result<Response<Content>>) -> Result<Response<Content>> {
        let limits = &self.parts.settings.limits;
        if let Some(limit) = verdict.too_large() {
            return Err(upload::too_large(limit));
        }
        if verdict.is_stalled() {
            let error = upload::stalled(limits.stall_time);
            let title = "Request timed out";
            let answer = failure::problem(StatusCode::REQUEST_TIMEOUT, error.kind(), title, error.message(), None);
            return Ok(answer.map(Content::Kernel));
        }
        response
    }

    fn counts(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(Bytes::from(self.metrics.text(&self.parts))));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::MEDIA_TYPE));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Error {
        self.metrics.panicked();
        Error::new(Kind::Internal, "the host failed at this request; its log says why")
            .with_source(std::io::Error::other(format!("panicked: {}", panic_text(panic))))
    }
}

/// An answer that says that its connection ends with it, where more of the request may come that nobody reads: without
/// the word the client's next request would be lost.
fn ending(link: &Link, open: bool, mut response: Response<Content>) -> Response<Content> {
    if open && link.protocol == Protocol::Http1 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a connection beyond the limit.
pub fn full() -> Error {
    Error::new(Kind::Busy, "this host has as many connections as it may have: ask again in a moment")
}

/// Writes a failure to the log where it is one of ours, and makes its answer.
fn refusal(error: &Error) -> Response<Body> {
    log::report(error);
    let mut response = failure::response(error);
    if error.kind() == Kind::Unavailable {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The client's own id, where it is one of letters, digits, `.`, `_` and `-`.
fn own_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let sane = (1..=REQUEST_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    sane.then(|| id.into())
}
