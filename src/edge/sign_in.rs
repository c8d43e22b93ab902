//! Browsers sign in and out: `/api/host/sign-in` makes a code, `/sign-in/{code}` turns it into a cookie and goes on to the
//! page that its query `to` names, and the form of `/sign-out` ends the session.
//!
//! A cookie is never changed by what a person does not see: a picture, a preview, or a link of another site that is
//! followed before anybody has read whom it signs in.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json as object;

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{json, named};
use crate::edge::caller::{fetch_site, sessions};
use crate::edge::failure::Failure;
use crate::edge::page::{failed, is_page, page, text};
use crate::edge::parts::Parts;
use crate::kernel::auth::{Auth, LOCAL};
use crate::kernel::call::Caller;

/// What a browser says that it will make of the answer.
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// That a browser asks before anybody wants to see the answer.
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");

/// The routes of signing in and out.
pub fn router() -> Router<Parts> {
    Router::new()
        .route("/api/host/sign-in", post(offer_sign_in))
        .route("/sign-in/{code}", get(sign_in))
        .route("/sign-out", post(sign_out))
}

/// How a browser came to a sign-in link.
enum Way {
    /// Somebody typed it, or followed it from a program or from a page of this host; or it is no browser that says.
    Plain,
    /// By a page of another site.
    Elsewhere,
    /// As a part of a page, or ahead of time.
    Unseen,
}

impl Way {
    fn of(headers: &HeaderMap) -> Self {
        let is_page = headers.get_all(FETCH_DEST).iter().all(|dest| dest == "document");
        if !is_page || headers.contains_key(PURPOSE) {
            return Self::Unseen;
        }
        match fetch_site(headers) {
            None | Some(b"none" | b"same-origin") => Self::Plain,
            Some(_) => Self::Elsewhere,
        }
    }
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

/// `GET /sign-in/{code}`: signs the browser in; where it was led here by another site, asks first.
async fn sign_in(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    (method, headers): (Method, HeaderMap),
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    // A look at the link must not use it up.
    if method == Method::HEAD {
        return StatusCode::NO_CONTENT.into_response();
    }
    let goal = goal(query.as_deref().unwrap_or_default());
    let answer = named(path).and_then(|code| match Way::of(&headers) {
        Way::Plain => enter(&parts.auth, &code, &goal, &caller),
        Way::Elsewhere => ask(&parts.auth, &code, &goal),
        Way::Unseen => Err(Error::new(Kind::Denied, "a sign-in link is a page of its own: open it as one")),
    });
    answer.unwrap_or_else(|error| failed("Not signed in", &error, ""))
}

/// Uses the code up: the cookie, and on to the page.
fn enter(auth: &Auth, code: &str, goal: &str, caller: &Caller) -> Result<Response> {
    let session = auth.sign_in(code)?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(goal).unwrap_or(HeaderValue::from_static("/")));
    headers.insert(SET_COOKIE, cookie(auth, &session, "", caller)?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// The page that says whom the link signs in, with the same link, which then comes from this host. Whoever can make links
/// of their own could else sign others in as themselves.
fn ask(auth: &Auth, code: &str, goal: &str) -> Result<Response> {
    let name = text(auth.offered(code)?.name());
    let body = format!(
        "<h1>Sign in?</h1>\n<p>A page of another site led here.</p>\n<p><a href=\"/sign-in/{code}?to={goal}\">Sign this \
         browser in as {name}</a></p>\n",
        code = text(code),
        goal = text(goal),
    );
    Ok(page(StatusCode::OK, "Sign in?", &body))
}

/// `POST /sign-out`: ends the session of the browser that asks. The gate has seen to it that the host's own page asks.
async fn sign_out(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let found = sessions(&headers, parts.auth.cookie_name()).filter(|id| parts.auth.sign_out(id)).count();
    let title = if found > 0 { "Signed out" } else { "Not signed in" };
    let body =
        format!("<h1>{title}</h1>\n<p>Nobody is signed in here now.</p>\n<p><a href=\"/\">about this host</a></p>\n");
    let mut response = page(StatusCode::OK, title, &body);
    response.headers_mut().insert(SET_COOKIE, cookie(&parts.auth, "", "; Max-Age=0", &caller)?);
    Ok(response)
}

/// The line that sets the session's cookie. No other site sends it, and no script reads it.
fn cookie(auth: &Auth, session: &str, more: &str, caller: &Caller) -> Result<HeaderValue> {
    let secure = if caller.scheme == "https" { "; Secure" } else { "" };
    let line = format!("{}={session}; Path=/; HttpOnly; SameSite=Strict{secure}{more}", auth.cookie_name());
    HeaderValue::try_from(line).map_err(|_| Error::new(Kind::Internal, "the session's cookie is not valid"))
}

/// Where a browser goes that has signed in: to the page of this host that `to` names, else to the one about it.
fn goal(query: &str) -> String {
    let mut given = url::form_urlencoded::parse(query.as_bytes());
    let to = given.find(|(name, _)| name == "to").map(|(_, path)| path).filter(|path| is_page(path));
    to.map_or_else(|| "/".to_owned(), std::borrow::Cow::into_owned)
}
