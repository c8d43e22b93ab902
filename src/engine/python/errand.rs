//! An errand of an `async def` handler: a function that may block, run on the worker threads while the coroutine waits.
//!
//! What it returns goes from the worker straight into the loop's lane. An errand that the pool has no thread for is given
//! back, not refused: who asked has another way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;

use crate::base::error::Error;
use crate::engine::python::awaitable::{finish, future};
use crate::engine::python::bridge::Bridge;
use crate::engine::python::context::copied;
use crate::engine::python::convert::error_into_python;
use crate::engine::python::engine::PythonEngine;
use crate::engine::python::event_loop::{EventLoop, Signal};
use crate::engine::python::job::{Asked, Handler, Job, Where};
use crate::engine::python::workers::is_slow;

/// Where one function is sent to run.
#[pyclass(frozen, name = "Errands", module = "plugbay._core")]
pub struct Errands {
    bridge: Bridge,
    /// Whose function it is, and whether it was slow the last time. It holds no object.
    handler: Handler,
}

#[pymethods]
impl Errands {
    #[new]
    fn new(py: Python<'_>, plugin: &str) -> PyResult<Self> {
        let bridge = PythonEngine::current().map_err(|error| error_into_python(py, &error))?.bridge;
        let handler = bridge.hold(py.None().into_bound(py), &plugin.into(), Where::Worker);
        Ok(Self { bridge, handler })
    }

    #[getter]
    fn are_slow(&self) -> bool {
        self.handler.facts().slow.load(Ordering::Relaxed)
    }

    fn lasted(&self, seconds: f64) {
        self.handler.facts().slow.store(is_slow(seconds), Ordering::Relaxed);
    }

    fn send<'py>(
        &self,
        within: Bound<'py, PyAny>,
        function: Bound<'py, PyAny>,
        given_back: Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Ticket)> {
        let py = within.py();
        let event_loop = self.bridge.event_loop().clone();
        let future = future(py, &event_loop)?;
        let mut ticket = Ticket { bridge: self.bridge.clone(), key: 0, abandoned: Arc::default() };
        let errand = Errand {
            within: within.unbind(),
            function: function.unbind(),
            context: copied(py)?.unbind(),
            abandoned: ticket.abandoned.clone(),
            way_back: Some(WayBack {
                event_loop,
                future: future.clone().unbind(),
                given_back: given_back.clone().unbind(),
            }),
        };
        match self.bridge.send_as(&self.handler, Box::new(errand), |key| ticket.key = key) {
            // The ticket is what ends it.
            Ok(guard) => guard.done(),
            // The job was dropped, and with it the way back; there is one for it here.
            Err(_) => future.call_method1(intern!(py, "set_result"), (given_back,)).map(drop)?,
        }
        Ok((future, ticket))
    }
}

/// An errand that is under way.
#[pyclass(frozen, module = "plugbay._core")]
pub struct Ticket {
    bridge: Bridge,
    key: u64,
    abandoned: Arc<AtomicBool>,
}

#[pymethods]
impl Ticket {
    fn abandon(&self) {
        // In this order: one that begins meanwhile sees the first or is found by the second.
        self.abandoned.store(true, Ordering::SeqCst);
        self.bridge.abandon(self.key);
    }
}

struct Errand {
    within: Py<PyAny>,
    function: Py<PyAny>,
    context: Py<PyAny>,
    abandoned: Arc<AtomicBool>,
    /// Taken when there is something to say.
    way_back: Option<WayBack>,
}

struct WayBack {
    event_loop: Arc<EventLoop>,
    future: Py<PyAny>,
    /// What the future gives when the errand was not run.
    given_back: Py<PyAny>,
}

impl WayBack {
    fn tell(self, outcome: impl FnOnce(Py<PyAny>) -> PyResult<Py<PyAny>> + Send + 'static) {
        let Self { event_loop, future, given_back } = self;
        event_loop.signal(Signal::Run(Box::new(move |py| {
            let outcome = outcome(given_back).map(|value| value.into_bound(py));
            if let Err(error) = finish(future.bind(py), outcome) {
                error.write_unraisable(py, None);
            }
        })));
    }
}

impl Job for Errand {
    fn call<'py>(&mut self, py: Python<'py>, _target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.context.bind(py).call_method1(intern!(py, "run"), (&self.within, &self.function))
    }

    fn settle(&mut self, py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> bool {
        let outcome = outcome.map(Bound::unbind).map_err(|error| match error.is_instance_of::<PyStopIteration>(py) {
            // A future takes none; a coroutine that raises one raises this.
            true => {
                let raised = pyo3::exceptions::PyRuntimeError::new_err("coroutine raised StopIteration");
                raised.set_cause(py, Some(error));
                raised
            }
            false => error,
        });
        // Where no loop is left nobody waits, and what came goes here and now.
        if let Some(way_back) = self.way_back.take().filter(|way| way.event_loop.event_loop(py).is_some()) {
            way_back.tell(|_| outcome);
        }
        // What it raises is the handler's to deal with, and counted with it.
        true
    }

    fn refuse(&mut self, _error: Error) {
        if let Some(way_back) = self.way_back.take() {
            way_back.tell(Ok);
        }
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    fn asked(&self) -> Asked {
        Asked::Again
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn has_another_way(&self) -> bool {
        true
    }

    fn deliver(self: Box<Self>) {}
}
