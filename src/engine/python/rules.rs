//! The functions of `plugbay._core` about rules: questions with pure answers, for the command line and for tests.

use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::base::error::{Error, Kind};
use crate::base::permissions::Written;
use crate::base::settings::Settings;
use crate::engine::python::convert::error_into_python;
use crate::kernel::question;

/// What would become of a call, without a host; JSON in, JSON out.
///
/// # Errors
/// The question cannot be read.
#[pyfunction]
pub fn explain(py: Python<'_>, question: &str) -> PyResult<String> {
    let told = py.detach(|| question::explain(question));
    told.map(|told| told.to_string()).map_err(|error| error_into_python(py, &error))
}

/// What is wrong with rules, without a host; JSON in, JSON out.
///
/// # Errors
/// The question cannot be read.
#[pyfunction]
pub fn lint(py: Python<'_>, question: &str) -> PyResult<String> {
    let told = py.detach(|| question::lint(question));
    told.map(|told| told.to_string()).map_err(|error| error_into_python(py, &error))
}

/// The mode and the rules that the settings have, as they are written, with the place of each.
///
/// # Errors
/// A setting is not valid.
#[pyfunction]
pub fn rules_of_settings(py: Python<'_>, flags: &str) -> PyResult<String> {
    let read = py.detach(|| {
        let flags: Value = serde_json::from_str(flags)
            .map_err(|error| Error::new(Kind::Invalid, format!("the flags are not JSON: {error}")))?;
        let settings = Settings::load(&flags)?;
        let permissions = &settings.permissions;
        let mut rules = Vec::new();
        for (list, texts) in [("deny", &permissions.deny), ("ask", &permissions.ask), ("allow", &permissions.allow)] {
            let row = |rule: &Written| json!({ "list": list, "rule": &*rule.text, "place": &*rule.place });
            rules.extend(texts.iter().map(row));
        }
        let home = settings.home.to_string_lossy();
        Ok(json!({ "mode": settings.to_json()["mode"], "rules": rules, "home": home }).to_string())
    });
    read.map_err(|error: Error| error_into_python(py, &error))
}
