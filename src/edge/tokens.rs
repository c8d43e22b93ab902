//! `/api/host/tokens`: list, add and revoke tokens; `/api/host/sign-in`, which makes a code, and `/sign-in/{code}`, which
//! turns it into a cookie and goes on to the page that its query `to` names.
//!
//! That only the scope `admin` comes to the tokens is the gate's work; that nobody gives away more than they have is ours.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json as object};

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{json, kept, named, whole};
use crate::edge::failure::Failure;
use crate::edge::page::{is_page, no_sign_in};
use crate::edge::parts::Parts;
use crate::kernel::auth::{LOCAL, OWNER, Scope, Scopes, TokenRecord};
use crate::kernel::call::Caller;

/// The routes of tokens and of sign-in.
pub fn router() -> Router<Parts> {
    Router::new()
        .route("/api/host/tokens", get(list).post(add))
        .route("/api/host/tokens/{name}", delete(revoke))
        .route("/api/host/sign-in", post(offer_sign_in))
        .route("/sign-in/{code}", get(sign_in))
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
    let (token, record) = kept(move || parts.auth.add(&wish.name, scopes, wish.days)).await?;
    let mut answer = shown(&record);
    answer["token"] = token.into();
    Ok(json(StatusCode::CREATED, &answer))
}

async fn revoke(State(parts): State<Parts>, path: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let name = named(path)?;
    kept(move || parts.auth.revoke(&name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/host/sign-in`: `{"path"}`, of a link that signs a browser in as who asks, once, within ten minutes.
async fn offer_sign_in(State(parts): State<Parts>, Extension(caller): Extension<Caller>) -> Result<Response, Failure> {
    if caller.principal.name() == LOCAL {
        let message = "without a token there is nobody to sign in: ask with one";
        return Err(Error::new(Kind::Denied, message).into());
    }
    let code = parts.auth.offer_sign_in(caller.principal)?;
    Ok(json(StatusCode::CREATED, &object!({ "path": format!("/sign-in/{code}") })))
}

async fn sign_in(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    method: Method,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    // A look at the link must not use it up.
    if method == Method::HEAD {
        return StatusCode::NO_CONTENT.into_response();
    }
    let session = match named(path).and_then(|code| parts.auth.sign_in(&code)) {
        Ok(session) => session,
        Err(error) => return no_sign_in(&error),
    };
    let secure = if caller.scheme == "https" { "; Secure" } else { "" };
    let cookie = format!("{}={session}; Path=/; HttpOnly; SameSite=Strict{secure}", parts.auth.cookie_name());
    let Ok(cookie) = HeaderValue::try_from(cookie) else {
        return Failure(Error::new(Kind::Internal, "the session's cookie is not valid")).into_response();
    };
    let headers = [
        (LOCATION, goal(query.as_deref().unwrap_or_default())),
        (SET_COOKIE, cookie),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Where a browser goes that has signed in: to the page of this host that `to` names, else to the one about it.
fn goal(query: &str) -> HeaderValue {
    let mut given = url::form_urlencoded::parse(query.as_bytes());
    let to = given.find(|(name, _)| name == "to").map(|(_, path)| path).filter(|path| is_page(path));
    to.and_then(|path| HeaderValue::from_str(&path).ok()).unwrap_or(HeaderValue::from_static("/"))
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
