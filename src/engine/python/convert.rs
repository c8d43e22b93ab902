//! Plain data into Python objects and back: JSON, errors, names of things.

use bytes::Bytes;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::base::error::{Error, Kind, Result, Traceback};
use crate::base::json::{Json, is_too_deep};

/// JSON text as Python objects.
///
/// # Errors
/// `MalformedError`: the text is beyond what Python's reader takes: nested too deeply, or half a surrogate pair.
pub fn json_into_python<'py>(py: Python<'py>, json: &Json) -> PyResult<Bound<'py, PyAny>> {
    static FROM_JSON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let read = FROM_JSON.import(py, "pydantic_core", "from_json")?.call1((PyBytes::new(py, json.as_bytes()),));
    read.map_err(|error| {
        let why = error.value(py).str().map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned());
        error_into_python(py, &Error::new(Kind::Malformed, format!("Python cannot read this JSON: {why}")))
    })
}

/// A Python object as JSON text: what `json` can write, and dataclasses, pydantic models, dates, UUIDs and the like.
///
/// # Errors
/// `Plugin`: it cannot be written, or it holds NaN or an infinity, which JSON has no word for.
pub fn json_from_python(value: &Bound<'_, PyAny>) -> Result<Json> {
    static TO_JSON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    if value.is_none() {
        return Ok(Json::NULL);
    }
    let text = TO_JSON.import(py, "pydantic_core", "to_json").and_then(|to_json| to_json.call1((value,)));
    let text = text.map_err(|error| {
        let what = value.get_type().name().map_or_else(|_| "value".to_owned(), |name| name.to_string());
        let message = format!("expected a value that JSON can hold, found {what}: {}", text_of(py, &error));
        Error::new(Kind::Plugin, message)
    })?;
    let bytes =
        text.cast::<PyBytes>().map_err(|_| Error::new(Kind::Internal, "pydantic_core.to_json gave no bytes"))?;
    Json::parse(Bytes::copy_from_slice(bytes.as_bytes())).map_err(|error| {
        let message = match is_too_deep(bytes.as_bytes()) {
            true => error.message().to_owned(),
            false => "expected a value that JSON can hold, found NaN or an infinity: return null instead".to_owned(),
        };
        Error::new(Kind::Plugin, message)
    })
}

/// What a plugin hands to the host, as JSON text.
///
/// # Errors
/// `Invalid`: JSON cannot hold it.
pub fn json_given(value: &Bound<'_, PyAny>) -> Result<Json> {
    json_from_python(value).map_err(|error| Error::new(Kind::Invalid, error.message()))
}

/// What Python raised, as a failure of the plugin: `Type: text`, with the traceback for the log. A cancelled task is
/// `Cancelled`.
pub fn error_from_python(py: Python<'_>, error: PyErr) -> Error {
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let cancelled = CANCELLED.import(py, "asyncio", "CancelledError");
    if cancelled.is_ok_and(|cancelled| error.is_instance(py, cancelled)) {
        return Error::new(Kind::Cancelled, "the call was cancelled");
    }
    let message = text_of(py, &error);
    let traceback = traceback_of(py, &error);
    Error::new(kind_of(py, &error), message).with_source(Traceback(traceback.into()))
}

/// The kind that an exception of `plugbay.errors` stands for, such as arguments that a typed function refuses; of all
/// others `Plugin`.
fn kind_of(py: Python<'_>, error: &PyErr) -> Kind {
    static BASE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let base = BASE.import(py, "plugbay.errors", "PlugbayError");
    if !base.is_ok_and(|base| error.is_instance(py, base)) {
        return Kind::Plugin;
    }
    let code = error.value(py).getattr(intern!(py, "code")).and_then(|code| code.extract::<String>());
    code.ok().and_then(|code| Kind::from_code(&code)).unwrap_or(Kind::Plugin)
}

/// Whether an exception says that the client has gone: what our `send` raises, or what Starlette makes of that.
pub fn is_disconnect(py: Python<'_>, error: &PyErr) -> bool {
    let named = || error.get_type(py).name().is_ok_and(|name| name.to_string_lossy().ends_with("Disconnect"));
    error.is_instance_of::<PyOSError>(py) || named()
}

/// `Type: text` of an exception.
pub fn text_of(py: Python<'_>, error: &PyErr) -> String {
    let name = error.get_type(py).qualname().map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
    match error.value(py).str() {
        Ok(text) if !text.to_string_lossy().is_empty() => format!("{name}: {}", text.to_string_lossy()),
        _ => name,
    }
}

/// The traceback of an exception as Python prints it.
pub fn traceback_of(py: Python<'_>, error: &PyErr) -> String {
    let format = || -> PyResult<String> {
        // `into_value` gives the exception its traceback back, which PyO3 keeps beside it before Python 3.12.
        let exception = error.clone_ref(py).into_value(py);
        let lines = py.import("traceback")?.call_method1("format_exception", (exception,))?;
        intern!(py, "").call_method1("join", (lines,))?.extract()
    };
    format().unwrap_or_else(|_| text_of(py, error))
}

/// A failure of the host as the exception of `plugbay.errors` that stands for its kind.
pub fn error_into_python(py: Python<'_>, error: &Error) -> PyErr {
    raised(py, error.kind().code(), error.message())
}

/// The exception that says a draft is closed.
pub fn closed(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "closed", message)
}

fn raised(py: Python<'_>, code: &str, message: &str) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    match MAKE.import(py, "plugbay.errors", "of_code").and_then(|make| make.call1((code, message))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
