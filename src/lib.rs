//! Plugbay.
pub mod base;
pub mod engine;
pub mod edge;
pub mod kernel;
