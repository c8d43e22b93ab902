//! The host's own pages and its API.
use axum::Router;

use crate::edge::parts::Parts;

/// The routes of the host itself.
pub fn router(_parts: Parts) -> Router {
    Router::new()
}
