//! The ways in: routes, `/ws`, tools and the host's own API.
//!
//! This storey knows HTTP; it must never know which engine runs a plugin.

pub mod answer; // 3.0
pub mod clock; // 3.0
pub mod failure; // 3.0
pub mod forwarded; // 3.0
pub mod frames; // 3.0
pub mod mcp_content; // 3.0
pub mod mcp_progress; // 3.0
pub mod mcp_prompts; // 3.0
pub mod mcp_sessions; // 3.0
pub mod openapi; // 3.0
pub mod parts; // 3.0
pub mod tls; // 3.0
pub mod upload; // 3.0
pub mod uri_template; // 3.0
pub mod caller; // 3.1
pub mod mcp_auth; // 3.1
pub mod mcp_catalogue; // 3.1
pub mod metrics; // 3.1
pub mod page; // 3.1
pub mod assets; // 3.2
pub mod docs; // 3.2
pub mod link; // 3.2
pub mod mcp_handler; // 3.2
pub mod tokens; // 3.2
pub mod tools; // 3.2
pub mod ws; // 3.2
pub mod access; // 3.3
pub mod admin; // 3.3
pub mod socket; // 3.3
pub mod wire; // 3.3
pub mod reply; // 3.4
pub mod routes; // 3.5
pub mod mcp; // 3.6
pub mod service; // 3.6
pub mod drive; // 3.7
pub mod server; // 3.8
