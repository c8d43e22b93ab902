//! The host's own routes: its health, its page, and what it says of its plugins.
//!
//! The gate has been passed when anything here runs; what a route needs beyond a principal is said in `caller.rs`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode, Uri};
use serde_json::{Value, json as object};

use crate::base::error::{Error, Kind};
use crate::base::manifest::HOST_API;
use crate::base::settings::{AuthMode, Mode};
use crate::edge::answer::{json, named};
use crate::edge::failure::{Failure, problem};
use crate::edge::parts::Parts;
use crate::edge::{
    approval_page, approvals, assets, audit, docs, installs, page, permissions, processes, secrets, tokens,
};
use crate::kernel::auth::Scope;
use crate::kernel::call::{Caller, Moment};
use crate::kernel::fault::PluginError;
use crate::kernel::handler::RouteNote;
use crate::kernel::registry::{Plugin, Registry};

/// The routes of the host itself, without a fallback. Each request must carry its [`Caller`] as an extension.
pub fn router(parts: Parts) -> Router {
    let started = Instant::now();
    Router::new()
        .route("/", get(async |State(parts): State<Parts>| page::about(&parts)))
        .route("/healthz", get(async || json(StatusCode::OK, &object!({"status": "ok"}))))
        .route("/readyz", get(ready))
        .route("/api/host/plugins", get(plugins))
        .route("/api/host/plugins/{id}", get(plugin))
        .route("/api/host/errors", get(errors))
        .route("/api/host/channels", get(channels))
        .route("/api/host/routes", get(routes))
        .route("/api/host/status", get(async move |State(parts): State<Parts>| status(&parts, started)))
        .merge(processes::router())
        .merge(tokens::router())
        .merge(audit::router())
        .merge(approvals::router())
        .merge(approval_page::router())
        .merge(permissions::router())
        .merge(secrets::router())
        .merge(installs::router())
        .merge(docs::router())
        .merge(assets::router())
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(parts)
}

async fn ready(State(parts): State<Parts>) -> Response {
    if parts.ready.get() && !parts.shutdown.is_stopping() {
        return json(StatusCode::OK, &object!({"ready": true}));
    }
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, &object!({"ready": false}));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

async fn plugins(State(parts): State<Parts>) -> Response {
    let snapshot = parts.registry.snapshot();
    let mut list: Vec<Value> = snapshot.plugins().iter().map(|plugin| running(plugin, &parts)).collect();
    list.extend(failed(&parts.registry).iter().map(failure));
    list.extend(parts.registry.passed_over().iter().map(idle));
    json(StatusCode::OK, &object!({"plugins": list}))
}

async fn plugin(
    State(parts): State<Parts>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let id = named(path)?;
    if installs::is_job(&id) {
        return Ok(installs::job(&parts, &id, &uri).await?);
    }
    let snapshot = parts.registry.snapshot();
    let found = snapshot.plugin(&id).map(|plugin| running(plugin, &parts)).or_else(|| {
        let failed = failed(&parts.registry);
        failed.iter().find(|error| error.plugin.as_deref() == Some(&*id)).map(failure)
    });
    let found = found.or_else(|| parts.registry.passed_over().iter().find(|(idle, _)| *idle == id).map(idle));
    let found = found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no plugin {id:?}")))?;
    Ok(json(StatusCode::OK, &found))
}

/// The errors, oldest first. A traceback may show more than a caller without the scope `admin` is to see.
async fn errors(State(parts): State<Parts>, Extension(caller): Extension<Caller>) -> Response {
    let mut errors = parts.registry.errors();
    if !caller.principal.has(Scope::Admin) {
        errors.iter_mut().for_each(|error| error.traceback = None);
    }
    json(StatusCode::OK, &object!({"errors": errors}))
}

async fn channels(State(parts): State<Parts>) -> Response {
    let snapshot = parts.registry.snapshot();
    let list: Vec<Value> = snapshot
        .channels()
        .into_iter()
        .map(|channel| object!({"name": channel.name.as_str(), "plugin": channel.plugin.manifest.id.as_str()}))
        .collect();
    json(StatusCode::OK, &object!({"channels": list}))
}

/// The routes of all mounts, those of one mount in the order in which they are tried.
async fn routes(State(parts): State<Parts>) -> Response {
    let snapshot = parts.registry.snapshot();
    let mut mounts: Vec<_> = snapshot.mounts().collect();
    mounts.sort_by_key(|mount| (mount.prefix.as_str(), mount.plugin.manifest.id.as_str()));
    let mut list = Vec::new();
    for mount in mounts {
        let plugin = mount.plugin.manifest.id.as_str();
        let row = |note: &RouteNote| {
            object!({
                "methods": note.methods,
                "path": note.path,
                "plugin": plugin,
                "name": note.name,
                "compiled": note.is_compiled,
                "reason": note.reason,
            })
        };
        list.extend(mount.handler.routes().iter().map(row));
    }
    json(StatusCode::OK, &object!({"routes": list}))
}

fn status(parts: &Parts, started: Instant) -> Response {
    let snapshot = parts.registry.snapshot();
    let (calls, failures) = parts.toolbox.tally();
    let mode = match parts.toolbox.gate().mode() {
        Mode::Default => "default",
        Mode::Plan => "plan",
        Mode::Autonomous => "autonomous",
    };
    let notes = || snapshot.mounts().flat_map(|mount| mount.handler.routes());
    let compiled = notes().filter(|note| note.is_compiled).count();
    let auth = if parts.settings.auth == AuthMode::Token { "token" } else { "none" };
    let status = object!({
        "version": env!("CARGO_PKG_VERSION"),
        "host_api": HOST_API,
        "pid": std::process::id(),
        "uptime_s": started.elapsed().as_secs_f64(),
        "ready": parts.ready.get(),
        "stopping": parts.shutdown.is_stopping(),
        "auth": auth,
        "mode": mode,
        "generation": snapshot.generation(),
        "plugins": snapshot.plugins().len(),
        "tools": snapshot.tools().count(),
        "channels": snapshot.channels().len(),
        "errors": parts.registry.errors().len(),
        "routes": {"compiled": compiled, "asgi": notes().count() - compiled},
        "tool_calls": calls,
        "tool_failures": failures,
        "approvals": parts.toolbox.gate().approvals().pending().len(),
        "rules": parts.toolbox.gate().rulebook().policy().rules.rules().len(),
        "panics": parts.shutdown.panics(),
        "engines": (parts.engines)(),
    });
    json(StatusCode::OK, &status)
}

/// A plugin that is there; one with a server is in the server's state.
fn running(plugin: &Arc<Plugin>, parts: &Parts) -> Value {
    let (manifest, offers) = (&plugin.manifest, &plugin.offers);
    let meter = parts.meters.of(&manifest.id.shared());
    let report = parts.processes.report(manifest.id.as_str()).ok();
    let page = report.as_ref().map(|report| processes::page(&report.manifest));
    let report = report.filter(|report| report.manifest.has_server());
    let hooks = |moment: Moment| offers.hooks.iter().filter(|hook| hook.moment == moment).count();
    object!({
        "id": manifest.id.as_str(),
        "name": &*manifest.name,
        "version": &*manifest.version,
        "description": &*manifest.description,
        "host_api": &*manifest.host_api,
        "kind": plugin.engine,
        "state": report.as_ref().map_or("running", |report| report.status.state.as_str()),
        "error": report.as_ref().map_or(Value::Null, processes::error),
        "server": report.as_ref().map_or(Value::Null, processes::server),
        "page": page,
        "source": &*plugin.source,
        "calls": meter.calls(),
        "failures": meter.errors(),
        "time_s": meter.time().as_secs_f64(),
        "offers": {
            "routes": offers.mounts.iter().map(|mount| format!("/api/{}", mount.prefix)).collect::<Vec<_>>(),
            "tools": offers.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(),
            "channels": offers.channels.iter().map(|channel| channel.name.as_str()).collect::<Vec<_>>(),
            "facades": offers.facades.iter().map(|facade| facade.name.as_str()).collect::<Vec<_>>(),
            "resources": offers.resources.iter().map(|resource| &*resource.uri).collect::<Vec<_>>(),
            "prompts": offers.prompts.iter().map(|prompt| &*prompt.name).collect::<Vec<_>>(),
            "startup_hooks": hooks(Moment::Startup),
            "shutdown_hooks": hooks(Moment::Shutdown),
            "assets": offers.assets.is_some() || page.is_some(),
        },
    })
}

/// The last error of each plugin that has an id and does not serve.
fn failed(registry: &Registry) -> Vec<PluginError> {
    let snapshot = registry.snapshot();
    let mut last: Vec<PluginError> = Vec::new();
    for error in registry.errors() {
        let Some(id) = error.plugin.as_deref() else { continue };
        // The id of a plugin that serves, but another file's: a plugin that lost its id to it is in the errors alone.
        if snapshot.plugin(id).is_some() {
            continue;
        }
        last.retain(|earlier| earlier.plugin != error.plugin);
        last.push(error);
    }
    last
}

/// A plugin that does not serve.
fn failure(error: &PluginError) -> Value {
    object!({
        "id": error.plugin,
        "name": error.plugin,
        "version": null,
        "kind": null,
        "state": "failed",
        "error": {"stage": error.stage, "code": error.code, "message": error.message},
        "server": null,
        "source": error.source,
    })
}

/// An installed plugin that was not loaded, because it is switched off.
fn idle((id, source): &(String, String)) -> Value {
    object!({
        "id": id,
        "name": id,
        "version": null,
        "kind": "python",
        "state": "disabled",
        "error": null,
        "server": null,
        "source": source,
    })
}

/// The answer to a method that a path does not have; the router adds `Allow`.
async fn method_not_allowed() -> Response {
    let detail = "this path does not have that method: use one of those in the header Allow";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    problem(status, Kind::Invalid, "Method not allowed", detail, None).map(axum::body::Body::new)
}
