//! The ways in: routes, `/ws`, tools and the host's own API.
//!
//! This storey knows HTTP; it must never know which engine runs a plugin.

pub mod access; // 3.3
pub mod admin; // 3.3
pub mod answer; // 3.0
pub mod assets; // 3.2
pub mod caller; // 3.1
pub mod clock; // 3.0
pub mod docs; // 3.2
pub mod drive; // 3.7
pub mod failure; // 3.0
pub mod forwarded; // 3.0
pub mod link; // 3.2
pub mod metrics; // 3.1
pub mod openapi; // 3.0
pub mod page; // 3.1
pub mod parts; // 3.0
pub mod reply; // 3.4
pub mod routes; // 3.5
pub mod server; // 3.8
pub mod service; // 3.6
pub mod socket; // 3.3
pub mod tls; // 3.0
pub mod tokens; // 3.2
pub mod upload; // 3.0
pub mod wire; // 3.3
