//! A whole server with one plugin in Rust, and a client that speaks raw bytes.
#![expect(clippy::disallowed_methods, reason = "a task of a test ends with its runtime")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use plugbay::base::error::{Error, Kind, Result};
use plugbay::base::manifest::Manifest;
use plugbay::base::name::Prefix;
use plugbay::base::settings::Settings;
use plugbay::base::shutdown::Shutdown;
use plugbay::edge::parts::{Parts, Ready};
use plugbay::edge::server::{self, Serving};
use plugbay::edge::{admin, metrics};
use plugbay::kernel::auth::Auth;
use plugbay::kernel::call::{Body, Request, Response, SocketMessage};
use plugbay::kernel::contribution::{Mount, Pattern};
use plugbay::kernel::gate::Gate;
use plugbay::kernel::handler::{Answer, RouteHandler};
use plugbay::kernel::hub::Hub;
use plugbay::kernel::meter::Meters;
use plugbay::kernel::registry::{Draft, Engine, Registry};
use plugbay::kernel::store::Store;
use plugbay::kernel::toolbox::Toolbox;
use plugbay::kernel::upstream::{NoUpstreams, Upstreams};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Longer than anything in these tests takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the plugin's handlers say while they run: `begun`, `cancelled`, and what sockets were closed with.
pub type Said = mpsc::UnboundedReceiver<String>;

/// A server that runs, with the plugin `demo`.
pub struct Served {
    pub address: SocketAddr,
    pub parts: Parts,
    pub serving: Serving,
    pub said: Said,
    pub token: Arc<str>,
    _home: TempDir,
}

impl Served {
    /// A server with other settings than the usual ones.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_routes(change, Router::new())
    }

    /// The same with further routes beside the host's own.
    pub fn with_routes(change: impl FnOnce(&mut Settings), routes: Router) -> Self {
        Self::of(change, routes, Arc::new(NoUpstreams))
    }

    /// The same with plugins that are processes of their own.
    pub fn of(change: impl FnOnce(&mut Settings), routes: Router, upstreams: Arc<dyn Upstreams>) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut settings = Settings::defaults(home.path().to_owned());
        settings.port = 0;
        change(&mut settings);
        let store = Store::open(&settings).expect("a store in a new folder");
        let auth = Auth::open(&settings, &store).expect("new credentials");
        let token = auth.owner_token();
        let registry = Registry::new();
        let (say, said) = mpsc::unbounded_channel();
        registry.commit(demo(say)).expect("the only plugin clashes with none");
        let listener = server::bind(&settings).expect("a free port");
        let shutdown = Shutdown::new();
        let processes = crate::support::no_children(&settings, &store, &registry, &shutdown);
        let settings = Arc::new(settings);
        let (secrets, installer) = crate::support::no_installs(&settings, &store, &processes, &registry, &shutdown);
        let parts = Parts {
            installer,
            processes,
            toolbox: Toolbox::new(registry.clone(), Gate::open(&settings, &store).expect("no rules")),
            hub: Hub::new(registry.clone(), shutdown.clone(), settings.limits.clone()),
            settings,
            secrets,
            store,
            auth,
            registry,
            upstreams,
            meters: Meters::default(),
            shutdown,
            ready: Ready::default(),
            engines: Arc::new(|| serde_json::json!({})),
        };
        parts.ready.set();
        let router = admin::router(parts.clone()).merge(routes);
        let serving = server::serve(parts.clone(), listener, router).expect("a listener that serves");
        let address = serving.bound;
        Self { address, parts, serving, said, token, _home: home }
    }

    /// A server with the usual settings.
    pub fn usual() -> Self {
        Self::with(|_| {})
    }

    /// A new connection.
    pub async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).await.expect("the server accepts"))
    }

    /// The head of a request to the plugin, without its end.
    pub fn head(&self, method: &str, path: &str) -> String {
        self.head_at(method, &format!("/api/plugins/demo{path}"))
    }

    /// The head of a request to any target, without its end.
    pub fn head_at(&self, method: &str, target: &str) -> String {
        let (host, token) = (self.address, &self.token);
        format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n")
    }

    /// A whole GET to the plugin.
    pub fn get(&self, path: &str) -> String {
        format!("{}\r\n", self.head("GET", path))
    }

    /// Asks once, on a connection of its own.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answered {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await.expect("an answer")
    }

    /// Everything that is counted.
    pub fn counted(&self) -> String {
        self.serving.metrics.text(&self.parts)
    }

    /// The next thing that a handler says.
    pub async fn hear(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.said.recv()).await.expect("a word in time").expect("a handler that lives")
    }
}

/// The media type of the host's own failures.
pub const PROBLEM: &str = "application/problem+json";

/// Whether a metric has this value.
pub fn counts(text: &str, line: &str) -> bool {
    assert!(metrics::MEDIA_TYPE.contains("openmetrics"));
    text.lines().any(|found| found == line)
}

fn demo(say: mpsc::UnboundedSender<String>) -> Draft {
    let manifest = Manifest::check("demo", "Demo", "1.0.0", "", ">=1,<2").expect("a valid manifest");
    let mut draft = Draft::new(manifest.clone(), "a test", Engine::Native);
    draft.add_mount(Mount {
        prefix: Prefix::of_plugin(&manifest.id),
        patterns: vec![Pattern::everything()],
        handler: Arc::new(Demo { say }),
        openapi: None,
    });
    draft
}

struct Demo {
    say: mpsc::UnboundedSender<String>,
}

impl RouteHandler for Demo {
    fn answer(&self, request: Request) -> Answer<Response> {
        let say = self.say.clone();
        Box::pin(async move {
            let path =
                request.head.uri.path().strip_prefix(&*request.mount).expect("a path below the mount").to_owned();
            match path.as_str() {
                "/hello" => Ok(Response::new(Body::Full(Bytes::from_static(b"hello")))),
                "/echo" => Ok(Response::new(request.body)),
                "/length" => length(request).await,
                "/head" => Ok(Response::new(Body::from(Bytes::from(described(&request))))),
                "/whole" => {
                    let whole = matches!(request.body, Body::Full(_));
                    Ok(Response::new(Body::from(Bytes::from(whole.to_string()))))
                }
                "/never" => {
                    let _said = Dropped(say.clone());
                    let _ = say.send("begun".into());
                    std::future::pending().await
                }
                "/quiet" => Ok(Response::new(Body::stream(Quiet(Some(Bytes::from_static(b"first")))))),
                "/flood" => Ok(Response::new(Body::stream(Flood))),
                "/panic" => panic!("on purpose"),
                "/raise" => Err(Error::new(Kind::Plugin, "it raised")),
                "/wrong-length" => {
                    let body = Body::Full(Bytes::from_static(b"hello, this is longer"));
                    Ok(http::Response::builder().header("content-length", "5").body(body).expect("a response"))
                }
                "/unasked" => Ok(http::Response::builder().status(101).body(Body::Empty).expect("a response")),
                "/none" => Ok(http::Response::builder().status(204).body(Body::Empty).expect("a response")),
                "/socket" => socket(request, say),
                _ => Ok(http::Response::builder()
                    .status(404)
                    .body(Body::Full(Bytes::from_static(b"mine")))
                    .expect("a response")),
            }
        })
    }
}

/// Says when a handler was cancelled.
struct Dropped(mpsc::UnboundedSender<String>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("cancelled".into());
    }
}

/// One piece, and then nothing for ever.
struct Quiet(Option<Bytes>);

impl http_body::Body for Quiet {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>>>> {
        match self.0.take() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))),
            None => std::task::Poll::Pending,
        }
    }
}

/// Pieces without end.
struct Flood;

impl http_body::Body for Flood {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>>>> {
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))))
    }
}

async fn length(request: Request) -> Result<Response> {
    let bytes = request.body.collect().await?.to_bytes();
    Ok(Response::new(Body::from(Bytes::from(bytes.len().to_string()))))
}

/// The head as the handler sees it, one thing a line.
fn described(request: &Request) -> String {
    let mut lines = vec![request.head.method.to_string(), request.head.uri.to_string(), request.mount.to_string()];
    lines.push(request.caller.principal.name().to_owned());
    lines.push(request.caller.request_id.to_string());
    for (name, value) in &request.head.headers {
        lines.push(format!("{name}: {}", value.as_bytes().escape_ascii()));
    }
    lines.join("\n")
}

/// Echoes until it is told `stop`, `drop` or `large`; says what the client closed with.
fn socket(request: Request, say: mpsc::UnboundedSender<String>) -> Result<Response> {
    let Some(mut offer) = request.socket else {
        return Ok(http::Response::builder().status(StatusCode::BAD_REQUEST).body(Body::Empty).expect("a response"));
    };
    let chosen = offer.protocols.first().cloned();
    if chosen.as_deref() == Some("refuse") {
        return Ok(http::Response::builder()
            .status(403)
            .body(Body::Full(Bytes::from_static(b"no")))
            .expect("a response"));
    }
    tokio::spawn(async move {
        while let Some(message) = offer.incoming.recv().await {
            match &message {
                SocketMessage::Text(text) if text == "stop" => {
                    let _ = offer.outgoing.send(SocketMessage::Close(4000, "asked to".into())).await;
                    return;
                }
                SocketMessage::Text(text) if text == "drop" => return,
                SocketMessage::Close(code, reason) => {
                    let _ = say.send(format!("closed {code} {reason}"));
                    return;
                }
                _ => {}
            }
            if offer.outgoing.send(message).await.is_err() {
                break;
            }
        }
        let _ = say.send("gone".into());
    });
    let mut response = http::Response::builder().status(101);
    if let Some(chosen) = chosen {
        response = response.header("sec-websocket-protocol", chosen);
    }
    Ok(response.body(Body::Empty).expect("a response"))
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Answered {
    /// The value of a header that stands once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The `code` of a problem.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some(PROBLEM), "{self:?}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("a problem is JSON");
        problem["code"].as_str().expect("a problem has a code").to_owned()
    }
}

/// A client of raw bytes.
pub struct Client<S = TcpStream> {
    pub stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes; a server that has closed already is seen when the answer is read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// The next answer; `None` when the server has closed instead.
    pub async fn answer(&mut self) -> Option<Answered> {
        tokio::time::timeout(PATIENCE, self.read_answer(false)).await.expect("an answer in time")
    }

    /// The same for an answer without a body, to a HEAD or as the head of an endless one.
    pub async fn answer_head(&mut self) -> Option<Answered> {
        tokio::time::timeout(PATIENCE, self.read_answer(true)).await.expect("an answer in time")
    }

    /// Everything until the server closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let wait = async { while self.more().await {} };
        tokio::time::timeout(PATIENCE, wait).await.expect("the end in time");
        std::mem::take(&mut self.read)
    }

    /// Everything until `text` has come.
    pub async fn stream_until(&mut self, text: &str) -> Vec<u8> {
        let wait = async {
            while !self.read.windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
                assert!(self.more().await, "the end before {text}");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the text in time");
        std::mem::take(&mut self.read)
    }

    /// So many bytes.
    pub async fn exact(&mut self, length: usize) -> Vec<u8> {
        tokio::time::timeout(PATIENCE, self.take(length)).await.expect("the bytes in time")
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 8192];
        match self.stream.read(&mut buffer).await {
            Ok(bytes) if bytes > 0 => {
                self.read.extend_from_slice(&buffer[..bytes]);
                true
            }
            _ => false,
        }
    }

    async fn read_answer(&mut self, head_only: bool) -> Option<Answered> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "half a head: {}", self.read.escape_ascii());
                return None;
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let mut lines = head[..end].split(|byte| *byte == b'\n');
        let first = std::str::from_utf8(lines.next()?).expect("a status line is text");
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let headers: Vec<(String, Vec<u8>)> = lines
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':').expect("a header line has a colon");
                let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
                (name, line[colon + 1..].trim_ascii().to_vec())
            })
            .collect();
        let mut answered = Answered { status, headers, body: Vec::new() };
        let bodiless = head_only || (100..200).contains(&status) || matches!(status, 204 | 304);
        if bodiless {
            return Some(answered);
        }
        answered.body = match answered.header("content-length").map(|length| length.parse().expect("a number")) {
            Some(length) => self.take(length).await,
            None if answered.header("transfer-encoding") == Some("chunked") => self.take_chunks().await,
            None => {
                while self.more().await {}
                std::mem::take(&mut self.read)
            }
        };
        Some(answered)
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "the body ends early");
        }
        self.read.drain(..length).collect()
    }

    async fn take_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(end) = self.read.windows(2).position(|bytes| bytes == b"\r\n") {
                    break end;
                }
                assert!(self.more().await, "the body ends early");
            };
            let size: Vec<u8> = self.read.drain(..line + 2).collect();
            let size = std::str::from_utf8(&size[..line]).expect("a size is text");
            let size = usize::from_str_radix(size, 16).expect("a size is a number");
            let chunk = self.take(size + 2).await;
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
}
