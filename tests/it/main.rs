//! The kernel and the ways in, without Python: one test program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod admin;
mod assets;
mod docs;
mod gate;
mod settings;
mod store;
mod support;
mod tokens;
