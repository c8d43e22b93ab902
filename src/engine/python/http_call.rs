//! The call of an ASGI app with an HTTP request: its scope, its `receive` and its `send`.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::base::error::Error;
use crate::engine::python::awaitable::{Done, future};
use crate::engine::python::event_loop::Signal;
use crate::engine::python::http_exchange::Exchange;
use crate::engine::python::http_message::required;
use crate::engine::python::job::{Asked, Job, lost};
use crate::engine::python::mounted::Mounted;
use crate::engine::python::scope::Scope;

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
        let waiter = future(py, self.exchange.event_loop())?;
        self.exchange.receivers.join(&waiter);
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
                let waiter = future(py, self.exchange.event_loop())?;
                self.exchange.senders.join(&waiter);
                // The stream may have been emptied before the waiter stood there.
                self.exchange.event_loop().signal(Signal::Poke(self.exchange.clone()));
                return Ok(waiter);
            }
            // A `receive` that waits for the end of the exchange has it now.
            if self.exchange.is_finished() && !self.exchange.receivers.is_empty() {
                self.exchange.event_loop().signal(Signal::Poke(self.exchange.clone()));
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
        Python::attach(|py| {
            self.exchange.receivers.clear(py);
            self.exchange.senders.clear(py);
        });
    }
}

/// The call of an ASGI app with a request.
pub struct HttpJob {
    /// The request and its response.
    pub exchange: Arc<Exchange>,
    /// What the scope is made of; taken by the call.
    pub scope: Option<Scope>,
    /// Whether the request comes from another handler of the plugin.
    pub asked: Asked,
}

impl Drop for HttpJob {
    fn drop(&mut self) {
        // Dropped before it was answered: nobody will. After an answer this changes nothing.
        self.exchange.refuse(lost());
    }
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
        self.exchange.refuse(error);
    }

    fn is_abandoned(&self) -> bool {
        self.exchange.is_disconnected()
    }

    fn asked(&self) -> Asked {
        self.asked
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn deliver(self: Box<Self>) {}
}
