//! Python functions as handlers of channels, and the connection that they are given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::PyDict;

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::ServerFrame;
use crate::base::json::Json;
use crate::engine::python::awaitable::Done;
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::{error_into_python, json_given, json_into_python, text_of};
use crate::engine::python::event_loop::{EventLoop, Signal};
use crate::engine::python::handlers::json_outcome;
use crate::engine::python::job::Handler;
use crate::engine::python::scope::PrincipalFace;
use crate::kernel::call::ChannelMessage;
use crate::kernel::connection::Connection;
use crate::kernel::handler::{Answer, ChannelHandler};
use crate::kernel::hub::Hub;

/// The connections that one plugin has talked with, each with the plugin's own state. One a plugin, shared by its
/// channels. The faces are let go on the loop's thread, when the connection is gone.
#[derive(Default)]
pub struct Faces {
    faces: Mutex<HashMap<Box<str>, Py<ConnectionFace>>>,
}

impl Faces {
    fn of<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        connection: &Connection,
        channels: &Channels,
    ) -> PyResult<Bound<'py, ConnectionFace>> {
        if let Some(face) = self.locked().get(connection.id()) {
            return Ok(face.bind(py).clone());
        }
        let face = ConnectionFace {
            connection: connection.clone(),
            state: PyDict::new(py).unbind(),
            callbacks: Mutex::new(Some(Vec::new())),
            channels: channels.clone(),
        };
        let face = Bound::new(py, face)?.unbind();
        // Another thread may have made one meanwhile; then that one holds the state.
        let mut faces = self.locked();
        let kept = faces.entry(connection.id().into()).or_insert_with(|| face.clone_ref(py)).bind(py).clone();
        drop(faces);
        Ok(kept)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Box<str>, Py<ConnectionFace>>> {
        self.faces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The channels of one plugin and the hub that moves what is published there. Cloning is cheap.
#[derive(Clone)]
pub struct Channels {
    hub: Hub,
    event_loop: Arc<EventLoop>,
    plugin: Arc<str>,
    names: Arc<Mutex<Vec<Arc<str>>>>,
}

impl Channels {
    /// No channel yet.
    pub fn new(hub: Hub, event_loop: Arc<EventLoop>, plugin: Arc<str>) -> Self {
        Self { hub, event_loop, plugin, names: Arc::default() }
    }

    /// Notes a channel of the plugin.
    pub fn note(&self, name: Arc<str>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    /// The channel of a topic of this plugin: `chat` of `chat/lobby`.
    ///
    /// # Errors
    /// `Invalid`: the topic belongs to no channel of this plugin.
    pub fn channel_of<'t>(&self, topic: &'t str) -> Result<&'t str> {
        let channel = topic.split('/').next().unwrap_or_default();
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.iter().any(|name| **name == *channel) {
            return Ok(channel);
        }
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let shown: String = topic.chars().take(80).collect();
        Err(Error::new(
            Kind::Invalid,
            format!(
                "topic {shown:?} is not of plugin {}: a topic is one of its channels {names:?}, or one of them with \
                 \"/\" and more behind it",
                self.plugin
            ),
        ))
    }

    /// Sends `data` to every subscriber of a topic.
    ///
    /// # Errors
    /// `Invalid`: the topic belongs to no channel of this plugin.
    pub fn publish(&self, topic: &str, data: &Json) -> Result<()> {
        let channel = self.channel_of(topic)?;
        self.hub.publish(channel, topic, data);
        Ok(())
    }
}

/// A function that takes the messages of a channel: `handler(conn, message)`.
pub struct PythonChannel {
    bridge: Bridge,
    handler: Handler,
    faces: Arc<Faces>,
    channels: Channels,
}

impl PythonChannel {
    /// The channel handler that `handler` holds.
    pub fn new(bridge: Bridge, handler: Handler, faces: Arc<Faces>, channels: Channels) -> Self {
        Self { bridge, handler, faces, channels }
    }
}

impl ChannelHandler for PythonChannel {
    fn receive(&self, message: ChannelMessage) -> Answer<Json> {
        let ChannelMessage { connection, frame } = message;
        let (faces, channels) = (self.faces.clone(), self.channels.clone());
        let answer = self.bridge.ask(
            &self.handler,
            move |py, target| {
                let face = faces.of(py, &connection, &channels)?;
                let message = json_into_python(py, &frame.text)?;
                target.call1((face, message))
            },
            json_outcome,
        );
        Box::pin(answer)
    }

    fn leave(&self, connection: &Connection) {
        let (faces, id): (Weak<Faces>, Box<str>) = (Arc::downgrade(&self.faces), connection.id().into());
        let run = move |py: Python<'_>| {
            let face = faces.upgrade().and_then(|faces| faces.locked().remove(&id));
            if let Some(face) = face {
                face.get().left(py);
            }
        };
        self.bridge.event_loop().signal(Signal::Run(Box::new(run)));
    }
}

/// One open `/ws` socket, as a plugin's channel handler sees it.
#[pyclass(frozen, name = "Connection", module = "plugbay._core")]
pub struct ConnectionFace {
    connection: Connection,
    state: Py<PyDict>,
    /// Taken when the connection is gone.
    callbacks: Mutex<Option<Vec<Py<PyAny>>>>,
    channels: Channels,
}

impl ConnectionFace {
    /// Runs what the plugin wants to be run when the connection is gone; called on the loop's thread.
    fn left(&self, py: Python<'_>) {
        let callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner).take();
        for callback in callbacks.into_iter().flatten() {
            call_back(py, &callback, &self.channels.plugin);
        }
    }
}

/// Calls what `on_close` was given, plain or async; on the loop's thread.
fn call_back(py: Python<'_>, callback: &Py<PyAny>, plugin: &str) {
    let outcome = callback.bind(py).call0().and_then(|result| {
        if result.hasattr(intern!(py, "__await__"))? {
            py.import("asyncio")?.call_method1("ensure_future", (result,))?;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        tracing::warn!(plugin, "on_close callback failed: {}", text_of(py, &error));
    }
}

#[pymethods]
impl ConnectionFace {
    /// Unique among all connections of this host.
    #[getter]
    fn id(&self) -> &str {
        self.connection.id()
    }

    /// Who is at the other end.
    #[getter]
    fn principal(&self) -> PrincipalFace {
        PrincipalFace::new(self.connection.principal())
    }

    /// A dict of the plugin's own for this connection.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        self.state.bind(py).clone()
    }

    /// Whether it is closed or closing.
    #[getter]
    fn closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Send any frame, a JSON object. Awaitable; the frame is on its way when this returns, also without ``await``.
    ///
    /// Sending to a connection that is gone does nothing. One that does not read is closed with 1013. Raises
    /// ``InvalidError`` for what is no JSON object.
    fn send_json<'py>(&self, frame: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = frame.py();
        let json = json_given(frame).map_err(|error| error_into_python(py, &error))?;
        if !json.as_bytes().starts_with(b"{") {
            let message = "a frame is a JSON object: send one like {\"channel\": \"chat\", \"data\": …}";
            return Err(error_into_python(py, &Error::new(Kind::Invalid, message)));
        }
        // A connection that is gone, or closing for being slow, ends its handlers by itself.
        let _ = self.connection.send(ServerFrame::whole(json));
        Done::nothing(py)
    }

    /// Close the connection after what waits was sent: a close code (1000, or 3000 to 4999) and a reason.
    #[pyo3(signature = (code = 1000, reason = ""))]
    fn close<'py>(&self, py: Python<'py>, code: u16, reason: &str) -> PyResult<Bound<'py, PyAny>> {
        if !(code == 1000
            || (1001..=1014).contains(&code) && !(1004..=1006).contains(&code)
            || (3000..5000).contains(&code))
        {
            let message = format!("close code {code} cannot be sent: use 1000, or 3000 to 4999 (RFC 6455 section 7.4)");
            return Err(error_into_python(py, &Error::new(Kind::Invalid, message)));
        }
        self.connection.close(code, reason);
        Done::nothing(py)
    }

    /// Call ``callback()``, plain or async, once this connection is gone.
    fn on_close(&self, callback: Py<PyAny>) {
        let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(callbacks) = callbacks.as_mut() {
            return callbacks.push(callback);
        }
        drop(callbacks);
        // It is gone already.
        let plugin = self.channels.plugin.clone();
        let run = move |py: Python<'_>| call_back(py, &callback, &plugin);
        self.channels.event_loop.signal(Signal::Run(Box::new(run)));
    }

    /// Receive what is published to a topic of this plugin's channels.
    fn subscribe<'py>(&self, py: Python<'py>, topic: &str) -> PyResult<Bound<'py, PyAny>> {
        let checked = self.channels.channel_of(topic);
        checked
            .and_then(|_| self.channels.hub.subscribe(&self.connection, topic))
            .map_err(|error| error_into_python(py, &error))?;
        Done::nothing(py)
    }

    /// No longer receive what is published to a topic.
    fn unsubscribe<'py>(&self, py: Python<'py>, topic: &str) -> PyResult<Bound<'py, PyAny>> {
        self.channels.hub.unsubscribe(&self.connection, topic);
        Done::nothing(py)
    }

    fn __repr__(&self) -> String {
        format!("<Connection {} of {}>", self.connection.id(), self.connection.principal().name())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.state)?;
        if let Ok(callbacks) = self.callbacks.try_lock() {
            for callback in callbacks.iter().flatten() {
                visit.call(callback)?;
            }
        }
        Ok(())
    }
}
