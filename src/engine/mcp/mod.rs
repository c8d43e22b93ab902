//! Outside MCP servers as plugins: their tools become contributions, their end is their plugin's error.
//!
//! This engine speaks MCP as a client, over a child's standard streams or over HTTP; the protocol is `rmcp`'s. It must
//! never pass on a credential of this host or of its callers.

pub mod content; // 2.10
pub mod failure; // 2.10
pub mod http; // 2.10
pub mod lines; // 2.10
pub mod message; // 2.10
pub mod question; // 2.10
pub mod asked; // 2.105
pub mod errors; // 2.105
pub mod opening; // 2.105
pub mod stdio; // 2.105
pub mod writes; // 2.105
pub mod child; // 2.11
pub mod list; // 2.11
pub mod ordered; // 2.11
pub mod relay; // 2.11
pub mod tool; // 2.11
pub mod connection; // 2.115
pub mod server; // 2.12
