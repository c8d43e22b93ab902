//! `plugbay._core.Host`: a host with the Python engine, as Python drives it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use serde_json::Value;

use crate::app::{App, Engines, Http};
use crate::base::error::{Error, Kind};
use crate::base::settings::Settings;
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::error_into_python;
use crate::engine::python::engine::PythonEngine;
use crate::engine::python::event_loop::Signal;
use crate::kernel::meter::Meters;

/// Whether a host lives in this process.
static ALIVE: Mutex<bool> = Mutex::new(false);

/// A running host: the settings, the socket, the runtime. One at a time in a process.
#[pyclass(frozen, module = "plugbay._core")]
pub struct Host {
    app: App,
    engine: PythonEngine,
    /// Whether the loop is to end; until then whatever stops it is a plugin.
    ending: AtomicBool,
    finished: Mutex<Option<i32>>,
}

#[pymethods]
impl Host {
    #[new]
    #[pyo3(signature = (flags, http = true))]
    fn new(py: Python<'_>, flags: &str, http: bool) -> PyResult<Self> {
        let fail = |error: Error| error_into_python(py, &error);
        let flags: Value = serde_json::from_str(flags)
            .map_err(|error| fail(Error::new(Kind::Invalid, format!("the flags are not JSON: {error}"))))?;
        let settings = Settings::load(&flags).map_err(fail)?;
        {
            let mut alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
            if *alive {
                let message = "a host runs in this process already: stop it first, a process has one at a time";
                return Err(fail(Error::new(Kind::Conflict, message)));
            }
            *alive = true;
        }
        Self::make(settings, if http { Http::On } else { Http::Off }).map_err(|error| {
            *ALIVE.lock().unwrap_or_else(PoisonError::into_inner) = false;
            fail(error)
        })
    }

    #[getter]
    fn url(&self) -> &str {
        self.app.url()
    }

    #[getter]
    fn port(&self) -> u16 {
        self.app.port()
    }

    #[getter]
    fn settings(&self) -> String {
        self.app.parts().settings.to_json().to_string()
    }

    #[getter]
    fn token(&self) -> String {
        self.app.parts().auth.owner_token().to_string()
    }

    fn sign_in_link(&self, py: Python<'_>) -> PyResult<String> {
        let auth = &self.app.parts().auth;
        let code = auth.offer_sign_in(auth.owner()).map_err(|error| error_into_python(py, &error))?;
        Ok(format!("{}/sign-in/{code}", self.app.url()))
    }

    fn attach(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        self.engine.bridge.open(event_loop)
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        let started = py.detach(|| {
            let handle = self.app.start()?;
            let _inside = handle.enter();
            self.engine.bridge.start_courier(&self.app.parts().shutdown);
            self.engine.run_on(handle.clone());
            Ok::<(), Error>(())
        });
        started.map_err(|error| error_into_python(py, &error))
    }

    fn open(&self, py: Python<'_>) -> PyResult<()> {
        let ready = py.detach(|| self.app.ready());
        self.engine.bridge.sweep(py);
        ready.map_err(|error| error_into_python(py, &error))
    }

    fn stop(&self) {
        self.app.stop();
    }

    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let waited = py.detach(|| self.app.wait());
        let event_loop = self.engine.bridge.event_loop().clone();
        let stop = {
            let event_loop = event_loop.clone();
            move |py: Python<'_>| {
                if let Some(running) = event_loop.event_loop(py)
                    && let Err(error) = running.call_method0(intern!(py, "stop"))
                {
                    error.write_unraisable(py, None);
                }
            }
        };
        self.ending.store(true, Ordering::Release);
        event_loop.signal(Signal::Run(Box::new(stop)));
        waited.map_err(|error| error_into_python(py, &error))
    }

    /// Whether the loop was told to stop by the host.
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn finish(&self, py: Python<'_>) -> i32 {
        if let Some(code) = *self.finished.lock().unwrap_or_else(PoisonError::into_inner) {
            return code;
        }
        let code = py.detach(|| {
            self.engine.bridge.close_answers();
            self.app.finish()
        });
        self.engine.bridge.close(py);
        self.engine.step_down();
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
        *ALIVE.lock().unwrap_or_else(PoisonError::into_inner) = false;
        code
    }

    /// How many Python threads are inside a handler: with one of them stuck the interpreter cannot be finalized.
    fn busy_threads(&self) -> usize {
        self.engine.bridge.busy_threads()
    }
}

impl Host {
    fn make(settings: Settings, http: Http) -> Result<Self, Error> {
        let meters = Meters::default();
        let bridge = Bridge::new(&settings.limits, meters.clone())?;
        let (status, parks) = (bridge.clone(), bridge.clone());
        let engines = Engines {
            status: std::sync::Arc::new(move || serde_json::json!({ "python": status.status() })),
            parks: std::sync::Arc::new(move || parks.worker_parks()),
        };
        let limits = settings.limits.clone();
        let app = App::open(settings, http, meters, engines)?;
        let parts = app.parts();
        let engine = PythonEngine::new(
            parts.registry.clone(),
            parts.toolbox.clone(),
            parts.hub.clone(),
            bridge,
            parts.shutdown.clone(),
            limits,
        )
        .with(parts.processes.clone());
        engine.take_over();
        Ok(Self { app, engine, ending: AtomicBool::new(false), finished: Mutex::default() })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A host that was never finished must not bar the next one.
        if self.finished.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            *ALIVE.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}
