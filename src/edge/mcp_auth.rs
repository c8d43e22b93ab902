//! How a client of `/mcp` learns what credential it needs: the metadata of RFC 9728, and the header that points to it.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::header::HOST;
use http::request::Parts as Head;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::base::settings::Settings;
use crate::edge::answer::json;
use crate::edge::failure::method_not_allowed;
use crate::edge::parts::Parts;
use crate::kernel::call::Caller;

/// Where MCP is spoken.
pub const PATH: &str = "/mcp";

/// Where the metadata lies, for the whole host and for `/mcp`.
pub const METADATA: [&str; 2] = ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"];

/// What a client must know of this resource.
#[derive(Serialize)]
struct Metadata {
    resource: String,
    resource_name: &'static str,
    bearer_methods_supported: [&'static str; 1],
    scopes_supported: [&'static str; 1],
}

/// The routes of the metadata, open to everybody.
pub fn router(parts: Parts) -> axum::Router {
    let other = async || method_not_allowed("GET, HEAD").map(axum::body::Body::new);
    METADATA
        .into_iter()
        .fold(axum::Router::new(), |router, path| router.route(path, get(metadata).fallback(other)))
        .with_state(parts)
}

async fn metadata(
    State(parts): State<Parts>,
    axum::Extension(caller): axum::Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let base = base(&parts.settings, &headers, caller.scheme).unwrap_or_default();
    let metadata = Metadata {
        resource: format!("{base}{PATH}"),
        resource_name: "Plugbay",
        bearer_methods_supported: ["header"],
        scopes_supported: ["call"],
    };
    json(StatusCode::OK, &metadata)
}

/// The challenge of an answer 401 to a request for `/mcp`; `None` for any other path.
pub fn challenge(settings: &Settings, head: &Head, scheme: &str) -> Option<HeaderValue> {
    (head.uri.path() == PATH).then(|| wanted(settings, &head.headers, scheme, ""))?
}

/// The challenge of an answer 403 to a client whose token may not call tools (RFC 6750 section 3.1): with it the client
/// knows which scope to ask for.
pub fn step_up(settings: &Settings, headers: &HeaderMap, scheme: &str) -> Option<HeaderValue> {
    wanted(settings, headers, scheme, "error=\"insufficient_scope\", ")
}

fn wanted(settings: &Settings, headers: &HeaderMap, scheme: &str, why: &str) -> Option<HeaderValue> {
    let base = base(settings, headers, scheme)?;
    let text = format!("Bearer realm=\"plugbay\", {why}resource_metadata=\"{base}{}\", scope=\"call\"", METADATA[1]);
    HeaderValue::from_str(&text).ok()
}

/// This host's address as the client knows it, without a trailing slash.
fn base(settings: &Settings, headers: &HeaderMap, scheme: &str) -> Option<String> {
    if let Some(url) = &settings.public_url {
        return Some(url.as_str().trim_end_matches('/').to_owned());
    }
    let host = headers.get(HOST)?.to_str().ok()?;
    // It stands within quotes; the gate lets only names through that have none, but it may not have been asked yet.
    (!host.contains(['"', '\\'])).then(|| format!("{scheme}://{host}"))
}
