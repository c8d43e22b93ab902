//! How asyncio tasks are made and their steps read.

use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::types::iterator::PySendResult;

/// Makes asyncio tasks of one loop.
pub struct NewTask {
    task: Py<PyAny>,
    coroutine: Py<PyAny>,
    keywords: Py<PyDict>,
    /// Whether a task takes its first step while it is made.
    pub eager: bool,
}

impl NewTask {
    /// Of this loop.
    ///
    /// # Errors
    /// Python is out of memory.
    pub fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        // `asyncio.Task` takes `eager_start` since Python 3.12.
        let eager = py.version_info() >= (3, 12);
        let keywords = PyDict::new(py);
        keywords.set_item("loop", event_loop)?;
        if eager {
            keywords.set_item("eager_start", true)?;
        }
        let task = py.import("asyncio")?.getattr("Task")?.unbind();
        let coroutine = py.import("types")?.getattr("CoroutineType")?.unbind();
        Ok(Self { task, coroutine, keywords: keywords.unbind(), eager })
    }

    /// What a task can drive: a coroutine as it is, the iterator of any other awaitable.
    ///
    /// # Errors
    /// `TypeError`: it is not awaitable.
    pub fn coroutine<'py>(&self, result: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = result.py();
        if result.get_type().is(self.coroutine.bind(py)) {
            return Ok(result);
        }
        if result.hasattr(intern!(py, "__await__"))? {
            return result.call_method0(intern!(py, "__await__"));
        }
        let kind = result.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "expected an awaitable from an async handler, found {kind}: declare it `async def`"
        )))
    }

    /// Starts a task; `None` when it has ended already.
    ///
    /// # Errors
    /// What the constructor raises.
    pub fn start<'py>(&self, py: Python<'py>, turn: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let task = self.task.bind(py).call((turn,), Some(self.keywords.bind(py)))?;
        if self.eager && task.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(None);
        }
        Ok(Some(task))
    }
}

/// What `send` or `throw` gave, with the end of a coroutine as a value.
///
/// # Errors
/// What was raised, unless it is the end of the coroutine.
pub fn sent<'py>(py: Python<'py>, outcome: PyResult<Bound<'py, PyAny>>) -> PyResult<PySendResult<'py>> {
    match outcome {
        Ok(awaited) => Ok(PySendResult::Next(awaited)),
        Err(error) => match error.value(py).cast::<PyStopIteration>() {
            Ok(stop) => Ok(PySendResult::Return(stop.getattr(intern!(py, "value"))?)),
            Err(_) => Err(error),
        },
    }
}
