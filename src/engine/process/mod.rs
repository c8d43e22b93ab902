//! Plugins that are processes of their own: how they come in.
//!
//! This folder starts programs and keeps folders; it must never know an HTTP server or Python.

pub mod installed; // 2.0
pub mod integrity; // 2.0
pub mod job_log; // 2.0
pub mod origin; // 2.0
pub mod package; // 2.0
pub mod swap; // 2.0
pub mod command; // 2.1
pub mod tools; // 2.2
pub mod staging; // 2.3
pub mod prepare; // 2.4
