//! Frames to channel handlers, topics to connections.

/// The hub. Cloning is cheap.
#[derive(Clone)]
pub struct Hub {}
