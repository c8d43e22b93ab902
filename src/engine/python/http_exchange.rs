//! One HTTP request to an ASGI app and its response, both ways in pieces, with back-pressure both ways.
//!
//! tokio puts pieces of the request in and takes pieces of the response out; `receive` and `send` of the app do the
//! opposite on the loop's thread. Neither side waits for the other with anything held.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::base::error::{Error, Kind, Result};
use crate::engine::python::awaitable::finish;
use crate::engine::python::convert::{error_from_python, is_disconnect};
use crate::engine::python::event_loop::{EventLoop, Poke, Signal};
use crate::engine::python::http_message::{bytes_of, header, required};
use crate::engine::python::job::{Deliver, Parcel};
use crate::engine::python::waiters::Waiters;
use crate::kernel::call::{Body, Response};

/// So many bytes of either body may wait between tokio and Python.
const WINDOW: usize = 64 << 10;

/// What an app is told that sends to a client which is gone (ASGI HTTP spec 2.4).
const GONE: &str = "the client has gone";

/// A request and its response. Shared by the tokio side, `receive` and `send`.
pub struct Exchange {
    event_loop: Arc<EventLoop>,
    plugin: Arc<str>,
    method: Method,
    key: AtomicU64,
    incoming: Mutex<Incoming>,
    /// Tells who pumps the request body that there is room again.
    room: Notify,
    outgoing: Mutex<Outgoing>,
    /// Calls of `receive` that wait for a message.
    pub receivers: Waiters,
    /// Calls of `send` that wait for the client to read.
    pub senders: Waiters,
}

#[derive(Default)]
struct Incoming {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// The whole body was put in.
    complete: bool,
    /// The app was told that the body is complete.
    told_complete: bool,
    /// The app has asked for the body.
    wanted: bool,
    /// The client is gone.
    disconnected: bool,
    /// The app was told that the client is gone.
    told_disconnected: bool,
}

struct Outgoing {
    reply: Option<oneshot::Sender<Result<Response>>>,
    head: Option<(StatusCode, HeaderMap)>,
    stream: Option<mpsc::UnboundedSender<Result<Bytes>>>,
    /// Bytes in the stream that tokio has not taken.
    bytes: usize,
    /// Bytes that tokio has taken, and how many of them make the response complete, where that was announced.
    taken: u64,
    whole: Option<u64>,
    /// The client has the whole response already: what the app still sends goes nowhere.
    discards: bool,
    finished: bool,
}

impl Exchange {
    /// An exchange for a request of this method with the body, where it is there already, and the end at which the
    /// response comes out.
    pub fn new(
        event_loop: Arc<EventLoop>,
        plugin: Arc<str>,
        method: Method,
        body: Option<Bytes>,
    ) -> (Arc<Self>, oneshot::Receiver<Result<Response>>) {
        let (reply, response) = oneshot::channel();
        let mut incoming = Incoming::default();
        if let Some(body) = body {
            incoming.complete = true;
            incoming.chunks.extend((!body.is_empty()).then_some(body));
        }
        let outgoing = Outgoing {
            reply: Some(reply),
            head: None,
            stream: None,
            bytes: 0,
            taken: 0,
            whole: None,
            discards: false,
            finished: false,
        };
        let exchange = Arc::new(Self {
            event_loop,
            plugin,
            method,
            key: AtomicU64::new(0),
            incoming: Mutex::new(incoming),
            room: Notify::new(),
            outgoing: Mutex::new(outgoing),
            receivers: Waiters::default(),
            senders: Waiters::default(),
        });
        (exchange, response)
    }

    /// The loop that the app runs on.
    pub fn event_loop(&self) -> &Arc<EventLoop> {
        &self.event_loop
    }

    /// Whether the response is complete, or never will be.
    pub fn is_finished(&self) -> bool {
        self.outgoing().finished
    }

    /// Whether the client is gone.
    pub fn is_disconnected(&self) -> bool {
        self.incoming().disconnected
    }

    /// Answers with a failure instead of calling the app.
    pub fn refuse(&self, error: Error) {
        let reply = self.outgoing().reply.take();
        if let Some(reply) = reply {
            let _ = reply.send(Err(error));
        }
    }

    /// Notes under which key the call runs, so that a client that leaves can end it.
    pub fn runs_as(&self, key: u64) {
        self.key.store(key, Ordering::Relaxed);
    }

    /// Waits until the app asks for the request body. False: it never will.
    pub async fn wanted(&self) -> bool {
        loop {
            let asked = self.room.notified();
            if self.incoming().wanted {
                return true;
            }
            if self.incoming().disconnected || self.outgoing().finished {
                return false;
            }
            asked.await;
        }
    }

    /// Puts a piece of the request body in. Waits while too much waits there already.
    pub async fn put(self: &Arc<Self>, chunk: Bytes) {
        loop {
            let room = self.room.notified();
            {
                let finished = self.outgoing().finished;
                let mut incoming = self.incoming();
                if incoming.disconnected || finished {
                    return;
                }
                if incoming.bytes < WINDOW {
                    incoming.bytes += chunk.len();
                    incoming.chunks.push_back(chunk);
                    break;
                }
            }
            room.await;
        }
        self.event_loop.signal(Signal::Poke(self.clone()));
    }

    /// Says that the request body is complete.
    pub fn complete(self: &Arc<Self>) {
        self.incoming().complete = true;
        self.event_loop.signal(Signal::Poke(self.clone()));
    }

    /// Says that the request body was cut short, or is larger than the limit. Who asked is told why; to the app the
    /// client is gone.
    pub fn cut(self: &Arc<Self>, error: Error) {
        self.refuse(error);
        self.disconnect();
    }

    /// Says that the client is gone. An app that waits in `receive`, or is reading the body, is told; any other is
    /// cancelled.
    pub fn disconnect(self: &Arc<Self>) {
        self.incoming().disconnected = true;
        self.room.notify_waiters();
        self.event_loop.signal(Signal::Poke(self.clone()));
    }

    /// The next message for the app, or `None` when it has to wait.
    ///
    /// # Errors
    /// What the app did wrong, as the exception that it sees.
    pub fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        // Made before the lock is taken: an allocation may collect garbage, and that may run anything.
        let message = PyDict::new(py);
        let mut incoming = self.incoming();
        if !std::mem::replace(&mut incoming.wanted, true) {
            self.room.notify_waiters();
        }
        let body = match incoming.chunks.pop_front() {
            Some(chunk) => {
                incoming.bytes -= chunk.len().min(incoming.bytes);
                Some(chunk)
            }
            None if incoming.complete && !incoming.told_complete => Some(Bytes::new()),
            None => None,
        };
        let Some(body) = body else {
            if incoming.disconnected || self.outgoing().finished {
                incoming.told_disconnected = incoming.disconnected;
                drop(incoming);
                message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
                return Ok(Some(message));
            }
            return Ok(None);
        };
        let more = !(incoming.complete && incoming.chunks.is_empty());
        incoming.told_complete = !more;
        drop(incoming);
        self.room.notify_waiters();
        message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
        message.set_item(intern!(py, "body"), PyBytes::new(py, &body))?;
        message.set_item(intern!(py, "more_body"), more)?;
        Ok(Some(message))
    }

    /// Takes `http.response.start`.
    ///
    /// # Errors
    /// What the app did wrong, as the exception that it sees.
    pub fn start(&self, py: Python<'_>, message: &Bound<'_, PyDict>) -> PyResult<()> {
        let status: u16 = required(message, intern!(py, "status"))?.extract()?;
        let status = StatusCode::from_u16(status)
            .map_err(|_| PyValueError::new_err(format!("status {status} is not between 100 and 999")))?;
        let mut headers = HeaderMap::new();
        if let Some(pairs) = message.get_item(intern!(py, "headers"))? {
            for pair in pairs.try_iter()? {
                let pair = pair?;
                let (name, value) = header(&pair.get_item(0)?, &pair.get_item(1)?)?;
                // The host frames the body itself (RFC 9112 §6).
                if name != http::header::TRANSFER_ENCODING {
                    headers.append(name, value);
                }
            }
        }
        let gone = self.incoming().disconnected;
        let mut outgoing = self.outgoing();
        if gone && outgoing.head.is_none() && outgoing.stream.is_none() && !outgoing.finished {
            return Err(PyOSError::new_err(GONE));
        }
        if outgoing.head.is_some() || outgoing.reply.is_none() {
            return Err(PyRuntimeError::new_err("http.response.start was sent already: a request has one response"));
        }
        outgoing.head = Some((status, headers));
        Ok(())
    }

    /// Takes `http.response.body`. Returns whether the app should wait before it sends more.
    ///
    /// # Errors
    /// What the app did wrong, as the exception that it sees.
    pub fn body(self: &Arc<Self>, py: Python<'_>, message: &Bound<'_, PyDict>) -> PyResult<bool> {
        let body = match message.get_item(intern!(py, "body"))? {
            Some(body) => bytes_of(&body)?,
            None => Bytes::new(),
        };
        let more = match message.get_item(intern!(py, "more_body"))? {
            Some(more) => more.is_truthy()?,
            None => false,
        };
        let gone = self.incoming().disconnected;
        let mut outgoing = self.outgoing();
        if outgoing.finished {
            return Err(PyRuntimeError::new_err("the response is complete: nothing can be sent after it"));
        }
        if outgoing.discards {
            outgoing.finished = !more;
            outgoing.bytes += body.len();
            // The client has all that it will get. An app may say the rest, but one without an end must not go on.
            return if more && outgoing.bytes > WINDOW { Err(PyOSError::new_err(GONE)) } else { Ok(false) };
        }
        if let Some(stream) = &outgoing.stream {
            let open = body.is_empty() || stream.send(Ok(body.clone())).is_ok();
            outgoing.bytes += body.len();
            if !more {
                outgoing.finished = true;
                outgoing.stream = None;
                self.room.notify_waiters();
            }
            if !open || gone {
                return Err(PyOSError::new_err(GONE));
            }
            return Ok(more && outgoing.bytes > WINDOW);
        }
        let Some((status, headers)) = outgoing.head.take() else {
            return Err(PyRuntimeError::new_err("http.response.body came before http.response.start"));
        };
        let Some(reply) = outgoing.reply.take() else {
            return Err(PyOSError::new_err(GONE));
        };
        let body = if more {
            let (stream, chunks) = mpsc::unbounded_channel();
            outgoing.bytes = body.len();
            if !body.is_empty() {
                let _ = stream.send(Ok(body));
            }
            outgoing.stream = Some(stream);
            Body::stream(ResponseStream { chunks, exchange: self.clone(), ended: false })
        } else {
            outgoing.finished = true;
            Body::from(body)
        };
        outgoing.whole = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if self.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            outgoing.whole = Some(0);
        }
        let (wait, finished) = (more && outgoing.bytes > WINDOW, outgoing.finished);
        drop(outgoing);
        if finished {
            // Who still pumps the request body need not wait for the app's end.
            self.room.notify_waiters();
        }
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.event_loop.answer(py, Parcel::Other(Box::new(Reply { reply, response })));
        Ok(wait)
    }

    /// What the app's end means for the response. Returns whether it was a success.
    pub fn end(&self, py: Python<'_>, outcome: PyResult<()>) -> bool {
        let mut outgoing = self.outgoing();
        let finished = std::mem::replace(&mut outgoing.finished, true);
        let (reply, stream) = (outgoing.reply.take(), outgoing.stream.take());
        drop(outgoing);
        self.room.notify_waiters();
        let disconnected = self.incoming().disconnected;
        let error = match outcome {
            Ok(()) if finished || disconnected => return true,
            // What it made of a client that has gone is no failure of its own (`ClientDisconnect`, a broken pipe).
            Err(error) if disconnected && !finished && is_disconnect(py, &error) => return true,
            Ok(()) => Error::new(Kind::Plugin, "the app ended before its response was complete"),
            Err(error) => error_from_python(py, error),
        };
        let cancelled = error.kind() == Kind::Cancelled;
        // Without a client that left, the app cancelled itself, or the host is at its end: who asked must hear of it.
        let error = match cancelled && !disconnected {
            true => Error::new(Kind::Plugin, "the app's task was cancelled before its response was complete"),
            false => error,
        };
        let error = error.blame(self.plugin.clone());
        match (reply, stream) {
            // Who asked logs it, once.
            (Some(reply), _) => {
                let _ = reply.send(Err(error));
            }
            (None, stream) => {
                if !cancelled {
                    let traceback = error.detail().unwrap_or_default();
                    tracing::error!(plugin = &*self.plugin, traceback, "{}", error.message());
                }
                if let Some(stream) = stream {
                    let _ = stream.send(Err(error));
                }
            }
        }
        cancelled
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poke for Exchange {
    fn poke(&self, py: Python<'_>) {
        while let Some(waiter) = self.receivers.leave(py) {
            let Ok(Some(message)) = self.next_message(py) else {
                self.receivers.put_back(waiter);
                break;
            };
            let _ = finish(&waiter, Ok(message.into_any()));
        }
        let (disconnected, learns) = {
            let incoming = self.incoming();
            // Who is reading a body comes back for the next piece of it, and learns it then.
            (incoming.disconnected, incoming.told_disconnected || incoming.wanted && !incoming.complete)
        };
        if disconnected && !learns && !self.outgoing().finished {
            self.event_loop.cancel(py, self.key.load(Ordering::Relaxed));
        }
        while disconnected || self.outgoing().bytes <= WINDOW / 2 {
            let Some(sender) = self.senders.leave(py) else { break };
            let _ = finish(&sender, Ok(py.None().into_bound(py)));
        }
    }
}

/// A whole response, or the head of one, on its way to who asked.
struct Reply {
    reply: oneshot::Sender<Result<Response>>,
    response: Response,
}

impl Deliver for Reply {
    fn deliver(self: Box<Self>) {
        // Who asked may be gone; a stream in the response then says so to the app when it is dropped.
        let _ = self.reply.send(Ok(self.response));
    }
}

/// The response body as tokio takes it.
struct ResponseStream {
    chunks: mpsc::UnboundedReceiver<Result<Bytes>>,
    exchange: Arc<Exchange>,
    ended: bool,
}

impl http_body::Body for ResponseStream {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match std::task::ready!(self.chunks.poll_recv(context)) {
            Some(Ok(chunk)) => {
                let mut outgoing = self.exchange.outgoing();
                let before = outgoing.bytes;
                outgoing.bytes = before.saturating_sub(chunk.len());
                outgoing.taken += chunk.len() as u64;
                let opens = before > WINDOW / 2 && outgoing.bytes <= WINDOW / 2;
                drop(outgoing);
                if opens {
                    self.exchange.event_loop.signal(Signal::Poke(self.exchange.clone()));
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Some(Err(error)) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The server lets go of a body when as many bytes were sent as were announced: then nobody has gone.
        let mut outgoing = self.exchange.outgoing();
        let complete = outgoing.whole.is_some_and(|whole| outgoing.taken >= whole);
        if complete {
            outgoing.discards = true;
            outgoing.bytes = 0;
        }
        drop(outgoing);
        if complete {
            self.exchange.event_loop.signal(Signal::Poke(self.exchange.clone()));
        } else {
            self.exchange.disconnect();
        }
    }
}
