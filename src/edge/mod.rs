//! The ways in: routes, `/ws`, tools and the host's own API.
//!
//! This storey knows HTTP; it must never know which engine runs a plugin.

pub mod admin; // 3.3
pub mod caller; // 3.1
pub mod failure; // 3.0
pub mod parts; // 3.0
pub mod tools; // 3.2
pub mod wire; // 3.0
pub mod ws; // 3.2
