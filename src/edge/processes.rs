//! `/api/host/plugins/{id}/start|stop|logs`: the plugins that are processes of their own, and what is said of them.
//!
//! That only the scope `admin` comes to these routes is the gate's work.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json as object};
use time::format_description::well_known::Rfc3339;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::base::error::{Error, Kind, Result};
use crate::base::shutdown::Shutdown;
use crate::edge::answer::{json, named};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::engine::process::desk::State as ChildState;
use crate::engine::process::manifest::ChildManifest;
use crate::engine::process::processes::Report;
use crate::kernel::call::Caller;
use crate::kernel::principal::Principal;

/// Lines of a log that are shown unless more or fewer are asked for.
const LINES: usize = 100;

/// The routes.
pub fn router() -> Router<Parts> {
    Router::new()
        .route("/api/host/plugins/{id}/start", post(start))
        .route("/api/host/plugins/{id}/stop", post(stop))
        .route("/api/host/plugins/{id}/logs", get(logs))
}

async fn start(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let id = named(path)?;
    parts.processes.start(&id).await?;
    shown(&parts, &id)
}

async fn stop(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let id = named(path)?;
    parts.processes.stop(&id).await?;
    shown(&parts, &id)
}

fn shown(parts: &Parts, id: &str) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &object!({"id": id, "server": server(&parts.processes.report(id)?)})))
}

/// What is asked of a log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    lines: Option<usize>,
    /// Present: what is written from then on comes, too, until the caller leaves.
    follow: Option<String>,
}

async fn logs(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, Failure> {
    let id = named(path)?;
    let Query(wish) = wish.map_err(|rejection| {
        let message = format!("{}: ask for ?lines=N, or ?follow=1", rejection.body_text());
        Error::new(Kind::Invalid, message)
    })?;
    let log = parts.processes.log(&id)?;
    let lines = wish.lines.unwrap_or(LINES);
    let body = match wish.follow.as_deref() {
        None | Some("0" | "false") => Body::from(text(&log.last(lines))),
        Some(_) => {
            let (last, more) = log.follow(lines);
            Body::from_stream(following(last.into(), more, (parts.shutdown, caller.principal)))
        }
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, body).into_response())
}

fn text(lines: &[Arc<str>]) -> String {
    lines.iter().flat_map(|line| [&**line, "\n"]).collect()
}

/// The last lines, then all that come, until the host stops or the follower's token is taken back.
fn following(
    last: VecDeque<Arc<str>>,
    more: Receiver<Arc<str>>,
    until: (Shutdown, Principal),
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::unfold((last, more, until), |(mut last, mut more, until)| async move {
        if !last.is_empty() {
            let lines = text(last.make_contiguous());
            return Some((Ok(Bytes::from(lines)), (VecDeque::new(), more, until)));
        }
        let line = tokio::select! {
            line = more.recv() => line,
            () = until.0.stopping() => return None,
            () = until.1.revoked() => return None,
        };
        let line = match line {
            Ok(line) => format!("{line}\n"),
            Err(RecvError::Lagged(missed)) => format!("… {missed} lines missed: they came too fast\n"),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(Bytes::from(line)), (last, more, until)))
    })
}

/// What a page that shows plugins' pages needs to know of this one's: its files are below the plugin's `assets`.
pub fn page(manifest: &ChildManifest) -> Value {
    object!({
        "entry": manifest.entry,
        "icon": manifest.icon,
        "type": manifest.page_type,
        "slot": manifest.slot,
    })
}

/// What is said of a child in lists of plugins.
pub fn server(report: &Report) -> Value {
    let status = &report.status;
    object!({
        "state": status.state,
        "suspended": status.suspended,
        "enabled": report.enabled,
        "since": status.since.format(&Rfc3339).ok(),
        "pid": status.pid,
        "port": status.port,
        "start_time_s": status.start_time.map(|time| time.as_secs_f64()),
        "runs": status.runs,
        "failures": status.failures,
        "last_error": last_error(report),
        "memory_bytes": status.usage.memory_bytes,
        "processes": status.usage.processes,
        "cpu_s": status.past_cpu_s + status.usage.cpu_s,
        "restart": report.manifest.restart.as_str(),
    })
}

/// What went wrong last, as lists of plugins say it.
pub fn last_error(report: &Report) -> Value {
    match &report.status.error {
        Some((stage, error)) => object!({"stage": stage, "code": error.kind().code(), "message": error.message()}),
        None => Value::Null,
    }
}

/// What keeps a child from being asked now; null while it can, or while nobody has asked for it.
pub fn error(report: &Report) -> Value {
    match report.status.state {
        ChildState::Waiting | ChildState::Failed => last_error(report),
        ChildState::Running if report.status.suspended => last_error(report),
        _ => Value::Null,
    }
}
