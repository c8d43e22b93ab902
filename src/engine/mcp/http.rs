//! HTTP as `rmcp`'s client wants it: one request a message, answered by JSON or by a stream of events.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use tokio::sync::Notify;

use crate::base::error::{Error, Kind, Result};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// Bytes of an answer that is kept whole.
const ANSWER_BYTES: usize = 16 << 20;
/// Bytes of an answer that is only shown.
const SHOWN_BYTES: usize = 64 << 10;

/// The shortest and the longest rest before a stream of events that has ended is asked for again, whatever a server wishes.
pub const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

type Failure = StreamableHttpError<Error>;

/// A client with connections that are kept. Cloning is cheap.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Told when the server may be gone.
    doubt: Arc<Notify>,
}

impl HttpClient {
    /// A client for an address of that scheme. The system's certificates are read for `https` alone, which takes a while.
    ///
    /// # Errors
    /// `Unavailable`: the system has no certificates.
    pub fn new(scheme: &str) -> Result<Self> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match scheme {
            "https" => builder.with_native_roots().map_err(|error| {
                Error::new(Kind::Unavailable, "the system has no certificates to check a server by").with_source(error)
            })?,
            _ => builder.with_tls_config(
                tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(
                    tokio_rustls::rustls::crypto::ring::default_provider(),
                ))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::new(Kind::Internal, "the TLS library has no versions").with_source(error))?
                .with_root_certificates(tokio_rustls::rustls::RootCertStore::empty())
                .with_no_client_auth(),
            ),
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), doubt: Arc::default() })
    }

    /// The same client, which tells `doubt` when the server may be gone or may be another: it cannot be reached, its gateway
    /// or itself fails, it knows the session no more, a stream of events breaks off or was asked for again.
    pub fn telling(self, doubt: Arc<Notify>) -> Self {
        Self { doubt, ..self }
    }

    async fn send(&self, method: Method, uri: &str, wish: Wish) -> Result<Response<Incoming>, Failure> {
        let had_session = wish.session.is_some();
        let mut request = Request::new(Full::new(wish.body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(|error| failed("the address cannot be asked", error))?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        for (name, value) in wish.headers {
            headers.insert(name, value);
        }
        if let Some(token) = wish.token {
            headers.insert(AUTHORIZATION, header(&format!("Bearer {token}"))?);
        }
        if let Some(session) = wish.session {
            headers.insert(SESSION, header(&session)?);
        }
        if let Some(event) = wish.last_event {
            headers.insert(LAST_EVENT, header(&event)?);
        }
        let response = self.client.request(request).await.map_err(|error| {
            self.doubt.notify_one();
            failed("the server does not answer", error)
        })?;
        if response.status().is_server_error() || (response.status() == StatusCode::NOT_FOUND && had_session) {
            self.doubt.notify_one();
        }
        match (response.status(), response.headers().get(WWW_AUTHENTICATE)) {
            (StatusCode::UNAUTHORIZED, challenge) => {
                let challenge = challenge.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
                Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge)))
            }
            _ => Ok(response),
        }
    }

    /// The events of an answer, each at most so large as a whole answer may be. A stream that breaks off ends: after an error
    /// `rmcp` would ask for it again without a rest.
    fn events(&self, response: Response<Incoming>) -> BoxStream<'static, Result<Sse, SseError>> {
        let mut event_bytes = 0;
        let pieces = response.into_body().into_data_stream().map_err(std::io::Error::other).map(move |piece| {
            let piece = piece?;
            // An event ends with an empty line, whose two breaks seldom lie in two pieces; then it only counts on.
            let ended = piece.windows(2).rposition(|two| two == b"\n\n" || two == b"\n\r");
            event_bytes = ended.map_or(event_bytes + piece.len(), |end| piece.len() - end);
            if event_bytes > ANSWER_BYTES {
                return Err(std::io::Error::other("an event of the server is too large"));
            }
            Ok(piece)
        });
        let doubt = self.doubt.clone();
        let whole = move |event: &Result<Sse, SseError>| {
            if event.is_err() {
                doubt.notify_one();
            }
            ready(event.is_ok())
        };
        SseStream::from_bytes_stream(pieces).take_while(whole).map_ok(rested).boxed()
    }
}

/// What is said with a request beside its method and address.
#[derive(Default)]
struct Wish {
    body: Bytes,
    headers: HashMap<HeaderName, HeaderValue>,
    token: Option<String>,
    session: Option<Arc<str>>,
    last_event: Option<String>,
}

impl StreamableHttpClient for HttpClient {
    type Error = Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let body = Bytes::from(serde_json::to_vec(&message)?);
        let had_session = session.is_some();
        let wants_answer = matches!(message, ClientJsonRpcMessage::Request(_));
        let response = self.send(Method::POST, &uri, Wish { body, headers, token, session, last_event: None }).await?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && had_session {
            return Err(StreamableHttpError::SessionExpired);
        }
        let kind = kind_of(&response);
        let session = response.headers().get(SESSION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if status.is_success() && kind.starts_with(EVENTS) {
            return Ok(StreamableHttpPostResponse::Sse(self.events(response), session));
        }
        let limit = if status.is_success() { ANSWER_BYTES } else { SHOWN_BYTES };
        let answer = whole(response, limit).await?;
        // A refusal may be a JSON-RPC error, which says more than its status.
        match serde_json::from_slice::<ServerJsonRpcMessage>(&answer) {
            Ok(message) if kind.starts_with(JSON) && wants_answer => {
                Ok(StreamableHttpPostResponse::Json(message, session))
            }
            _ if status.is_success() && !wants_answer => Ok(StreamableHttpPostResponse::Accepted),
            // Where a redirect leads is not asked: it would be told the credentials of this server.
            _ => {
                let text = format!("HTTP {status}: {}", shown(&answer));
                Err(StreamableHttpError::UnexpectedServerResponse(text.trim_end_matches(": ").to_owned().into()))
            }
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failure> {
        let wish = Wish { headers, token, session: Some(session), ..Wish::default() };
        // A server that keeps its sessions by itself is left to that.
        self.send(Method::DELETE, &uri, wish).await.map(drop)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failure> {
        let wish = Wish { body: Bytes::new(), headers, token, session, last_event };
        let response = self.send(Method::GET, &uri, wish).await?;
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportSse),
            StatusCode::NOT_FOUND => Err(StreamableHttpError::SessionExpired),
            status if status.is_success() && kind_of(&response).starts_with(EVENTS) => {
                // What was said while nobody listened was heard by nobody.
                self.doubt.notify_one();
                Ok(self.events(response))
            }
            status => Err(StreamableHttpError::UnexpectedServerResponse(format!("HTTP {status} to a GET").into())),
        }
    }
}

/// The same event, with a rest that is neither none nor without end.
fn rested(mut event: Sse) -> Sse {
    let milliseconds = |rest: Duration| u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
    event.retry = event.retry.map(|rest| rest.clamp(milliseconds(RESTS.0), milliseconds(RESTS.1)));
    event
}

fn kind_of(response: &Response<Incoming>) -> String {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.unwrap_or_default().to_ascii_lowercase()
}

async fn whole(response: Response<Incoming>, limit: usize) -> Result<Bytes, Failure> {
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            Err(StreamableHttpError::UnexpectedServerResponse(format!("the answer did not come: {error}").into()))
        }
    }
}

fn header(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|error| failed("a header's value cannot be sent", error))?;
    value.set_sensitive(true);
    Ok(value)
}

fn failed(what: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    StreamableHttpError::Client(Error::new(Kind::Upstream, text))
}

fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(200).collect()
}
