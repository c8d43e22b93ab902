//! Runs plugins that are processes of their own: starts them, watches them, ends them, and never leaves one behind; and
//! brings them in and takes them out.
//!
//! This engine knows nothing of HTTP and never reads what a child answers; it must never know Python.

pub mod cgroup; // 2.00
pub mod guard; // 2.00
pub mod installed; // 2.00
pub mod job_log; // 2.00
pub mod log; // 2.00
pub mod manifest; // 2.00
pub mod origin; // 2.00
pub mod package; // 2.00
pub mod port; // 2.00
pub mod ready; // 2.00
pub mod stat; // 2.00
pub mod swap; // 2.00
pub mod family; // 2.005
pub mod household; // 2.01
pub mod integrity; // 2.01
pub mod jobs; // 2.01
pub mod leftovers; // 2.01
pub mod spawn; // 2.01
pub mod desk; // 2.02
pub mod equipment; // 2.02
pub mod inspect; // 2.02
pub mod child; // 2.03
pub mod command; // 2.03
pub mod waiters; // 2.03
pub mod supervisor; // 2.04
pub mod tools; // 2.04
pub mod processes; // 2.05
pub mod staging; // 2.05
pub mod placing; // 2.06
pub mod prepare; // 2.06
pub mod installer; // 2.07
