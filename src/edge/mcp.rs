//! `/mcp`: the Model Context Protocol, both eras on one path, behind the same gate as every route.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body as AxumBody;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts as Head;
use http::{HeaderValue, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use rmcp::model::ErrorCode;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json as object};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind};
use crate::base::json::{is_misread, read, wide_integer};
use crate::base::shutdown::Shutdown;
use crate::edge::answer::{broken, json};
use crate::edge::caller::without_scope;
use crate::edge::failure::Failure;
use crate::edge::mcp_auth::{self, PATH};
use crate::edge::mcp_handler::{Handler, named_in};
use crate::edge::mcp_large::{Reader, is_large};
use crate::edge::mcp_plain::{self, PlainCall};
use crate::edge::mcp_sessions::Sessions;
use crate::edge::parts::Parts;
use crate::edge::routes;
use crate::kernel::auth::Scope;
use crate::kernel::call::{Caller, Door, misread, too_wide};
use crate::kernel::toolbox::Misfit;

const CALL: &str = "tools/call";

/// What answers on this path. Cloning is cheap.
#[derive(Clone)]
struct Endpoint {
    parts: Parts,
    sessions: Sessions,
    handler: Handler,
    service: StreamableHttpService<Handler, Sessions>,
    reader: Reader,
}

impl Endpoint {
    /// Does something with a request; with a large one, where that holds up nobody else.
    async fn look<T: Send + 'static>(&self, asked: Asked, work: fn(&Self, &Asked) -> T) -> Result<(Asked, T), Failure> {
        if !is_large(&asked.body) {
            let found = work(self, &asked);
            return Ok((asked, found));
        }
        let endpoint = self.clone();
        let look = move || {
            let found = work(&endpoint, &asked);
            (asked, found)
        };
        Ok(self.reader.read(look).await?)
    }

    /// Whether a request may be answered, and how.
    ///
    /// # Errors
    /// Those of [`Sessions::check`].
    fn first(&self, Asked { head, body, caller }: &Asked) -> Result<First, Error> {
        if !caller.principal.has(Scope::Call) {
            let error = without_scope(&caller.principal, Scope::Call);
            let mut response = Failure::from(refuse(&self.parts, caller, body, error)).into_response();
            if let Some(challenge) = mcp_auth::step_up(&self.parts.settings, &head.headers, caller.scheme) {
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            return Ok(First::Answered(response));
        }
        if let Some(number) = wide_integer(body) {
            // As a number it would lose digits before anybody sees it.
            let wide = || told(body, &refuse(&self.parts, caller, body, too_wide(number)));
            return Ok(First::Answered(unread(&self.parts, caller, head, body).unwrap_or_else(wide)));
        }
        self.sessions.check(head, caller)?;
        Ok(PlainCall::read(&head.method, &head.headers, body).map_or(First::Other, First::Plain))
    }

    /// Answers what is not handed to `rmcp`.
    fn second(&self, Asked { head, body, caller }: &Asked) -> Option<Response> {
        let limit = self.parts.settings.limits.mcp_body_bytes;
        if body.len() > limit {
            return Some(too_large(&self.parts, caller, body, limit));
        }
        if let Some(answer) = unread(&self.parts, caller, head, body) {
            return Some(answer);
        }
        // What `rmcp` would hand on is not what the client wrote.
        is_misread(body).then(|| told(body, &refuse(&self.parts, caller, body, misread())))
    }

    /// Answers a call in its plainest form; `None` leaves it to `rmcp`.
    async fn answer_plainly(&self, call: PlainCall, caller: &Caller) -> Option<Response> {
        let id = call.id.clone();
        let message = mcp_plain::answer(id, self.handler.call_plainly(call, caller).await?);
        let mut response = Response::new(AxumBody::from(message));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Some(response)
    }

    /// Hands a request to `rmcp`.
    async fn pass_on(&self, Asked { head, body, caller }: Asked) -> Result<Response, Failure> {
        let (is_get, is_delete) = (head.method == Method::GET, head.method == Method::DELETE);
        let is_message = is_message(&head);
        let request = Request::from_parts(head, AxumBody::from(body.clone()));
        let mut response = if is_large(&body) {
            let service = self.service.clone();
            self.reader.begin(async move { service.handle(request).await }).await?
        } else {
            self.service.handle(request).await
        };
        if is_message && response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // So `rmcp` says that it is JSON, but no message.
            let error = Error::new(Kind::Invalid, "this is no message of JSON-RPC 2.0");
            let id = if is_large(&body) { self.reader.read(move || id_of(&body)).await? } else { id_of(&body) };
            return Ok(refusal(StatusCode::BAD_REQUEST, ErrorCode::INVALID_REQUEST, id, &error));
        }
        if is_delete && response.status() == StatusCode::ACCEPTED {
            // The session is closed by now; clients take 202 for a failure.
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        if !is_stream {
            return Ok(response.map(AxumBody::new));
        }
        let shutdown = self.parts.shutdown.clone();
        Ok(response.map(|body| AxumBody::new(Bounded { body, end: Box::pin(end_of(caller, is_get, shutdown)) })))
    }
}

/// One request, whole.
struct Asked {
    head: Head,
    body: Bytes,
    caller: Caller,
}

/// What becomes of a request at the first look.
enum First {
    Answered(Response),
    Plain(PlainCall),
    Other,
}

/// The route of MCP. The gate in front has put the [`Caller`] into the request's extensions.
pub fn router(parts: Parts) -> axum::Router {
    let sessions = Sessions::new(&parts);
    let handler = Handler::new(&parts, sessions.clone());
    // `Host` and `Origin` were checked by the gate; the clock of a stop is ours as well.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_json_response(true)
        .with_max_request_body_bytes(parts.settings.limits.mcp_body_bytes)
        .with_cancellation_token(CancellationToken::new());
    let each = handler.clone();
    let service = StreamableHttpService::new(move || Ok(each.clone()), Arc::new(sessions.clone()), config);
    let endpoint = Endpoint { parts, sessions, handler, service, reader: Reader::default() };
    axum::Router::new().route(PATH, any(answer)).with_state(endpoint)
}

/// Answers one request. A client that goes away drops the answer, which cancels the call.
async fn answer(
    State(endpoint): State<Endpoint>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Failure> {
    routes::awake(&endpoint.parts)?;
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
    let (asked, first) = endpoint.look(Asked { head, body, caller }, Endpoint::first).await?;
    match first? {
        First::Answered(response) => return Ok(response),
        First::Plain(call) => {
            if let Some(response) = endpoint.answer_plainly(call, &asked.caller).await {
                return Ok(response);
            }
        }
        First::Other => {}
    }
    match endpoint.look(asked, Endpoint::second).await? {
        (_, Some(response)) => Ok(response),
        (asked, None) => endpoint.pass_on(asked).await,
    }
}

/// Records a call that is not handed over, under the name that its message gives it; what the caller is told.
fn refuse(parts: &Parts, caller: &Caller, body: &[u8], error: Error) -> Error {
    let Ok(asked) = read(body) else { return error };
    let method = asked.get("method").and_then(Value::as_str).unwrap_or_default();
    let Some(tool) = named_in(method, asked.get("params")) else { return error };
    parts.toolbox.refuse(&Misfit { door: Door::Mcp, principal: &caller.principal, tool }, error)
}

/// The answer to a message that was not handed over.
fn told(body: &[u8], error: &Error) -> Response {
    let id = read(body).unwrap_or_default().get("id").cloned();
    refusal(StatusCode::OK, ErrorCode::INVALID_PARAMS, id, error)
}

fn refusal(status: StatusCode, code: ErrorCode, id: Option<Value>, error: &Error) -> Response {
    let data = object!({ "code": error.kind().code() });
    let error = object!({ "code": code.0, "message": error.message(), "data": data });
    json(status, &object!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

/// What names a message, where it may name one.
fn id_of(body: &[u8]) -> Option<Value> {
    read(body).ok()?.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64()).cloned()
}

/// Answers what cannot be read, is no message, or is a call of nothing. A call that is too deep to be read is recorded.
fn unread(parts: &Parts, caller: &Caller, head: &Head, body: &[u8]) -> Option<Response> {
    if !is_message(head) {
        return None;
    }
    match read(body) {
        Err(error) => {
            let error = Error::new(Kind::Malformed, format!("the message cannot be read: {error}"));
            let error = refuse_unread(parts, caller, body, error);
            Some(refusal(StatusCode::BAD_REQUEST, ErrorCode::PARSE_ERROR, None, &error))
        }
        Ok(Value::Object(asked)) => {
            let is_call = asked.get("method").is_some_and(|method| method == CALL);
            if !is_call || named_in(CALL, asked.get("params")).is_some() {
                return None;
            }
            Some(told(body, &Error::new(Kind::Invalid, "the parameters of tools/call have a name, which is a text")))
        }
        Ok(_) => {
            let error = Error::new(Kind::Invalid, "a message is one object; several at once are not taken");
            Some(refusal(StatusCode::BAD_REQUEST, ErrorCode::INVALID_REQUEST, None, &error))
        }
    }
}

/// Answers a message that is too large for `rmcp`, without reading it.
fn too_large(parts: &Parts, caller: &Caller, body: &[u8], limit: usize) -> Response {
    let found = body.len();
    let message = format!("the message has {found} bytes, more than mcp_body_bytes lets it have: at most {limit}");
    let error = refuse_unread(parts, caller, body, Error::new(Kind::TooLarge, message));
    refusal(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::INVALID_REQUEST, None, &error)
}

/// Records a call whose arguments are not read; what the caller is told.
fn refuse_unread(parts: &Parts, caller: &Caller, body: &[u8], error: Error) -> Error {
    match serde_json::from_slice(body) {
        Ok(Glimpse { method, params: Named { name: tool } }) if method == CALL => {
            let misfit = Misfit { door: Door::Mcp, principal: &caller.principal, tool: &tool };
            parts.toolbox.refuse(&misfit, error)
        }
        _ => error,
    }
}

/// What can be told of a call whose arguments are not read.
#[derive(serde::Deserialize)]
struct Glimpse {
    method: String,
    params: Named,
}

#[derive(serde::Deserialize)]
struct Named {
    name: String,
}

/// Whether a request says that it brings a message; what else comes is answered by `rmcp`.
fn is_message(head: &Head) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    head.method == Method::POST && kind.trim().eq_ignore_ascii_case("application/json")
}

/// Resolves when a stream has to end: its principal's token was taken back, or, where it belongs to no call, the host
/// stops.
async fn end_of(caller: Caller, is_get: bool, shutdown: Shutdown) {
    let stopping = async {
        match is_get {
            true => shutdown.stopping().await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        () = caller.principal.revoked() => {}
        () = stopping => {}
    }
}

/// A body that ends when something else does.
struct Bounded<B> {
    body: B,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Bounded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
