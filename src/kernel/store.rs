//! What the host keeps.

/// The store.
#[derive(Clone)]
pub struct Store {}
