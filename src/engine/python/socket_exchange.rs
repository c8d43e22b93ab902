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
use crate::engine::python::awaitable::finish;
use crate::engine::python::convert::{error_from_python, is_disconnect};
use crate::engine::python::event_loop::{EventLoop, Poke, Signal};
use crate::engine::python::http_message::{bytes_of, header, required};
use crate::engine::python::waiters::Waiters;
use crate::kernel::call::{Body, Response, SocketMessage};

/// So many messages of the client may wait for the app.
const WAITING: usize = 16;

/// What an app is told that sends to a client which is gone (ASGI WebSocket spec 2.4).
const GONE: &str = "the client has gone";

/// A WebSocket between tokio and an app.
pub struct SocketExchange {
    event_loop: Arc<EventLoop>,
    plugin: Arc<str>,
    key: AtomicU64,
    state: Mutex<State>,
    /// Tells the pump that there is room again.
    room: Notify,
    outgoing: mpsc::Sender<SocketMessage>,
    /// Calls of `receive` that wait for a message.
    pub receivers: Waiters,
    /// Calls of `send` that wait for the client to read; each has a message in `unsent`.
    pub senders: Waiters,
}

struct State {
    reply: Option<oneshot::Sender<Result<Response>>>,
    told_connect: bool,
    accepted: bool,
    closed: bool,
    /// What the client said and the app has not taken.
    incoming: VecDeque<SocketMessage>,
    /// What the app said and the client has no room for yet.
    unsent: VecDeque<SocketMessage>,
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
            unsent: VecDeque::new(),
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
            receivers: Waiters::default(),
            senders: Waiters::default(),
        });
        (exchange, response)
    }

    /// The loop that the app runs on.
    pub fn event_loop(&self) -> &Arc<EventLoop> {
        &self.event_loop
    }

    /// Whether the client is gone.
    pub fn is_gone(&self) -> bool {
        self.state().gone.is_some()
    }

    /// Answers the handshake with a failure instead of calling the app.
    pub fn refuse(&self, error: Error) {
        let reply = self.state().reply.take();
        if let Some(reply) = reply {
            let _ = reply.send(Err(error));
        }
    }

    /// Notes under which key the call runs, so that it can be ended.
    pub fn runs_as(&self, key: u64) {
        self.key.store(key, Ordering::Relaxed);
    }

    /// Moves what the client says to the app, and what the app has said before there was room to the client, until the
    /// socket has ended.
    pub async fn pump(self: Arc<Self>, mut incoming: mpsc::Receiver<SocketMessage>) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let (full, unsent) = {
                let state = self.state();
                (state.incoming.len() >= WAITING && !state.closed, !state.unsent.is_empty())
            };
            tokio::select! {
                message = incoming.recv(), if !full => match message {
                    Some(SocketMessage::Close(code, reason)) => return self.leave(code, reason),
                    Some(message) => self.hear(message),
                    None => return self.leave(1006, Box::default()),
                },
                () = room => continue,
                permit = self.outgoing.reserve(), if unsent => match permit {
                    Ok(permit) => self.send_on(permit),
                    Err(_) => return self.leave(1006, Box::default()),
                },
                // Nothing is read while the app takes nothing: this is how the end is seen then.
                () = self.outgoing.closed(), if full => return self.leave(1006, Box::default()),
            }
            self.event_loop.signal(Signal::Poke(self.clone()));
        }
    }

    fn hear(&self, message: SocketMessage) {
        let mut state = self.state();
        if !state.closed {
            state.incoming.push_back(message);
        }
    }

    fn send_on(&self, permit: mpsc::Permit<'_, SocketMessage>) {
        let said = self.state().unsent.pop_front();
        if let Some(said) = said {
            permit.send(said);
        }
    }

    /// Says that the client is gone.
    pub fn leave(self: &Arc<Self>, code: u16, reason: Box<str>) {
        self.state().gone.get_or_insert((code, reason));
        self.event_loop.signal(Signal::Poke(self.clone()));
    }

    /// The next message for the app, or `None` when it has to wait.
    ///
    /// # Errors
    /// What the app did wrong, as the exception that it sees.
    pub fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        // Made before the lock is taken: an allocation may collect garbage, and that may run anything.
        let message = PyDict::new(py);
        let kind = intern!(py, "type");
        let mut state = self.state();
        if !state.told_connect {
            state.told_connect = true;
            drop(state);
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
            drop(state);
            message.set_item(kind, intern!(py, "websocket.disconnect"))?;
            message.set_item(intern!(py, "code"), code)?;
            message.set_item(intern!(py, "reason"), &*reason)?;
            return Ok(Some(message));
        }
        Ok(None)
    }

    /// Takes what the app says. Returns whether the app should wait before it says more.
    ///
    /// # Errors
    /// What the app did wrong, as the exception that it sees.
    pub fn say(&self, message: &Bound<'_, PyDict>) -> PyResult<bool> {
        let py = message.py();
        let kind = required(message, intern!(py, "type"))?;
        let kind = kind.cast::<PyString>()?.to_cow()?;
        match &*kind {
            "websocket.accept" => self.accept(message).map(|()| false),
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
                Ok(false)
            }
            "websocket.http.response.body" => self.refuse_with_body(message).map(|()| false),
            other => Err(PyValueError::new_err(format!("expected a websocket message, found type {other:?}"))),
        }
    }

    /// Sends a message, or keeps it until there is room, behind those that wait already. Returns whether it waits.
    fn put(&self, said: SocketMessage) -> PyResult<bool> {
        let mut state = self.state();
        if state.gone.is_some() {
            return Err(PyOSError::new_err(GONE));
        }
        let sent = if state.unsent.is_empty() {
            self.outgoing.try_send(said)
        } else {
            Err(mpsc::error::TrySendError::Full(said))
        };
        match sent {
            Ok(()) => Ok(false),
            Err(mpsc::error::TrySendError::Full(said)) => {
                state.unsent.push_back(said);
                drop(state);
                // Who pumps waits for room from now on.
                self.room.notify_one();
                Ok(true)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(PyOSError::new_err(GONE)),
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

    fn close(&self, message: &Bound<'_, PyDict>) -> PyResult<bool> {
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
            return Ok(false);
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
    pub fn end(&self, py: Python<'_>, outcome: PyResult<()>) -> bool {
        let mut state = self.state();
        let reply = state.reply.take();
        let closed = std::mem::replace(&mut state.closed, true);
        let gone = state.gone.is_some();
        drop(state);
        self.room.notify_one();
        let error = match outcome {
            Ok(()) if reply.is_none() => {
                if !closed && !gone {
                    let _ = self.put(SocketMessage::Close(1000, Box::default()));
                }
                return true;
            }
            Ok(()) => Error::new(Kind::Plugin, "the app ended before it accepted or refused the WebSocket"),
            // What it made of a client that has gone is no failure of its own.
            Err(error) if gone && is_disconnect(py, &error) => return true,
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
                let traceback = error.detail().unwrap_or_default();
                tracing::error!(plugin = &*self.plugin, traceback, "{}", error.message());
                let _ = self.put(SocketMessage::Close(1011, "the plugin failed".into()));
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
        while let Some(waiter) = self.receivers.leave(py) {
            let Ok(Some(message)) = self.next_message(py) else {
                self.receivers.put_back(waiter);
                break;
            };
            let _ = finish(&waiter, Ok(message.into_any()));
        }
        let (gone, unsent, cancels) = {
            let state = self.state();
            let gone = state.gone.is_some();
            (gone, state.unsent.len(), gone && !state.accepted && !state.told_gone)
        };
        if cancels {
            self.event_loop.cancel(py, self.key.load(Ordering::Relaxed));
        }
        while gone || self.senders.len() > unsent {
            let Some(sender) = self.senders.leave(py) else { break };
            let outcome = if gone { Err(PyOSError::new_err(GONE)) } else { Ok(py.None().into_bound(py)) };
            let _ = finish(&sender, outcome);
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
    reply.send(Ok(response)).map_err(|_| PyOSError::new_err(GONE))
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
