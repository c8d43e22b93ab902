//! What runs a plugin.
//!
//! This storey knows the kernel's questions; it must never know an HTTP server.

pub mod mcp;
pub mod plain;
pub mod process;
#[cfg(feature = "python")]
pub mod python;
