//! A server for the tests of `/ws` and of the tools, with handlers written in Rust, and clients that speak frames or bytes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use plugbay::base::error::{Error, Kind};
use plugbay::base::json::Json;
use plugbay::base::manifest::Manifest;
use plugbay::base::name::{ChannelName, ToolName};
use plugbay::base::settings::{Limits, Settings};
use plugbay::edge::parts::Parts;
use plugbay::edge::{admin, server, tools, ws};
use plugbay::kernel::auth::{Scope, Scopes};
use plugbay::kernel::call::{ChannelMessage, ToolCall};
use plugbay::kernel::clerk;
use plugbay::kernel::connection::Connection;
use plugbay::kernel::contribution::{Channel, Schema, Tool};
use plugbay::kernel::gate::Admitted;
use plugbay::kernel::handler::{Answer, ChannelHandler, ToolHandler};
use plugbay::kernel::registry::{Draft, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::parts_in;

/// No wait of a test is longer: what it waits for has failed to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with `/ws` and `/api/host/tools`, and one token for it.
pub struct Stand {
    pub address: SocketAddr,
    pub parts: Parts,
    /// The token of the principal `tester`.
    pub token: String,
    home: TempDir,
}

impl Stand {
    /// The folder of everything that it keeps.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn start() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        Self::of(limits, Scopes::of(&[Scope::Call]))
    }

    /// A server whose tester has these scopes.
    pub fn of(limits: Limits, scopes: Scopes) -> Self {
        Self::set(scopes, |settings| settings.limits = limits)
    }

    /// The same with other settings.
    pub fn set(scopes: Scopes, change: impl FnOnce(&mut Settings)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let parts = parts_in(home.path(), |settings| {
            settings.port = 0;
            change(settings);
        });
        let (token, _) = parts.auth.add("tester", scopes, None).unwrap();
        parts.toolbox.audit().start(&parts.shutdown);
        parts.hub.start(Arc::new(|| {}));
        clerk::start(parts.toolbox.gate(), &parts.hub, &parts.shutdown);
        parts.ready.set();
        let own = admin::router(parts.clone());
        let routes = own.merge(ws::router(parts.clone())).merge(tools::router(parts.clone()));
        let serving = server::serve(parts.clone(), server::bind(&parts.settings).unwrap(), routes).unwrap();
        parts.toolbox.gate().approvals().open(&format!("http://{}", serving.bound));
        Self { address: serving.bound, parts, token, home }
    }

    /// Makes a plugin of that id serve what `fill` adds to its draft.
    pub fn plugin(&self, id: &str, fill: impl FnOnce(&mut Draft)) {
        let mut draft = Draft::new(Manifest::check(id, id, "1", "", ">=1,<2").unwrap(), id, Engine::Native);
        fill(&mut draft);
        self.parts.registry.commit(draft).unwrap();
    }

    /// Makes a plugin of that id serve one channel of the same name.
    pub fn channel<F>(&self, name: &str, receive: F) -> mpsc::UnboundedReceiver<String>
    where
        F: Fn(ChannelMessage) -> Answer<Json> + Send + Sync + 'static,
    {
        let (left, leaves) = mpsc::unbounded_channel();
        let handler = Arc::new(Talk { receive, left });
        let channel = Channel { name: ChannelName::parse(name).unwrap(), handler };
        self.plugin(name, |draft| draft.add_channel(channel).unwrap());
        leaves
    }

    /// Another principal with these scopes: its token.
    pub fn add(&self, name: &str, scopes: &[Scope]) -> String {
        self.parts.auth.add(name, Scopes::of(scopes), None).unwrap().0
    }

    /// One request of a principal with header lines of its own: head and JSON.
    pub async fn request(&self, token: &str, start: &str, lines: &[&str], body: &str) -> (String, Value) {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!(
            "{start} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{lines}",
            self.address
        );
        let (head, body) = self.ask(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        (head, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The same, as status and JSON.
    pub async fn as_of(&self, token: &str, start: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (head, answer) = self.request(token, start, &[], &body).await;
        (head[9..12].parse().unwrap(), answer)
    }

    /// A client that has heard hello.
    pub async fn connect(&self) -> Client {
        self.connect_as(&self.token).await
    }

    /// A client of the principal with this token that has heard hello.
    pub async fn connect_as(&self, token: &str) -> Client {
        let mut client = self.connect_over(TcpStream::connect(self.address).await.unwrap(), token).await;
        let hello = client.hear().await;
        assert_eq!((hello["channel"].as_str(), hello["event"].as_str()), (Some("system"), Some("hello")), "{hello}");
        hello["data"]["connection"].as_str().unwrap().clone_into(&mut client.id);
        client
    }

    /// A client on a stream with a small receive buffer, which has heard nothing yet.
    pub async fn connect_narrow(&self) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        self.connect_over(socket.connect(self.address).await.unwrap(), &self.token).await
    }

    async fn connect_over(&self, stream: TcpStream, token: &str) -> Client {
        let mut request = format!("ws://{}/ws", self.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (socket, _) = within(tokio_tungstenite::client_async(request, stream)).await.unwrap();
        Client { id: String::new(), socket }
    }

    /// A stream that has passed the handshake and on which bytes can be sent as they are. It has heard nothing yet.
    pub async fn raw(&self) -> Raw {
        let mut raw = self.open().await;
        raw.say(&self.handshake("", "")).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        raw
    }

    /// A stream on which nothing was said yet.
    pub async fn open(&self) -> Raw {
        Raw { stream: within(TcpStream::connect(self.address)).await.unwrap(), buffer: VecDeque::new() }
    }

    /// A good handshake in which one text was replaced by another.
    pub fn handshake(&self, old: &str, new: &str) -> String {
        let head = self.head("GET", "/ws");
        let good = format!(
            "{head}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        if old.is_empty() { good } else { good.replacen(old, new, 1) }
    }

    /// The head of a request of the tester, without its end.
    pub fn head(&self, method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n", self.address, self.token)
    }

    /// Sends one request of its own connection and reads the answer to its end: head and body as text.
    pub async fn ask(&self, request: &str) -> (String, String) {
        let mut raw = self.open().await;
        raw.say(request).await;
        let head = raw.head().await;
        let mut rest = Vec::from(std::mem::take(&mut raw.buffer));
        within(raw.stream.read_to_end(&mut rest)).await.unwrap();
        (head, String::from_utf8(rest).unwrap())
    }

    /// `GET` of a path: status and JSON.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.json(&format!("{}Connection: close\r\n\r\n", self.head("GET", path))).await
    }

    /// `POST` to a path: status and JSON.
    pub async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let head = self.head("POST", path);
        self.json(&format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await
    }

    async fn json(&self, request: &str) -> (u16, Value) {
        let (head, body) = self.ask(request).await;
        (head[9..12].parse().unwrap(), serde_json::from_str(&body).unwrap())
    }

    /// Waits until the hub knows so many connections.
    pub async fn until_connections(&self, number: usize) {
        within(async {
            while self.parts.hub.connections() != number {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.parts.shutdown.stop();
    }
}

/// A channel whose messages a closure takes.
struct Talk<F> {
    receive: F,
    left: mpsc::UnboundedSender<String>,
}

impl<F: Fn(ChannelMessage) -> Answer<Json> + Send + Sync> ChannelHandler for Talk<F> {
    fn receive(&self, message: ChannelMessage) -> Answer<Json> {
        (self.receive)(message)
    }

    fn leave(&self, connection: &Connection) {
        let _ = self.left.send(connection.id().to_owned());
    }
}

/// A tool that a closure runs.
pub struct Run<F>(pub F);

impl<F: Fn(ToolCall) -> Answer<Json> + Send + Sync> ToolHandler for Run<F> {
    fn run(&self, call: Admitted) -> Answer<Json> {
        (self.0)(call.into_call())
    }
}

/// A tool without side effects, whose arguments are an object with an optional text `text`.
pub fn tool<F: Fn(ToolCall) -> Answer<Json> + Send + Sync + 'static>(name: &str, run: F) -> Tool {
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    Tool {
        name: ToolName::parse(name).unwrap(),
        description: format!("The tool {name}.").into(),
        parameters: Schema::compile("parameters", &schema).unwrap(),
        output: None,
        side_effect: false,
        specifier_template: None,
        group: None,
        timeout: Duration::from_secs(60),
        concurrency: None,
        handler: Arc::new(Run(run)),
    }
}

/// An answer that is there at once.
pub fn answer(value: &Value) -> Answer<Json> {
    let value = Json::of(value);
    Box::pin(async move { Ok(value) })
}

/// A failure that is there at once.
pub fn failure(kind: Kind, message: &'static str) -> Answer<Json> {
    Box::pin(async move { Err(Error::new(kind, message)) })
}

/// Waits, but not for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it did not come within {PATIENCE:?}"))
}

/// A well-behaved WebSocket client.
pub struct Client {
    pub id: String,
    pub socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub async fn say(&mut self, frame: Value) {
        self.say_text(frame.to_string()).await;
    }

    pub async fn say_text(&mut self, text: String) {
        within(self.socket.send(Message::text(text))).await.unwrap();
    }

    /// The next text frame.
    pub async fn hear(&mut self) -> Value {
        loop {
            match within(self.socket.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected text, heard {other:?}"),
            }
        }
    }

    /// Says a frame and hears the next one.
    pub async fn ask(&mut self, frame: Value) -> Value {
        self.say(frame).await;
        self.hear().await
    }

    /// Says a ping and hears its pong next: nothing else was on its way before.
    pub async fn expect_silence(&mut self) {
        let pong = self.ask(json!({ "channel": "system", "event": "ping", "ref": "silence" })).await;
        assert_eq!((&pong["event"], &pong["ref"]), (&json!("pong"), &json!("silence")), "{pong}");
    }

    /// The code and the reason of the close frame, whatever comes before it.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Close(Some(close)))) => return (close.code.into(), close.reason.to_string()),
                Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a close frame, heard {other:?}"),
            }
        }
    }
}

/// A stream on which a test says any bytes.
pub struct Raw {
    pub stream: TcpStream,
    buffer: VecDeque<u8>,
}

/// A frame as it came: its first byte and its payload.
pub type Frame = (u8, Vec<u8>);

impl Raw {
    /// Sends text as it is.
    pub async fn say(&mut self, text: &str) {
        within(self.stream.write_all(text.as_bytes())).await.unwrap();
    }

    /// Sends a frame: the first byte (0x81 is a whole text), then a masked payload.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        let bytes = masked(first, payload);
        within(self.stream.write_all(&bytes)).await.unwrap();
    }

    /// The next frame; `None` when the stream ends.
    pub async fn hear(&mut self) -> Option<Frame> {
        within(self.hear_patiently()).await
    }

    /// The same, however long it takes.
    pub async fn hear_patiently(&mut self) -> Option<Frame> {
        let first = self.byte().await?;
        let length = match self.byte().await? {
            126 => usize::from(self.byte().await?) << 8 | usize::from(self.byte().await?),
            127 => {
                let mut length = 0;
                for _ in 0..8 {
                    length = length << 8 | usize::from(self.byte().await?);
                }
                length
            }
            short => usize::from(short),
        };
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Some((first, self.buffer.drain(..length).collect()))
    }

    /// The next text frame as JSON.
    pub async fn text(&mut self) -> Value {
        let (first, payload) = self.hear().await.unwrap();
        assert_eq!(first, 0x81);
        serde_json::from_slice(&payload).unwrap()
    }

    /// The code of the close frame that comes next, and then the end of the stream; text before it does not count.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.hear().await.unwrap() {
                (0x81, _) => {}
                (0x88, payload) => {
                    assert_eq!(self.hear().await, None, "nothing comes after the close frame");
                    return u16::from_be_bytes([payload[0], payload[1]]);
                }
                other => panic!("expected a close frame, heard {other:?}"),
            }
        }
    }

    /// The head of an HTTP answer.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn byte(&mut self) -> Option<u8> {
        while self.buffer.is_empty() {
            self.fill().await?;
        }
        self.buffer.pop_front()
    }

    async fn fill(&mut self) -> Option<()> {
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes).await.unwrap();
        self.buffer.extend(&bytes[..read]);
        (read > 0).then_some(())
    }
}

/// A client's frame on the wire.
pub fn masked(first: u8, payload: &[u8]) -> Bytes {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(0x80 | length as u8),
        length @ ..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes.into()
}
