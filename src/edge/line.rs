//! One HTTP/1.1 connection to a plugin's server, driven by whoever asks on it.
//!
//! It is no task of its own: who waits for the answer sends the request's body meanwhile, and who drops the request closes
//! the connection. Both directions stop when the other end of theirs does not take what there is.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Response};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::io::poll_read_buf;

use crate::base::error::{Error, Kind, Result as HostResult};
use crate::edge::chunks::Found;
use crate::edge::headers;
use crate::edge::heads::{self, IDLE_TIME, Rest};
use crate::edge::outbox::{Framing, Outbox, Stopped};
use crate::edge::sign::Signer;
use crate::kernel::call::Body;
use crate::kernel::meter::Meter;
use crate::kernel::upstream::Upstream;

/// How long the server may take to accept a connection on loopback: only one whose queue is full takes any time.
const CONNECT_TIME: Duration = Duration::from_secs(5);

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
pub async fn dial(upstream: &Upstream) -> HostResult<TcpStream> {
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

/// Room on the stack for the first bytes of an answer.
const HEAD_ROOM: usize = 16 << 10;
/// How much of a long body is read at once: it grows while there is as much.
const PIECE_BYTES: usize = 8 << 10;
const LARGEST_PIECE_BYTES: usize = 64 << 10;

/// One connection.
pub struct Line {
    /// To which run of which server.
    pub target: Arc<Target>,
    /// Whether an answer has come on it before.
    pub reused: bool,
    stream: TcpStream,
    outbox: Outbox,
    /// The server took no more of a request.
    refused: bool,
    /// What was read and is of no answer yet.
    incoming: BytesMut,
    rest: Rest,
    /// How much is read at once.
    appetite: usize,
    /// For how long the server keeps the connection after this answer.
    kept: Duration,
    rested: Instant,
}

/// Why there is no answer, or no more of one.
pub enum Failure {
    /// The connection had ended before anything was sent; the body is whole.
    Unsent(io::Error, Body),
    /// The connection ended before a byte of the answer came.
    Ended(Option<io::Error>),
    /// It ended within the answer.
    BrokeOff(Option<io::Error>),
    /// What came is not HTTP.
    Wrong(&'static str),
    /// The request's body broke off.
    Request(Error),
}

impl Line {
    /// A connection on a new stream.
    pub fn new(target: Arc<Target>, stream: TcpStream) -> Self {
        Self {
            target,
            reused: false,
            stream,
            outbox: Outbox::default(),
            refused: false,
            incoming: BytesMut::new(),
            rest: Rest::Nothing,
            appetite: PIECE_BYTES,
            kept: IDLE_TIME,
            rested: Instant::now(),
        }
    }

    /// Room for the head of the next request, and for a body that is there with it.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.outbox.room()
    }

    /// Sends what was put into the room and the body behind it, and waits for the head of the answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(&mut self, method: &Method, body: Body, framing: Framing) -> Result<Response<()>, Failure> {
        self.outbox.begin(&self.stream, body, framing).map_err(|(error, body)| Failure::Unsent(error, body))?;
        self.rest = Rest::Head;
        let mut known = 0;
        poll_fn(|context| self.poll_head(method, &mut known, context)).await
    }

    fn poll_head(
        &mut self,
        method: &Method,
        known: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Failure>> {
        self.drive(context)?;
        loop {
            let mut room = [const { MaybeUninit::uninit() }; HEAD_ROOM];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut room));
            let broken = read.err();
            if broken.is_some() || room.filled().is_empty() {
                let failure = if self.incoming.is_empty() { Failure::Ended } else { Failure::BrokeOff };
                return Poll::Ready(Err(failure(broken)));
            }
            self.incoming.extend_from_slice(room.filled());
            if let Some(head) = heads::take(&mut self.incoming, *known, method).map_err(Failure::Wrong)? {
                (self.rest, self.kept) = (head.rest, head.kept);
                return Poll::Ready(Ok(head.response));
            }
            *known = self.incoming.len();
        }
    }

    /// Sends what there is of the request. A server that takes no more of it may still answer.
    fn drive(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        if self.refused || self.outbox.is_empty() {
            return Ok(());
        }
        match self.outbox.poll_send(&mut self.stream, context) {
            Poll::Ready(Err(Stopped::Refused(_))) => self.refused = true,
            Poll::Ready(Err(Stopped::Broken(error))) => return Err(Failure::Request(error)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }

    /// The whole body of an answer, if it is here with its head.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self.rest {
            Rest::Nothing => Some(Bytes::new()),
            Rest::Length(bytes) if self.incoming.len() as u64 >= bytes => {
                self.rest = Rest::Nothing;
                // No more than there is.
                Some(self.incoming.split_to(bytes as usize).freeze())
            }
            _ => None,
        }
    }

    /// The next piece of an answer's body.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Err(failure) = self.drive(context) {
            return Poll::Ready(Some(Err(failure)));
        }
        loop {
            if let Some(found) = self.find().transpose() {
                return Poll::Ready(Some(found.map_err(Failure::Wrong)));
            }
            if matches!(self.rest, Rest::Nothing) {
                return Poll::Ready(None);
            }
            self.incoming.reserve(self.appetite);
            let read = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.incoming));
            match read {
                Ok(bytes @ 1..) => {
                    let was_full = bytes >= self.appetite;
                    self.appetite = if was_full { LARGEST_PIECE_BYTES.min(self.appetite * 2) } else { PIECE_BYTES };
                }
                Ok(0) if matches!(self.rest, Rest::UntilEnd) => self.rest = Rest::Nothing,
                ended => return Poll::Ready(Some(Err(Failure::BrokeOff(ended.err())))),
            }
        }
    }

    /// A piece of the body that is here.
    fn find(&mut self) -> Result<Option<Frame<Bytes>>, &'static str> {
        let here = match &mut self.rest {
            Rest::Length(left) if !self.incoming.is_empty() => {
                let here = self.incoming.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                if *left == 0 {
                    self.rest = Rest::Nothing;
                }
                here
            }
            Rest::UntilEnd if !self.incoming.is_empty() => self.incoming.len(),
            Rest::Chunks(chunks) => match chunks.next(&mut self.incoming)? {
                Found::Nothing => return Ok(None),
                Found::Data(bytes) => return Ok(Some(Frame::data(bytes))),
                Found::End(trailers) => {
                    self.rest = Rest::Nothing;
                    return Ok(trailers.map(|trailers| Frame::trailers(headers::passing(trailers))));
                }
            },
            Rest::Head | Rest::Length(_) | Rest::UntilEnd | Rest::Nothing => return Ok(None),
        };
        Ok(Some(Frame::data(self.incoming.split_to(here).freeze())))
    }

    /// Whether nothing more is to come of the answer.
    pub fn is_end_stream(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// How much is to come of the answer.
    pub fn size_hint(&self) -> SizeHint {
        match self.rest {
            Rest::Nothing => SizeHint::with_exact(0),
            Rest::Length(bytes) => SizeHint::with_exact(bytes),
            Rest::Head | Rest::Chunks(_) | Rest::UntilEnd => SizeHint::default(),
        }
    }

    /// Whether another request can be sent now that the last answer is whole. Begins the rest.
    pub fn rests(&mut self) -> bool {
        let serves = matches!(self.rest, Rest::Nothing) && self.outbox.is_empty() && self.incoming.is_empty();
        if !serves || self.refused || self.kept.is_zero() {
            return false;
        }
        // Its memory goes with the answer.
        self.incoming = BytesMut::new();
        self.reused = true;
        self.rested = Instant::now();
        true
    }

    /// Whether it still serves after its rest: neither its end nor a byte has come that nobody asked for.
    pub fn is_fresh(&self) -> bool {
        let silent = |read: io::Result<usize>| read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        !self.is_stale() && silent(self.stream.try_read(&mut [0]))
    }

    /// Whether it has rested too long.
    pub fn is_stale(&self) -> bool {
        self.rested.elapsed() >= self.kept
    }
}

impl Failure {
    /// What is said of it, of the server of `plugin`.
    pub fn into_error(self, plugin: &Arc<str>) -> Error {
        let say = |text: String| Error::new(Kind::Upstream, text).blame(plugin.clone());
        let because = |error: Error, source: Option<io::Error>| match source {
            Some(source) => error.with_source(source),
            None => error,
        };
        match self {
            Self::Wrong(why) => say(format!("what the server of plugin {plugin} answered is not HTTP: {why}")),
            Self::Request(error) => {
                say(format!("the request to the server of plugin {plugin} broke off")).with_source(error)
            }
            Self::Unsent(error, _) => {
                say(format!("the server of plugin {plugin} ended the connection without an answer")).with_source(error)
            }
            Self::Ended(source) => {
                because(say(format!("the server of plugin {plugin} ended the connection without an answer")), source)
            }
            Self::BrokeOff(source) => {
                because(say(format!("the server of plugin {plugin} broke off its answer")), source)
            }
        }
    }
}
