//! `/api/plugins/{id}/assets/…`: the web files of plugins, and no other file, whatever the path or a link says.

use std::io;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Settings;
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;

/// How much of a file is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The routes of web files.
pub fn router() -> Router<Parts> {
    Router::new().route("/api/plugins/{id}/assets/{*path}", get(answer))
}

async fn answer(State(parts): State<Parts>, uri: Uri) -> Result<Response, Failure> {
    // From the raw path, so that it is decoded exactly once.
    let (id, path) = split(uri.path()).ok_or_else(not_found)?;
    let snapshot = parts.registry.snapshot();
    let assets = snapshot.plugin(id).and_then(|plugin| plugin.offers.assets.clone()).ok_or_else(not_found)?;
    let relative = relative(path).ok_or_else(not_found)?;
    let media_type = mime_guess::from_path(&relative).first_or_octet_stream();
    let (settings, home) = (parts.settings.clone(), parts.store.home().to_owned());
    let found = tokio::task::spawn_blocking(move || find(&assets.folder, &relative, &settings, &home)).await;
    let (file, length) = found.ok().flatten().ok_or_else(not_found)?;
    let text = if media_type.type_() == "text" || media_type.subtype() == "javascript" {
        format!("{media_type}; charset=utf-8")
    } else {
        media_type.to_string()
    };
    let media_type = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = (StatusCode::OK, Body::from_stream(pieces(File::from_std(file)))).into_response();
    let headers = response.headers_mut();
    // A document of a plugin is shown in an origin of its own, where this host's cookie and API are out of reach.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox allow-scripts allow-forms allow-popups"));
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The plugin's id and the path of the file, still encoded.
fn split(path: &str) -> Option<(&str, &str)> {
    let (id, rest) = path.strip_prefix("/api/plugins/")?.split_once('/')?;
    Some((id, rest.strip_prefix("assets/")?))
}

/// The path as the file system has it: decoded once, of plain segments, none of them hidden.
fn relative(path: &str) -> Option<PathBuf> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let plain = |segment: &str| {
        !segment.is_empty() && !segment.starts_with('.') && !segment.contains(['\\', ':']) && !segment.contains('\0')
    };
    path.split('/').all(plain).then(|| path.split('/').collect())
}

/// Opens a regular file that lies in the folder after every link was followed, and is none of the host's own.
fn find(folder: &Path, relative: &Path, settings: &Settings, home: &Path) -> Option<(std::fs::File, u64)> {
    let folder = folder.canonicalize().ok()?;
    let path = folder.join(relative).canonicalize().ok()?;
    let own = |file: &Path| file.canonicalize().is_ok_and(|file| file == path);
    let secret = (path.starts_with(home) && !path.starts_with(home.join("plugins")))
        || settings.config.as_deref().is_some_and(own)
        || settings.tls.as_ref().is_some_and(|(certificate, key)| own(certificate) || own(key));
    let hidden = path.strip_prefix(&folder).ok()?.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
    // A pipe would wait for its other end.
    if secret || hidden || !path.metadata().ok()?.is_file() {
        return None;
    }
    let file = std::fs::File::open(&path).ok()?;
    let length = file.metadata().ok()?.len();
    Some((file, length))
}

/// The bytes of a file, piece by piece, as fast as the client takes them.
fn pieces(file: File) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, async |mut file| {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await?;
        Ok(if piece.is_empty() { None } else { Some((Bytes::from(piece), file)) })
    })
}

fn not_found() -> Error {
    Error::new(Kind::NotFound, "no plugin has such a file")
}
