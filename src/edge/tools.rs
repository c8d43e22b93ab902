//! `/api/host/tools`: what tools there are, and a call of one.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::name::ToolName;
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::kernel::auth::Scope;
use crate::kernel::call::{Arguments, Caller, Door, ToolCall};
use crate::kernel::contribution::Tool;
use crate::kernel::provider::{Format, provider_names};
use crate::kernel::registry::{Offered, Registry};
use crate::kernel::toolbox::Toolbox;

/// The routes of the tools. The gate in front has put the [`Caller`] into the request's extensions.
pub fn router(parts: Parts) -> axum::Router {
    let state =
        Tools { registry: parts.registry, toolbox: parts.toolbox, body_bytes: parts.settings.limits.body_bytes };
    axum::Router::new()
        .route("/api/host/tools", axum::routing::get(list))
        .route("/api/host/tools/{name}", axum::routing::post(call))
        .with_state(state)
}

/// What these routes need of the host.
#[derive(Clone)]
struct Tools {
    registry: Registry,
    toolbox: Toolbox,
    body_bytes: usize,
}

/// How a list is asked for.
#[derive(Deserialize)]
struct Wish {
    /// A provider's format instead of the host's own.
    format: Option<String>,
    /// Words that a tool's name, description or group must all have, in any case.
    q: Option<String>,
}

/// One tool of the host's own list.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    plugin: &'a str,
    description: &'a str,
    parameters: &'a Json,
    output_schema: Option<&'a Json>,
    side_effect: bool,
    specifier_template: Option<&'a str>,
    group: Option<&'a str>,
    timeout_s: f64,
}

impl<'a> Entry<'a> {
    fn of(tool: &'a Offered<Tool>) -> Self {
        Self {
            name: tool.name.as_str(),
            plugin: tool.plugin.manifest.id.as_str(),
            description: &tool.description,
            parameters: tool.parameters.text(),
            output_schema: tool.output.as_ref().map(|schema| schema.text()),
            side_effect: tool.side_effect,
            specifier_template: tool.specifier_template.as_deref(),
            group: tool.group.as_deref(),
            timeout_s: tool.timeout.as_secs_f64(),
        }
    }
}

/// The list in a provider's format.
#[derive(Serialize)]
struct Offer<'a> {
    tools: Vec<serde_json::Value>,
    /// The provider's name of each tool → the tool's own.
    names: BTreeMap<&'a str, &'a str>,
}

/// `GET /api/host/tools`: `{"tools": […]}`, by name; in a provider's format also `{"names": {provider's: tool's}}`.
///
/// A caller without the scope `call` sees none.
async fn list(
    State(state): State<Tools>,
    Extension(caller): Extension<Caller>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wish) = wish.map_err(|error| Error::new(Kind::Malformed, error.body_text()))?;
    let format = wish.format.as_deref().map(Format::parse).transpose()?;
    let words: Vec<String> = wish.q.iter().flat_map(|q| q.split_whitespace()).map(str::to_lowercase).collect();
    let may_see = caller.principal.has(Scope::Call);
    let snapshot = state.registry.snapshot();
    let tools: Vec<_> = snapshot.tools().filter(|tool| may_see && has_words(tool, &words)).collect();
    let text = match format {
        None => {
            let tools: Vec<_> = tools.into_iter().map(|tool| Entry::of(tool)).collect();
            Json::of(&BTreeMap::from([("tools", tools)]))
        }
        Some(format) => {
            let names = provider_names(&snapshot);
            let described = tools.iter().map(|tool| format.describe(&names[tool.name.as_str()], tool)).collect();
            let names = tools.iter().map(|tool| (&*names[tool.name.as_str()], tool.name.as_str())).collect();
            Json::of(&Offer { tools: described, names })
        }
    };
    Ok(json(text.bytes()))
}

fn has_words(tool: &Tool, words: &[String]) -> bool {
    let group = tool.group.as_deref().unwrap_or_default();
    let text = format!("{} {} {group}", tool.name, tool.description).to_lowercase();
    words.iter().all(|word| text.contains(word))
}

/// `POST /api/host/tools/{name}`: the body is the arguments, none means `{}`; the answer is `{"result": …}`.
///
/// A client that goes away drops this future, which cancels the tool.
async fn call(
    State(state): State<Tools>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Result<Response, Failure> {
    let Path(name) = name.map_err(|error| Error::new(Kind::Malformed, error.body_text()))?;
    let tool = ToolName::parse(&name)?;
    let arguments = Arguments::parse(read(&headers, body, state.body_bytes).await?)?;
    let call = ToolCall { tool, arguments, principal: caller.principal, door: Door::Http, progress: None };
    let result = state.toolbox.run(call).await?;
    let result = result.as_bytes();
    let mut text = BytesMut::with_capacity(result.len() + 12);
    text.extend_from_slice(b"{\"result\":");
    text.extend_from_slice(result);
    text.extend_from_slice(b"}");
    Ok(json(text.freeze()))
}

/// The whole body, at most `limit` bytes.
///
/// # Errors
/// `TooLarge`: it is longer. `Cancelled`: the client went away. Those of the body itself.
async fn read(headers: &HeaderMap, body: axum::body::Body, limit: usize) -> Result<Bytes> {
    let too_large = || Error::new(Kind::TooLarge, format!("the body is larger than {limit} bytes: send less"));
    let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(cause(&*error).cloned().unwrap_or_else(|| {
            Error::new(Kind::Cancelled, "the body ended before its end: the client went away, or broke off")
        })),
    }
}

/// The failure of the host that lies beneath an error, where one does.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(found) = current.downcast_ref::<Error>() {
            return Some(found);
        }
        error = current.source();
    }
    None
}

fn json(text: Bytes) -> Response {
    let mut response = Response::new(axum::body::Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
