//! `/api/host/plugins`: install, update, remove, enable and disable plugins; the jobs of these.
//!
//! That only the scope `admin` comes here is the gate's work.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json as object;

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{json, kept, named, whole};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::engine::process::jobs::{JOB_PREFIX, Job, Leave};

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

/// The answer to `GET /api/host/plugins/{id}` where the id is a job's; `None` where it is none's.
///
/// # Errors
/// `NotFound`: there is no such job.
pub fn job(parts: &Parts, id: &str) -> Option<Result<Response>> {
    id.starts_with(JOB_PREFIX).then(|| Ok(json(StatusCode::OK, &parts.installer.job(id)?.shown())))
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
    if id.starts_with(JOB_PREFIX) {
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
