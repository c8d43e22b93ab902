//! The Python engine of this process: what drafts, tools and hooks of Python plugins stand on.
//!
//! There is one at a time. A host brings its own; without a host there is one with default limits, so that plugins can
//! be loaded, listed and called in any Python process.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCFunction;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, JoinError, Runtime};
use tokio::runtime::Handle;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::log;
use crate::base::settings::{Limits, Mode};
use crate::base::shutdown::Shutdown;
use crate::engine::process::processes::Processes;
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::error_into_python;
use crate::engine::python::event_loop::EventLoop;
use crate::kernel::call::ToolCall;
use crate::kernel::gate::{Gate, Notice, Patience};
use crate::kernel::hub::Hub;
use crate::kernel::meter::Meters;
use crate::kernel::registry::Registry;
use crate::kernel::toolbox::Toolbox;

/// The parts that Python plugins stand on. Cloning is cheap.
#[derive(Clone)]
pub struct PythonEngine {
    /// What plugins are there.
    pub registry: Registry,
    /// What runs tools.
    pub toolbox: Toolbox,
    /// What moves frames.
    pub hub: Hub,
    /// The way into Python.
    pub bridge: Bridge,
    /// What ends its tasks.
    pub shutdown: Shutdown,
    /// The time limits of plugins.
    pub limits: Limits,
    /// What runs plugins that are processes; none without a host.
    pub processes: Option<Processes>,
    runtime: Arc<OnceLock<Handle>>,
}

/// The engine of this process.
static CURRENT: Mutex<Option<PythonEngine>> = Mutex::new(None);

impl PythonEngine {
    /// An engine over the parts of a host.
    #[expect(clippy::too_many_arguments, reason = "the parts, each once")]
    pub fn new(
        registry: Registry,
        toolbox: Toolbox,
        hub: Hub,
        bridge: Bridge,
        shutdown: Shutdown,
        limits: Limits,
    ) -> Self {
        Self { registry, toolbox, hub, bridge, shutdown, limits, processes: None, runtime: Arc::default() }
    }

    /// The same with what runs plugins that are processes.
    #[must_use]
    pub fn with(mut self, processes: Processes) -> Self {
        self.processes = Some(processes);
        self
    }

    /// The engine of this process; one with default limits when no host has brought one.
    ///
    /// # Errors
    /// `Internal`: the system has no file descriptor left.
    pub fn current() -> Result<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*current {
            return Ok(engine.clone());
        }
        let limits = Limits::default();
        let (registry, shutdown, meters) = (Registry::new(), Shutdown::new(), Meters::default());
        let bridge = Bridge::new(&limits, meters)?;
        let toolbox = Toolbox::new(registry.clone(), Gate::new(Mode::Default));
        let hub = Hub::new(registry.clone(), shutdown.clone(), limits.clone());
        let engine = Self::new(registry, toolbox, hub, bridge, shutdown, limits);
        *current = Some(engine.clone());
        Ok(engine)
    }

    /// Makes this the engine of the process, in place of the one before, whose plugins are let go.
    pub fn take_over(&self) {
        let before = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).replace(self.clone());
        if let Some(before) = before {
            before.registry.reset();
            before.bridge.close_answers();
        }
    }

    /// Leaves the process without an engine if this is the one; the next question makes a new one.
    pub fn step_down(&self) {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|engine| Arc::ptr_eq(&engine.runtime, &self.runtime)) {
            *current = None;
        }
    }

    /// Runs on this runtime from now on.
    pub fn run_on(&self, runtime: Handle) {
        // Set twice only by the same host, with the same runtime.
        let _ = self.runtime.set(runtime);
    }

    /// The runtime: the host's, or one of its own with a single thread.
    fn runtime(&self, py: Python<'_>) -> Result<Handle> {
        static OWN: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        if let Some(handle) = self.runtime.get() {
            return Ok(handle.clone());
        }
        if OWN.get().is_none() {
            let made = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("plugbay-core")
                .enable_all()
                .build()
                .map_err(|error| Error::new(Kind::Internal, "no thread to run tools on").with_source(error))?;
            // Two threads may have made one; the second is dropped, without waiting for it.
            if let Err(second) = OWN.set(made) {
                second.shutdown_background();
            }
        }
        let handle = OWN.get().map(|runtime| runtime.handle().clone());
        let handle = handle.ok_or_else(|| Error::new(Kind::Internal, "no thread to run tools on"))?;
        if self.runtime.set(handle.clone()).is_ok() {
            let _inside = handle.enter();
            self.bridge.start_courier(&self.shutdown);
            self.bridge
                .start_workers(py)
                .and_then(|()| py.import("atexit")?.call_method1("register", (AtExit { bridge: self.bridge.clone() },)))
                .map_err(|error| Error::new(Kind::Internal, format!("Python cannot start a thread: {error}")))?;
        }
        Ok(handle)
    }

    /// Runs a tool on behalf of the caller's running loop, and gives what it awaits: the result as JSON bytes.
    ///
    /// With a host running, `async def` handlers run on the host's loop, else on the caller's.
    ///
    /// # Errors
    /// No loop runs on this thread.
    pub fn invoke<'py>(&self, py: Python<'py>, call: ToolCall) -> PyResult<Bound<'py, PyAny>> {
        let runtime = self.runtime(py).map_err(|error| error_into_python(py, &error))?;
        Visits::waited_for_at_exit(py)?;
        let locals = TaskLocals::with_running_loop(py)?.copy_context(py)?;
        let toolbox = self.toolbox.clone();
        let name = call.tool.clone();
        let notice: Notice = Arc::new(move |approval| {
            tracing::warn!("{name} waits for a person, who answers at {} or with `plugbay approvals`", approval.url);
        });
        let patience = Patience { most: None, notice: Some(notice) };
        let run = async move { toolbox.run_to_the_end(call, patience).await.inspect_err(log::report) };
        if self.bridge.is_open() {
            return into_python(py, runtime, locals, run);
        }
        let event_loop = self.bridge.callers_loop().map_err(|error| error_into_python(py, &error))?;
        event_loop.attach(&locals.event_loop(py))?;
        let run = Bridge::on_callers_loop(event_loop.clone(), run);
        let awaited = into_python(py, runtime, locals, run)?;
        awaited.call_method1("add_done_callback", (Detach { event_loop },))?;
        Ok(awaited)
    }
}

/// Ends the threads of an engine without a host before the interpreter is finalized.
#[pyclass(frozen, module = "plugbay._core")]
struct AtExit {
    bridge: Bridge,
}

#[pymethods]
impl AtExit {
    fn __call__(&self, py: Python<'_>) {
        py.detach(|| self.bridge.close_answers());
        self.bridge.close(py);
    }
}

/// Leaves the caller's loop when the call is over.
#[pyclass(frozen, module = "plugbay._core")]
struct Detach {
    event_loop: Arc<EventLoop>,
}

#[pymethods]
impl Detach {
    fn __call__(&self, py: Python<'_>, _future: &Bound<'_, PyAny>) {
        self.event_loop.detach(py);
    }
}

/// A future of Rust as an awaitable of Python.
fn into_python<'py>(
    py: Python<'py>,
    runtime: Handle,
    locals: TaskLocals,
    run: impl Future<Output = Result<Json>> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let _inside = runtime.enter();
    pyo3_async_runtimes::generic::future_into_py_with_locals::<OnTokio, _, _>(py, locals, async move {
        let outcome = run.await;
        // An exception is made where the interpreter is attached anyway: the error travels as plain data until then.
        Ok(JsonOutcome(outcome))
    })
}

/// A result that becomes bytes, or an exception, when it reaches Python.
struct JsonOutcome(Result<Json>);

impl<'py> IntoPyObject<'py> for JsonOutcome {
    type Target = pyo3::types::PyBytes;
    type Output = Bound<'py, Self::Target>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        match self.0 {
            Ok(json) => Ok(pyo3::types::PyBytes::new(py, json.as_str().as_bytes())),
            Err(error) => Err(error_into_python(py, &error)),
        }
    }
}

/// The visits that threads of the runtime pay to Python right now.
///
/// A visit wakes its caller before it is over, and the caller may be at the end of its program then: an interpreter that
/// is torn down under a visit ends the process with a signal.
struct Visits {
    number: Mutex<usize>,
    over: Condvar,
}

static VISITS: Visits = Visits { number: Mutex::new(0), over: Condvar::new() };

/// The longest that a program's end waits for visits, each of which takes microseconds.
const VISIT_TIME: Duration = Duration::from_secs(5);

/// One visit, until it is dropped.
struct Visit;

impl Visits {
    fn begin() -> Visit {
        *VISITS.number.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Visit
    }

    /// Has Python wait for the visits of others before it ends.
    fn waited_for_at_exit(py: Python<'_>) -> PyResult<()> {
        static REGISTERED: PyOnceLock<()> = PyOnceLock::new();
        let register = || {
            let wait = PyCFunction::new_closure(py, None, None, |arguments, _| arguments.py().detach(Self::wait))?;
            py.import("atexit")?.call_method1("register", (wait,)).map(drop)
        };
        REGISTERED.get_or_try_init(py, register).copied()
    }

    fn wait() {
        let number = VISITS.number.lock().unwrap_or_else(PoisonError::into_inner);
        // When the time is over the program ends anyway.
        let _ = VISITS.over.wait_timeout_while(number, VISIT_TIME, |number| *number > 0);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        *VISITS.number.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        VISITS.over.notify_all();
    }
}

tokio::task_local! {
    static LOCALS: TaskLocals;
}

/// The runtime around the caller, as `pyo3-async-runtimes` wants it described. What it does attached, it does on
/// tokio's threads for blocking work, never on a worker.
struct OnTokio;

struct Failed(tokio::task::JoinError);

impl JoinError for Failed {
    fn is_panic(&self) -> bool {
        self.0.is_panic()
    }

    fn into_panic(self) -> Box<dyn std::any::Any + Send + 'static> {
        self.0.into_panic()
    }
}

impl Runtime for OnTokio {
    type JoinError = Failed;
    type JoinHandle = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

    #[expect(clippy::disallowed_methods, reason = "who asked for it waits for it, and the toolbox bounds its time")]
    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Self::JoinHandle {
        let handle = tokio::spawn(future);
        Box::pin(async move { handle.await.map_err(Failed) })
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(work: F) -> Self::JoinHandle {
        let visit = Visits::begin();
        let handle = tokio::task::spawn_blocking(move || {
            work();
            drop(visit);
        });
        Box::pin(async move { handle.await.map_err(Failed) })
    }
}

impl ContextExt for OnTokio {
    fn scope<F, R>(locals: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(LOCALS.scope(locals, future))
    }

    fn get_task_locals() -> Option<TaskLocals> {
        LOCALS.try_with(TaskLocals::clone).ok()
    }
}
