//! Plugbay.
pub mod base;
pub mod edge;
pub mod kernel;
