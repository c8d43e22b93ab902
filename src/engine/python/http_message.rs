//! The pieces of HTTP messages that Python gives and takes: bytes, headers, whole bodies.

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::base::error::Result;
use crate::kernel::call::Body;

/// An item that a message must have.
///
/// # Errors
/// `ValueError`: it has not.
pub fn required<'py>(message: &Bound<'py, PyDict>, key: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    message.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("the message has no {key:?}")))
}

/// The bytes of a bytes-like object, copied.
///
/// # Errors
/// `TypeError`: it is none.
pub fn bytes_of(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    match object.cast::<PyBytes>() {
        Ok(bytes) => Ok(Bytes::copy_from_slice(bytes.as_bytes())),
        // `bytearray` and `memoryview` are allowed by nobody's letter and sent by many.
        Err(_) => {
            let copy = object.py().get_type::<PyBytes>().call1((object,))?;
            Ok(Bytes::copy_from_slice(copy.cast::<PyBytes>()?.as_bytes()))
        }
    }
}

/// A header as an app gives it: two byte strings, checked so that neither can split the response (RFC 9110 §5.5).
///
/// # Errors
/// `ValueError`: it is not valid in HTTP.
pub fn header(name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<(HeaderName, HeaderValue)> {
    let checked = match (name.cast::<PyBytes>(), value.cast::<PyBytes>()) {
        (Ok(name), Ok(value)) => {
            HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(value.as_bytes()).ok())
        }
        _ => {
            let (name, value) = (bytes_of(name)?, bytes_of(value)?);
            HeaderName::from_bytes(&name).ok().zip(HeaderValue::from_maybe_shared(value).ok())
        }
    };
    match checked {
        Some(pair) => Ok(pair),
        None => Err(PyValueError::new_err(format!("header {}: {} is not valid in HTTP", name.repr()?, value.repr()?))),
    }
}

/// All bytes of a body.
///
/// # Errors
/// `TooLarge`: it goes beyond the limit. `Cancelled`, `Timeout`: it was cut short.
pub async fn read_whole(body: Body) -> Result<Bytes> {
    let mut stream = match body {
        Body::Empty => return Ok(Bytes::new()),
        Body::Full(bytes) => return Ok(bytes),
        Body::Stream(stream) => stream,
    };
    let mut whole = BytesMut::new();
    while let Some(frame) = stream.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.is_empty() && stream.is_end_stream() {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
