//! Python in the host's own process.
//!
//! Only this folder names Python's types; everything outside sees handlers and plain data.

pub mod context; // 2.00
pub mod convert; // 2.00
pub mod http_message; // 2.00
pub mod json_text; // 2.00
pub mod mounted; // 2.00
pub mod new_task; // 2.00
pub mod scope; // 2.00
pub mod waiters; // 2.00
pub mod job; // 2.01
pub mod offline; // 2.01
pub mod rules; // 2.01
pub mod event_loop; // 2.02
pub mod workers; // 2.02
pub mod awaitable; // 2.03
pub mod watch; // 2.03
pub mod bridge; // 2.04
pub mod http_exchange; // 2.04
pub mod handlers; // 2.05
pub mod http_call; // 2.05
pub mod socket_exchange; // 2.05
pub mod channels; // 2.06
pub mod direct; // 2.06
pub mod engine; // 2.06
pub mod socket_call; // 2.06
pub mod asgi; // 2.07
pub mod errand; // 2.07
pub mod compiled; // 2.08
pub mod plan; // 2.085
pub mod draft; // 2.09
pub mod face; // 2.095
pub mod relay; // 2.21
