//! The WebSockets of plugins' own routes: the offer to the handler, and the task that moves messages.
//!
//! The handler sees messages in two bounded queues; frames, pings, close codes and clocks are kept here. No extension
//! is negotiated. WebSockets need HTTP/1.1 (RFC 6455).

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_EXTENSIONS, TRANSFER_ENCODING};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WireError, Message, Utf8Bytes};

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Limits;
use crate::base::shutdown::Shutdown;
use crate::edge::handshake::{self, Wish};
use crate::kernel::call::{Body, Response, SocketMessage, SocketOffer};
use crate::kernel::connection::fitting;
use crate::kernel::principal::Principal;

/// How many messages wait in each direction.
const QUEUE_MESSAGES: usize = 32;
/// The buffers of an idle socket, in bytes; tungstenite's own defaults are 128 KiB each.
const BUFFER_BYTES: usize = 4 << 10;
/// How often the client is asked for a sign of life, and how long it has to give one.
const PING_TIME: Duration = Duration::from_secs(25);
const PONG_TIME: Duration = Duration::from_secs(10);
/// How long the upgrade and the closing of a socket may take.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// What the client still sends after the close frame is read this long, so that the frame is not lost to a reset.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// The host's ends of an offer's two queues.
pub struct Ends {
    incoming: mpsc::Sender<SocketMessage>,
    outgoing: mpsc::Receiver<SocketMessage>,
}

/// Makes the offer that a handler takes with status 101 or refuses with any other.
pub fn offer(headers: &HeaderMap) -> (SocketOffer, Ends) {
    let (incoming, from_client) = mpsc::channel(QUEUE_MESSAGES);
    let (to_client, outgoing) = mpsc::channel(QUEUE_MESSAGES);
    let offer = SocketOffer { protocols: handshake::protocols(headers), incoming: from_client, outgoing: to_client };
    (offer, Ends { incoming, outgoing })
}

/// Completes the handshake that the handler agreed to with `response`, and starts to move messages.
pub fn grant(wish: Wish, response: Response, ends: Ends, terms: Terms) -> Response {
    let (mut head, _) = response.into_parts();
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, SEC_WEBSOCKET_EXTENSIONS] {
        head.headers.remove(name);
    }
    let (granted, upgrade) = wish.grant();
    for (name, value) in granted.headers() {
        head.headers.insert(name, value.clone());
    }
    let shutdown = terms.shutdown.clone();
    shutdown.spawn("socket", serve(upgrade, ends, terms));
    Response::from_parts(head, Body::Empty)
}

/// Under what terms a socket is open.
pub struct Terms {
    /// Closes it with 1001.
    pub shutdown: Shutdown,
    /// Whose it is; closes it with 1008 when that token is taken back.
    pub principal: Principal,
    /// The limits of its messages and of its writes.
    pub limits: Limits,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why a socket ends.
enum End {
    /// The client closed it, or is gone: nothing more can be said.
    Gone,
    /// It is closed with this code and reason.
    Close(u16, Box<str>),
    /// It is cut off: the client takes nothing, or gives no sign of life.
    Cut,
}

async fn serve(upgrade: OnUpgrade, ends: Ends, terms: Terms) {
    let Ok(Ok(upgraded)) = timeout(CLOSE_TIME, upgrade).await else { return };
    let limit = terms.limits.frame_bytes;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(terms.limits.body_bytes + 2 * BUFFER_BYTES)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let Ends { incoming, mut outgoing } = ends;
    let life = Life::default();
    let end = tokio::select! {
        biased;
        end = read(&mut stream, &incoming, &life, limit) => end,
        end = write(&mut sink, &mut outgoing, &life, terms.limits.stall_time) => end,
        () = terms.principal.revoked() => End::Close(1008, "the token was taken back".into()),
        () = terms.shutdown.stopping() => End::Close(1001, "the host stops".into()),
    };
    if let End::Close(code, reason) = end {
        // The handler is told as far as it listens; the socket does not wait for it.
        let _ = incoming.try_send(SocketMessage::Close(code, reason.clone()));
        drop(incoming);
        let _ = timeout(CLOSE_TIME, close(sink, stream, code, &reason)).await;
    }
}

/// What the two directions know of each other.
#[derive(Default)]
struct Life {
    /// Frames that came, pongs among them.
    heard: AtomicU64,
    /// The handler takes nothing, so nothing is read: silence is not the client's fault then.
    paused: AtomicBool,
}

async fn read(
    stream: &mut SplitStream<Socket>,
    incoming: &mpsc::Sender<SocketMessage>,
    life: &Life,
    limit: usize,
) -> End {
    loop {
        let message = match stream.next().await {
            None => return End::Gone,
            Some(Ok(message)) => message,
            Some(Err(error)) => return broken(&error, limit),
        };
        life.heard.fetch_add(1, Ordering::Relaxed);
        let message = match message {
            Message::Text(text) => SocketMessage::Text(text.into()),
            Message::Binary(bytes) => SocketMessage::Binary(bytes),
            Message::Close(frame) => {
                let (code, reason) =
                    frame.map_or((1005, Box::default()), |frame| (u16::from(frame.code), frame.reason.as_str().into()));
                deliver(incoming, SocketMessage::Close(code, reason), life).await;
                // The answer to the close frame goes out with the next read.
                let _ = timeout(CLOSE_TIME, stream.next()).await;
                return End::Gone;
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        deliver(incoming, message, life).await;
    }
}

/// Waits until the handler has room. One that listens no more loses the message, as it wishes.
async fn deliver(incoming: &mpsc::Sender<SocketMessage>, message: SocketMessage, life: &Life) {
    if let Err(mpsc::error::TrySendError::Full(message)) = incoming.try_send(message) {
        life.paused.store(true, Ordering::Relaxed);
        let _ = incoming.send(message).await;
        life.paused.store(false, Ordering::Relaxed);
    }
}

async fn write(
    sink: &mut SplitSink<Socket, Message>,
    outgoing: &mut mpsc::Receiver<SocketMessage>,
    life: &Life,
    stall_time: Duration,
) -> End {
    let alarm = sleep_until(Instant::now() + PING_TIME);
    tokio::pin!(alarm);
    // How much had been heard when the last ping went, while its answer is awaited.
    let mut asked: Option<u64> = None;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            number = outgoing.recv_many(&mut batch, QUEUE_MESSAGES) => {
                if number == 0 {
                    return End::Close(1011, "the handler ended without closing".into());
                }
                match within(stall_time, send(sink, &mut batch)).await {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(end) => return end,
                }
            }
            () = alarm.as_mut() => {
                let heard = life.heard.load(Ordering::Relaxed);
                let pause = match asked {
                    Some(before) if before == heard && !life.paused.load(Ordering::Relaxed) => return End::Cut,
                    Some(_) => {
                        asked = None;
                        PING_TIME - PONG_TIME
                    }
                    None => {
                        let ping = async { flow(sink.send(Message::Ping(Bytes::new())).await) };
                        if let ControlFlow::Break(end) = within(stall_time, ping).await {
                            return end;
                        }
                        asked = Some(heard);
                        PONG_TIME
                    }
                };
                alarm.as_mut().reset(Instant::now() + pause);
            }
        }
    }
}

async fn send(sink: &mut SplitSink<Socket, Message>, batch: &mut Vec<SocketMessage>) -> ControlFlow<End> {
    for message in batch.drain(..) {
        let message = match message {
            SocketMessage::Text(text) => match Utf8Bytes::try_from(text) {
                Ok(text) => Message::Text(text),
                Err(_) => return ControlFlow::Break(End::Close(1011, "the handler's text is not UTF-8".into())),
            },
            SocketMessage::Binary(bytes) => Message::Binary(bytes),
            SocketMessage::Close(code, reason) => {
                let _ = sink.flush().await;
                return ControlFlow::Break(End::Close(code, reason));
            }
        };
        flow(sink.feed(message).await)?;
    }
    flow(sink.flush().await)
}

fn flow(sent: Result<(), WireError>) -> ControlFlow<End> {
    match sent {
        Ok(()) => ControlFlow::Continue(()),
        Err(WireError::WriteBufferFull(_)) => {
            ControlFlow::Break(End::Close(1011, "the handler's message is larger than the limit".into()))
        }
        Err(_) => ControlFlow::Break(End::Gone),
    }
}

async fn within(limit: Duration, step: impl Future<Output = ControlFlow<End>>) -> ControlFlow<End> {
    timeout(limit, step).await.unwrap_or(ControlFlow::Break(End::Cut))
}

/// What an unreadable frame is answered with; tungstenite itself sends nothing.
fn broken(error: &WireError, limit: usize) -> End {
    match error {
        WireError::Capacity(_) => End::Close(1009, format!("a message has at most {limit} bytes").into()),
        WireError::Utf8(_) => End::Close(1007, "text is UTF-8".into()),
        WireError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        WireError::Protocol(problem) => End::Close(1002, problem.to_string().into()),
        _ => End::Gone,
    }
}

/// Says goodbye, and reads on for a moment: closing over unread bytes would reset the connection, and the close frame
/// would be lost.
async fn close(mut sink: SplitSink<Socket, Message>, mut stream: SplitStream<Socket>, code: u16, reason: &str) {
    let frame = match CloseCode::from(code) {
        CloseCode::Status => None,
        code => {
            let code = if code.is_allowed() { code } else { CloseCode::Error };
            Some(CloseFrame { code, reason: fitting(reason).into() })
        }
    };
    if sink.send(Message::Close(frame)).await.is_err() {
        return;
    }
    while let Some(Ok(_)) = stream.next().await {}
    let Ok(socket) = sink.reunite(stream) else { return };
    let mut bytes = socket.into_inner();
    let _ = bytes.shutdown().await;
    let mut rest = [0; 1024];
    let drain = async { while bytes.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(LINGER_TIME, drain).await;
}

/// The failure of a handler that answers 101 to a request which asked for no WebSocket.
pub fn unasked() -> Error {
    Error::new(Kind::Plugin, "the handler answered 101, but the request asked for no WebSocket")
}
