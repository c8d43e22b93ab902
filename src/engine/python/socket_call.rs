//! The call of an ASGI app with a WebSocket: its scope, its `receive` and its `send`.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::base::error::Error;
use crate::engine::python::awaitable::{Done, future};
use crate::engine::python::event_loop::Signal;
use crate::engine::python::job::Job;
use crate::engine::python::mounted::Mounted;
use crate::engine::python::scope::Scope;
use crate::engine::python::socket_exchange::SocketExchange;

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
        let waiter = future(py, self.exchange.event_loop())?;
        self.exchange.receivers.join(&waiter);
        Ok(waiter)
    }
}

impl Drop for SocketReceive {
    fn drop(&mut self) {
        Python::attach(|py| {
            self.exchange.receivers.clear(py);
            self.exchange.senders.clear(py);
        });
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
        if !self.exchange.say(message)? {
            return Done::nothing(py);
        }
        let waiter = future(py, self.exchange.event_loop())?;
        self.exchange.senders.join(&waiter);
        // The message may have gone before the waiter stood there.
        self.exchange.event_loop().signal(Signal::Poke(self.exchange.clone()));
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
        self.exchange.refuse(error);
    }

    fn is_abandoned(&self) -> bool {
        self.exchange.is_gone()
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn deliver(self: Box<Self>) {}
}
