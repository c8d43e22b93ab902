//! An [`Error`] as an HTTP response, always of one shape: a problem (RFC 9457) with the kind's code.
//!
//! Every failure that the host itself answers passes here; what a plugin answers never does.

use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::base::error::{Error, Kind};
use crate::base::log;
use crate::kernel::call::{Body, Response};

/// The media type of a problem.
pub const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// How long a caller is asked to wait when something was full, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// A failure on its way out of an axum handler; it is logged there.
#[derive(Debug)]
pub struct Failure(pub Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        log::report(&self.0);
        response(&self.0).map(axum::body::Body::new)
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a str>,
}

/// The answer to a request that failed.
pub fn response(error: &Error) -> Response {
    let kind = error.kind();
    let status = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = problem(status, kind, kind.title(), error.message(), error.plugin());
    mark(kind, response.headers_mut());
    response
}

/// The answer to a method that a path does not have; `allow` lists those that it has, as `GET, HEAD`.
pub fn method_not_allowed(allow: &'static str) -> Response {
    let detail = format!("this path does not have that method: use {allow}");
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = problem(status, Kind::Invalid, "Method not allowed", &detail, None);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// A problem with a status that no kind has (405, 408, 431).
pub fn problem(status: StatusCode, kind: Kind, title: &str, detail: &str, plugin: Option<&str>) -> Response {
    let code = kind.code();
    let problem =
        Problem { r#type: format!("urn:plugbay:problem:{code}"), title, status: status.as_u16(), detail, code, plugin };
    // Texts and numbers always can be written as JSON.
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn mark(kind: Kind, headers: &mut HeaderMap) {
    match kind {
        Kind::Busy => _ = headers.insert(RETRY_AFTER, RETRY_AFTER_S),
        Kind::Unauthenticated => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"plugbay\""));
        }
        _ => {}
    }
}
