//! `/ws`: the handshake, and one task for each open socket, which reads, has frames answered, and writes.
//!
//! One task does all so that a message costs one wake-up: when its answer is there, the same turn writes it. What the
//! frames mean is the inbox's business; how they lie on the wire is the wire's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::future::{FutureExt, poll_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::base::error::{Error, Kind, Result};
use crate::base::shutdown::Shutdown;
use crate::edge::failure::{method_not_allowed, response};
use crate::edge::frames::{End, Heard, Wire};
use crate::edge::handshake::{Asked, Head, needed};
use crate::edge::parts::Parts;
use crate::kernel::call::{Caller, Response as Refusal};
use crate::kernel::connection::{CloseReason, Connection, Outbox, Outgoing};
use crate::kernel::hub::Hub;
use crate::kernel::inbox::Inbox;
use crate::kernel::toolbox::Toolbox;

/// From one ping to the next.
const PING_EVERY: Duration = Duration::from_secs(25);
/// A ping that is not answered within this time ends the socket.
const PONG_TIME: Duration = Duration::from_secs(10);
/// From the wish to close to the cut.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// So many frames of one socket are read before others get their turn.
const FRAMES_A_TURN: usize = 64;

/// The route of the shared socket. The gate in front has put the [`Caller`] into the request's extensions.
pub fn router(parts: Parts) -> axum::Router {
    let Parts { hub, toolbox, shutdown, .. } = parts;
    let entrance = Entrance { hub, toolbox, shutdown };
    let route = axum::routing::get(upgrade).fallback(async || method_not_allowed("GET").map(axum::body::Body::new));
    axum::Router::new().route("/ws", route).with_state(entrance)
}

/// What a socket needs of the host.
#[derive(Clone)]
struct Entrance {
    hub: Hub,
    toolbox: Toolbox,
    shutdown: Shutdown,
}

async fn upgrade(State(entrance): State<Entrance>, mut request: Request) -> Response {
    match accept(entrance, &mut request) {
        Ok(response) => response,
        Err(refusal) => (*refusal).map(axum::body::Body::new),
    }
}

/// Answers the handshake and starts the socket's task.
fn accept(entrance: Entrance, request: &mut Request) -> Result<Response, Box<Refusal>> {
    let mut extensions = std::mem::take(request.extensions_mut());
    let head = Head { method: request.method(), version: request.version(), headers: request.headers() };
    let wish = match Asked::of(&head, &mut extensions) {
        Asked::Socket(wish) => wish,
        Asked::Wrong(answer) => return Err(answer),
        Asked::No => {
            return Err(needed("open a WebSocket here: GET over HTTP/1.1 with \"Upgrade: websocket\""));
        }
    };
    let Some(caller) = extensions.remove::<Caller>() else {
        return Err(refused(&Error::new(Kind::Internal, "the gate in front of /ws was passed by")));
    };
    let id = random_id().map_err(|error| refused(&error))?;
    // No extension and no sub-protocol is chosen: the client then uses none (RFC 6455 §4.2.2).
    let (response, upgrade) = wish.grant();
    entrance.shutdown.clone().spawn("socket", async move {
        match upgrade.await {
            // Behind a pointer: the sockets are many and idle, and each move through a future would be room in it.
            Ok(upgraded) => Box::new(Socket::open(entrance, caller, id, TokioIo::new(upgraded))).live().await,
            Err(error) => tracing::debug!(request_id = &*caller.request_id, "no socket came of a handshake: {error}"),
        }
    });
    Ok(response.map(axum::body::Body::new))
}

fn refused(error: &Error) -> Box<Refusal> {
    Box::new(response(error))
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::Internal, "the system gives no random bytes").with_source(error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Why a socket is at its end.
enum Finish {
    /// The host closes it.
    Told(CloseReason),
    /// The peer did.
    Peer(End),
    /// The peer does not answer.
    Silent,
}

/// A socket with all that its task drives.
struct Socket<S> {
    wire: Wire<S>,
    inbox: Inbox,
    outbox: Outbox,
    heartbeat: Heartbeat,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket<S> {
    fn open(entrance: Entrance, caller: Caller, id: String, stream: S) -> Self {
        let Entrance { hub, toolbox, .. } = entrance;
        tracing::debug!(connection = id, request_id = &*caller.request_id, "socket opens");
        let (connection, outbox) = Connection::open(id, caller.principal, hub.outbox_limits());
        let wire = Wire::new(stream, hub.limits().frame_bytes);
        let inbox = Inbox::open(&hub, &toolbox, &connection);
        Self { wire, inbox, outbox, heartbeat: Heartbeat::new() }
    }

    /// The life of the socket, from hello to the end of its stream.
    async fn live(mut self: Box<Self>) {
        let finish = poll_fn(|context| self.poll(context)).await;
        // Before the close, which takes its time.
        self.inbox.leave();
        let closing: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(self.close(finish));
        let _ = timeout(CLOSE_TIME, closing).await;
    }

    /// One turn: reads what is there, has it answered, writes what is to be said.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Finish> {
        // What is sent during this turn is written at its end: nobody has to wake this task for it.
        self.outbox.attend();
        if let Poll::Ready(end) = self.read(context) {
            return Poll::Ready(Finish::Peer(end));
        }
        self.inbox.poll(context);
        match self.heartbeat.poll(context) {
            Poll::Ready(Beat::Ping) => {
                // Behind a frame that cannot be written a ping could not be either: the wait for its pong is enough.
                if self.wire.poll_ready(context).is_ready() {
                    self.wire.write_ping();
                }
            }
            Poll::Ready(Beat::Silence) => return Poll::Ready(Finish::Silent),
            Poll::Pending => {}
        }
        self.write(context)
    }

    /// Ready when the peer's side is at its end.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..FRAMES_A_TURN {
            match self.wire.poll_read(context) {
                Poll::Ready(Ok(Heard::Text(text))) => self.inbox.put(text),
                Poll::Ready(Ok(Heard::Binary)) => {
                    let message = "the frames of /ws are text: send JSON in text frames";
                    self.inbox.refuse(&Error::new(Kind::Malformed, message));
                }
                Poll::Ready(Ok(Heard::Ping)) => {}
                Poll::Ready(Ok(Heard::Pong)) => self.heartbeat.answered(),
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => return Poll::Pending,
            }
        }
        // There may be more, but it is the others' turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the socket is to be closed, or nobody reads it any more.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<Finish> {
        loop {
            match self.wire.poll_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Finish::Peer(End::Lost)),
                // Frames go on to wait in the outbox, where they are counted.
                Poll::Pending => return self.outbox.poll_close(context).map(Finish::Told),
            }
            match self.outbox.poll_next(context) {
                Poll::Ready(Outgoing::Frame(frame)) => self.wire.write_text(frame.into_text()),
                Poll::Ready(Outgoing::Close(reason)) => return Poll::Ready(Finish::Told(reason)),
                Poll::Pending => break,
            }
        }
        match self.wire.poll_flush(context) {
            Poll::Ready(Err(_)) => Poll::Ready(Finish::Peer(End::Lost)),
            _ => Poll::Pending,
        }
    }

    /// Says goodbye and ends the stream. The caller holds the clock.
    async fn close(&mut self, finish: Finish) {
        let Self { wire, outbox, .. } = self;
        // An error means that the peer has gone: then there is nobody to say goodbye to.
        let _ = async {
            match finish {
                Finish::Told(CloseReason { code, reason, flush }) => {
                    while let Some(frame) = outbox.next_now().filter(|_| flush) {
                        wire.send_text(frame.into_text()).await?;
                    }
                    wire.send_close(code, &reason).await?;
                    wire.hear_out().await;
                }
                Finish::Peer(End::Closed(code)) => wire.send_close(code, "").await?,
                // After bytes that break the rules no further frame can be read.
                Finish::Peer(End::Broken(code, reason)) => wire.send_close(code, reason).await?,
                Finish::Peer(End::Lost) => return Ok(()),
                // A peer that may be gone is not waited for.
                Finish::Silent => return wire.send_close(1011, "no pong within 10 s").now_or_never().unwrap_or(Ok(())),
            }
            wire.hang_up().await
        }
        .await;
    }
}

/// When to ping, and whether the ping was answered.
struct Heartbeat {
    clock: Pin<Box<Sleep>>,
    /// When a ping was due that is not answered yet.
    pinged: Option<Instant>,
}

enum Beat {
    /// It is time for a ping.
    Ping,
    /// The ping was not answered.
    Silence,
}

impl Heartbeat {
    fn new() -> Self {
        Self { clock: Box::pin(sleep(PING_EVERY)), pinged: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Beat> {
        ready!(self.clock.as_mut().poll(context));
        if self.pinged.is_some() {
            return Poll::Ready(Beat::Silence);
        }
        let now = Instant::now();
        self.pinged = Some(now);
        self.clock.as_mut().reset(now + PONG_TIME);
        // Asked once more so that the clock wakes this task again.
        match self.clock.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Beat::Silence),
            Poll::Pending => Poll::Ready(Beat::Ping),
        }
    }

    /// The peer lives. [`Heartbeat::poll`] must follow.
    fn answered(&mut self) {
        if let Some(pinged) = self.pinged.take() {
            self.clock.as_mut().reset(pinged + PING_EVERY);
        }
    }
}
