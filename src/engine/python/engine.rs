//! The Python engine of this process: what drafts, tools and hooks of Python plugins stand on.
//!
//! There is one at a time. A host brings its own; without a host there is one with default limits, so that plugins can
//! be loaded, listed and called in any Python process.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, JoinError, Runtime};
use tokio::runtime::Handle;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::settings::{Limits, Mode};
use crate::base::shutdown::Shutdown;
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::error_into_python;
use crate::engine::python::event_loop::EventLoop;
use crate::engine::python::workers::THREAD_NAME;
use crate::kernel::call::ToolCall;
use crate::kernel::gate::Gate;
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
        Self { registry, toolbox, hub, bridge, shutdown, limits, runtime: Arc::default() }
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
        wait_at_exit(py)?;
        let runtime = self.runtime(py).map_err(|error| error_into_python(py, &error))?;
        let locals = TaskLocals::with_running_loop(py)?.copy_context(py)?;
        let toolbox = self.toolbox.clone();
        let run = async move { toolbox.run(call).await };
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
        let inside = Inside::enter();
        let handle = tokio::task::spawn_blocking(move || {
            work();
            drop(inside);
        });
        Box::pin(async move { handle.await.map_err(Failed) })
    }
}

/// How many of tokio's threads hand a result to Python. The caller goes on as soon as it has the result, while that
/// thread has still to let go of the interpreter: one that is then finalized takes the thread down, and the process.
static INSIDE: Mutex<usize> = Mutex::new(0);
/// Notified when there is none.
static OUTSIDE: Condvar = Condvar::new();

/// Counts one of them for as long as it lives.
struct Inside;

impl Inside {
    fn enter() -> Self {
        *INSIDE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut inside = INSIDE.lock().unwrap_or_else(PoisonError::into_inner);
        *inside -= 1;
        if *inside == 0 {
            OUTSIDE.notify_all();
        }
    }
}

/// Makes Python wait at its end, a second at most, for the threads of ours that still are inside it.
fn wait_at_exit(py: Python<'_>) -> PyResult<()> {
    static REGISTERED: PyOnceLock<()> = PyOnceLock::new();
    REGISTERED.get_or_try_init(py, || py.import("atexit")?.call_method1("register", (Barrier,)).map(drop)).copied()
}

/// What Python calls at its end.
#[pyclass(frozen, module = "plugbay._core")]
struct Barrier;

#[pymethods]
impl Barrier {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let until = Instant::now() + Duration::from_secs(1);
        let engine = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(engine) = engine {
            engine.bridge.close_answers();
        }
        for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
            let thread = thread?;
            if thread.getattr("name")?.extract::<String>()?.starts_with(THREAD_NAME) {
                let left = until.saturating_duration_since(Instant::now());
                thread.call_method1("join", (left.as_secs_f64(),))?;
            }
        }
        py.detach(|| {
            let inside = INSIDE.lock().unwrap_or_else(PoisonError::into_inner);
            let left = until.saturating_duration_since(Instant::now());
            // Nothing is to be done about those that are late.
            drop(OUTSIDE.wait_timeout_while(inside, left, |inside| *inside > 0));
        });
        Ok(())
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
