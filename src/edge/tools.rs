//! `/api/host/tools`: what tools there are, and a call of one.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::json as object;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::name::ToolName;
use crate::edge::answer::{broken, json, named};
use crate::edge::caller::called;
use crate::edge::failure::{Failure, method_not_allowed};
use crate::edge::parts::Parts;
use crate::kernel::approvals::Approval;
use crate::kernel::auth::Scope;
use crate::kernel::call::{Arguments, Caller, Door, ToolCall};
use crate::kernel::contribution::{Schema, Tool};
use crate::kernel::gate::Patience;
use crate::kernel::provider::{Format, provider_names};
use crate::kernel::registry::{Offered, Registry};
use crate::kernel::search::search;
use crate::kernel::specifier::Template;
use crate::kernel::toolbox::{Ended, Misfit, Toolbox};

/// What a caller prefers (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Which of its preferences was followed.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

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
#[serde(deny_unknown_fields)]
struct Wish {
    /// A provider's format instead of the host's own.
    format: Option<String>,
    /// Only the tools of this group.
    group: Option<String>,
    /// Only the tools that have these words, the best first.
    search: Option<String>,
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
    max_concurrency: Option<NonZeroUsize>,
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
            max_concurrency: tool.concurrency,
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

/// `GET /api/host/tools`: `{"tools": […]}`, by name, or the best first where words are searched for; in a provider's format also `{"names": {provider's: tool's}}`.
///
/// A caller without the scope `call` sees none.
async fn list(
    State(state): State<Tools>,
    Extension(caller): Extension<Caller>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wish) = wish.map_err(|error| Error::new(Kind::Malformed, error.body_text()))?;
    let format = wish.format.as_deref().map(Format::parse).transpose()?;
    let snapshot = state.registry.snapshot();
    let mut tools = search(&snapshot, wish.search.as_deref().unwrap_or_default());
    let of_group = |tool: &Tool| wish.group.is_none() || tool.group.as_deref() == wish.group.as_deref();
    tools.retain(|tool| caller.principal.has(Scope::Call) && of_group(tool));
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

/// What a call answers.
#[derive(Serialize)]
struct Outcome {
    result: Json,
}

/// `POST /api/host/tools/{name}`: the body is the arguments, none means `{}`; the answer is `{"result": …}`.
///
/// Where a person is asked, the answer is held, or, if the caller prefers that, is 202 with `{"approval": …}` and `Location`.
/// A client that goes away drops this future, which cancels the tool, or denies a call that waits for a person.
async fn call(
    State(state): State<Tools>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let refuse = |tool: &str, error| {
        state.toolbox.refuse(&Misfit { door: Door::Http, principal: &caller.principal, tool }, error)
    };
    // What is no UTF-8 names no tool, but it is a call all the same.
    let name =
        named(name).map_err(|error| refuse(&called(&Method::POST, head.uri.path()).unwrap_or_default(), error))?;
    let (tool, arguments) = read(&name, body).await.map_err(|error| refuse(&name, error))?;
    let call = ToolCall { tool, arguments, principal: caller.principal, door: Door::Http, progress: None };
    let most = longest_wait(&head.headers);
    match state.toolbox.run_patiently(call, &Patience { most, notice: None }).await? {
        Ended::Done(result) => Ok(json(StatusCode::OK, &Outcome { result })),
        Ended::Pending(approval) => Ok(accepted(&approval)),
    }
}

async fn read(name: &str, body: axum::body::Body) -> Result<(ToolName, Arguments)> {
    let body = body.collect().await.map_err(|error| broken(&error))?;
    Ok((ToolName::parse(name)?, Arguments::parse(body.to_bytes())?))
}

/// How long a caller waits for a person: to the end, unless it prefers an answer at once or after some seconds
/// (`Prefer: respond-async, wait=10`, RFC 7240 §4.1 and §4.3).
fn longest_wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    let wishes: Vec<&str> = lines.flat_map(|line| line.split([',', ';'])).map(str::trim).collect();
    let wait = wishes.iter().find_map(|wish| wish.strip_prefix("wait=")?.trim_matches('"').parse().ok());
    let is_async = wishes.iter().any(|wish| wish.eq_ignore_ascii_case("respond-async"));
    is_async.then(|| Duration::from_secs(wait.unwrap_or(0)))
}

/// The answer to a call that waits for a person: where to look, and what to come back to with the same call.
fn accepted(approval: &Approval) -> Response {
    let mut response = json(StatusCode::ACCEPTED, &object!({ "approval": approval }));
    let headers = response.headers_mut();
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    // An id is letters, digits, "-" and "_".
    if let Ok(place) = HeaderValue::try_from(format!("/api/host/approvals/{}", approval.id)) {
        headers.insert(LOCATION, place);
    }
    response
}
