//! The raw object under Python's `PluginHost`: the draft of one plugin, filled by `setup` and committed once.

#![expect(clippy::too_many_arguments, reason = "what the package passes, field by field, from one place each")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::manifest::Manifest;
use crate::base::name::{ChannelName, FacadeName, Prefix, ToolName};
use crate::engine::process::manifest::ChildManifest;
use crate::engine::python::asgi::{AsgiApp, RootPath};
use crate::engine::python::channels::{Channels, Faces, PythonChannel};
use crate::engine::python::compiled::CompiledMount;
use crate::engine::python::convert::{closed, error_into_python, json_given};
use crate::engine::python::direct::DirectRoute;
use crate::engine::python::engine::PythonEngine;
use crate::engine::python::handlers::{Context, PythonHook, PythonText, PythonTool};
use crate::engine::python::job::{Handler, Where};
use crate::engine::python::mounted::Mounted;
use crate::engine::python::plan::{PlannedRoute, plan_of};
use crate::kernel::call::Moment;
use crate::kernel::contribution::{
    Assets, Channel, Facade, Hook, Mount, Pattern, Prompt, Reader, Resource, Schema, Tool,
};
use crate::kernel::registry::{Draft, Engine};
use crate::kernel::specifier::Template;

/// The contributions of one plugin before they are committed.
#[pyclass(frozen, name = "Draft", module = "plugbay._core")]
pub struct DraftFace {
    engine: PythonEngine,
    plugin: Arc<str>,
    channels: Channels,
    faces: Arc<Faces>,
    /// Taken by commit and close.
    draft: Mutex<Option<Draft>>,
    /// Its other half, a child process, where it has one.
    child: Mutex<Option<ChildManifest>>,
}

/// A factory of a facade, as the kernel passes it around.
pub struct Factory(pub Handler);

impl DraftFace {
    fn over(engine: PythonEngine, draft: Draft) -> Self {
        let plugin = draft.manifest().id.shared();
        let channels = Channels::new(engine.hub.clone(), engine.bridge.event_loop().clone(), plugin.clone());
        let draft = Mutex::new(Some(draft));
        Self { engine, plugin, channels, faces: Arc::default(), draft, child: Mutex::default() }
    }

    fn take_child(&self, py: Python<'_>, child: ChildManifest) -> PyResult<()> {
        self.fill(py, |draft| {
            if child.has_server() {
                draft.add_server();
            }
            Ok(())
        })?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// Commits, and hands the other half to what runs it.
    fn commit_both(&self, draft: Draft) -> Result<()> {
        let plugin = self.engine.registry.commit(draft)?;
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (child, &self.engine.processes) {
            (Some(child), Some(processes)) => processes.add(child, &plugin.source),
            // Without a host no child is started.
            _ => Ok(()),
        }
    }

    /// The prefix that was asked for, or the plugin's own.
    fn prefix(&self, py: Python<'_>, asked: Option<&str>) -> PyResult<Prefix> {
        if let Some(asked) = asked {
            return Prefix::parse(asked.trim_matches('/')).map_err(|error| error_into_python(py, &error));
        }
        let own = {
            let draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner);
            draft.as_ref().map(|draft| Prefix::of_plugin(&draft.manifest().id))
        };
        own.ok_or_else(|| self.closed(py))
    }

    fn hold(&self, object: Bound<'_, PyAny>, place: Where) -> Handler {
        self.engine.bridge.hold(object, &self.plugin, place)
    }

    fn fill(&self, py: Python<'_>, fill: impl FnOnce(&mut Draft) -> Result<()>) -> PyResult<()> {
        // An exception is made by Python code, which must not run while the lock is held.
        let filled = self.draft.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(fill);
        match filled {
            Some(outcome) => outcome.map_err(|error| error_into_python(py, &error)),
            None => Err(self.closed(py)),
        }
    }

    fn closed(&self, py: Python<'_>) -> PyErr {
        let message = format!(
            "plugin {} can add nothing any more: call the add_* methods inside setup(host), before it returns",
            self.plugin
        );
        closed(py, &message)
    }

    fn mount<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        app: Bound<'py, PyAny>,
        rest: MountRest<'_, 'py>,
    ) -> PyResult<()> {
        let prefix = self.prefix(py, prefix)?;
        let patterns = match rest.patterns {
            Some(patterns) => patterns.iter().map(|path| Pattern::parse(path)).collect(),
            None => vec![Pattern::everything()],
        };
        let bridge = &self.engine.bridge;
        let mounted = Bound::new(py, Mounted::new(app.unbind(), rest.state.clone().unbind()))?;
        let handler = self.hold(mounted.into_any(), Where::Loop);
        let handler = AsgiApp::new(bridge.clone(), handler, rest.root_path, self.engine.shutdown.clone());
        let plan = plan_of(rest.routes, |function, place| self.hold(function, place))?;
        let handler = CompiledMount::new(bridge.clone(), handler, plan);
        let openapi = rest.openapi.map(|openapi| -> Arc<dyn crate::kernel::handler::TextHandler> {
            Arc::new(PythonText::new(bridge.clone(), self.hold(openapi, Where::Worker)))
        });
        let mount = Mount { prefix, patterns, handler: Arc::new(handler), openapi };
        self.fill(py, |draft| {
            draft.add_mount(mount);
            Ok(())
        })
    }

    fn text(&self, function: Bound<'_, PyAny>, is_async: bool) -> Arc<PythonText> {
        Arc::new(PythonText::new(self.engine.bridge.clone(), self.hold(function, place(is_async))))
    }
}

struct MountRest<'a, 'py> {
    patterns: Option<Vec<String>>,
    routes: Vec<PlannedRoute<'py>>,
    root_path: RootPath,
    state: &'a Bound<'py, PyDict>,
    openapi: Option<Bound<'py, PyAny>>,
}

fn place(is_async: bool) -> Where {
    if is_async { Where::Loop } else { Where::Worker }
}

fn parsed(py: Python<'_>, what: &str, text: &str) -> PyResult<Value> {
    serde_json::from_str(text)
        .map_err(|error| error_into_python(py, &Error::new(Kind::Invalid, format!("{what} is not JSON: {error}"))))
}

#[pymethods]
impl DraftFace {
    #[new]
    fn new(
        py: Python<'_>,
        source: &str,
        id: &str,
        name: &str,
        version: &str,
        description: &str,
        host_api: &str,
    ) -> PyResult<Self> {
        let engine = PythonEngine::current().map_err(|error| error_into_python(py, &error))?;
        let manifest =
            Manifest::check(id, name, version, description, host_api).map_err(|error| error_into_python(py, &error))?;
        Ok(Self::over(engine, Draft::new(manifest, source, Engine::Python)))
    }

    /// The draft of a plugin that is but a folder with `manifest.json`: it needs no more than a commit.
    #[staticmethod]
    fn of_child(py: Python<'_>, source: &str, folder: PathBuf) -> PyResult<Self> {
        let engine = PythonEngine::current().map_err(|error| error_into_python(py, &error))?;
        let child = ChildManifest::read(&folder).map_err(|error| error_into_python(py, &error))?;
        let face = Self::over(engine, Draft::new(child.manifest(), source, Engine::Process));
        face.take_child(py, child)?;
        Ok(face)
    }

    #[getter]
    fn id(&self) -> &str {
        &self.plugin
    }

    #[getter]
    fn has_server(&self) -> bool {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(ChildManifest::has_server)
    }

    fn add_child(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        let child = ChildManifest::read(&folder).and_then(|child| match child.id.as_str() == &*self.plugin {
            true => Ok(child),
            false => {
                let message = format!(
                    "manifest.json has the name {:?}, PLUGIN the id {:?}: they are two halves of one plugin, give them \
                     one id",
                    child.id, self.plugin
                );
                Err(Error::new(Kind::Invalid, message))
            }
        });
        self.take_child(py, child.map_err(|error| error_into_python(py, &error))?)
    }

    fn add_mount<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        patterns: Option<Vec<String>>,
        routes: Vec<PlannedRoute<'py>>,
        app: Bound<'py, PyAny>,
        state: &Bound<'py, PyDict>,
        openapi: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        self.mount(py, prefix, app, MountRest { patterns, routes, root_path: RootPath::Mount, state, openapi })
    }

    fn add_router_mount<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        patterns: Vec<String>,
        routes: Vec<PlannedRoute<'py>>,
        app: Bound<'py, PyAny>,
        state: &Bound<'py, PyDict>,
        openapi: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let rest = MountRest { patterns: Some(patterns), routes, root_path: RootPath::Empty, state, openapi };
        self.mount(py, prefix, app, rest)
    }

    fn add_direct_mount(
        &self,
        py: Python<'_>,
        prefix: Option<&str>,
        patterns: Vec<String>,
        function: Bound<'_, PyAny>,
        is_async: bool,
    ) -> PyResult<()> {
        let prefix = self.prefix(py, prefix)?;
        let patterns = patterns.iter().map(|path| Pattern::parse(path)).collect();
        let handler = DirectRoute::new(self.engine.bridge.clone(), self.hold(function, place(is_async)));
        let mount = Mount { prefix, patterns, handler: Arc::new(handler), openapi: None };
        self.fill(py, |draft| {
            draft.add_mount(mount);
            Ok(())
        })
    }

    fn add_tool(
        &self,
        py: Python<'_>,
        name: &str,
        description: &str,
        parameters: &str,
        output: Option<&str>,
        side_effect: bool,
        specifier_template: Option<&str>,
        group: Option<&str>,
        timeout_s: f64,
        concurrency: Option<usize>,
        handler: Bound<'_, PyAny>,
        wants_context: bool,
        is_async: bool,
    ) -> PyResult<()> {
        let fail = |error: Error| error_into_python(py, &error);
        let name = ToolName::parse(name).map_err(fail)?;
        let what = format!("parameters of tool {name}");
        let parameters = Schema::compile(&what, &parsed(py, &what, parameters)?).map_err(fail)?;
        let what = format!("output_schema of tool {name}");
        let output = output
            .map(|text| parsed(py, &what, text).and_then(|schema| Schema::compile(&what, &schema).map_err(fail)))
            .transpose()?;
        let timeout = Some(timeout_s).filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
        let timeout = timeout.map(Duration::from_secs_f64).ok_or_else(|| {
            fail(Error::new(
                Kind::Invalid,
                format!("timeout_s of tool {name} is {timeout_s}: give seconds above 0, at most 86400"),
            ))
        })?;
        let concurrency = concurrency.map(|number| {
            NonZeroUsize::new(number).ok_or_else(|| {
                let message = format!("max_concurrency of tool {name} is 0: give a whole number from 1, or None");
                fail(Error::new(Kind::Invalid, message))
            })
        });
        let concurrency = concurrency.transpose()?;
        let context = if wants_context { Context::Wanted } else { Context::Unwanted };
        let handler = PythonTool::new(self.engine.bridge.clone(), self.hold(handler, place(is_async)), context);
        let tool = Tool {
            name,
            description: description.into(),
            parameters,
            output,
            side_effect,
            specifier_template: specifier_template.map(Template::parse).transpose().map_err(fail)?,
            group: group.map(Into::into),
            timeout,
            concurrency,
            handler: Arc::new(handler),
        };
        self.fill(py, |draft| draft.add_tool(tool))
    }

    fn add_channel(&self, py: Python<'_>, name: &str, handler: Bound<'_, PyAny>, is_async: bool) -> PyResult<()> {
        let name = ChannelName::parse(name).map_err(|error| error_into_python(py, &error))?;
        let handler = self.hold(handler, place(is_async));
        let handler =
            PythonChannel::new(self.engine.bridge.clone(), handler, self.faces.clone(), self.channels.clone());
        let shared = name.shared();
        self.fill(py, |draft| draft.add_channel(Channel { name, handler: Arc::new(handler) }))?;
        self.channels.note(shared);
        Ok(())
    }

    fn add_facade(&self, py: Python<'_>, name: &str, factory: Bound<'_, PyAny>) -> PyResult<()> {
        let name = FacadeName::parse(name).map_err(|error| error_into_python(py, &error))?;
        let factory = Arc::new(Factory(self.hold(factory, Where::Worker)));
        self.fill(py, |draft| draft.add_facade(Facade { name, factory }))
    }

    fn add_hook(
        &self,
        py: Python<'_>,
        moment: &str,
        name: &str,
        hook: Bound<'_, PyAny>,
        is_async: bool,
    ) -> PyResult<()> {
        let moment = match moment {
            "startup" => Moment::Startup,
            "shutdown" => Moment::Shutdown,
            other => {
                let message = format!("moment {other:?} is not known: use \"startup\" or \"shutdown\"");
                return Err(error_into_python(py, &Error::new(Kind::Invalid, message)));
            }
        };
        let handler = Arc::new(PythonHook::new(self.engine.bridge.clone(), self.hold(hook, place(is_async))));
        self.fill(py, |draft| {
            draft.add_hook(Hook { moment, name: name.into(), handler });
            Ok(())
        })
    }

    fn add_assets(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        if !folder.is_absolute() || !folder.is_dir() {
            let message =
                format!("assets folder {} is not there: give the absolute path of a folder", folder.display());
            return Err(error_into_python(py, &Error::new(Kind::Invalid, message)));
        }
        self.fill(py, |draft| draft.add_assets(Assets { folder }))
    }

    fn add_resource(
        &self,
        py: Python<'_>,
        uri: &str,
        name: &str,
        mime_type: Option<&str>,
        description: &str,
        r#fn: Bound<'_, PyAny>,
        is_async: bool,
    ) -> PyResult<()> {
        let resource = Resource {
            uri: uri.into(),
            name: name.into(),
            mime_type: mime_type.map(Into::into),
            description: description.into(),
            reader: Reader::new(self.text(r#fn, is_async)),
        };
        self.fill(py, |draft| draft.add_resource(resource))
    }

    fn add_prompt(
        &self,
        py: Python<'_>,
        name: &str,
        description: &str,
        arguments: &str,
        r#fn: Bound<'_, PyAny>,
        is_async: bool,
    ) -> PyResult<()> {
        let arguments = Json::parse(arguments.to_owned()).map_err(|error| error_into_python(py, &error))?;
        let reader = Reader::new(self.text(r#fn, is_async));
        let prompt = Prompt { name: name.into(), description: description.into(), arguments, reader };
        self.fill(py, |draft| draft.add_prompt(prompt))
    }

    fn publish(&self, py: Python<'_>, topic: &str, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let published = json_given(data).and_then(|data| self.channels.publish(topic, &data));
        published.map_err(|error| error_into_python(py, &error))
    }

    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner).take();
        let committed = draft
            .ok_or_else(|| self.closed(py))
            .and_then(|draft| self.commit_both(draft).map_err(|error| error_into_python(py, &error)));
        self.engine.bridge.sweep(py);
        committed
    }

    fn close(&self, py: Python<'_>) {
        let draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(draft);
        self.engine.bridge.sweep(py);
    }
}
