//! The ways in: routes, `/ws`, tools and the host's own API.
//!
//! This storey knows HTTP; it must never know which engine runs a plugin.

pub mod parts; // 3.0
