//! Pages without script: one about this host at `/`, and what all pages share.
//!
//! Whatever a plugin said of itself is text here, never markup.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts as Head;
use http::{HeaderValue, StatusCode};
use memchr::memmem::Finder;
use sha2::{Digest, Sha256};

use crate::base::error::{Error, Kind};
use crate::edge::parts::Parts;

/// Where the form of [`SIGN_OUT_FORM`] goes.
pub const SIGN_OUT: &str = "/sign-out";
/// Ends the session of the browser that shows it; for pages with forms.
pub const SIGN_OUT_FORM: &str =
    "<form method=\"post\" action=\"/sign-out\"><p><button>Sign this browser out</button></p></form>\n";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
                     table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;\
                     vertical-align:top}code{font-size:.9em;white-space:pre-wrap}.bad{color:#b00020}";

/// Nothing may be loaded, run or framed; the one style is named by its hash.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy("'none'"));
/// The same with forms that go back to this host.
static FORM_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy("'self'"));

fn policy(forms: &str) -> HeaderValue {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action {forms}; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 and the words around it are visible ASCII")
}

/// The page about this host: its version, its plugins, what went wrong, and where to go on.
pub fn about(parts: &Parts) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let snapshot = parts.registry.snapshot();
    let mut body = format!("<h1>Plugbay {version}</h1>\n");
    if !parts.ready.get() {
        body.push_str("<p>The host is starting: its plugins are being loaded.</p>\n");
    }
    body.push_str(
        "<p><a href=\"/approvals\">calls that wait for a person</a> · <a href=\"/docs\">API documentation</a> · \
         <a href=\"/healthz\">health</a></p>\n<h2>Plugins</h2>\n",
    );
    if snapshot.plugins().is_empty() {
        body.push_str("<p>None is loaded. Put a Python file into a folder of plugins, and start the host again.</p>\n");
    } else {
        body.push_str("<table><tr><th>id</th><th>name</th><th>version</th><th>state</th></tr>\n");
        for plugin in snapshot.plugins() {
            let manifest = &plugin.manifest;
            let (id, name, version) = (text(manifest.id.as_str()), text(&manifest.name), text(&manifest.version));
            let _ = writeln!(body, "<tr><td>{id}</td><td>{name}</td><td>{version}</td><td>running</td></tr>");
        }
        body.push_str("</table>\n");
    }
    let errors = parts.registry.errors();
    if !errors.is_empty() {
        body.push_str("<h2>Errors</h2>\n<table><tr><th>source</th><th>stage</th><th>error</th></tr>\n");
        for error in errors.iter().rev().take(50) {
            let (source, stage, message) = (text(&error.source), error.stage, text(&error.message));
            let _ = writeln!(
                body,
                "<tr><td>{source}</td><td>{stage}</td><td class=\"bad\"><code>{message}</code></td></tr>"
            );
        }
        body.push_str("</table>\n");
    }
    body.push_str(SIGN_OUT_FORM);
    with_forms("Plugbay", &body)
}

/// Whether this is the path of a page that a person looks at.
pub fn is_page(path: &str) -> bool {
    let is_id = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    matches!(path, "/" | "/docs" | "/approvals") || path.strip_prefix("/approvals/").is_some_and(is_id)
}

/// Whether this is the path of such a page, or of what one loads: those of `/docs` do.
pub fn is_shown(path: &str) -> bool {
    is_page(path) || path == "/openapi.json" || path.starts_with("/docs/")
}

/// The refusal of a page to a browser; `None` for other paths, and for programs.
///
/// Its link asks again: a browser leaves the cookie out where it comes from another site, and here it comes from this one.
pub fn refusal(head: &Head, error: &Error) -> Option<Response> {
    let finder = Finder::new("text/html");
    let shows_pages = head.headers.get_all(ACCEPT).iter().any(|value| finder.find(value.as_bytes()).is_some());
    // Where its form leads there is nothing to come back to.
    let path = if head.uri.path() == SIGN_OUT { "/" } else { head.uri.path() };
    if !is_page(path) || !shows_pages || !matches!(error.kind(), Kind::Unauthenticated | Kind::Denied) {
        return None;
    }
    let below = format!(
        "<p><a href=\"{path}\">Go on</a> if this browser is signed in. Else <code>plugbay sign-in {path}</code>, run where \
         the host runs, prints a link that does it and comes back here.</p>\n",
        path = text(path)
    );
    let error = match error.kind() {
        Kind::Unauthenticated => &Error::new(Kind::Unauthenticated, "this page is for people who are signed in"),
        _ => error,
    };
    let title = if error.kind() == Kind::Denied { "Not allowed" } else { "Not signed in" };
    Some(failed(title, error, &below))
}

/// The page of a failure, with more of it below; `below` is HTML.
pub fn failed(title: &str, error: &Error, below: &str) -> Response {
    let body = format!("<h1>{}</h1>\n<p class=\"bad\">{}</p>\n{below}", text(title), text(error.message()));
    let status = StatusCode::from_u16(error.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = page(status, title, &body);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"plugbay\""));
    }
    response
}

/// A page whose forms go back to this host.
pub fn with_forms(title: &str, body: &str) -> Response {
    let mut response = page(StatusCode::OK, title, body);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, FORM_POLICY.clone());
    // Without any referrer a browser says of a form that it comes from nowhere.
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// A page; `body` is HTML.
pub fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        text(title)
    );
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, POLICY.clone()),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, html).into_response()
}

/// Text that stands for itself in HTML, in an element as in a quoted attribute.
pub fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}
