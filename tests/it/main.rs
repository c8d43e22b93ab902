//! The kernel and the ways in, without Python: one test program over real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod admin;
mod approvals;
mod assets;
mod children;
mod audit;
mod clocks;
mod costs;
mod docs;
mod gate;
mod hub;
mod limits;
mod logs;
mod manifests;
mod proxied;
mod proxy;
mod proxy_fails;
mod requests;
mod scene;
mod secure;
mod served;
mod rules;
mod settings;
mod sockets;
mod specifiers;
mod stand;
mod stopping;
mod store;
mod support;
mod tokens;
mod tools;
mod tunnels;
mod wire;
mod ws;
