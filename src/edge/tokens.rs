//! `/api/host/tokens`: list, add and revoke tokens.
//!
//! That only the scope `admin` comes to the tokens is the gate's work; that nobody gives away more than they have is ours.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Extension, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json as object};

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{json, kept, named, whole};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::edge::sign_in;
use crate::kernel::auth::{OWNER, Scope, Scopes, TokenRecord};
use crate::kernel::call::Caller;

/// The routes of tokens and of sign-in.
pub fn router() -> Router<Parts> {
    Router::new()
        .route("/api/host/tokens", get(list).post(add))
        .route("/api/host/tokens/{name}", delete(revoke))
        .merge(sign_in::router())
}

/// What is asked for with `POST /api/host/tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    name: String,
    scopes: Vec<Scope>,
    #[serde(default)]
    days: Option<u32>,
}

async fn list(State(parts): State<Parts>) -> Response {
    let owner = object!({"name": OWNER, "scopes": Scope::ALL, "created": null, "expires": null});
    let tokens: Vec<Value> = std::iter::once(owner).chain(parts.auth.list().iter().map(shown)).collect();
    json(StatusCode::OK, &object!({"tokens": tokens}))
}

async fn add(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let wish: Wish = serde_json::from_slice(&whole(body)?).map_err(|error| {
        let message = format!(
            "expected a JSON object like {{\"name\": \"ci-bot\", \"scopes\": [\"call\"], \"days\": 30}}, found: {error}"
        );
        Error::new(if error.is_data() { Kind::Invalid } else { Kind::Malformed }, message)
    })?;
    let scopes = Scopes::of(&wish.scopes);
    if !caller.principal.scopes().hold(scopes) {
        let message = format!(
            "{} may give away only the scopes that it has: ask for fewer, or let the owner do it",
            caller.principal.name()
        );
        return Err(Error::new(Kind::Denied, message).into());
    }
    let made = kept(move || parts.auth.add_by(Some(&caller.principal), &wish.name, scopes, wish.days));
    let (token, record) = made.await?;
    let mut answer = shown(&record);
    answer["token"] = token.into();
    Ok(json(StatusCode::CREATED, &answer))
}

async fn revoke(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let name = named(path)?;
    kept(move || parts.auth.revoke(&name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn shown(record: &TokenRecord) -> Value {
    let time = |at: time::OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).ok();
    object!({
        "name": &*record.name,
        "scopes": record.scopes,
        "created": time(record.created),
        "expires": record.expires.and_then(time),
    })
}
