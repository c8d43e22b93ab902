//! One WebSocket of an ASGI app: messages both ways, with back-pressure both ways (ASGI WebSocket spec 2.4).
//!
//! The edge makes the handshake and frames; here are only messages. The app is called with the request; it accepts or
//! refuses, and then talks until either side closes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::base::error::{Error, Kind, Result};
use crate::engine::python::awaitable::{Done, finish, future};
use crate::engine::python::convert::error_from_python;
use crate::engine::python::event_loop::{EventLoop, Poke, Signal};
use crate::engine::python::http_message::{bytes_of, header, required};
use crate::engine::python::job::Job;
use crate::engine::python::mounted::Mounted;
use crate::engine::python::scope::Scope;
use crate::kernel::call::{Body, Response, SocketMessage};

/// So many messages of the client may wait for the app.
const WAITING: usize = 16;

/// A WebSocket between tokio and an app.
pub struct SocketExchange {
    event_loop: Arc<EventLoop>,
    plugin: Arc<str>,
    key: AtomicU64,
    state: Mutex<State>,
    /// Tells the pump that there is room again.
    room: Notify,
    outgoing: mpsc::Sender<SocketMessage>,
    /// Futures of the app; touched on the loop's thread only.
    receive: Mutex<Option<Py<PyAny>>>,
    send: Mutex<Option<(Py<PyAny>, SocketMessage)>>,
}

struct State {
    reply: Option<oneshot::Sender<Result<Response>>>,
    told_connect: bool,
    accepted: bool,
    closed: bool,
    /// What the client said and the app has not taken.
    incoming: VecDeque<SocketMessage>,
    /// The client is gone; with which code.
    gone: Option<(u16, Box<str>)>,
    told_gone: bool,
    refusal: Option<(StatusCode, HeaderMap, Vec<u8>)>,
}

impl SocketExchange {
    /// An exchange, and the end at which the answer to the handshake comes out.
    pub fn new(
        event_loop: Arc<EventLoop>,
        plugin: Arc<str>,
        outgoing: mpsc::Sender<SocketMessage>,
    ) -> (Arc<Self>, oneshot::Receiver<Result<Response>>) {
        let (reply, response) = oneshot::channel();
        let state = State {
            reply: Some(reply),
            told_connect: false,
            accepted: false,
            closed: false,
            incoming: VecDeque::new(),
            gone: None,
            told_gone: false,
            refusal: None,
        };
        let exchange = Arc::new(Self {
            event_loop,
            plugin,
            key: AtomicU64::new(0),
            state: Mutex::new(state),
            room: Notify::new(),
            outgoing,
            receive: Mutex::default(),
            send: Mutex::default(),
        });
        (exchange, response)
    }

    /// Notes under which key the call runs, so that it can be ended.
    pub fn runs_as(&self, key: u64) {
        self.key.store(key, Ordering::Relaxed);
    }

    /// Moves what the client says to the app until either is gone, and tells the app that there is room for what it
    /// says.
    pub async fn pump(self: Arc<Self>, mut incoming: mpsc::Receiver<SocketMessage>) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let full = self.state().incoming.len() >= WAITING;
            tokio::select! {
                message = incoming.recv(), if !full => match message {
                    Some(SocketMessage::Close(code, reason)) => return self.leave(code, reason),
                    Some(message) => self.state().incoming.push_back(message),
                    None => return self.leave(1006, Box::default()),
                },
                () = room => {}
                // `reserve` needs nothing back: the permit is dropped, and the app is told to try again.
                permit = self.outgoing.reserve(), if self.has_unsent() => {
                    if permit.is_err() {
                        return self.leave(1006, Box::default());
                    }
                }
            }
            self.event_loop.signal(Signal::Poke(self.clone()));
            if self.state().closed {
                return;
            }
        }
    }

    /// Says that the client is gone.
    pub fn leave(self: &Arc<Self>, code: u16, reason: Box<str>) {
        self.state().gone.get_or_insert((code, reason));
        self.event_loop.signal(Signal::Poke(self.clone()));
    }

    fn has_unsent(&self) -> bool {
        self.send.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let mut state = self.state();
        let message = PyDict::new(py);
        let kind = intern!(py, "type");
        if !state.told_connect {
            state.told_connect = true;
            message.set_item(kind, intern!(py, "websocket.connect"))?;
            return Ok(Some(message));
        }
        if let Some(said) = state.incoming.pop_front() {
            drop(state);
            self.room.notify_one();
            message.set_item(kind, intern!(py, "websocket.receive"))?;
            match said {
                SocketMessage::Text(text) => {
                    message.set_item(intern!(py, "text"), PyString::new(py, &String::from_utf8_lossy(&text)))?;
                }
                SocketMessage::Binary(bytes) => message.set_item(intern!(py, "bytes"), PyBytes::new(py, &bytes))?,
                SocketMessage::Close(..) => {}
            }
            return Ok(Some(message));
        }
        if let Some((code, reason)) = state.gone.clone() {
            state.told_gone = true;
            message.set_item(kind, intern!(py, "websocket.disconnect"))?;
            message.set_item(intern!(py, "code"), code)?;
            message.set_item(intern!(py, "reason"), &*reason)?;
            return Ok(Some(message));
        }
        Ok(None)
    }

    /// Takes what the app says. Returns a message for which there is no room yet.
    fn say(&self, message: &Bound<'_, PyDict>) -> PyResult<Option<SocketMessage>> {
        let py = message.py();
        let kind = required(message, intern!(py, "type"))?;
        let kind = kind.cast::<PyString>()?.to_cow()?;
        match &*kind {
            "websocket.accept" => self.accept(message).map(|()| None),
            "websocket.close" => self.close(message),
            "websocket.send" => {
                let text = message.get_item(intern!(py, "text"))?.filter(|text| !text.is_none());
                let said = match text {
                    Some(text) => SocketMessage::Text(text.cast::<PyString>()?.to_cow()?.into_owned().into()),
                    None => SocketMessage::Binary(bytes_of(&required(message, intern!(py, "bytes"))?)?),
                };
                let state = self.state();
                if !state.accepted {
                    return Err(PyRuntimeError::new_err("websocket.send came before websocket.accept"));
                }
                if state.closed {
                    return Err(PyRuntimeError::new_err("the WebSocket is closed: nothing can be sent after it"));
                }
                drop(state);
                self.put(said)
            }
            "websocket.http.response.start" => {
                let status: u16 = required(message, intern!(py, "status"))?.extract()?;
                let status = StatusCode::from_u16(status).map_err(|error| PyValueError::new_err(error.to_string()))?;
                self.state().refusal = Some((status, headers_of(message)?, Vec::new()));
                Ok(None)
            }
            "websocket.http.response.body" => self.refuse_with_body(message).map(|()| None),
            other => Err(PyValueError::new_err(format!("expected a websocket message, found type {other:?}"))),
        }
    }

    fn put(&self, said: SocketMessage) -> PyResult<Option<SocketMessage>> {
        match self.outgoing.try_send(said) {
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Full(said)) => Ok(Some(said)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(PyOSError::new_err("the client has gone")),
        }
    }

    fn accept(&self, message: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = message.py();
        let mut headers = headers_of(message)?;
        if let Some(protocol) = message.get_item(intern!(py, "subprotocol"))?.filter(|it| !it.is_none()) {
            let protocol = HeaderValue::from_str(&protocol.cast::<PyString>()?.to_cow()?)
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
            headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let reply = self.state().reply.take();
        let Some(reply) = reply else {
            return Err(PyRuntimeError::new_err("the WebSocket was accepted or refused already"));
        };
        self.state().accepted = true;
        answer(reply, StatusCode::SWITCHING_PROTOCOLS, headers, Bytes::new())
    }

    fn close(&self, message: &Bound<'_, PyDict>) -> PyResult<Option<SocketMessage>> {
        let py = message.py();
        let mut state = self.state();
        if state.closed {
            return Err(PyRuntimeError::new_err("the WebSocket is closed already"));
        }
        state.closed = true;
        if let Some(reply) = state.reply.take() {
            drop(state);
            // Refused before it was accepted: the handshake is answered with 403 (ASGI WebSocket spec, "Close").
            answer(reply, StatusCode::FORBIDDEN, HeaderMap::new(), Bytes::new())?;
            return Ok(None);
        }
        drop(state);
        let code: u16 = match message.get_item(intern!(py, "code"))?.filter(|it| !it.is_none()) {
            Some(code) => code.extract()?,
            None => 1000,
        };
        let reason: String = match message.get_item(intern!(py, "reason"))?.filter(|it| !it.is_none()) {
            Some(reason) => reason.extract()?,
            None => String::new(),
        };
        self.put(SocketMessage::Close(code, reason.into()))
    }

    fn refuse_with_body(&self, message: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = message.py();
        let body = message.get_item(intern!(py, "body"))?.map_or_else(|| Ok(Bytes::new()), |body| bytes_of(&body))?;
        let more = message.get_item(intern!(py, "more_body"))?.is_some_and(|more| more.is_truthy().unwrap_or(false));
        let mut state = self.state();
        let Some((_, _, whole)) = &mut state.refusal else {
            return Err(PyRuntimeError::new_err("websocket.http.response.body came before its start"));
        };
        whole.extend_from_slice(&body);
        if more {
            return Ok(());
        }
        state.closed = true;
        let refusal = state.refusal.take();
        let reply = state.reply.take();
        drop(state);
        match refusal.zip(reply) {
            Some(((status, headers, body), reply)) => answer(reply, status, headers, body.into()),
            None => Err(PyRuntimeError::new_err("the WebSocket was accepted or refused already")),
        }
    }

    /// What the app's end means for the socket. Returns whether it was a success.
    fn end(&self, py: Python<'_>, outcome: PyResult<()>) -> bool {
        let mut state = self.state();
        let reply = state.reply.take();
        let closed = std::mem::replace(&mut state.closed, true);
        let gone = state.gone.is_some();
        drop(state);
        self.room.notify_one();
        let error = match outcome {
            Ok(()) if reply.is_none() => {
                if !closed && !gone {
                    let _ = self.outgoing.try_send(SocketMessage::Close(1000, Box::default()));
                }
                return true;
            }
            Ok(()) => Error::new(Kind::Plugin, "the app ended before it accepted or refused the WebSocket"),
            Err(error) => error_from_python(py, error),
        };
        let error = error.blame(self.plugin.clone());
        if error.kind() == Kind::Cancelled || (gone && reply.is_none() && error.kind() != Kind::Plugin) {
            return true;
        }
        match reply {
            Some(reply) => {
                let _ = reply.send(Err(error));
            }
            None => {
                tracing::error!(
                    plugin = &*self.plugin,
                    "{}\n{}",
                    error.message(),
                    error.detail().unwrap_or_default().trim_end()
                );
                let _ = self.outgoing.try_send(SocketMessage::Close(1011, "the plugin failed".into()));
            }
        }
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poke for SocketExchange {
    fn poke(&self, py: Python<'_>) {
        let receive = self.receive.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiter) = receive {
            match self.next_message(py) {
                Ok(Some(message)) => {
                    let _ = finish(waiter.bind(py), Ok(message.into_any()));
                }
                _ => *self.receive.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiter),
            }
        } else if self.state().gone.is_some() && !self.state().accepted {
            self.event_loop.cancel(py, self.key.load(Ordering::Relaxed));
        }
        let send = self.send.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((waiter, said)) = send {
            match self.put(said) {
                Ok(None) => {
                    let _ = finish(waiter.bind(py), Ok(py.None().into_bound(py)));
                }
                Ok(Some(said)) => *self.send.lock().unwrap_or_else(PoisonError::into_inner) = Some((waiter, said)),
                Err(error) => {
                    let _ = finish(waiter.bind(py), Err(error));
                }
            }
        }
    }
}

fn answer(
    reply: oneshot::Sender<Result<Response>>,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
) -> PyResult<()> {
    let mut response = http::Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    reply.send(Ok(response)).map_err(|_| PyOSError::new_err("the client has gone"))
}

fn headers_of(message: &Bound<'_, PyDict>) -> PyResult<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(pairs) = message.get_item(intern!(message.py(), "headers"))?.filter(|it| !it.is_none()) {
        for pair in pairs.try_iter()? {
            let pair = pair?;
            let (name, value) = header(&pair.get_item(0)?, &pair.get_item(1)?)?;
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// `receive` of the app.
#[pyclass(frozen, module = "plugbay._core")]
struct SocketReceive {
    exchange: Arc<SocketExchange>,
}

#[pymethods]
impl SocketReceive {
    fn __call__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(message) = self.exchange.next_message(py)? {
            return Done::with(message.into_any());
        }
        let waiter = future(py, &self.exchange.event_loop)?;
        *self.exchange.receive.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiter.clone().unbind());
        Ok(waiter)
    }
}

impl Drop for SocketReceive {
    fn drop(&mut self) {
        // Attached: the app lets go of it on a Python thread.
        let receive = self.exchange.receive.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(receive);
        let send = self.exchange.send.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(send);
    }
}

/// `send` of the app.
#[pyclass(frozen, module = "plugbay._core")]
struct SocketSend {
    exchange: Arc<SocketExchange>,
}

#[pymethods]
impl SocketSend {
    fn __call__<'py>(&self, message: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let Some(unsent) = self.exchange.say(message)? else { return Done::nothing(py) };
        let waiter = future(py, &self.exchange.event_loop)?;
        *self.exchange.send.lock().unwrap_or_else(PoisonError::into_inner) = Some((waiter.clone().unbind(), unsent));
        // The pump waits for room from now on.
        self.exchange.room.notify_one();
        Ok(waiter)
    }
}

/// The call of an ASGI app with a WebSocket.
pub struct SocketJob {
    /// The socket.
    pub exchange: Arc<SocketExchange>,
    /// What the scope is made of; taken by the call.
    pub scope: Option<Scope>,
}

impl Job for SocketJob {
    fn call<'py>(&mut self, py: Python<'py>, target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let mounted = target.cast::<Mounted>()?.get();
        let scope = self.scope.take().expect("an app is called once a socket");
        let scope = scope.into_python(py, mounted.state(py))?;
        let extensions = PyDict::new(py);
        extensions.set_item("websocket.http.response", PyDict::new(py))?;
        scope.set_item(intern!(py, "extensions"), extensions)?;
        let receive = Bound::new(py, SocketReceive { exchange: self.exchange.clone() })?;
        let send = Bound::new(py, SocketSend { exchange: self.exchange.clone() })?;
        mounted.app(py).call1((scope, receive, send))
    }

    fn settle(&mut self, py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> bool {
        self.exchange.end(py, outcome.map(drop))
    }

    fn refuse(&mut self, error: Error) {
        let reply = self.exchange.state().reply.take();
        if let Some(reply) = reply {
            let _ = reply.send(Err(error));
        }
    }

    fn is_abandoned(&self) -> bool {
        self.exchange.state().gone.is_some()
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn deliver(self: Box<Self>) {}
}
