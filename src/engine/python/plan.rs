//! What Python's compile step says of the routes of a mount, as the table and the handlers of the core.

use std::sync::Arc;

use http::{HeaderName, Method, StatusCode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::engine::plain::taken::{BodyUse, Source};
use crate::engine::plain::template::{Entry, Kind, Routes, Segment};
use crate::engine::python::compiled::{CompiledRoute, Plan};
use crate::engine::python::job::{Handler, Where};
use crate::kernel::handler::RouteNote;

/// A route, in the order in which the routes of a mount are tried; an object with these attributes.
#[derive(FromPyObject)]
pub struct PlannedRoute<'py> {
    /// Its segments; `None` when nobody can say which paths it takes.
    segments: Option<Vec<PlannedSegment>>,
    /// Its methods; `None` means any.
    methods: Option<Vec<String>>,
    /// Its whole path, for lists.
    path: String,
    /// Its methods, for lists.
    shown_methods: Vec<String>,
    name: Option<String>,
    /// Why it is not compiled.
    reason: Option<String>,
    handler: Option<PlannedHandler<'py>>,
}

/// `(text before, convertor, text after, text between two parameters)`.
type PlannedSegment = (String, Option<String>, String, Option<String>);

/// A compiled handler.
#[derive(FromPyObject)]
struct PlannedHandler<'py> {
    function: Bound<'py, PyAny>,
    is_async: bool,
    /// Its arguments as `(kind, name)`.
    sources: Vec<(String, String)>,
    /// How it takes the body: `none`, `json` or `direct`.
    body: String,
    /// Whether a body without a content type is JSON.
    untyped: bool,
    wants_face: bool,
    status: u16,
}

/// The routes as the core knows them. `hold` keeps a function for the bridge.
///
/// # Errors
/// `ValueError`: a word of the plan is not known here.
pub fn plan_of(routes: Vec<PlannedRoute<'_>>, hold: impl Fn(Bound<'_, PyAny>, Where) -> Handler) -> PyResult<Plan> {
    let (mut entries, mut compiled, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for route in routes {
        let methods = route.methods.map(|methods| methods.iter().map(|method| method_of(method)).collect());
        let segments = route.segments.map(|segments| segments.into_iter().map(segment).collect());
        let number = match route.handler {
            Some(handler) => {
                compiled.push(Arc::new(handler.into_route(&hold)?));
                Some(compiled.len() - 1)
            }
            None => None,
        };
        entries.push(Entry { segments: segments.transpose()?, methods: methods.transpose()?, compiled: number });
        notes.push(RouteNote {
            methods: route.shown_methods,
            path: route.path,
            name: route.name,
            is_compiled: number.is_some(),
            reason: route.reason,
        });
    }
    Ok(Plan { table: Routes::new(entries), routes: compiled, notes })
}

impl PlannedHandler<'_> {
    fn into_route(self, hold: &impl Fn(Bound<'_, PyAny>, Where) -> Handler) -> PyResult<CompiledRoute> {
        let place = if self.is_async { Where::Loop } else { Where::Worker };
        let body = match self.body.as_str() {
            "none" => BodyUse::None,
            "json" => BodyUse::Json { untyped: self.untyped, direct: false },
            "direct" => BodyUse::Json { untyped: self.untyped, direct: true },
            other => return Err(unknown(other)),
        };
        Ok(CompiledRoute {
            handler: hold(self.function, place),
            sources: self.sources.into_iter().map(source).collect::<PyResult<_>>()?,
            body,
            wants_face: self.wants_face,
            status: StatusCode::from_u16(self.status).map_err(|error| PyValueError::new_err(error.to_string()))?,
        })
    }
}

fn source((kind, name): (String, String)) -> PyResult<Source> {
    let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).map_err(|_| unknown(name));
    Ok(match kind.as_str() {
        "path" => Source::Path(name.parse().map_err(|_| unknown(&name))?),
        "query" => Source::Query(name.into()),
        "queries" => Source::Queries(name.into()),
        "header" => Source::Header(header(&name)?),
        "headers" => Source::Headers(header(&name)?),
        "raw_query" => Source::RawQuery,
        "raw_headers" => Source::RawHeaders,
        other => return Err(unknown(other)),
    })
}

fn segment((before, kind, after, between): PlannedSegment) -> PyResult<Segment> {
    let kind = kind.map(|word| Kind::parse(&word).ok_or_else(|| unknown(&word))).transpose()?;
    Ok(Segment { before: before.into(), kind, after: after.into(), between: between.map(Into::into) })
}

fn method_of(method: &str) -> PyResult<Method> {
    Method::from_bytes(method.as_bytes()).map_err(|_| unknown(method))
}

fn unknown(word: &str) -> PyErr {
    PyValueError::new_err(format!("{word:?} in a compiled route is not known to the core"))
}
