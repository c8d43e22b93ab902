//! Words: errors, names, settings, frames, manifests, the stop signal.
//!
//! This storey may know the standard library and formats; it must never know a plugin, a server or Python.

pub mod authority; // 0.0
pub mod error; // 0.0
pub mod memory; // 0.0
pub mod scribe; // 0.0
pub mod shutdown; // 0.0
pub mod given; // 0.1
pub mod json; // 0.1
pub mod name; // 0.1
pub mod permissions; // 0.1
pub mod mcp_servers; // 0.12
pub mod settings; // 0.15
pub mod frame; // 0.2
pub mod log; // 0.2
pub mod manifest; // 0.2
pub mod rows; // 0.2
pub mod limits; // 0.25
pub mod sources; // 0.3
