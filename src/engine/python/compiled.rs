//! A mount whose routes were compiled when it was registered: each goes straight to a function of its own.
//!
//! What no compiled route surely answers goes to the ASGI app whole, and so does what a compiled handler gives back. A
//! handler may also give an ASGI app of its own, a streaming response for example, to go on with.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts as Head;
use http::{HeaderMap, HeaderValue, StatusCode};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::base::error::{Kind, Result};
use crate::engine::plain::taken::{BodyUse, Raw, Source, Value, is_json, path, read};
use crate::engine::plain::template::Routes;
use crate::engine::python::asgi::{AsgiApp, read_first};
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::error_from_python;
use crate::engine::python::http_message::{bytes_of, header, read_whole};
use crate::engine::python::job::Handler;
use crate::engine::python::scope::{Scope, headers_list};
use crate::kernel::call::{Body, Caller, Request, Response};
use crate::kernel::handler::{Answer, RouteHandler, RouteNote};

/// A compiled route: a function, and what it is called with.
pub struct CompiledRoute {
    /// The function.
    pub handler: Handler,
    /// Its first arguments, after the request's face where it wants one.
    pub sources: Vec<Source>,
    /// Its last argument, where it takes a body.
    pub body: BodyUse,
    /// Whether its first argument is a [`Face`].
    pub wants_face: bool,
    /// The status of a JSON body that it returns.
    pub status: StatusCode,
}

/// Compiled routes and the app that they were compiled from.
pub struct CompiledMount {
    bridge: Bridge,
    app: Arc<AsgiApp>,
    plan: Plan,
}

/// What the compile step made of a mount's routes.
pub struct Plan {
    /// Which route takes a path; it names the compiled ones by their place in `routes`.
    pub table: Routes,
    /// The compiled ones.
    pub routes: Vec<Arc<CompiledRoute>>,
    /// All of them, for lists.
    pub notes: Vec<RouteNote>,
}

/// What came of a compiled handler.
enum Outcome {
    Done(Response),
    /// The app is to answer.
    Whole,
    /// Another ASGI app is to answer.
    App(AsgiApp),
}

/// A request that may yet go to an ASGI app.
struct Kept {
    head: Head,
    body: Bytes,
    caller: Caller,
    mount: Arc<str>,
    root_path: Arc<str>,
}

impl Kept {
    fn request(self: Arc<Self>) -> Request {
        let Self { head, body, caller, mount, .. } = Arc::try_unwrap(self).unwrap_or_else(|kept| kept.copy());
        Request { head, body: Body::from(body), mount, caller, socket: None }
    }

    fn copy(&self) -> Self {
        Self {
            head: self.head.clone(),
            body: self.body.clone(),
            caller: self.caller.clone(),
            mount: self.mount.clone(),
            root_path: self.root_path.clone(),
        }
    }
}

impl CompiledMount {
    /// The routes of `plan`, and `app` for all else.
    pub fn new(bridge: Bridge, app: AsgiApp, plan: Plan) -> Self {
        Self { bridge, app: Arc::new(app), plan }
    }

    /// The route that surely answers, and its arguments.
    fn find(&self, request: &Request) -> Option<(Arc<CompiledRoute>, Vec<Value>)> {
        if request.socket.is_some() {
            return None;
        }
        let whole = path(request.head.uri.path())?;
        // The mount's own path has nothing that is percent-encoded.
        let below = whole.get(request.mount.len()..)?;
        let (number, parameters) = self.plan.table.find(&request.head.method, below)?;
        let route = self.plan.routes.get(number)?;
        let values = read(&route.sources, &request.head, below, &parameters)?;
        Some((route.clone(), values))
    }
}

impl RouteHandler for CompiledMount {
    fn as_any(&self) -> Option<&dyn Any> {
        Some(&*self.app)
    }

    fn routes(&self) -> &[RouteNote] {
        &self.plan.notes
    }

    fn answer(&self, request: Request) -> Answer<Response> {
        let Some((route, values)) = self.find(&request) else { return self.app.answer(request) };
        let (bridge, app) = (self.bridge.clone(), self.app.clone());
        Box::pin(async move {
            let Request { head, body, mount, caller, .. } = request;
            let (body, rest) = match read_first(body).await? {
                (Some(small), _) => (small, None),
                (None, rest) => (Bytes::new(), rest),
            };
            let body = match rest {
                // The handler may want to read it piece by piece, or not at all.
                Some(rest) if route.wants_face || route.body == BodyUse::None => {
                    return app.answer(Request { head, body: rest, mount, caller, socket: None }).await;
                }
                Some(rest) => read_whole(rest).await?,
                None => body,
            };
            let root_path = app.root(&mount);
            let is_sure = is_json(&body, &head.headers, route.body);
            let kept = Arc::new(Kept { head, body, caller, mount, root_path });
            if !is_sure {
                return app.answer(kept.request()).await;
            }
            // The question was counted when the compiled handler was asked.
            match ask(&bridge, &app, &route, values, &kept).await {
                Ok(Outcome::Done(response)) => Ok(response),
                Ok(Outcome::Whole) => app.go_on(kept.request()).await,
                Ok(Outcome::App(app)) => app.go_on(kept.request()).await,
                // Nothing was called yet, and FastAPI has threads of its own, for which a request may wait.
                Err(error) if error.kind() == Kind::Busy => app.answer(kept.request()).await,
                Err(error) => Err(error),
            }
        })
    }
}

fn ask(
    bridge: &Bridge,
    app: &Arc<AsgiApp>,
    route: &Arc<CompiledRoute>,
    values: Vec<Value>,
    kept: &Arc<Kept>,
) -> impl Future<Output = Result<Outcome>> + Send + use<> {
    let (asked, kept) = (route.clone(), kept.clone());
    let (app, status) = (app.clone(), route.status);
    bridge.ask(
        &route.handler,
        move |py, target| target.call1(arguments(py, &asked, values, &kept)?),
        move |py, outcome| {
            outcome.and_then(|value| outcome_of(&value, &app, status)).map_err(|error| error_from_python(py, error))
        },
    )
}

fn arguments<'py>(
    py: Python<'py>,
    route: &CompiledRoute,
    values: Vec<Value>,
    kept: &Arc<Kept>,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut arguments = Vec::with_capacity(values.len() + 2);
    if route.wants_face {
        arguments.push(Bound::new(py, Face { kept: kept.clone() })?.into_any());
    }
    for value in values {
        arguments.push(argument(py, value, &kept.head)?);
    }
    if route.body != BodyUse::None {
        let empty = kept.body.is_empty();
        arguments.push(if empty { py.None().into_bound(py) } else { PyBytes::new(py, &kept.body).into_any() });
    }
    PyTuple::new(py, arguments)
}

/// One argument; `None` for what is absent.
fn argument<'py>(py: Python<'py>, value: Value, head: &Head) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Absent => py.None().into_bound(py),
        Value::Text(text) => PyString::new(py, &text).into_any(),
        Value::Texts(texts) => PyList::new(py, texts)?.into_any(),
        Value::Raw(Raw::Query) => PyBytes::new(py, head.uri.query().unwrap_or("").as_bytes()).into_any(),
        Value::Raw(Raw::Headers) => headers_list(py, &head.headers)?.into_any(),
    })
}

/// What a handler returned: the bytes of a JSON body; status, headers and body; an ASGI app; or nothing, which leaves the
/// request to the app.
fn outcome_of(value: &Bound<'_, PyAny>, app: &AsgiApp, status: StatusCode) -> PyResult<Outcome> {
    if let Ok(body) = value.cast::<PyBytes>() {
        return Ok(Outcome::Done(json_response(status, Bytes::copy_from_slice(body.as_bytes()))));
    }
    if let Ok(whole) = value.cast::<PyTuple>() {
        let (status, pairs, body): (u16, Bound<'_, PyAny>, Bound<'_, PyAny>) = whole.extract()?;
        let mut response = http::Response::new(Body::from(bytes_of(&body)?));
        *response.status_mut() =
            StatusCode::from_u16(status).map_err(|error| PyTypeError::new_err(error.to_string()))?;
        for pair in pairs.try_iter()? {
            let pair = pair?;
            let (name, value) = header(&pair.get_item(0)?, &pair.get_item(1)?)?;
            // The host frames the body itself (RFC 9112 §6).
            if name != http::header::TRANSFER_ENCODING {
                response.headers_mut().append(name, value);
            }
        }
        return Ok(Outcome::Done(response));
    }
    if value.is_none() {
        return Ok(Outcome::Whole);
    }
    Ok(Outcome::App(app.going_on_with(value)?))
}

/// With the headers that Starlette gives, in its order.
fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut headers = HeaderMap::with_capacity(4);
    headers.append(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = http::Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A request as a compiled handler sees it that wants more of it than its arguments.
#[pyclass(frozen, name = "Asked", module = "plugbay._core")]
pub struct Face {
    kept: Arc<Kept>,
}

#[pymethods]
impl Face {
    /// The ASGI scope of the request. ``state`` is copied into it.
    fn scope<'py>(&self, py: Python<'py>, state: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let Kept { head, caller, root_path, .. } = &*self.kept;
        let scope = Scope { head: head.clone(), root_path: root_path.clone(), caller: caller.clone(), protocols: None };
        scope.into_python(py, state)
    }

    /// The body.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.kept.body)
    }
}
