//! `/api/plugins/{id}/assets/…`: the web files of plugins, and no other file, whatever the path or a link says.
//!
//! Of a plugin with a `manifest.json` these are the files beside and below its entry and its icon, as long as it is enabled.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

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
use crate::engine::process::manifest::ChildManifest;

/// How much of a file is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The routes of web files.
pub fn router() -> Router<Parts> {
    Router::new().route("/api/plugins/{id}/assets/{*path}", get(answer))
}

async fn answer(State(parts): State<Parts>, uri: Uri) -> Result<Response, Failure> {
    // From the raw path, so that it is decoded exactly once.
    let (id, path) = split(uri.path()).ok_or_else(not_found)?;
    let relative = relative(path).ok_or_else(not_found)?;
    let folder = folder_of(&parts, id, &relative).ok_or_else(not_found)?;
    let media_type = mime_guess::from_path(&relative).first_or_octet_stream();
    let (settings, home) = (parts.settings.clone(), parts.store.home().to_owned());
    let found = tokio::task::spawn_blocking(move || find(&folder, &relative, &settings, &home)).await;
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

/// The folder in which a plugin's file is looked for; `None` when the plugin shows no such file.
fn folder_of(parts: &Parts, id: &str, relative: &Path) -> Option<PathBuf> {
    let snapshot = parts.registry.snapshot();
    if let Some(assets) = &snapshot.plugin(id)?.offers.assets {
        return Some(assets.folder.clone());
    }
    let report = parts.processes.report(id).ok().filter(|report| report.enabled)?;
    is_shown(&report.manifest, relative).then(|| report.manifest.folder.clone())
}

/// Whether a file lies beside or below the entry or the icon. Beside an icon at the top of the plugin these are pictures
/// alone: everything lies below that.
fn is_shown(manifest: &ChildManifest, file: &Path) -> bool {
    // Without `./`, as requests write it.
    let plain =
        |path: &str| Path::new(path).components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    let below = |path: &Path| path.parent().is_some_and(|folder| file.starts_with(folder));
    let beside_icon = |icon: &Path| {
        let at_top = icon.parent().is_none_or(|folder| folder.as_os_str().is_empty());
        let picture = || mime_guess::from_path(file).first().is_some_and(|kind| kind.type_() == "image");
        if at_top { file == icon || (file.components().count() == 1 && picture()) } else { below(icon) }
    };
    below(&plain(&manifest.entry)) || manifest.icon.as_deref().is_some_and(|icon| beside_icon(&plain(icon)))
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
    // What npm has installed is none of a plugin's own.
    let kept_back = |part: &OsStr| part.as_encoded_bytes().starts_with(b".") || part == "node_modules";
    let hidden = path.strip_prefix(&folder).ok()?.iter().any(kept_back);
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
