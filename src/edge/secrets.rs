//! `/api/host/plugins/{id}/secrets`: the names of a plugin's secrets, and how they are set and removed.
//!
//! That only the scope `admin` comes here is the gate's work. A value comes in and never goes out.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json as object;

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{json, kept, named, whole};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;

/// The routes of secrets.
pub fn router() -> Router<Parts> {
    Router::new()
        .route("/api/host/plugins/{id}/secrets", get(list))
        .route("/api/host/plugins/{id}/secrets/{name}", put(set).delete(remove))
}

/// What is asked for with `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    value: String,
}

/// The plugin's id and the secret's name.
type Names = Result<Path<(String, String)>, PathRejection>;

async fn list(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let id = named(path)?;
    let known = is_known(&parts, &id);
    let names = kept({
        let id = id.clone();
        move || parts.secrets.list(&id)
    });
    Ok(json(StatusCode::OK, &object!({"plugin": id, "known": known, "secrets": names.await?})))
}

async fn set(
    State(parts): State<Parts>,
    path: Names,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let (id, name) = both(path)?;
    // The parser's own words would quote the value.
    let wish: Wish = serde_json::from_slice(&whole(body)?).map_err(|error| {
        let kind = if error.is_data() { Kind::Invalid } else { Kind::Malformed };
        Error::new(kind, "expected a JSON object like {\"value\": \"…\"} with a text as its value")
    })?;
    let answer = object!({"plugin": id, "name": name.to_ascii_lowercase(), "known": is_known(&parts, &id)});
    kept(move || parts.secrets.set(&id, &name, &wish.value)).await?;
    Ok(json(StatusCode::OK, &answer))
}

async fn remove(State(parts): State<Parts>, path: Names) -> Result<Response, Failure> {
    let (id, name) = both(path)?;
    kept(move || parts.secrets.remove(&id, &name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn both(path: Names) -> Result<(String, String)> {
    path.map(|Path(names)| names).map_err(|_| Error::new(Kind::NotFound, "there is nothing at this path"))
}

/// Whether the host has a plugin of that id; secrets may come before it.
fn is_known(parts: &Parts, id: &str) -> bool {
    parts.registry.snapshot().plugin(id).is_some()
}
