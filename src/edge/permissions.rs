//! `/api/host/permissions`: the rules in force, what is wrong with them, what they say of a call, and their changes.
//!
//! That only the scope `admin` comes here is the gate's work. Who changes rules answers for all calls to come: that also
//! needs the scope `approve`.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json as object};

use crate::base::error::{Error, Kind, Result};
use crate::base::name::ToolName;
use crate::base::settings::Mode;
use crate::edge::answer::{json, named, whole};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::kernel::auth::{Principal, Scope};
use crate::kernel::call::{Arguments, Caller};
use crate::kernel::gate::Gate;
use crate::kernel::inspection::{inspect, inspect_all};
use crate::kernel::lint::Finding;
use crate::kernel::readable::Readable;
use crate::kernel::rule::{List, Place, Rule};
use crate::kernel::rulebook::{KeptRule, NewRule};

/// The routes of permissions.
pub fn router() -> Router<Parts> {
    Router::new()
        .route("/api/host/permissions", get(show))
        .route("/api/host/permissions/rules", post(add))
        .route("/api/host/permissions/rules/{id}", delete(remove))
        .route("/api/host/permissions/explain", post(explain))
        .route("/api/host/permissions/lint", post(lint))
}

/// A rule that is to be added.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    list: List,
    rule: String,
}

/// A call that is not made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    tool: String,
    #[serde(default = "empty")]
    arguments: Value,
    /// Whose call; whoever asks, unless another is named.
    #[serde(default)]
    caller: Option<String>,
}

/// Rules that are looked at beside those in force.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Lists {
    deny: Vec<String>,
    ask: Vec<String>,
    allow: Vec<String>,
}

fn empty() -> Value {
    object!({})
}

/// `GET /api/host/permissions`: `{"mode", "rules": […], "findings": […]}`.
async fn show(State(parts): State<Parts>) -> Result<Response, Failure> {
    Ok(kept_on_disk(move || Ok(shown(&parts))).await?)
}

fn shown(parts: &Parts) -> Response {
    let gate = parts.toolbox.gate();
    let mode = match gate.mode() {
        Mode::Default => "default",
        Mode::Plan => "plan",
        Mode::Autonomous => "autonomous",
    };
    let shown = object!({ "mode": mode, "rules": rules(gate), "findings": inspect_all(gate, &parts.registry) });
    json(StatusCode::OK, &shown)
}

fn rules(gate: &Gate) -> Vec<Value> {
    let set = gate.rulebook().set().iter().map(|rule| {
        object!({
            "id": null, "list": rule.list(), "rule": rule.as_str(), "place": rule.place().to_string(),
            "by": null, "added": null, "plugin": null, "fingerprint": null,
        })
    });
    set.chain(gate.rulebook().kept().iter().map(kept)).collect()
}

fn kept(rule: &KeptRule) -> Value {
    object!({
        "id": rule.id,
        "list": rule.list,
        "rule": rule.rule,
        "place": Place::Store(rule.id).to_string(),
        "by": rule.by,
        "added": rule.added.format(&time::format_description::well_known::Rfc3339).ok(),
        "plugin": rule.seen.as_ref().map(|seen| &seen.plugin),
        "fingerprint": rule.seen.as_ref().map(|seen| &seen.fingerprint),
    })
}

/// `POST /api/host/permissions/rules` with `{"list", "rule"}`: the rule, with its id.
async fn add(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    may_change(&caller.principal)?;
    let wish: Wish = read(&whole(body)?, "{\"list\": \"allow\", \"rule\": \"files.write(/data/*)\"}")?;
    // What can be told before it is kept: a rule that cannot work beside the tools that there are.
    let rule = Rule::parse(&wish.rule, wish.list, Place::Given)?;
    if let Some(finding) = inspect(&[rule], &parts.registry).into_iter().find(Finding::is_error) {
        let message = format!("{:?}: {}; {}", finding.rule, finding.problem, finding.cure);
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let gate = parts.toolbox.gate().clone();
    let made = kept_on_disk(move || {
        caller.principal.still_counts()?;
        gate.rulebook().add(NewRule { list: wish.list, text: &wish.rule, by: caller.principal.name(), seen: None })
    });
    Ok(json(StatusCode::CREATED, &kept(&made.await?)))
}

/// `DELETE /api/host/permissions/rules/{id}`.
async fn remove(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    may_change(&caller.principal)?;
    let id = named(path)?;
    let id: u64 = id.parse().map_err(|_| Error::new(Kind::NotFound, format!("there is no added rule {id:?}")))?;
    let gate = parts.toolbox.gate().clone();
    let removed = kept_on_disk(move || {
        caller.principal.still_counts()?;
        gate.rulebook().remove(id)
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/host/permissions/explain` with `{"tool", "arguments"?, "caller"?}`: what would become of that call.
async fn explain(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let call: Call = read(&whole(body)?, "{\"tool\": \"files.write\", \"arguments\": {\"path\": \"/data/a\"}}")?;
    let name = ToolName::parse(&call.tool).map_err(|error| Error::new(Kind::NotFound, error.message()))?;
    let gate = parts.toolbox.gate().clone();
    if let Some(readable) = Readable::of(name.as_str()) {
        return Ok(json(StatusCode::OK, &gate.explain_reading(readable, &call.arguments)));
    }
    let snapshot = parts.registry.snapshot();
    let tool = snapshot.tool(name.as_str())?;
    let arguments = Arguments::parse(call.arguments.to_string())?;
    if let Some(failures) = tool.parameters.failures(arguments.value()) {
        let message = format!("the arguments of {name} do not fit its schema: {failures}");
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let facts = parts.toolbox.facts(&snapshot, tool)?;
    let who = call.caller.unwrap_or_else(|| caller.principal.name().to_owned());
    let told = kept_on_disk(move || Ok(gate.explain(&name.shared(), &facts, &who, arguments.value())));
    Ok(json(StatusCode::OK, &told.await?))
}

/// `POST /api/host/permissions/lint` with `{"deny"?, "ask"?, "allow"?}`, rules to be looked at beside those in force:
/// `{"findings": […]}`.
async fn lint(State(parts): State<Parts>, body: Result<Bytes, BytesRejection>) -> Result<Response, Failure> {
    let body = whole(body)?;
    let more: Lists = if body.is_empty() { Lists::default() } else { read(&body, "{\"deny\": [\"files.*\"]}")? };
    let mut rules = parts.toolbox.gate().rulebook().policy().rules.rules().to_vec();
    for (list, texts) in [(List::Deny, more.deny), (List::Ask, more.ask), (List::Allow, more.allow)] {
        for text in texts {
            rules.push(Rule::parse(&text, list, Place::Given)?);
        }
    }
    let found = kept_on_disk(move || Ok(inspect(&rules, &parts.registry))).await?;
    Ok(json(StatusCode::OK, &object!({ "findings": found })))
}

fn may_change(principal: &Principal) -> Result<()> {
    if principal.has(Scope::Approve) {
        return Ok(());
    }
    let message = format!(
        "{} may not change rules, which answer for all calls to come: its token needs the scope \"approve\" too",
        principal.name()
    );
    Err(Error::new(Kind::Denied, message))
}

fn read<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_data() { Kind::Invalid } else { Kind::Malformed };
        Error::new(kind, format!("expected a JSON object like {example}, found: {error}"))
    })
}

/// Runs what waits for the disk, or takes long with many rules, where it holds up no other request.
async fn kept_on_disk<T: Send + 'static>(change: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let change = tokio::task::spawn_blocking(change).await;
    change.unwrap_or_else(|error| Err(Error::new(Kind::Internal, "the change failed").with_source(error)))
}
