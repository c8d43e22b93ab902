//! `/api/plugins/{id}/rpc/{path}` → a plugin's server: one request to it, made anew from the client's, and its answer.
//!
//! Bodies stream both ways; which connection is used is the pool's business, which headers pass is said elsewhere. A
//! request is sent again only when that can be no second one.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::BytesMut;
use http::header::HOST;
use http::request::Parts as Head;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use tokio::time::timeout;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Limits;
use crate::edge::headers;
use crate::edge::line::{Line, dial};
use crate::edge::link::Link;
use crate::edge::parts::Parts;
use crate::edge::pool::Pool;
use crate::edge::upload::Verdict;
use crate::kernel::call::{Body, Caller, Response};
use crate::kernel::principal::Principal;
use crate::kernel::upstream::{Upstream, Upstreams};

/// What begins the path of every request to a server, before the plugin's id.
const BEFORE_ID: &str = "/api/plugins/";
/// What stands behind the id.
const RPC: &str = "rpc";
/// How many runs of a server a request may see end while it is on its way to one.
const RUNS: usize = 3;

/// What asks plugins' servers.
pub struct Proxy {
    pool: Pool,
    upstreams: Arc<dyn Upstreams>,
    limits: Limits,
}

/// A client's request as it comes to the proxy.
pub struct Asked {
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Body,
    /// What is known of a body that comes in pieces.
    pub verdict: Verdict,
    /// Who asks.
    pub caller: Caller,
}

impl Proxy {
    /// A proxy to the servers of `parts`. Needs a tokio runtime around the caller.
    pub fn new(parts: &Parts) -> Self {
        let pool = Pool::new(parts.meters.clone(), &parts.shutdown);
        Self { pool, upstreams: parts.upstreams.clone(), limits: parts.settings.limits.clone() }
    }

    /// Asks a plugin's server. Dropping the answer, or its body, ends the request at the server too.
    ///
    /// # Errors
    /// As `Upstreams::find`, and `Upstream`: the server refused, died or answered what cannot be passed on. `Timeout`:
    /// it gave no answer within the limit. Each blames the plugin.
    pub async fn ask(&self, link: &Link, asked: Asked) -> Result<Response> {
        let Asked { head, body, verdict, caller } = asked;
        let Head { method, uri, mut headers, .. } = head;
        let Some((plugin, target)) = aim(&uri) else {
            return Err(Error::new(Kind::NotFound, "a plugin's server is asked at /api/plugins/{id}/rpc/{path}"));
        };
        headers::forward(&mut headers, &method, body.size_hint().exact());
        let question = Question { method, target, headers, body };
        let answer = pin!(self.answer(plugin, question, &caller.principal));
        let answered = self.within(link, &verdict, answer).await.and_then(|answer| answer);
        answered.map_err(|error| if error.plugin().is_none() { error.blame(plugin) } else { error })
    }

    async fn answer(&self, plugin: &str, question: Question, principal: &Principal) -> Result<Response> {
        let upstream = self.upstreams.find(plugin).await?;
        let resting = self.pool.take(&upstream);
        let target = resting.as_ref().map_or_else(|| self.pool.target(&upstream), |line| line.target.clone());
        target.meter.called();
        let exchanged = self.exchange(upstream, resting, question, principal).await;
        let (upstream, line, answer) = exchanged.inspect_err(|_| target.meter.failed())?;
        upstream.has_answered();
        let (mut head, incoming) = answer.into_parts();
        if head.status.is_informational() {
            target.meter.failed();
            let message = format!("the server of plugin {plugin} answered {}, which nobody asked for", head.status);
            return Err(Error::new(Kind::Upstream, message));
        }
        headers::pass_back(&mut head.headers);
        let mut response = Response::new(self.pool.body(upstream.plugin.shared(), line, incoming));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        if let Some(reason) = head.extensions.remove::<ReasonPhrase>() {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// Sends the question on a connection that rests, else on a new one. It is sent again on a new one when a resting
    /// connection was closed by the server just then, and nothing was sent or the method says that twice is as once.
    async fn exchange(
        &self,
        mut upstream: Upstream,
        resting: Option<Line>,
        mut question: Question,
        principal: &Principal,
    ) -> Result<(Upstream, Line, http::Response<Incoming>)> {
        let mut next = resting;
        loop {
            let mut line = match next.take() {
                Some(line) => line,
                None => {
                    // Behind a pointer: it is rare, and every request would have room in it for this.
                    let (now, line) = Box::pin(self.open(upstream)).await?;
                    upstream = now;
                    line
                }
            };
            question.dress(&upstream, &line, principal);
            let reused = line.reused;
            let spare = if reused { question.copy() } else { None };
            let mut error = match line.ask(question.into_request()).await {
                Ok(answer) => return Ok((upstream, line, answer)),
                Err(error) => error,
            };
            question = match error.take_message().map(Question::of_request).or(spare) {
                Some(again) if reused => again,
                _ => return Err(died(&upstream, error.into_error())),
            };
        }
    }

    /// Opens a connection to a server that still runs once it is open: whoever else may listen on the port that a dead
    /// one has left is not asked, nor told a secret.
    async fn open(&self, mut upstream: Upstream) -> Result<(Upstream, Line)> {
        for _ in 0..RUNS {
            let stream = dial(&upstream).await;
            let now = self.upstreams.find(upstream.plugin.as_str()).await?;
            if now.run == upstream.run {
                let stream = stream?;
                // From here on what is sent reaches whoever has the port now, and nobody later.
                self.upstreams.confirm(&now).await?;
                let line = Line::open(self.pool.target(&now), stream).await?;
                return Ok((now, line));
            }
            upstream = now;
        }
        Err(Error::new(Kind::Upstream, "the plugin's server ends again and again: `plugbay logs` says why"))
    }

    /// Waits for an answer, at most the limit; while the request's body is on its way, from the last piece of it that
    /// the server took.
    async fn within<T>(
        &self,
        link: &Link,
        verdict: &Verdict,
        mut answer: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T> {
        let limit = self.limits.call_time;
        if !verdict.is_open() {
            return link.within(limit, answer).await;
        }
        loop {
            let taken = verdict.pieces();
            if let Ok(answer) = timeout(limit, answer.as_mut()).await {
                return Ok(answer);
            }
            if taken == verdict.pieces() {
                let message = format!("the plugin's server gave no answer within {} s", limit.as_secs_f64());
                return Err(Error::new(Kind::Timeout, message));
            }
        }
    }
}

/// A request to a server.
struct Question {
    method: Method,
    target: Uri,
    headers: HeaderMap,
    body: Body,
}

impl Question {
    /// Puts on what the host says to this run of the server.
    fn dress(&mut self, upstream: &Upstream, line: &Line, principal: &Principal) {
        let headers = &mut self.headers;
        headers.insert(HOST, line.target.host.clone());
        for (name, value) in &*upstream.secrets {
            headers.insert(name.clone(), value.clone());
        }
        let target = self.target.path_and_query().map_or("/", PathAndQuery::as_str);
        line.target.signer.sign(headers, principal.name(), self.method.as_str(), target);
    }

    /// The same once more, where asking twice is as asking once (RFC 9110 §9.2.2) and nothing of the body is lost.
    fn copy(&self) -> Option<Self> {
        let body = match &self.body {
            Body::Empty => Body::Empty,
            Body::Full(bytes) => Body::Full(bytes.clone()),
            Body::Stream(_) => return None,
        };
        let (method, target) = (self.method.clone(), self.target.clone());
        method.is_idempotent().then(|| Self { method, target, headers: self.headers.clone(), body })
    }

    fn into_request(self) -> http::Request<Body> {
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request
    }

    fn of_request(request: http::Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        Self { method: head.method, target: head.uri, headers: head.headers, body }
    }
}

/// The plugin that a path names, and the path and query that its server is asked for: what stands behind `rpc`, byte
/// for byte, without the parameters `token`.
fn aim(uri: &Uri) -> Option<(&str, Uri)> {
    let (plugin, rest) = uri.path().strip_prefix(BEFORE_ID)?.split_once('/')?;
    let path = match rest.strip_prefix(RPC)? {
        "" => "/",
        path => path,
    };
    let query = uri.query().and_then(headers::without_tokens);
    let mut target = BytesMut::with_capacity(path.len() + query.as_ref().map_or(0, |query| 1 + query.len()));
    target.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        target.extend_from_slice(b"?");
        target.extend_from_slice(query.as_bytes());
    }
    // A part of a target is a target.
    let target = PathAndQuery::from_maybe_shared(target.freeze()).ok()?;
    Some((plugin, Uri::from(target)))
}

/// What is said of a server that ended its connection instead of answering.
fn died(upstream: &Upstream, error: hyper::Error) -> Error {
    let plugin = upstream.plugin.shared();
    let message = if error.is_parse() {
        format!("what the server of plugin {plugin} answered is not HTTP")
    } else if error.is_user() {
        format!("the request to the server of plugin {plugin} broke off")
    } else {
        format!("the server of plugin {plugin} ended the connection without an answer")
    };
    Error::new(Kind::Upstream, message).with_source(error).blame(plugin)
}
