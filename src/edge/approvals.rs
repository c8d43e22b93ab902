//! `/api/host/approvals`: the calls that wait for a person, and the answer to one.

use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use http::StatusCode;
use serde_json::json as object;

use crate::base::error::{Error, Kind};
use crate::edge::answer::{json, named, whole};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::kernel::approvals::Approval;
use crate::kernel::auth::Scope;
use crate::kernel::call::Caller;
use crate::kernel::clerk::Said;

/// The routes of approvals.
pub fn router() -> Router<Parts> {
    Router::new().route("/api/host/approvals", get(list)).route("/api/host/approvals/{id}", get(one).post(answer))
}

/// `GET /api/host/approvals`: `{"approvals": […]}`, those that wait, oldest first. Who may not answer sees their own.
async fn list(State(parts): State<Parts>, Extension(caller): Extension<Caller>) -> Response {
    let mut waiting: Vec<Approval> = parts.toolbox.gate().approvals().pending();
    if !caller.principal.has(Scope::Approve) {
        waiting.retain(|approval| approval.question.caller.name() == caller.principal.name());
    }
    json(StatusCode::OK, &object!({ "approvals": waiting }))
}

/// `GET /api/host/approvals/{id}`: one, also for a while after its end.
async fn one(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let approval = parts.toolbox.gate().approvals().find(&named(path)?, &caller.principal)?;
    Ok(json(StatusCode::OK, &approval))
}

/// `POST /api/host/approvals/{id}` with `{"digest", "decision", "rule"?, "reason"?}`: the approval as it is then.
async fn answer(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let id = named(path)?;
    let said = Said::read(&whole(body)?)?;
    if said.id.as_ref().is_some_and(|named| *named != id) {
        return Err(
            Error::new(Kind::Invalid, "the answer names another approval than the path: leave \"id\" out").into()
        );
    }
    let gate = parts.toolbox.gate().clone();
    // A rule is written to the disk first, which must not hold up other requests.
    let answered = tokio::task::spawn_blocking(move || said.give(&gate, &id, &caller.principal)).await;
    let answered = answered.map_err(|error| Error::new(Kind::Internal, "the answer failed").with_source(error))?;
    Ok(json(StatusCode::OK, &answered?))
}
