//! The kernel and the ways in, without Python: one test program.

mod admin;
mod assets;
mod docs;
mod gate;
mod settings;
mod store;
mod support;
mod tokens;
