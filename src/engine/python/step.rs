//! A step of an `async def` handler that may block, on the worker threads: a dependency that is a plain function, say.
//!
//! Its result goes from the worker straight into the loop's lane. A step that the pool has no thread for is not refused but
//! given back: who asked has another way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::base::error::Error;
use crate::engine::python::awaitable::{finish, future};
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::error_into_python;
use crate::engine::python::engine::PythonEngine;
use crate::engine::python::event_loop::{EventLoop, Signal};
use crate::engine::python::job::{Asked, Handler, Job, Where};
use crate::engine::python::workers::is_slow;

/// Where the steps of one function are asked for.
#[pyclass(frozen, name = "Step", module = "plugbay._core")]
pub struct StepFace {
    bridge: Bridge,
    /// Whose step it is, and whether it was slow the last time. It holds no object.
    handler: Handler,
}

#[pymethods]
impl StepFace {
    #[new]
    fn new(py: Python<'_>, plugin: &str) -> PyResult<Self> {
        let bridge = PythonEngine::current().map_err(|error| error_into_python(py, &error))?.bridge;
        let handler = bridge.hold(py.None().into_bound(py), &plugin.into(), Where::Worker);
        Ok(Self { bridge, handler })
    }

    #[getter]
    fn is_slow(&self) -> bool {
        self.handler.facts().slow.load(Ordering::Relaxed)
    }

    fn took(&self, seconds: f64) {
        self.handler.facts().slow.store(is_slow(seconds), Ordering::Relaxed);
    }

    fn ask<'py>(
        &self,
        run: Bound<'py, PyAny>,
        call: Bound<'py, PyAny>,
        given_back: Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, u64)> {
        static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = run.py();
        let event_loop = self.bridge.event_loop().clone();
        let future = future(py, &event_loop)?;
        let step = Step {
            run: run.unbind(),
            call: call.unbind(),
            context: COPY.import(py, "contextvars", "copy_context")?.call0()?.unbind(),
            way_back: Some(WayBack {
                event_loop,
                future: future.clone().unbind(),
                given_back: given_back.clone().unbind(),
            }),
        };
        let mut key = 0;
        match self.bridge.send_as(&self.handler, Box::new(step), |named| key = named) {
            Ok(guard) => guard.done(),
            // The job was dropped, and with it the way back; there is one for it here.
            Err(_) => future.call_method1(intern!(py, "set_result"), (given_back,)).map(drop)?,
        }
        Ok((future, key))
    }

    fn abandon(&self, key: u64) {
        self.bridge.abandon(key);
    }
}

struct Step {
    run: Py<PyAny>,
    call: Py<PyAny>,
    context: Py<PyAny>,
    /// Taken when there is something to say.
    way_back: Option<WayBack>,
}

struct WayBack {
    event_loop: Arc<EventLoop>,
    future: Py<PyAny>,
    /// What the future gives when the step was not run.
    given_back: Py<PyAny>,
}

impl Step {
    fn send(&mut self, outcome: impl FnOnce(Python<'_>, Py<PyAny>) -> PyResult<Py<PyAny>> + Send + 'static) {
        let Some(WayBack { event_loop, future, given_back }) = self.way_back.take() else { return };
        event_loop.signal(Signal::Run(Box::new(move |py| {
            let outcome = outcome(py, given_back).map(|value| value.into_bound(py));
            // A future takes no `StopIteration`, and says so.
            let told = finish(future.bind(py), outcome).or_else(|error| finish(future.bind(py), Err(error)));
            if let Err(error) = told {
                error.write_unraisable(py, None);
            }
        })));
    }
}

impl Job for Step {
    fn call<'py>(&mut self, py: Python<'py>, _target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.context.bind(py).call_method1(intern!(py, "run"), (&self.run, &self.call))
    }

    fn settle(&mut self, _py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> bool {
        let outcome = outcome.map(Bound::unbind);
        self.send(|_, _| outcome);
        // What it raises is the handler's to deal with, and counted with it.
        true
    }

    fn refuse(&mut self, _error: Error) {
        self.send(|_, given_back| Ok(given_back));
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn asked(&self) -> Asked {
        Asked::Again
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn deliver(self: Box<Self>) {}
}
