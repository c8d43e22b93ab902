//! `/api/host/plugins`: install, update, remove, enable and disable plugins; the jobs of these.
//!
//! That only the scope `admin` comes here is the gate's work.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json as object;

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{json, kept, named, whole};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::engine::process::jobs::{JOB_PREFIX, Job, Leave};

/// How long the answer waits for a job's next state.
const PATIENCE: Duration = Duration::from_secs(20);

/// The routes of installing; that of one plugin, `GET` aside, and of one job.
pub fn router() -> Router<Parts> {
    Router::new()
        .route("/api/host/plugins", post(install))
        .route("/api/host/plugins/{id}", axum::routing::delete(remove))
        .route("/api/host/plugins/{id}/confirm", post(confirm))
        .route("/api/host/plugins/{id}/update", post(update))
        .route("/api/host/plugins/{id}/enable", post(enable))
        .route("/api/host/plugins/{id}/disable", post(disable))
}

/// What is asked for with `POST /api/host/plugins`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    source: String,
    #[serde(default, rename = "ref")]
    reference: Option<String>,
}

/// What is asked of a job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    /// A state: the answer waits a while for another.
    seen: Option<String>,
}

/// The answer to `GET /api/host/plugins/{id}` where the id is a job's; with `?seen=STATE` once it is in another state, or
/// after a while.
///
/// # Errors
/// `NotFound`: there is no such job. `Invalid`: something else is asked of it.
pub async fn job(parts: &Parts, id: &str, uri: &Uri) -> Result<Response> {
    let job = parts.installer.job(id)?;
    let Query(look) = Query::<Look>::try_from_uri(uri).map_err(|rejection| {
        Error::new(Kind::Invalid, format!("{}: ask for ?seen=STATE, or for nothing", rejection.body_text()))
    })?;
    if let Some(seen) = look.seen {
        tokio::select! {
            () = job.moved_on(&seen) => {}
            () = tokio::time::sleep(PATIENCE) => {}
            () = parts.shutdown.stopping() => {}
        }
    }
    Ok(json(StatusCode::OK, &job.shown()))
}

/// Whether an id is that of a job.
pub fn is_job(id: &str) -> bool {
    id.starts_with(JOB_PREFIX)
}

async fn install(State(parts): State<Parts>, body: Result<Bytes, BytesRejection>) -> Result<Response, Failure> {
    let wish: Wish = read(&whole(body)?, "{\"source\": \"https://example.com/owner/plugin\", \"ref\": \"v1.0\"}")?;
    let job = in_runtime(move || parts.installer.install(&wish.source, wish.reference.as_deref())).await?;
    Ok(accepted(&job))
}

async fn update(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let id = named(path)?;
    let job = in_runtime(move || parts.installer.update(&id)).await?;
    Ok(accepted(&job))
}

async fn confirm(
    State(parts): State<Parts>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let job = parts.installer.job(&named(path)?)?;
    let body = whole(body)?;
    let leave = if body.is_empty() { Leave::default() } else { read(&body, "{\"allow_build\": [\"node-pty\"]}")? };
    job.confirm(leave)?;
    Ok(accepted(&job))
}

/// Calls a job off, or removes a plugin.
async fn remove(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let id = named(path)?;
    if is_job(&id) {
        parts.installer.job(&id)?.call_off()?;
    } else {
        parts.installer.uninstall(&id).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn enable(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let id = named(path)?;
    parts.installer.enable(&id).await?;
    Ok(json(StatusCode::OK, &object!({"plugin": id, "enabled": true})))
}

async fn disable(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let id = named(path)?;
    parts.installer.disable(&id).await?;
    Ok(json(StatusCode::OK, &object!({"plugin": id, "enabled": false})))
}

/// A job that is under way, and where it is seen.
fn accepted(job: &Job) -> Response {
    let mut response = json(StatusCode::ACCEPTED, &job.shown());
    if let Ok(place) = HeaderValue::try_from(format!("/api/host/plugins/{}", job.id)) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

/// Runs what waits for the disk and spawns tasks.
async fn in_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Handle::current();
    kept(move || {
        let _inside = runtime.enter();
        work()
    })
    .await
}

fn read<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_data() { Kind::Invalid } else { Kind::Malformed };
        Error::new(kind, format!("expected a JSON object like {example}, found: {error}"))
    })
}
