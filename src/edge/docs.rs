//! `/openapi.json` and `/docs`: the API of all plugins, readable without a network.
//!
//! The documents come from the plugins once for each snapshot, each within a time limit. A plugin that gives none is
//! left out and recorded; it never takes the others' documentation with it.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::edge::answer::named;
use crate::edge::failure::Failure;
use crate::edge::openapi::{Document, ToolRoute, merge};
use crate::edge::parts::Parts;
use crate::kernel::contribution::Mount;
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::registry::{Offered, Snapshot};

/// Everything from this host; Swagger UI sets styles on elements and has its icons inline.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' \
     data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Plugbay API</title>\
                    <link rel=\"stylesheet\" href=\"/docs/swagger-ui.css\"></head>\n<body><div id=\"ui\"></div>\
                    <script src=\"/docs/swagger-ui-bundle.js\"></script><script src=\"/docs/start.js\"></script>\
                    </body></html>\n";

/// Without a validator: Swagger UI would ask one on the network.
const START: &str = "SwaggerUIBundle({url: '/openapi.json', dom_id: '#ui', validatorUrl: null, deepLinking: true, \
                     presets: [SwaggerUIBundle.presets.apis]});\n";

/// The merged document of one generation of the registry.
#[derive(Clone, Default)]
struct Cache {
    /// The generation, and its document once it was asked for.
    newest: Arc<Mutex<(u64, Arc<OnceCell<Bytes>>)>>,
}

/// The routes of the documentation.
pub fn router() -> Router<Parts> {
    let cache = Cache::default();
    Router::new()
        .route("/openapi.json", get(move |State(parts): State<Parts>| openapi(parts, cache)))
        .route("/docs", get(async || file("text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes()))))
        .route("/docs/{name}", get(vendored))
}

async fn openapi(parts: Parts, cache: Cache) -> Response {
    let snapshot = parts.registry.snapshot();
    let cell = {
        let mut newest = cache.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.0 != snapshot.generation() {
            *newest = (snapshot.generation(), Arc::default());
        }
        newest.1.clone()
    };
    let document = cell.get_or_init(|| write(&parts, &snapshot)).await;
    file("application/json", document.clone())
}

/// Asks every mount for its document, all at once, and merges what comes.
async fn write(parts: &Parts, snapshot: &Snapshot) -> Bytes {
    let mut mounts: Vec<&Arc<Offered<Mount>>> = snapshot.mounts().collect();
    mounts.sort_by(|left, right| left.prefix.cmp(&right.prefix));
    let documents = join_all(mounts.into_iter().map(|mount| read(parts, mount))).await;
    let tools: Vec<ToolRoute> = snapshot
        .tools()
        .map(|tool| ToolRoute {
            name: tool.name.as_str().to_owned(),
            plugin: tool.plugin.manifest.id.as_str().to_owned(),
            description: tool.description.to_string(),
            parameters: tool.parameters.value().clone(),
            output: tool.output.as_ref().map(|schema| schema.value().clone()),
        })
        .collect();
    Json::of(&merge(documents.into_iter().flatten().collect(), &tools)).bytes()
}

/// One mount's document; `None` when it has none, or fails to give it, which is recorded.
async fn read(parts: &Parts, mount: &Offered<Mount>) -> Option<Document> {
    let handler = mount.openapi.as_ref()?;
    let plugin = mount.plugin.manifest.id.shared();
    let limit = parts.settings.limits.hook_time;
    let answer = tokio::time::timeout(limit, handler.read(Json::of(&Map::new()))).await;
    let content = match answer {
        Ok(Ok(json)) => match json.value() {
            Ok(Value::Object(content)) => Ok(content),
            _ => Err(Error::new(Kind::Plugin, "its OpenAPI document is not a JSON object")),
        },
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let message = format!("its OpenAPI document did not come within {} s", limit.as_secs_f64());
            Err(Error::new(Kind::Timeout, message))
        }
    };
    match content {
        Ok(content) => Some(Document { plugin: plugin.to_string(), root: format!("/api/{}", mount.prefix), content }),
        Err(error) => {
            let error = PluginError::new(mount.plugin.source.clone(), Some(plugin), Stage::Run, &error);
            parts.registry.record(error);
            None
        }
    }
}

async fn vendored(path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let name = named(path)?;
    let (media_type, file_name) = match name.as_str() {
        "start.js" => return Ok(file("text/javascript; charset=utf-8", Bytes::from_static(START.as_bytes()))),
        "swagger-ui-bundle.js" => ("text/javascript; charset=utf-8", "swagger-ui-bundle.js"),
        "swagger-ui.css" => ("text/css; charset=utf-8", "swagger-ui.css"),
        _ => return Err(Error::new(Kind::NotFound, "there is no such file of the documentation").into()),
    };
    let unpacked = tokio::task::spawn_blocking(move || unpacked(file_name)).await;
    let bytes = unpacked.unwrap_or_else(|error| Err(unreadable(&error.to_string())))?;
    Ok(file(media_type, bytes))
}

/// A file of Swagger UI, unpacked when it is first asked for.
fn unpacked(name: &'static str) -> Result<Bytes> {
    static SCRIPT: OnceLock<Bytes> = OnceLock::new();
    static STYLE: OnceLock<Bytes> = OnceLock::new();
    let place = if name.ends_with(".js") { &SCRIPT } else { &STYLE };
    if let Some(bytes) = place.get() {
        return Ok(bytes.clone());
    }
    let archive = Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED);
    let mut archive = zip::ZipArchive::new(archive).map_err(|error| unreadable(&error.to_string()))?;
    let ending = format!("/dist/{name}");
    let names = archive.file_names().filter_map(Result::ok);
    let path = names.map(Cow::into_owned).find(|path| path.ends_with(&ending));
    let path = path.ok_or_else(|| unreadable(&format!("it has no {name}")))?;
    let mut bytes = Vec::new();
    let mut entry = archive.by_name(&path).map_err(|error| unreadable(&error.to_string()))?;
    entry.read_to_end(&mut bytes).map_err(|error| unreadable(&error.to_string()))?;
    Ok(place.get_or_init(|| bytes.into()).clone())
}

fn unreadable(why: &str) -> Error {
    Error::new(Kind::Internal, format!("the archive of Swagger UI cannot be read: {why}"))
}

fn file(media_type: &'static str, bytes: Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (StatusCode::OK, headers, bytes).into_response()
}
