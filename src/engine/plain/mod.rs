//! What the bridge into Python and the compiled routes are made of as far as it needs no Python.
//!
//! Nothing here names a type of Python's, so that the tests of Rust build and run it without an interpreter.

pub mod bell; // 1.90
pub mod taken; // 1.90
pub mod template; // 1.90
pub mod lane; // 1.91
