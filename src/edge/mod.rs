//! The ways in: routes, `/ws`, tools and the host's own API.
//!
//! This storey knows HTTP; it must never know which engine runs a plugin.

pub mod admin; // 3.3
pub mod answer; // 3.0
pub mod assets; // 3.2
pub mod caller; // 3.1
pub mod docs; // 3.2
pub mod failure; // 3.0
pub mod forwarded; // 3.0
pub mod openapi; // 3.0
pub mod page; // 3.1
pub mod parts; // 3.0
pub mod tokens; // 3.2
