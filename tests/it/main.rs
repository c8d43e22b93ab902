//! The kernel and the edge without Python: one test program.

mod hub;
mod stand;
mod tools;
mod wire;
mod ws;
