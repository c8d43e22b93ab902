//! The four questions that the host asks a handler, as plain data: a request, a tool call, a channel message and a
//! moment of the host's life.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::ClientFrame;
use crate::base::json::{Json, read, wide_integer};
use crate::base::name::ToolName;
use crate::kernel::auth::Principal;
use crate::kernel::connection::Connection;

/// The bytes of a request or a response.
///
/// Small ones are whole, so that no box and no task is spent on them; the rest is a stream with back-pressure.
#[derive(Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes at once.
    Full(Bytes),
    /// A stream of pieces.
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error> + Send>>),
}

impl Body {
    /// A body that comes in pieces.
    pub fn stream(body: impl http_body::Body<Data = Bytes, Error = Error> + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// Who asks and from where, as the gate in front of every route found it. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who is asking.
    pub principal: Principal,
    /// The peer's address; behind a trusted proxy, the one that it names.
    pub client: SocketAddr,
    /// The address that took the connection.
    pub server: SocketAddr,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// Stands on every log line of this request and in the response's `x-request-id`.
    pub request_id: Arc<str>,
}

/// One message of a WebSocket that belongs to a plugin's own route.
#[derive(Clone, Debug)]
pub enum SocketMessage {
    /// Text, checked to be UTF-8.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
    /// The close frame: its code (RFC 6455 §7.4) and reason. The last message of its direction.
    Close(u16, Box<str>),
}

/// The offer of a WebSocket, made with a request that asks for one.
///
/// A handler takes the offer by answering with status 101, with the headers that it wants on the handshake (a
/// `sec-websocket-protocol`, say); any other status refuses it. The edge makes the handshake itself and then moves
/// messages between the wire and these two queues, both bounded. `incoming` ends when the client is gone; dropping
/// `outgoing` without a [`SocketMessage::Close`] closes with 1011 (a handler that ends without closing has failed).
pub struct SocketOffer {
    /// The sub-protocols that the client offers, in its order.
    pub protocols: Vec<String>,
    /// What the client says.
    pub incoming: mpsc::Receiver<SocketMessage>,
    /// What the handler says.
    pub outgoing: mpsc::Sender<SocketMessage>,
}

/// An HTTP request for a plugin's route.
pub struct Request {
    /// Method, target, version, headers (names in lower case, as `http` keeps them).
    pub head: http::request::Parts,
    /// The body. Its end is an error of kind `TooLarge` when it goes beyond the limit.
    pub body: Body,
    /// Where the route stands, without a trailing slash: `/api/plugins/ping`.
    pub mount: Arc<str>,
    /// Who asks.
    pub caller: Caller,
    /// Present when the request asks for a WebSocket.
    pub socket: Option<SocketOffer>,
}

/// The answer to a [`Request`].
pub type Response = http::Response<Body>;

/// Which way a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `POST /api/host/tools/{name}`.
    Http,
    /// The channel `tools` of `/ws`.
    Socket,
    /// `/mcp`.
    Mcp,
    /// `dash.tools` in a console.
    Repl,
    /// `plugbay tool call`.
    CommandLine,
    /// `registry.invoke_agent_tool` in the host's own process.
    Python,
}

impl Door {
    /// The word for it in logs and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socket => "ws",
            Self::Mcp => "mcp",
            Self::Repl => "repl",
            Self::CommandLine => "cli",
            Self::Python => "python",
        }
    }
}

/// The arguments of a tool call: a JSON object, as text and parsed.
#[derive(Clone, Debug)]
pub struct Arguments {
    text: Json,
    value: Value,
}

impl Arguments {
    /// Reads the arguments; no bytes at all mean `{}`.
    ///
    /// # Errors
    /// `Malformed`: not JSON, or nested deeper than 127 levels. `Invalid`: JSON, but not an object, or with an integer that
    /// 64 bits do not hold: what people and rules are shown of it would not be what the tool gets.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        let text = if text.iter().all(u8::is_ascii_whitespace) { Bytes::from_static(b"{}") } else { text };
        let text = Json::parse(text)?;
        let value = read(text.as_bytes())
            .map_err(|error| Error::new(Kind::Malformed, format!("the arguments cannot be read: {error}")))?;
        if let Some(number) = wide_integer(text.as_bytes()) {
            return Err(too_wide(number));
        }
        if value.is_object() {
            return Ok(Self { text, value });
        }
        let found: String = text.as_str().chars().take(40).collect();
        Err(Error::new(
            Kind::Invalid,
            format!("the arguments of a tool are a JSON object like {{\"text\": \"hi\"}}, not {found}"),
        ))
    }

    /// Arguments that were parsed already.
    ///
    /// # Errors
    /// `Malformed`: they are nested deeper than 127 levels.
    pub fn of(arguments: Map<String, Value>) -> Result<Self> {
        let value = Value::Object(arguments);
        Ok(Self { text: Json::written(&value)?, value })
    }

    /// The object as it came.
    pub fn text(&self) -> &Json {
        &self.text
    }

    /// The object, parsed.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// What is said of an integer that cannot be passed on as it is.
pub fn too_wide(number: &str) -> Error {
    let shown: String = number.chars().take(40).collect();
    let message = format!("the arguments hold the integer {shown}, which 64 bits do not hold: give it as a text");
    Error::new(Kind::Invalid, message)
}

/// What is said of a message in which a reader may find another value than its sender wrote.
pub fn misread() -> Error {
    let message = "the message holds an object with a name that begins with \"$serde_json::private::\", which is not taken \
                   here: send it in another form";
    Error::new(Kind::Invalid, message)
}

/// Takes what a tool says while it runs: a fraction from 0 to 1 and a message, possibly empty. Never waits.
pub type Progress = Arc<dyn Fn(f64, &str) + Send + Sync>;

/// A wish to run a tool. Nothing runs before the gate made an `Admitted` of it.
#[derive(Clone)]
pub struct ToolCall {
    /// Which tool.
    pub tool: ToolName,
    /// With what.
    pub arguments: Arguments,
    /// Who asks.
    pub principal: Principal,
    /// Which way it came in.
    pub door: Door,
    /// Where progress goes, where the door can pass it on.
    pub progress: Option<Progress>,
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No arguments: they may hold secrets.
        write!(f, "call of {} by {} over {}", self.tool, self.principal.name(), self.door.as_str())
    }
}

/// A frame that a client sent to a plugin's channel.
#[derive(Clone)]
pub struct ChannelMessage {
    /// The socket that it came on.
    pub connection: Connection,
    /// What it said.
    pub frame: ClientFrame,
}

/// A moment of the host's life at which plugins are asked to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// After every plugin was loaded, before requests are taken.
    Startup,
    /// After the last request was answered, in the reverse order of startup.
    Shutdown,
}
