//! What commands do in a home folder or look at by themselves, when no host runs there.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

use crate::base::error::Result;
use crate::engine::process::manifest::ChildManifest;
use crate::engine::python::convert::error_into_python;
use crate::kernel::secrets::Secrets;
use crate::kernel::switches::Switches;

/// What is odd in the `manifest.json` of a folder and does no harm.
///
/// # Errors
/// As `ChildManifest::read`.
#[pyfunction]
pub fn manifest_notes(py: Python<'_>, folder: PathBuf) -> PyResult<Vec<String>> {
    within(py, || ChildManifest::read(&folder).map(|manifest| manifest.notes))
}

/// Keeps a secret of a plugin.
///
/// # Errors
/// As `Secrets::set`.
#[pyfunction]
pub fn set_secret(py: Python<'_>, home: &str, plugin: &str, name: &str, value: &str) -> PyResult<()> {
    within(py, || Secrets::beside_host(Path::new(home)).set(plugin, name, value))
}

/// Removes a secret of a plugin.
///
/// # Errors
/// As `Secrets::remove`.
#[pyfunction]
pub fn remove_secret(py: Python<'_>, home: &str, plugin: &str, name: &str) -> PyResult<()> {
    within(py, || Secrets::beside_host(Path::new(home)).remove(plugin, name))
}

/// The names of a plugin's secrets.
///
/// # Errors
/// As `Secrets::list`.
#[pyfunction]
pub fn list_secrets(py: Python<'_>, home: &str, plugin: &str) -> PyResult<Vec<String>> {
    within(py, || Secrets::beside_host(Path::new(home)).list(plugin))
}

/// The plugins in the folder `plugins` of a home folder that are switched off.
///
/// # Errors
/// As `Switches::off_at`.
#[pyfunction]
pub fn switched_off(py: Python<'_>, home: PathBuf) -> PyResult<Vec<String>> {
    within(py, || Switches::off_at(&home))
}

/// Runs what may wait for the disk without holding the interpreter.
fn within<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| error_into_python(py, &error))
}
