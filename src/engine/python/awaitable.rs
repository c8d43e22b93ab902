//! Awaitables for Python: one that is finished already, and one that a later signal finishes.

use std::sync::Arc;

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::engine::python::event_loop::EventLoop;

/// An awaitable whose result is there: awaiting it neither suspends nor makes a future.
#[pyclass(frozen, module = "plugbay._core")]
pub struct Done {
    value: Py<PyAny>,
}

impl Done {
    /// An awaitable that gives `value`.
    ///
    /// # Errors
    /// Python is out of memory.
    pub fn with<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        Ok(Bound::new(py, Self { value: value.unbind() })?.into_any())
    }

    /// An awaitable that gives `None`; always the same object.
    ///
    /// # Errors
    /// Python is out of memory.
    pub fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static NOTHING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let nothing = NOTHING.get_or_try_init(py, || Self::with(py.None().into_bound(py)).map(Bound::unbind))?;
        Ok(nothing.bind(py).clone())
    }
}

#[pymethods]
impl Done {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.value.is_none(py) {
            return Ok(None);
        }
        // A tuple or an exception as the value would be spread into the exception's arguments.
        Err(PyStopIteration::new_err((self.value.clone_ref(py),)))
    }
}

/// An asyncio future of the loop of a lane, to be finished on the loop's thread.
///
/// # Errors
/// The loop has ended.
pub fn future<'py>(py: Python<'py>, event_loop: &Arc<EventLoop>) -> PyResult<Bound<'py, PyAny>> {
    match event_loop.event_loop(py) {
        Some(event_loop) => event_loop.call_method0(intern!(py, "create_future")),
        None => Err(pyo3::exceptions::PyRuntimeError::new_err("the event loop has ended")),
    }
}

/// Finishes a future unless its waiter has given up. Returns whether it took the result.
///
/// # Errors
/// What the future raises.
pub fn finish(future: &Bound<'_, PyAny>, outcome: PyResult<Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = future.py();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(false);
    }
    match outcome {
        Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
        // With its traceback, which `value` alone may lack.
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
    };
    Ok(true)
}
