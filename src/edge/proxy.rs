//! `/api/plugins/{id}/rpc/{path}` → a plugin's server: one request to it, made anew from the client's, and its answer.
//!
//! Bodies stream both ways; which connection is used is the pool's business, which headers pass is said elsewhere. A
//! request is sent again only when that can be no second one.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use http::Uri;
use http::header::HOST;
use http::request::Parts as Head;
use tokio::time::timeout;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Limits;
use crate::edge::headers;
use crate::edge::line::{Failure, Line, dial};
use crate::edge::link::Link;
use crate::edge::outbox::{self, Framing};
use crate::edge::parts::Parts;
use crate::edge::pool::Pool;
use crate::edge::upload::Verdict;
use crate::kernel::call::{Body, Caller, Response};
use crate::kernel::principal::Principal;
use crate::kernel::upstream::{Upstream, Upstreams};

/// What begins the path of every request to a server, before the plugin's id.
const BEFORE_ID: &str = "/api/plugins/";
/// What stands behind the id.
const RPC: &str = "/rpc";
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
        let Some((plugin, path)) = aim(&asked.head.uri) else {
            return Err(Error::new(Kind::NotFound, "a plugin's server is asked at /api/plugins/{id}/rpc/{path}"));
        };
        let question = Question { head: &asked.head, path, principal: &asked.caller.principal };
        let answer = pin!(self.answer(plugin, question, asked.body));
        let answered = self.within(link, &asked.verdict, answer).await.and_then(|answer| answer);
        answered.map_err(|error| if error.plugin().is_none() { error.blame(plugin) } else { error })
    }

    async fn answer(&self, plugin: &str, question: Question<'_>, body: Body) -> Result<Response> {
        let upstream = match self.upstreams.now(plugin) {
            Some(found) => found?,
            None => self.upstreams.find(plugin).await?,
        };
        let resting = self.pool.take(&upstream);
        let target = resting.as_ref().map_or_else(|| self.pool.target(&upstream), |line| line.target.clone());
        target.meter.called();
        let exchanged = self.exchange(upstream, resting, question, body).await;
        let (upstream, line, answer) = exchanged.inspect_err(|_| target.meter.failed())?;
        upstream.has_answered();
        let plugin = upstream.plugin.shared();
        if answer.status().is_informational() {
            target.meter.failed();
            let message = format!("the server of plugin {plugin} answered {}, which nobody asked for", answer.status());
            return Err(Error::new(Kind::Upstream, message));
        }
        Ok(answer.map(|()| self.pool.body(plugin, line)))
    }

    /// Sends the question on a connection that rests, else on a new one. It is sent again on a new one when a resting
    /// connection was closed by the server just then, and nothing was sent or the method says that twice is as once.
    async fn exchange(
        &self,
        mut upstream: Upstream,
        resting: Option<Box<Line>>,
        question: Question<'_>,
        mut body: Body,
    ) -> Result<(Upstream, Box<Line>, http::Response<()>)> {
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
            let framing = question.write(&mut line, &upstream, &body);
            // Where asking twice is as asking once (RFC 9110 §9.2.2) and nothing of the body is lost.
            let spare = if line.reused && question.head.method.is_idempotent() { copy(&body) } else { None };
            body = match line.ask(&question.head.method, body, framing).await {
                Ok(answer) => return Ok((upstream, line, answer)),
                Err(Failure::Unsent(_, body)) if line.reused => body,
                Err(failure) => {
                    let again = spare.filter(|_| matches!(failure, Failure::Ended(_)));
                    // What a run had in hand when it ended is not given to the next: it may be what has ended it.
                    let goes_on = again.is_some() && self.upstreams.confirm(&upstream).await.is_ok();
                    match again {
                        Some(body) if goes_on => body,
                        _ => return Err(failure.into_error(&upstream.plugin.shared())),
                    }
                }
            };
        }
    }

    /// Opens a connection to a server that still runs once it is open: whoever else may listen on the port that a dead
    /// one has left is not asked, nor told a secret.
    async fn open(&self, mut upstream: Upstream) -> Result<(Upstream, Box<Line>)> {
        for _ in 0..RUNS {
            let stream = dial(&upstream).await;
            let now = self.upstreams.find(upstream.plugin.as_str()).await?;
            if now.run == upstream.run {
                let stream = stream?;
                // From here on what is sent reaches whoever has the port now, and nobody later.
                self.upstreams.confirm(&now).await?;
                let line = Box::new(Line::new(self.pool.target(&now), stream));
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

/// A request to a server, but for its body.
#[derive(Clone, Copy)]
struct Question<'a> {
    head: &'a Head,
    /// The path that the server is asked for.
    path: &'a str,
    principal: &'a Principal,
}

impl Question<'_> {
    /// Writes the head for this run of the server, and the body where it is there whole.
    fn write(&self, line: &mut Line, upstream: &Upstream, body: &Body) -> Framing {
        let target = line.target.clone();
        let (method, into) = (self.head.method.as_str(), line.room());
        into.extend_from_slice(method.as_bytes());
        into.push(b' ');
        let start = into.len();
        into.extend_from_slice(self.path.as_bytes());
        if let Some(query) = self.head.uri.query().and_then(headers::without_tokens) {
            into.push(b'?');
            into.extend_from_slice(query.as_bytes());
        }
        let asked = start..into.len();
        into.extend_from_slice(b" HTTP/1.1\r\n");
        headers::put(into, HOST.as_str(), target.host.as_bytes());
        headers::forward(&self.head.headers, into);
        for (name, value) in &*upstream.secrets {
            headers::put(into, name.as_str(), value.as_bytes());
        }
        target.signer.write(into, self.principal.name(), method, asked);
        outbox::frame(body, &self.head.method, into)
    }
}

/// The same body once more, where it is there whole.
fn copy(body: &Body) -> Option<Body> {
    match body {
        Body::Empty => Some(Body::Empty),
        Body::Full(bytes) => Some(Body::Full(bytes.clone())),
        Body::Stream(_) => None,
    }
}

/// The plugin that a path names, and the path that its server is asked for: what stands behind `rpc`, byte for byte.
fn aim(uri: &Uri) -> Option<(&str, &str)> {
    let below = uri.path().strip_prefix(BEFORE_ID)?;
    let (plugin, rest) = below.split_at(below.bytes().position(|byte| byte == b'/')?);
    match rest.strip_prefix(RPC)? {
        "" => Some((plugin, "/")),
        path => Some((plugin, path)),
    }
}
