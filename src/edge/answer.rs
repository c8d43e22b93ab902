//! What the handlers of the host's own API share: a JSON answer, and the parts of a request that may be broken.

use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;

/// A JSON answer that is not to be kept by anybody.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, Json::of(value).bytes()).into_response()
}

/// The one name in a path.
///
/// # Errors
/// `NotFound`: it is not UTF-8, so nothing has it.
pub fn named(path: Result<Path<String>, PathRejection>) -> Result<String> {
    path.map(|Path(name)| name).map_err(|_| Error::new(Kind::NotFound, "there is nothing at this path"))
}

/// The bytes of a request.
///
/// # Errors
/// `TooLarge`: they are more than the limit. `Malformed`: they ended too early.
pub fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes> {
    body.map_err(|rejection| {
        let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        let kind = if too_large { Kind::TooLarge } else { Kind::Malformed };
        Error::new(kind, rejection.body_text())
    })
}

/// Runs a change that waits for the disk where it holds up no other request.
///
/// # Errors
/// Those of the change; `Internal`: it panicked.
pub async fn kept<T: Send + 'static>(change: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let change = tokio::task::spawn_blocking(change).await;
    change.unwrap_or_else(|error| Err(Error::new(Kind::Internal, "the change failed").with_source(error)))
}

/// Why a body did not come whole: what the server says of it (`TooLarge`, `Timeout`), or that the client broke off.
pub fn broken(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<Error>() {
            return known.clone();
        }
        cause = error.source();
    }
    Error::new(Kind::Malformed, "the body ended too early: send as many bytes as the head announces")
}
