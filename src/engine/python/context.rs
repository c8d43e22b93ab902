//! Copies of the context that Python code runs in (PEP 567).

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A copy of this thread's context; of the running task's, on a loop.
///
/// # Errors
/// Python is out of memory.
pub fn copied(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    COPY.import(py, "contextvars", "copy_context")?.call0()
}

/// `target` as a callable that runs in a copy of the thread's context, so that what it sets there ends with the call.
///
/// # Errors
/// Python is out of memory.
pub fn in_own_context<'py>(target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static PARTIAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = target.py();
    let run = copied(py)?.getattr(intern!(py, "run"))?;
    PARTIAL.import(py, "functools", "partial")?.call1((run, target))
}
