//! Plugbay: a backend that other people extend. The storeys, from the ground up:
//!
//! - `base`: words
//! - `kernel`: the host: registry, hub, toolbox, gate, auth, store
//! - `engine`: what runs a plugin
//! - `edge`: the ways in
//! - `app`: the whole, in the order of starting and stopping
//!
//! With the feature `python` this is also the Python module `plugbay._core`.

pub mod base;
pub mod kernel;
pub mod engine;
pub mod edge;
pub mod app; // 4.0
#[cfg(feature = "python")]
mod host; // 4.1

/// What `import plugbay._core` gives: names for the package's own modules. Plugins use `plugbay`.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    const HOST_API: &str = crate::base::manifest::HOST_API;
    #[pymodule_export]
    use crate::engine::python::channels::ConnectionFace;
    #[pymodule_export]
    use crate::engine::python::draft::DraftFace;
    #[pymodule_export]
    use crate::engine::python::errand::{Errands, Ticket};
    #[pymodule_export]
    use crate::engine::python::face::{
        channels, errors, facades, generation, invoke, loader_given_up, log, mounts, pass_over, passed_over, plugins,
        provider_tools, record, refuse, reset, routes, search_tools, tools, withdraw,
    };
    #[pymodule_export]
    use crate::engine::python::handlers::ToolContext;
    #[pymodule_export]
    use crate::engine::python::json_text::plain_json;
    #[pymodule_export]
    use crate::engine::python::offline::{
        list_secrets, manifest_notes, manifest_offers, remove_secret, set_secret, switched_off,
    };
    #[pymodule_export]
    use crate::engine::python::relay::Relay;
    #[pymodule_export]
    use crate::engine::python::rules::{explain, lint, rules_of_settings};
    #[pymodule_export]
    use crate::engine::python::scope::{CallerFace, PrincipalFace};
    #[pymodule_export]
    use crate::host::Host;
}
