//! Python functions as handlers of tools, hooks and texts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::prelude::{BASE64_STANDARD, Engine};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::base::error::Result;
use crate::base::json::Json;
use crate::engine::python::awaitable::Done;
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::{error_from_python, json_from_python, json_into_python};
use crate::engine::python::job::Handler;
use crate::engine::python::scope::PrincipalFace;
use crate::kernel::auth::Principal;
use crate::kernel::call::{Moment, Progress};
use crate::kernel::gate::Admitted;
use crate::kernel::handler::{Answer, HookHandler, TextHandler, ToolHandler};

/// A function that runs a tool: `handler(args)` or `handler(args, ctx)`.
pub struct PythonTool {
    bridge: Bridge,
    handler: Handler,
    context: Context,
}

/// Whether a tool's handler takes the context of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// `handler(args, ctx)`.
    Wanted,
    /// `handler(args)`.
    Unwanted,
}

impl PythonTool {
    /// The tool that `handler` holds.
    pub fn new(bridge: Bridge, handler: Handler, context: Context) -> Self {
        Self { bridge, handler, context }
    }
}

impl ToolHandler for PythonTool {
    fn run(&self, call: Admitted) -> Answer<Json> {
        let call = call.into_call();
        let plugin = self.handler.facts().plugin.clone();
        let gone = Gone::default();
        let context = (self.context == Context::Wanted).then(|| ToolContext {
            principal: call.principal.clone(),
            progress: call.progress.clone(),
            plugin,
            gone: gone.flag.clone(),
        });
        let arguments = call.arguments.text().clone();
        let answer = self.bridge.ask(
            &self.handler,
            move |py, target| {
                let arguments = json_into_python(py, &arguments)?;
                match context {
                    Some(context) => target.call1((arguments, context)),
                    None => target.call1((arguments,)),
                }
            },
            json_outcome,
        );
        Box::pin(async move {
            let result = answer.await;
            gone.forget();
            result
        })
    }
}

/// Sets a flag when the call that it belongs to is dropped before its end.
#[derive(Default)]
struct Gone {
    flag: Arc<AtomicBool>,
    over: AtomicBool,
}

impl Gone {
    fn forget(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Relaxed) {
            self.flag.store(true, Ordering::Relaxed);
        }
    }
}

/// What a tool's handler may know of its call and say while it runs.
#[pyclass(frozen, module = "plugbay._core")]
pub struct ToolContext {
    principal: Principal,
    progress: Option<Progress>,
    plugin: Arc<str>,
    gone: Arc<AtomicBool>,
}

#[pymethods]
impl ToolContext {
    /// Say how far the call is: a fraction from 0 to 1, and a message. Awaitable, and from a plain ``def`` handler
    /// simply called.
    #[pyo3(signature = (fraction, message = ""))]
    fn progress<'py>(&self, py: Python<'py>, fraction: f64, message: &str) -> PyResult<Bound<'py, PyAny>> {
        if let Some(progress) = &self.progress
            && fraction.is_finite()
        {
            progress(fraction.clamp(0.0, 1.0), message);
        }
        Done::nothing(py)
    }

    /// Who asks.
    #[getter]
    fn principal(&self) -> PrincipalFace {
        PrincipalFace::new(&self.principal)
    }

    /// Whether nobody waits for the result any more.
    #[getter]
    fn cancelled(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The plugin's logger.
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("logging")?.call_method1(intern!(py, "getLogger"), (format!("plugin.{}", self.plugin),))
    }
}

/// A function that acts at a moment of the host's life, without arguments.
pub struct PythonHook {
    bridge: Bridge,
    handler: Handler,
}

impl PythonHook {
    /// The hook that `handler` holds.
    pub fn new(bridge: Bridge, handler: Handler) -> Self {
        Self { bridge, handler }
    }
}

impl HookHandler for PythonHook {
    fn act(&self, _moment: Moment) -> Answer<()> {
        let answer = self.bridge.ask(
            &self.handler,
            |_, target| target.call0(),
            |py, outcome| outcome.map(drop).map_err(|error| error_from_python(py, error)),
        );
        Box::pin(answer)
    }
}

/// A function that gives a text or bytes, called with keyword arguments from a JSON object.
pub struct PythonText {
    bridge: Bridge,
    handler: Handler,
}

impl PythonText {
    /// The function that `handler` holds.
    pub fn new(bridge: Bridge, handler: Handler) -> Self {
        Self { bridge, handler }
    }
}

impl TextHandler for PythonText {
    fn read(&self, arguments: Json) -> Answer<Json> {
        let answer = self.bridge.ask(
            &self.handler,
            move |py, target| {
                let arguments = json_into_python(py, &arguments)?;
                target.call((), Some(arguments.cast()?))
            },
            text_outcome,
        );
        Box::pin(answer)
    }
}

/// The same as [`json_outcome`] for a text: bytes, which JSON has no word for, become `{"blob": BASE64}`.
fn text_outcome(py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> Result<Json> {
    if let Ok(value) = &outcome
        && let Ok(bytes) = value.cast::<PyBytes>()
    {
        return Ok(Json::of(&serde_json::json!({ "blob": BASE64_STANDARD.encode(bytes.as_bytes()) })));
    }
    json_outcome(py, outcome)
}

/// What a handler returned as JSON, or what it raised as an error.
///
/// # Errors
/// `Plugin`: it raised, or what it returned is not JSON.
pub fn json_outcome(py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> Result<Json> {
    match outcome {
        Ok(value) => json_from_python(&value),
        Err(error) => Err(error_from_python(py, error)),
    }
}
