//! A Python function as the whole handler of a mount, without ASGI between: the shortest way from a request to Python.
//!
//! It is called with a [`RequestFace`] and returns the body, or status, headers and body. What the FastAPI compile step
//! makes of a route is such a function.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::base::error::Result;
use crate::engine::python::bridge::Bridge;
use crate::engine::python::convert::error_from_python;
use crate::engine::python::http_message::{bytes_of, header, read_whole};
use crate::engine::python::job::Handler;
use crate::engine::python::scope::{CallerFace, decoded, headers_list};
use crate::kernel::call::{Body, Caller, Request, Response};
use crate::kernel::handler::{Answer, RouteHandler};

/// A function that answers requests.
pub struct DirectRoute {
    bridge: Bridge,
    handler: Handler,
}

impl DirectRoute {
    /// The function that `handler` holds.
    pub fn new(bridge: Bridge, handler: Handler) -> Self {
        Self { bridge, handler }
    }
}

impl RouteHandler for DirectRoute {
    fn answer(&self, request: Request) -> Answer<Response> {
        let Request { head, body, caller, .. } = request;
        let (bridge, handler) = (self.bridge.clone(), self.handler.clone());
        Box::pin(async move {
            let body = read_whole(body).await?;
            let face = RequestFace { head, body, caller };
            bridge.ask(&handler, move |_, target| target.call1((face,)), response_of).await
        })
    }
}

/// One request as a function of this way sees it; what it does not ask for is never made.
#[pyclass(frozen, name = "Request", module = "plugbay._core")]
pub struct RequestFace {
    head: http::request::Parts,
    body: Bytes,
    caller: Caller,
}

#[pymethods]
impl RequestFace {
    /// ``GET``, ``POST`` and so on.
    #[getter]
    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    /// The whole path, percent-decoded.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        decoded(py, self.head.uri.path())
    }

    /// The query as it came, without the question mark.
    #[getter]
    fn query(&self) -> &str {
        self.head.uri.query().unwrap_or("")
    }

    /// Pairs of bytes, names in lower case.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        headers_list(py, &self.head.headers)
    }

    /// The body.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.body)
    }

    /// Who asks.
    #[getter]
    fn caller(&self) -> CallerFace {
        CallerFace::new(&self.caller)
    }
}

/// What the function returned as a response: bytes are a JSON body with status 200.
///
/// # Errors
/// `Plugin`: it raised, or returned something else.
fn response_of(py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> Result<Response> {
    outcome.and_then(|value| response_from(&value)).map_err(|error| error_from_python(py, error))
}

fn response_from(value: &Bound<'_, PyAny>) -> PyResult<Response> {
    if let Ok(body) = value.cast::<PyBytes>() {
        let mut response = http::Response::new(Body::from(Bytes::copy_from_slice(body.as_bytes())));
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        return Ok(response);
    }
    let (status, headers, body): (u16, Bound<'_, PyAny>, Bound<'_, PyAny>) = value.cast::<PyTuple>()?.extract()?;
    let mut response = http::Response::new(Body::from(bytes_of(&body)?));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|error| PyTypeError::new_err(error.to_string()))?;
    for pair in headers.try_iter()? {
        let pair = pair?;
        let (name, value) = header(&pair.get_item(0)?, &pair.get_item(1)?)?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}
