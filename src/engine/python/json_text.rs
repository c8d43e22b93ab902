//! Plain Python values as JSON text, byte for byte as FastAPI's `jsonable_encoder` and Starlette's `json.dumps` write them.
//!
//! Only values whose text is certain are written: exact `dict`, `list`, `tuple`, `str`, `int`, `float`, `bool` and `None`.

use std::io::Write;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Deeper nesting is left to Python, which has a limit of its own.
const DEPTH: usize = 64;

/// The JSON text of a value; ``None`` when it is not certain to be what FastAPI would write.
#[pyfunction]
pub fn plain_json<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut text = Vec::with_capacity(128);
    write(value, &mut text, DEPTH).then(|| PyBytes::new(value.py(), &text))
}

/// Appends the text of a value. False when it is not certain; then what was appended is of no use.
fn write(value: &Bound<'_, PyAny>, text: &mut Vec<u8>, depth: usize) -> bool {
    if let Ok(string) = value.cast_exact::<PyString>() {
        return write_string(string, text);
    }
    if let Ok(number) = value.cast_exact::<PyInt>() {
        // Beyond 64 bits is left to Python.
        return number.extract::<i64>().is_ok_and(|number| write!(text, "{number}").is_ok());
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        return depth > 0 && write_dict(dict, text, depth - 1);
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        return depth > 0 && write_items(list.iter(), text, depth - 1);
    }
    if value.is_none() {
        text.extend_from_slice(b"null");
        return true;
    }
    if let Ok(truth) = value.cast_exact::<PyBool>() {
        text.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
        return true;
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        return number.value().is_finite() && write_float(number, text);
    }
    match value.cast_exact::<PyTuple>() {
        Ok(tuple) => depth > 0 && write_items(tuple.iter(), text, depth - 1),
        Err(_) => false,
    }
}

fn write_dict(dict: &Bound<'_, PyDict>, text: &mut Vec<u8>, depth: usize) -> bool {
    text.push(b'{');
    for (index, (key, value)) in dict.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        // FastAPI leaves out what SQLAlchemy keeps under such names.
        let Ok(key) = key.cast_exact::<PyString>() else { return false };
        let start = text.len();
        if !write_string(key, text) || text[start..].starts_with(b"\"_sa") {
            return false;
        }
        text.push(b':');
        if !write(&value, text, depth) {
            return false;
        }
    }
    text.push(b'}');
    true
}

fn write_items<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, text: &mut Vec<u8>, depth: usize) -> bool {
    text.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        if !write(&item, text, depth) {
            return false;
        }
    }
    text.push(b']');
    true
}

/// With the escapes of Python's `json` for `ensure_ascii=False`.
fn write_string(string: &Bound<'_, PyString>, text: &mut Vec<u8>) -> bool {
    // Half a surrogate pair has no UTF-8.
    let Ok(string) = string.to_str() else { return false };
    text.push(b'"');
    let mut rest = string.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        text.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => text.extend_from_slice(b"\\\""),
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            8 => text.extend_from_slice(b"\\b"),
            12 => text.extend_from_slice(b"\\f"),
            other => {
                if write!(text, "\\u{other:04x}").is_err() {
                    return false;
                }
            }
        }
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
    text.push(b'"');
    true
}

/// As `float.__repr__` writes it.
fn write_float(number: &Bound<'_, PyFloat>, text: &mut Vec<u8>) -> bool {
    let Ok(shown) = number.repr() else { return false };
    shown.to_str().is_ok_and(|shown| {
        text.extend_from_slice(shown.as_bytes());
        true
    })
}
