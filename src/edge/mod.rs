//! The ways in: routes, `/ws`, tools and the host's own API.
//!
//! This storey knows HTTP; only what serves child processes may know which engine runs a plugin.

pub mod answer; // 3.0
pub mod clock; // 3.0
pub mod failure; // 3.0
pub mod forwarded; // 3.0
pub mod frames; // 3.0
pub mod headers; // 3.0
pub mod marks; // 3.0
pub mod openapi; // 3.0
pub mod parts; // 3.0
pub mod sign; // 3.0
pub mod tls; // 3.0
pub mod upload; // 3.0
pub mod caller; // 3.1
pub mod handshake; // 3.1
pub mod line; // 3.1
pub mod metrics; // 3.1
pub mod page; // 3.1
pub mod tunnel; // 3.1
pub mod approvals; // 3.2
pub mod assets; // 3.2
pub mod docs; // 3.2
pub mod installs; // 3.2
pub mod link; // 3.2
pub mod pool; // 3.2
pub mod processes; // 3.2
pub mod secrets; // 3.2
pub mod permissions; // 3.2
pub mod tokens; // 3.2
pub mod tools; // 3.2
pub mod ws; // 3.2
pub mod access; // 3.3
pub mod admin; // 3.3
pub mod proxy; // 3.3
pub mod socket; // 3.3
pub mod wire; // 3.3
pub mod plugin_ws; // 3.4
pub mod reply; // 3.4
pub mod routes; // 3.5
pub mod service; // 3.6
pub mod drive; // 3.7
pub mod server; // 3.8
