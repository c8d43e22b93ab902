//! An ASGI app together with the state that its lifespan made.

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::PyDict;

/// What the table holds for a mount.
#[pyclass(frozen, module = "plugbay._core")]
pub struct Mounted {
    app: Py<PyAny>,
    state: Py<PyDict>,
}

impl Mounted {
    /// An app and the dict that is copied into the `state` of each scope.
    pub fn new(app: Py<PyAny>, state: Py<PyDict>) -> Self {
        Self { app, state }
    }

    /// The app.
    pub fn app<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.app.bind(py)
    }

    /// The state.
    pub fn state<'py>(&self, py: Python<'py>) -> &Bound<'py, PyDict> {
        self.state.bind(py)
    }
}

#[pymethods]
impl Mounted {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.app)?;
        visit.call(&self.state)
    }
}
