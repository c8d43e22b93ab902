//! `/api/host/tools`: what tools there are, and a call of one.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::name::ToolName;
use crate::edge::answer::{json, named};
use crate::edge::failure::{Failure, method_not_allowed};
use crate::edge::parts::Parts;
use crate::kernel::auth::Scope;
use crate::kernel::call::{Arguments, Caller, Door, ToolCall};
use crate::kernel::contribution::{Schema, Tool};
use crate::kernel::provider::{Format, provider_names};
use crate::kernel::registry::{Offered, Registry};
use crate::kernel::specifier::Template;
use crate::kernel::toolbox::Toolbox;

/// The routes of the tools. The gate in front has put the [`Caller`] into the request's extensions.
pub fn router(parts: Parts) -> axum::Router {
    let state = Tools { registry: parts.registry, toolbox: parts.toolbox };
    axum::Router::new()
        .route("/api/host/tools", get(list).fallback(async || other_method("GET, HEAD")))
        .route("/api/host/tools/{name}", post(call).fallback(async || other_method("POST")))
        .with_state(state)
}

fn other_method(allow: &'static str) -> Response {
    method_not_allowed(allow).map(axum::body::Body::new)
}

/// What these routes need of the host.
#[derive(Clone)]
struct Tools {
    registry: Registry,
    toolbox: Toolbox,
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
            output_schema: tool.output.as_ref().map(Schema::text),
            side_effect: tool.side_effect,
            specifier_template: tool.specifier_template.as_ref().map(Template::as_str),
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
    Ok(match format {
        None => {
            let tools: Vec<_> = tools.into_iter().map(|tool| Entry::of(tool)).collect();
            json(StatusCode::OK, &BTreeMap::from([("tools", tools)]))
        }
        Some(format) => {
            let names = provider_names(&snapshot);
            let described = tools.iter().map(|tool| format.describe(&names[tool.name.as_str()], tool)).collect();
            let names = tools.iter().map(|tool| (&*names[tool.name.as_str()], tool.name.as_str())).collect();
            json(StatusCode::OK, &Offer { tools: described, names })
        }
    })
}

fn has_words(tool: &Tool, words: &[String]) -> bool {
    let group = tool.group.as_deref().unwrap_or_default();
    let text = format!("{} {} {group}", tool.name, tool.description).to_lowercase();
    words.iter().all(|word| text.contains(word))
}

/// What a call answers.
#[derive(Serialize)]
struct Outcome {
    result: Json,
}

/// `POST /api/host/tools/{name}`: the body is the arguments, none means `{}`; the answer is `{"result": …}`.
///
/// A client that goes away drops this future, which cancels the tool.
async fn call(
    State(state): State<Tools>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
    body: axum::body::Body,
) -> Result<Response, Failure> {
    let tool = ToolName::parse(&named(name)?)?;
    let body = body.collect().await.map_err(|error| broken(&error))?;
    let arguments = Arguments::parse(body.to_bytes())?;
    let call = ToolCall { tool, arguments, principal: caller.principal, door: Door::Http, progress: None };
    let result = state.toolbox.run(call).await?;
    Ok(json(StatusCode::OK, &Outcome { result }))
}

/// Why a body did not come whole: what the server says of it (`TooLarge`, `Timeout`), or that the client broke off.
fn broken(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<Error>() {
            return known.clone();
        }
        cause = error.source();
    }
    Error::new(Kind::Malformed, "the body ended too early: send as many bytes as the head announces")
}
