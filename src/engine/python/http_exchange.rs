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
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::base::error::{Error, Kind, Result};
use crate::engine::python::awaitable::{Done, finish, future};
use crate::engine::python::convert::error_from_python;
use crate::engine::python::event_loop::{EventLoop, Poke, Signal};
use crate::engine::python::http_message::{bytes_of, header, required};
use crate::engine::python::job::{Deliver, Job, Parcel};
use crate::engine::python::mounted::Mounted;
use crate::engine::python::scope::Scope;
use crate::kernel::call::{Body, Response};

/// So many bytes of either body may wait between tokio and Python.
const WINDOW: usize = 64 << 10;

/// A request and its response. Shared by the tokio side, `receive` and `send`.
pub struct Exchange {
    event_loop: Arc<EventLoop>,
    plugin: Arc<str>,
    key: AtomicU64,
    incoming: Mutex<Incoming>,
    /// Tells who pumps the request body that there is room again.
    room: Notify,
    outgoing: Mutex<Outgoing>,
    /// Futures of the app that wait for something; touched on the loop's thread only.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Incoming {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// The whole body was put in.
    complete: bool,
    /// The app was told that the body is complete.
    told_complete: bool,
    /// The client is gone.
    disconnected: bool,
}

struct Outgoing {
    reply: Option<oneshot::Sender<Result<Response>>>,
    head: Option<(StatusCode, HeaderMap)>,
    stream: Option<mpsc::UnboundedSender<Result<Bytes>>>,
    /// Bytes in the stream that tokio has not taken.
    bytes: usize,
    finished: bool,
}

#[derive(Default)]
struct Waiting {
    receive: Option<Py<PyAny>>,
    send: Option<Py<PyAny>>,
}

impl Exchange {
    /// An exchange with the pieces of the body that are there, and the end at which the response comes out.
    pub fn new(
        event_loop: Arc<EventLoop>,
        plugin: Arc<str>,
        body: Option<Bytes>,
    ) -> (Arc<Self>, oneshot::Receiver<Result<Response>>) {
        let (reply, response) = oneshot::channel();
        let mut incoming = Incoming::default();
        if let Some(body) = body {
            incoming.complete = true;
            incoming.chunks.extend((!body.is_empty()).then_some(body));
        }
        let outgoing = Outgoing { reply: Some(reply), head: None, stream: None, bytes: 0, finished: false };
        let exchange = Arc::new(Self {
            event_loop,
            plugin,
            key: AtomicU64::new(0),
            incoming: Mutex::new(incoming),
            room: Notify::new(),
            outgoing: Mutex::new(outgoing),
            waiting: Mutex::default(),
        });
        (exchange, response)
    }

    /// Notes under which key the call runs, so that a client that leaves can end it.
    pub fn runs_as(&self, key: u64) {
        self.key.store(key, Ordering::Relaxed);
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
        let reply = self.outgoing().reply.take();
        if let Some(reply) = reply {
            let _ = reply.send(Err(error));
        }
        self.disconnect();
    }

    /// Says that the client is gone. An app that waits in `receive` is told; any other is cancelled.
    pub fn disconnect(self: &Arc<Self>) {
        self.incoming().disconnected = true;
        self.room.notify_waiters();
        self.event_loop.signal(Signal::Poke(self.clone()));
    }

    /// The next message for the app, or `None` when it has to wait.
    fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let mut incoming = self.incoming();
        let body = match incoming.chunks.pop_front() {
            Some(chunk) => {
                incoming.bytes -= chunk.len().min(incoming.bytes);
                Some(chunk)
            }
            None if incoming.complete && !incoming.told_complete => Some(Bytes::new()),
            None => None,
        };
        let message = PyDict::new(py);
        let Some(body) = body else {
            if incoming.disconnected || self.outgoing().finished {
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
    fn start(&self, py: Python<'_>, message: &Bound<'_, PyDict>) -> PyResult<()> {
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
        let mut outgoing = self.outgoing();
        if outgoing.head.is_some() || outgoing.reply.is_none() {
            return Err(PyRuntimeError::new_err("http.response.start was sent already: a request has one response"));
        }
        outgoing.head = Some((status, headers));
        Ok(())
    }

    /// Takes `http.response.body`. Returns whether the app should wait before it sends more.
    fn body(self: &Arc<Self>, py: Python<'_>, message: &Bound<'_, PyDict>) -> PyResult<bool> {
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
        if let Some(stream) = &outgoing.stream {
            let open = body.is_empty() || stream.send(Ok(body.clone())).is_ok();
            outgoing.bytes += body.len();
            if !more {
                outgoing.finished = true;
                outgoing.stream = None;
            }
            if !open || gone {
                return Err(PyOSError::new_err("the client has gone"));
            }
            return Ok(more && outgoing.bytes > WINDOW);
        }
        let Some((status, headers)) = outgoing.head.take() else {
            return Err(PyRuntimeError::new_err("http.response.body came before http.response.start"));
        };
        let Some(reply) = outgoing.reply.take() else {
            return Err(PyOSError::new_err("the client has gone"));
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
        let wait = more && outgoing.bytes > WINDOW;
        drop(outgoing);
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.event_loop.answer(py, Parcel::Other(Box::new(Reply { reply, response })));
        Ok(wait)
    }

    /// What the app's end means for the response. Returns whether it was a success.
    fn end(&self, py: Python<'_>, outcome: PyResult<()>) -> bool {
        let mut outgoing = self.outgoing();
        let finished = std::mem::replace(&mut outgoing.finished, true);
        let (reply, stream) = (outgoing.reply.take(), outgoing.stream.take());
        drop(outgoing);
        self.room.notify_waiters();
        let error = match outcome {
            Ok(()) if finished || self.incoming().disconnected => return true,
            Ok(()) => Error::new(Kind::Plugin, "the app ended before its response was complete"),
            Err(error) => error_from_python(py, error),
        };
        let error = error.blame(self.plugin.clone());
        let cancelled = error.kind() == Kind::Cancelled;
        match (reply, stream) {
            // Who asked logs it, once.
            (Some(reply), _) => {
                let _ = reply.send(Err(error));
            }
            (None, stream) => {
                if !cancelled {
                    tracing::error!(
                        plugin = &*self.plugin,
                        "{}\n{}",
                        error.message(),
                        error.detail().unwrap_or_default().trim_end()
                    );
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

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poke for Exchange {
    fn poke(&self, py: Python<'_>) {
        let receive = self.waiting().receive.take();
        let disconnected = self.incoming().disconnected;
        match receive {
            Some(waiter) => match self.next_message(py) {
                Ok(Some(message)) => {
                    // A waiter that gave up meanwhile loses nothing but this wake-up: the app is being cancelled.
                    let _ = finish(waiter.bind(py), Ok(message.into_any()));
                }
                _ => self.waiting().receive = Some(waiter),
            },
            None if disconnected && !self.outgoing().finished => {
                self.event_loop.cancel(py, self.key.load(Ordering::Relaxed));
            }
            None => {}
        }
        let open = self.outgoing().bytes <= WINDOW / 2 || disconnected;
        let send = if open { self.waiting().send.take() } else { None };
        if let Some(send) = send {
            let _ = finish(send.bind(py), Ok(py.None().into_bound(py)));
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
        if !self.ended {
            self.exchange.disconnect();
        }
    }
}

/// `receive` of the app.
#[pyclass(frozen, module = "plugbay._core")]
struct Receive {
    exchange: Arc<Exchange>,
}

#[pymethods]
impl Receive {
    fn __call__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(message) = self.exchange.next_message(py)? {
            return Done::with(message.into_any());
        }
        let waiter = future(py, &self.exchange.event_loop)?;
        self.exchange.waiting().receive = Some(waiter.clone().unbind());
        Ok(waiter)
    }
}

/// `send` of the app.
#[pyclass(frozen, module = "plugbay._core")]
struct Send {
    exchange: Arc<Exchange>,
}

#[pymethods]
impl Send {
    fn __call__<'py>(&self, message: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let kind = required(message, intern!(py, "type"))?;
        if kind.eq(intern!(py, "http.response.start"))? {
            self.exchange.start(py, message)?;
        } else if kind.eq(intern!(py, "http.response.body"))? {
            if self.exchange.body(py, message)? {
                let waiter = future(py, &self.exchange.event_loop)?;
                self.exchange.waiting().send = Some(waiter.clone().unbind());
                // The stream may have been emptied before the waiter stood there.
                self.exchange.event_loop.signal(Signal::Poke(self.exchange.clone()));
                return Ok(waiter);
            }
            // A `receive` that waits for the end of the exchange has it now.
            if self.exchange.outgoing().finished && self.exchange.waiting().receive.is_some() {
                self.exchange.event_loop.signal(Signal::Poke(self.exchange.clone()));
            }
        } else {
            return Err(PyValueError::new_err(format!(
                "expected a message of type http.response.start or http.response.body, found {}",
                kind.repr()?
            )));
        }
        Done::nothing(py)
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        // Attached: the app lets go of it on a Python thread.
        let waiting = std::mem::take(&mut *self.exchange.waiting());
        drop(waiting);
    }
}

/// The call of an ASGI app with a request.
pub struct HttpJob {
    /// The request and its response.
    pub exchange: Arc<Exchange>,
    /// What the scope is made of; taken by the call.
    pub scope: Option<Scope>,
}

impl Job for HttpJob {
    fn call<'py>(&mut self, py: Python<'py>, target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let mounted = target.cast::<Mounted>()?.get();
        let scope = self.scope.take().expect("an app is called once a request");
        let scope = scope.into_python(py, mounted.state(py))?;
        let receive = Bound::new(py, Receive { exchange: self.exchange.clone() })?;
        let send = Bound::new(py, Send { exchange: self.exchange.clone() })?;
        mounted.app(py).call1((scope, receive, send))
    }

    fn settle(&mut self, py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> bool {
        self.exchange.end(py, outcome.map(drop))
    }

    fn refuse(&mut self, error: Error) {
        let reply = self.exchange.outgoing().reply.take();
        if let Some(reply) = reply {
            let _ = reply.send(Err(error));
        }
    }

    fn is_abandoned(&self) -> bool {
        self.exchange.incoming().disconnected
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn deliver(self: Box<Self>) {}
}
