//! One HTTP/1.1 connection to a plugin's server, driven by whoever asks on it.
//!
//! hyper's connection is a future of its own; it is polled here within the task of the client's request, not in a task
//! beside it: a request then costs no hand-over between tasks, and who drops the request closes the connection. Since
//! the connection is always polled first, what comes out of it needs no wake-up of its own.

use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::base::error::{Error, Kind, Result};
use crate::edge::sign::Signer;
use crate::kernel::call::Body;
use crate::kernel::meter::Meter;
use crate::kernel::upstream::Upstream;

/// How long the server may take to accept a connection on loopback: only one whose queue is full takes any time.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a connection may be unused. Node's own limit is 5 s, and a request that crosses its end is lost.
pub const IDLE_TIME: Duration = Duration::from_secs(4);

/// One run of a plugin's server, and what is made once for all of its requests.
pub struct Target {
    /// Which run of the server.
    pub run: u64,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// The `Host` of requests to it.
    pub host: HeaderValue,
    /// Who signs them.
    pub signer: Signer,
    /// Where they are counted.
    pub meter: Arc<Meter>,
}

impl Target {
    /// The target of an upstream.
    pub fn new(upstream: &Upstream, meter: Arc<Meter>) -> Self {
        let host = HeaderValue::try_from(format!("127.0.0.1:{}", upstream.port));
        let host = host.expect("an address has only letters that a header may have");
        Self { run: upstream.run, port: upstream.port, host, signer: Signer::new(&upstream.key), meter }
    }
}

/// Opens a stream to a plugin's server.
///
/// # Errors
/// `Upstream`: it refuses. `Timeout`: it does not accept.
pub async fn dial(upstream: &Upstream) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream.port));
    let plugin = upstream.plugin.shared();
    let stream = match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let message = format!("the server of plugin {plugin} takes no connection: {error}");
            return Err(Error::new(Kind::Upstream, message).with_source(error).blame(plugin));
        }
        Err(_) => {
            let seconds = CONNECT_TIME.as_secs();
            let message = format!("the server of plugin {plugin} accepted no connection within {seconds} s");
            return Err(Error::new(Kind::Timeout, message).blame(plugin));
        }
    };
    // It fails only on a connection that is gone already.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// What moves the bytes of a connection.
type Wire = Connection<TokioIo<TcpStream>, Body>;

/// One connection.
pub struct Line {
    /// To which run of which server.
    pub target: Arc<Target>,
    /// Whether an answer has come on it before.
    pub reused: bool,
    sender: SendRequest<Body>,
    /// None when it has ended.
    connection: Option<Pin<Box<Wire>>>,
    /// For how long the server keeps the connection after this answer.
    kept: Duration,
    rested: Instant,
}

impl Line {
    /// Speaks HTTP on a stream.
    ///
    /// # Errors
    /// `Upstream`: the stream has ended.
    pub async fn open(target: Arc<Target>, stream: TcpStream) -> Result<Self> {
        let opened = Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| {
            Error::new(Kind::Upstream, "the plugin's server ended the connection").with_source(error)
        })?;
        let connection = Some(Box::pin(connection));
        Ok(Self { target, reused: false, sender, connection, kept: IDLE_TIME, rested: Instant::now() })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// hyper's, with the request when nothing of it was sent.
    pub async fn ask(&mut self, request: Request<Body>) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        let Self { sender, connection, .. } = self;
        let mut answer = pin!(sender.try_send_request(request));
        let response = poll_fn(|context| {
            drive(connection, context);
            answer.as_mut().poll(&mut quiet())
        })
        .await?;
        self.kept = kept(&response);
        Ok(response)
    }

    /// The next piece of an answer's body.
    pub fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        // The first look may find nothing and ask the connection for more; the second finds what it then had.
        for _ in 0..2 {
            drive(&mut self.connection, context);
            let frame = Pin::new(&mut *incoming).poll_frame(&mut quiet());
            if frame.is_ready() {
                return frame;
            }
        }
        Poll::Pending
    }

    /// Whether another request can be sent now that the last answer is whole. Begins the rest.
    pub fn rests(&mut self) -> bool {
        drive(&mut self.connection, &mut quiet());
        self.reused = true;
        self.rested = Instant::now();
        self.sender.is_ready() && self.connection.is_some() && !self.kept.is_zero()
    }

    /// Whether it still serves after its rest.
    pub fn is_fresh(&mut self) -> bool {
        if self.is_stale() {
            return false;
        }
        drive(&mut self.connection, &mut quiet());
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether it has rested too long.
    pub fn is_stale(&self) -> bool {
        self.rested.elapsed() >= self.kept
    }
}

/// Lets a connection do what it can; one that is at its end is dropped, which answers whatever waits for it.
fn drive<F: Future>(connection: &mut Option<Pin<Box<F>>>, context: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(context).is_ready()) {
        *connection = None;
    }
}

fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// For how long the server says that it keeps the connection, less what a request is on its way.
fn kept(response: &Response<Incoming>) -> Duration {
    let said = response.headers().get("keep-alive").and_then(|value| {
        let words = value.to_str().ok()?.split(',').map(str::trim);
        words.filter_map(|word| word.strip_prefix("timeout=")).next()?.parse::<u64>().ok()
    });
    said.map_or(IDLE_TIME, |seconds| Duration::from_secs(seconds.saturating_sub(1)).min(IDLE_TIME))
}
