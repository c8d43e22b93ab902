//! The host: who asks, what is asked, what plugins offer, and what may run.
//!
//! This storey may know the words of `base`; it must never know Python, a process or an HTTP server.

pub mod breaker; // 1.0
pub mod crier; // 1.0
pub mod fault; // 1.0
pub mod glob; // 1.0
pub mod meter; // 1.0
pub mod principal; // 1.0
pub mod redact; // 1.0
pub mod secret; // 1.0
pub mod store; // 1.0
pub mod upstream; // 1.0
pub mod word; // 1.0
pub mod auth; // 1.1
pub mod fingerprint; // 1.1
pub mod secrets; // 1.1
pub mod switches; // 1.1
pub mod wrapper; // 1.1
pub mod connection; // 1.2
pub mod rule; // 1.2
pub mod shell; // 1.2
pub mod call; // 1.3
pub mod members; // 1.3
pub mod specifier; // 1.3
pub mod lint; // 1.31
pub mod rules; // 1.31
pub mod judge; // 1.32
pub mod approvals; // 1.33
pub mod decision; // 1.33
pub mod explain; // 1.33
pub mod rulebook; // 1.33
pub mod question; // 1.34
pub mod gate; // 1.4
pub mod handler; // 1.5
pub mod contribution; // 1.6
pub mod guarded; // 1.6
pub mod draft; // 1.65
pub mod registry; // 1.7
pub mod hub; // 1.8
pub mod mailbox; // 1.8
pub mod provider; // 1.8
pub mod toolbox; // 1.8
pub mod inspection; // 1.8
pub mod calls; // 1.9
pub mod clerk; // 1.9
pub mod inbox; // 1.95
