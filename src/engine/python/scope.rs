//! The scope of an ASGI app (ASGI 3.0, HTTP and WebSocket spec 2.4) from a request.

use std::sync::Arc;

use http::Version;
use percent_encoding::percent_decode_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::kernel::auth::{Principal, Scope as PrincipalScope};
use crate::kernel::call::Caller;

/// What a scope is made of, as plain data.
pub struct Scope {
    /// The request's head.
    pub head: http::request::Parts,
    /// Where the app is mounted, for `root_path`; empty for routes that carry the whole path.
    pub root_path: Arc<str>,
    /// Who asks.
    pub caller: Caller,
    /// The sub-protocols of a WebSocket; `None` for plain HTTP.
    pub protocols: Option<Vec<String>>,
}

impl Scope {
    /// Makes the dict. `state` is copied: what a request puts there stays its own.
    ///
    /// # Errors
    /// Python is out of memory.
    pub fn into_python<'py>(self, py: Python<'py>, state: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let Self { head, root_path, caller, protocols } = self;
        let path = head.uri.path();
        let scope = PyDict::new(py);
        let secure = caller.scheme == "https";
        match &protocols {
            None => {
                scope.set_item(intern!(py, "type"), intern!(py, "http"))?;
                scope.set_item(intern!(py, "method"), method(py, &head.method))?;
                scope
                    .set_item(intern!(py, "scheme"), if secure { intern!(py, "https") } else { intern!(py, "http") })?;
            }
            Some(protocols) => {
                scope.set_item(intern!(py, "type"), intern!(py, "websocket"))?;
                scope.set_item(intern!(py, "scheme"), if secure { intern!(py, "wss") } else { intern!(py, "ws") })?;
                scope.set_item(intern!(py, "subprotocols"), PyList::new(py, protocols)?)?;
            }
        }
        scope.set_item(intern!(py, "asgi"), versions(py)?)?;
        scope.set_item(intern!(py, "http_version"), version(py, head.version))?;
        scope.set_item(intern!(py, "path"), decoded(py, path))?;
        scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, path.as_bytes()))?;
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, head.uri.query().unwrap_or("").as_bytes()))?;
        scope.set_item(intern!(py, "root_path"), PyString::new(py, &root_path))?;
        scope.set_item(intern!(py, "headers"), headers_list(py, &head.headers)?)?;
        scope.set_item(intern!(py, "client"), address(py, caller.client)?)?;
        scope.set_item(intern!(py, "server"), address(py, caller.server)?)?;
        scope.set_item(intern!(py, "state"), state.copy()?)?;
        scope.set_item(intern!(py, "plugbay.caller"), CallerFace { caller })?;
        Ok(scope)
    }
}

/// `scope["plugbay.caller"]`: who asks, as the host's gate found it.
#[pyclass(frozen, name = "Caller", module = "plugbay._core")]
pub struct CallerFace {
    caller: Caller,
}

impl CallerFace {
    /// The face of a caller.
    pub fn new(caller: &Caller) -> Self {
        Self { caller: caller.clone() }
    }
}

#[pymethods]
impl CallerFace {
    /// Who asks.
    #[getter]
    fn principal(&self) -> PrincipalFace {
        PrincipalFace::new(&self.caller.principal)
    }

    /// The id that stands on every log line of this request.
    #[getter]
    fn request_id(&self) -> &str {
        &self.caller.request_id
    }
}

/// A principal as Python sees it.
#[pyclass(frozen, name = "Principal", module = "plugbay._core")]
pub struct PrincipalFace {
    principal: Principal,
}

impl PrincipalFace {
    /// The face of a principal.
    pub fn new(principal: &Principal) -> Self {
        Self { principal: principal.clone() }
    }
}

#[pymethods]
impl PrincipalFace {
    /// The name that people know it by.
    #[getter]
    fn name(&self) -> &str {
        self.principal.name()
    }

    /// Its scopes, of `call`, `approve` and `admin`.
    #[getter]
    fn scopes(&self) -> Vec<&'static str> {
        let all =
            [("call", PrincipalScope::Call), ("approve", PrincipalScope::Approve), ("admin", PrincipalScope::Admin)];
        all.into_iter().filter(|(_, scope)| self.principal.has(*scope)).map(|(word, _)| word).collect()
    }

    fn __str__(&self) -> &str {
        self.principal.name()
    }

    fn __repr__(&self) -> String {
        format!("<Principal {}>", self.principal.name())
    }
}

/// Header names and values as ASGI wants them: pairs of bytes, names in lower case, repeated headers repeated.
///
/// # Errors
/// Python is out of memory.
pub fn headers_list<'py>(py: Python<'py>, headers: &http::HeaderMap) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in headers {
        let pair = [PyBytes::new(py, name.as_str().as_bytes()), PyBytes::new(py, value.as_bytes())];
        list.append(PyTuple::new(py, pair)?)?;
    }
    Ok(list)
}

fn method<'py>(py: Python<'py>, method: &http::Method) -> Bound<'py, PyString> {
    match *method {
        http::Method::GET => intern!(py, "GET").clone(),
        http::Method::POST => intern!(py, "POST").clone(),
        _ => PyString::new(py, method.as_str()),
    }
}

fn version<'py>(py: Python<'py>, version: Version) -> &'py Bound<'py, PyString> {
    match version {
        Version::HTTP_10 => intern!(py, "1.0"),
        Version::HTTP_2 => intern!(py, "2"),
        _ => intern!(py, "1.1"),
    }
}

/// The path, percent-decoded as UTF-8; what is not UTF-8 becomes U+FFFD, as in uvicorn's `h11` and `httptools` servers.
pub fn decoded<'py>(py: Python<'py>, path: &str) -> Bound<'py, PyString> {
    if path.as_bytes().contains(&b'%') {
        PyString::new(py, &percent_decode_str(path).decode_utf8_lossy())
    } else {
        PyString::new(py, path)
    }
}

fn address(py: Python<'_>, address: std::net::SocketAddr) -> PyResult<Bound<'_, PyTuple>> {
    (address.ip().to_string(), address.port()).into_pyobject(py)
}

fn versions(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let versions = PyDict::new(py);
    versions.set_item(intern!(py, "version"), intern!(py, "3.0"))?;
    versions.set_item(intern!(py, "spec_version"), intern!(py, "2.4"))?;
    Ok(versions)
}
