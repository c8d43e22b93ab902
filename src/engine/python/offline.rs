//! What commands do in a home folder or look at by themselves, when no host runs there.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

use crate::base::error::Result;
use crate::engine::process::manifest::ChildManifest;
use crate::engine::python::convert::error_into_python;
use crate::kernel::secrets::Secrets;
use crate::kernel::switches::Switches;

/// What is odd in the `manifest.json` of a folder and does no harm, and whether its server is still to be built.
///
/// # Errors
/// As `ChildManifest::read`.
#[pyfunction]
pub fn manifest_notes(py: Python<'_>, folder: PathBuf) -> PyResult<Vec<String>> {
    within(py, || {
        let manifest = ChildManifest::read(&folder)?;
        let mut notes = manifest.notes.clone();
        if let Some(server) = manifest.server.as_ref().filter(|server| !manifest.folder.join(server).is_file()) {
            let (id, folder) = (&manifest.id, manifest.folder.display());
            notes.push(format!("plugin {id}: its server {server:?} is not in {folder} yet: build it"));
        }
        Ok(notes)
    })
}

/// What the `manifest.json` of a folder offers, a line each: a server, a page.
///
/// # Errors
/// As `ChildManifest::read`.
#[pyfunction]
pub fn manifest_offers(py: Python<'_>, folder: PathBuf) -> PyResult<Vec<String>> {
    within(py, || {
        let manifest = ChildManifest::read(&folder)?;
        let (id, mut lines) = (&manifest.id, Vec::new());
        if manifest.has_server() {
            let command = manifest.command.join(" ");
            lines.push(format!("server   {command}, at /api/plugins/{id}/rpc/… and /plugin-ws/{id}"));
        }
        lines.push(format!("page     /api/plugins/{id}/assets/{}", manifest.entry));
        Ok(lines)
    })
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
