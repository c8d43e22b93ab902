//! The kernel and the ways in, without Python: one test program over real sockets.

mod clocks;
mod limits;
mod logs;
mod requests;
mod secure;
mod served;
mod sockets;
mod stopping;
