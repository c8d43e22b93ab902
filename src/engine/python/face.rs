//! The functions of `plugbay._core`: the registry and the toolbox as Python sees them.

#![expect(clippy::too_many_arguments, reason = "what Python passes, by name or position, from one place each")]

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use time::format_description::well_known::Rfc3339;

use crate::base::error::{Error, Kind, Traceback};
use crate::base::name::ToolName;
use crate::engine::python::asgi::AsgiApp;
use crate::engine::python::bridge::LOADERS_GIVEN_UP;
use crate::engine::python::convert::error_into_python;
use crate::engine::python::draft::Factory;
use crate::engine::python::engine::PythonEngine;
use crate::engine::python::mounted::Mounted;
use crate::kernel::auth::{Principal, Scopes};
use crate::kernel::call::{Arguments, Door, ToolCall};
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::handler::RouteNote;
use crate::kernel::provider::{Format, describe_all, provider_names};
use crate::kernel::registry::Engine;
use crate::kernel::search::search;
use crate::kernel::specifier::Template;
use crate::kernel::toolbox::Misfit;

fn engine(py: Python<'_>) -> PyResult<PythonEngine> {
    PythonEngine::current().map_err(|error| error_into_python(py, &error))
}

/// Keep what went wrong with a plugin.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn record(
    py: Python<'_>,
    source: &str,
    plugin: Option<&str>,
    stage: &str,
    code: &str,
    message: &str,
    traceback: Option<&str>,
) -> PyResult<()> {
    let stage = Stage::ALL.into_iter().find(|known| known.as_str() == stage);
    let (Some(stage), Some(kind)) = (stage, Kind::from_code(code)) else {
        let message = format!("{code:?} is no code, or the stage is none of {:?}", Stage::ALL.map(Stage::as_str));
        return Err(error_into_python(py, &Error::new(Kind::Invalid, message)));
    };
    let mut error = Error::new(kind, message);
    if let Some(traceback) = traceback {
        error = error.with_source(Traceback(traceback.into()));
    }
    engine(py)?.registry.record(PluginError::new(source, plugin.map(Into::into), stage, &error));
    Ok(())
}

type ProviderTools = (Vec<String>, Vec<(String, String)>);

/// The tools in a provider's format: each as JSON text, and the tool's own name for each name that the provider sees.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn provider_tools(py: Python<'_>, format: &str) -> PyResult<ProviderTools> {
    let format = Format::parse(format).map_err(|error| error_into_python(py, &error))?;
    let snapshot = engine(py)?.registry.snapshot();
    let described = describe_all(format, &snapshot).iter().map(ToString::to_string).collect();
    let names = provider_names(&snapshot).into_iter().map(|(tool, name)| (name, tool.to_string())).collect();
    Ok((described, names))
}

type ErrorRow = (String, Option<String>, &'static str, &'static str, String, Option<String>, String);

/// What went wrong, oldest first: `(source, plugin, stage, code, message, traceback, at)`.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn errors(py: Python<'_>) -> PyResult<Vec<ErrorRow>> {
    let row = |error: PluginError| {
        let at = error.at.format(&Rfc3339).unwrap_or_default();
        let plugin = error.plugin.map(|plugin| plugin.to_string());
        let traceback = error.traceback.map(|traceback| traceback.to_string());
        (error.source.to_string(), plugin, error.stage.as_str(), error.code, error.message.to_string(), traceback, at)
    };
    Ok(engine(py)?.registry.errors().into_iter().map(row).collect())
}

type PluginRow = (String, String, String, String, String, String, &'static str);

/// The plugins, in the order of commit: `(id, name, version, description, host_api, source, engine)`.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn plugins(py: Python<'_>) -> PyResult<Vec<PluginRow>> {
    let snapshot = engine(py)?.registry.snapshot();
    let row = |plugin: &std::sync::Arc<crate::kernel::registry::Plugin>| {
        let manifest = &plugin.manifest;
        let engine = match plugin.engine {
            Engine::Python => "python",
            Engine::Process => "process",
            Engine::Native => "native",
            Engine::Mcp => "mcp",
        };
        (
            manifest.id.to_string(),
            manifest.name.to_string(),
            manifest.version.to_string(),
            manifest.description.to_string(),
            manifest.host_api.to_string(),
            plugin.source.to_string(),
            engine,
        )
    };
    Ok(snapshot.plugins().iter().map(row).collect())
}

/// Keeps that a plugin was not loaded, because it is switched off.
///
/// # Errors
/// As [`plugins`].
#[pyfunction]
pub fn pass_over(py: Python<'_>, id: &str, source: &str) -> PyResult<()> {
    engine(py)?.registry.pass_over(id, source);
    Ok(())
}

/// The plugins that were not loaded because they are switched off: `(id, source)`.
///
/// # Errors
/// As [`plugins`].
#[pyfunction]
pub fn passed_over(py: Python<'_>) -> PyResult<Vec<(String, String)>> {
    Ok(engine(py)?.registry.passed_over())
}

/// The tools, by name, as dicts; `parameters` and `output` are JSON text.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn tools(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let snapshot = engine(py)?.registry.snapshot();
    let mut rows = Vec::new();
    for tool in snapshot.tools() {
        let row = PyDict::new(py);
        row.set_item("name", tool.name.as_str())?;
        row.set_item("plugin", tool.plugin.manifest.id.as_str())?;
        row.set_item("description", &*tool.description)?;
        row.set_item("parameters", tool.parameters.text().as_str())?;
        row.set_item("output", tool.output.as_ref().map(|schema| schema.text().as_str()))?;
        row.set_item("side_effect", tool.side_effect)?;
        row.set_item("specifier_template", tool.specifier_template.as_ref().map(Template::as_str))?;
        row.set_item("fingerprint", snapshot.identity(tool.name.as_str()).map(|it| it.fingerprint.to_string()))?;
        row.set_item("group", tool.group.as_deref())?;
        row.set_item("timeout_s", tool.timeout.as_secs_f64())?;
        row.set_item("max_concurrency", tool.concurrency.map(NonZeroUsize::get))?;
        rows.push(row);
    }
    Ok(rows)
}

/// The names of the tools that have these words, the best first.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn search_tools(py: Python<'_>, text: &str) -> PyResult<Vec<String>> {
    let snapshot = engine(py)?.registry.snapshot();
    Ok(search(&snapshot, text).into_iter().map(|tool| tool.name.to_string()).collect())
}

/// The channels, by name: `(name, plugin)`.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn channels(py: Python<'_>) -> PyResult<Vec<(String, String)>> {
    let snapshot = engine(py)?.registry.snapshot();
    let rows = snapshot.channels();
    Ok(rows.into_iter().map(|it| (it.name.to_string(), it.plugin.manifest.id.to_string())).collect())
}

/// The facades, by name: `(name, plugin, factory)`.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn facades(py: Python<'_>) -> PyResult<Vec<(String, String, Bound<'_, PyAny>)>> {
    let snapshot = engine(py)?.registry.snapshot();
    let mut rows = Vec::new();
    for facade in snapshot.facades() {
        if let Some(factory) = facade.factory.downcast_ref::<Factory>() {
            rows.push((facade.name.to_string(), facade.plugin.manifest.id.to_string(), factory.0.target(py)));
        }
    }
    Ok(rows)
}

/// The mounts, by prefix: `(prefix, plugin, app)`.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn mounts(py: Python<'_>) -> PyResult<Vec<(String, String, Py<PyAny>)>> {
    let snapshot = engine(py)?.registry.snapshot();
    let mut rows = Vec::new();
    for mount in snapshot.mounts() {
        let app = mount.handler.as_any().and_then(|handler| handler.downcast_ref::<AsgiApp>());
        if let Some(app) = app {
            let mounted = app.handler().target(py);
            let app = mounted.cast::<Mounted>()?.get().app(py).clone().unbind();
            rows.push((mount.prefix.to_string(), mount.plugin.manifest.id.to_string(), app));
        }
    }
    rows.sort_by(|left, right| (&left.0, &left.1).cmp(&(&right.0, &right.1)));
    Ok(rows)
}

/// The routes of all mounts, in the order in which they are tried: `(prefix, plugin, methods, path, name, compiled,
/// reason)`.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn routes(py: Python<'_>) -> PyResult<Vec<RouteRow>> {
    let snapshot = engine(py)?.registry.snapshot();
    let mut mounts = snapshot.mounts().collect::<Vec<_>>();
    mounts.sort_by_key(|mount| (mount.prefix.to_string(), mount.plugin.manifest.id.to_string()));
    let mut rows = Vec::new();
    for mount in mounts {
        for note in mount.handler.routes() {
            let RouteNote { methods, path, name, is_compiled, reason } = note.clone();
            let (prefix, plugin) = (mount.prefix.to_string(), mount.plugin.manifest.id.to_string());
            rows.push((prefix, plugin, methods, path, name, is_compiled, reason));
        }
    }
    Ok(rows)
}

type RouteRow = (String, String, Vec<String>, String, Option<String>, bool, Option<String>);

/// Take a plugin out. The Python objects that it offered are let go before this returns. False when there was none.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn withdraw(py: Python<'_>, id: &str) -> PyResult<bool> {
    let engine = engine(py)?;
    let gone = engine.registry.withdraw(id).is_some();
    engine.bridge.sweep(py);
    Ok(gone)
}

/// Take out every plugin and forget every error. For tests.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn reset(py: Python<'_>) -> PyResult<()> {
    let engine = engine(py)?;
    engine.registry.reset();
    engine.bridge.sweep(py);
    Ok(())
}

/// Rises by one with every change of what serves.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn generation(py: Python<'_>) -> PyResult<u64> {
    Ok(engine(py)?.registry.snapshot().generation())
}

/// Run a tool as the owner, on behalf of the running loop; JSON bytes in, an awaitable of JSON bytes out.
///
/// # Errors
/// The system has no file descriptor left for the bridge.
#[pyfunction]
pub fn invoke<'py>(
    py: Python<'py>,
    name: &str,
    arguments: &Bound<'py, PyBytes>,
    door: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let engine = engine(py)?;
    let door = door_of(door);
    let owner = Principal::new("owner", Scopes::ALL);
    let call = ToolName::parse(name)
        .map_err(|error| Error::new(Kind::NotFound, error.message()))
        .and_then(|tool| Ok((tool, Arguments::parse(Bytes::copy_from_slice(arguments.as_bytes()))?)))
        .map_err(|error| engine.toolbox.refuse(&Misfit { door, principal: &owner, tool: name }, error))
        .map(|(tool, arguments)| ToolCall { tool, arguments, principal: owner.clone(), door, progress: None });
    engine.invoke(py, call.map_err(|error| error_into_python(py, &error))?)
}

/// Record a call of a tool whose arguments cannot even be written as JSON.
///
/// # Errors
/// The system has no file descriptor left for the bridge; `BusyError`: there is no room for the record.
#[pyfunction]
pub fn refuse(py: Python<'_>, name: &str, door: &str) -> PyResult<()> {
    let misfit = Misfit { door: door_of(door), principal: &Principal::new("owner", Scopes::ALL), tool: name };
    let refused = Error::new(Kind::Invalid, "the arguments are no JSON");
    let error = engine(py)?.toolbox.refuse(&misfit, refused);
    if error.kind() == Kind::Invalid { Ok(()) } else { Err(error_into_python(py, &error)) }
}

fn door_of(word: &str) -> Door {
    match word {
        "repl" => Door::Repl,
        "cli" => Door::CommandLine,
        _ => Door::Python,
    }
}

/// Count a loader thread as given up (1), or as come back (-1).
#[pyfunction]
pub fn loader_given_up(change: i64) {
    LOADERS_GIVEN_UP.fetch_add(change, Ordering::Relaxed);
}

/// Hand a record of Python's `logging` to the host's log. Never waits.
#[pyfunction]
pub fn log(level: u32, logger: &str, message: &str) {
    match level {
        40.. => tracing::error!(target: "plugbay::python", logger, "{message}"),
        30.. => tracing::warn!(target: "plugbay::python", logger, "{message}"),
        20.. => tracing::info!(target: "plugbay::python", logger, "{message}"),
        _ => tracing::debug!(target: "plugbay::python", logger, "{message}"),
    }
}
