//! One connection from its first byte to its last: which protocol it speaks, the server that speaks it, its clocks, and
//! a close that loses no answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::base::error::Kind;
use crate::base::settings::Limits;
use crate::base::shutdown::Shutdown;
use crate::edge::clock::{Clock, Order, Waiting};
use crate::edge::failure;
use crate::edge::link::{Link, Protocol, Service};
use crate::edge::service::Core;
use crate::edge::wire::Wire;
use crate::kernel::call::{Body, Response};

/// hyper's read buffer and the bytes of a response that wait for the socket, at most.
const BUFFER_BYTES: usize = 64 << 10;
/// How long and how much is still read after the last answer, so that a reset does not overtake it.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_SLACK_BYTES: usize = 1 << 20;
/// How long a connection is idle before it rests.
const AWAKE_TIME: Duration = Duration::from_millis(250);
/// The longest wait on a connection of the reserve.
const RESERVE_TIME: Duration = Duration::from_millis(500);
/// Limits of HTTP/2: streams at once, streams that were reset but still cost something, and signs of life.
const STREAMS: u32 = 128;
const RESETS_WAITING: usize = 32;
const RESETS_BY_US: usize = 256;
const PING_TIME: Duration = Duration::from_secs(25);
const PONG_TIME: Duration = Duration::from_secs(10);

/// How a connection's turn ended.
enum End {
    /// The server is done with it.
    Closed,
    /// It waited too long.
    Late(Waiting),
    /// The time for draining is over.
    Cut,
}

/// Serves a connection until it ends.
pub async fn serve(core: Arc<Core>, link: Arc<Link>, wire: Wire) {
    match link.protocol {
        Protocol::Http1 => http1(core, link, wire).await,
        Protocol::Http2 => http2(core, link, wire).await,
    }
}

/// The limits of a connection: one of the reserve is to be over soon, for the next health check.
pub fn limits(core: &Core, service: Service) -> Limits {
    let mut limits = core.parts().settings.limits.clone();
    if service == Service::Reserve {
        for time in [&mut limits.head_time, &mut limits.idle_time, &mut limits.silent_time, &mut limits.stall_time] {
            *time = RESERVE_TIME.min(*time);
        }
    }
    limits
}

async fn http1(core: Arc<Core>, link: Arc<Link>, mut wire: Wire) {
    let limits = limits(&core, link.service);
    let mut clock = Clock::new(&limits);
    let end = loop {
        let (end, left) = answer_http1(&core, &link, wire, (&limits, &mut clock)).await;
        // An upgraded connection has left with its new owner.
        let Some(left) = left else { return };
        wire = left;
        let rests = matches!(end, End::Late(Waiting::Idle)) && limits.idle_time > AWAKE_TIME && link.pulse.may_rest();
        if !rests {
            break end;
        }
        if let Some(end) = rest(&link, &mut wire, limits.idle_time - AWAKE_TIME).await {
            break end;
        }
    };
    match end {
        End::Closed if link.pulse.has_ended() => {}
        // A client that reads until the end would take half an answer for a whole one.
        End::Closed if link.pulse.is_broken_off() => wire.reset(),
        End::Closed => linger(&mut wire, &limits).await,
        End::Late(Waiting::Head) => {
            let _ = timeout(LINGER_TIME, wire.write_all(&late_head(&limits))).await;
            linger(&mut wire, &limits).await;
        }
        End::Late(Waiting::Idle | Waiting::Silent) => _ = timeout(LINGER_TIME, wire.shutdown()).await,
        End::Late(_) | End::Cut => {}
    }
}

/// Answers requests until the connection ends or is idle for a while; the bytes of a connection that was not upgraded
/// come back, with those that were read too early.
async fn answer_http1(
    core: &Arc<Core>,
    link: &Arc<Link>,
    wire: Wire,
    (limits, clock): (&Limits, &mut Clock),
) -> (End, Option<Wire>) {
    let soon = Limits { idle_time: AWAKE_TIME.min(limits.idle_time), ..limits.clone() };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The clocks are ours: this one would also end idle connections, and answers nothing.
        .header_read_timeout(None)
        // A client that closes its half has gone away: its handler is cancelled at once. What still wants an answer
        // keeps its half open, as browsers and proxies do.
        .half_close(false)
        // Answered with 431 by hyper. The number of headers stays at its default of 100, which costs no allocation.
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(BUFFER_BYTES))
        // With it hyper takes a whole response into memory however slowly the client reads.
        .pipeline_flush(false);
    let (answering, asked) = (core.clone(), link.clone());
    let service = service_fn(move |request: Request<Incoming>| answering.call(&asked, request));
    let mut connection = builder.serve_connection(TokioIo::new(wire), service).with_upgrades();
    let mut finishing = false;
    let times = || if link.pulse.may_rest() { &soon } else { limits };
    let end = poll_fn(|context| {
        // Before the orders are read, so that none is lost. Spurious calls are cheap: the task's waker stays the same.
        link.pulse.waker.register(context.waker());
        loop {
            if Pin::new(&mut connection).poll(context).is_ready() {
                return Poll::Ready(End::Closed);
            }
            match link.pulse.told() {
                Order::Cut => return Poll::Ready(End::Cut),
                Order::Finish if !finishing => {
                    finishing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Order::Finish | Order::Serve => match clock.poll(link.pulse.waiting_http1(), times(), context) {
                    Poll::Pending => return Poll::Pending,
                    // The handler's own future says so when it is polled again.
                    Poll::Ready(Waiting::Answer) => link.pulse.set_overdue(),
                    Poll::Ready(late) => return Poll::Ready(End::Late(late)),
                },
            }
        }
    })
    .await;
    let left = connection.into_parts().map(|parts| {
        let mut wire = parts.io.into_inner();
        wire.put_back(parts.read_buf);
        wire
    });
    (end, left)
}

/// Waits for the next request without a server: two thirds of what an idle connection costs are hyper's buffers, which
/// it keeps for as long as it has the connection. `None`: there is something to read.
async fn rest(link: &Link, wire: &mut Wire, limit: Duration) -> Option<End> {
    let woken = poll_fn(|context| {
        link.pulse.waker.register(context.waker());
        match link.pulse.told() {
            Order::Serve => {
                wire.poll_more(context).map(|more| if more.unwrap_or(false) { None } else { Some(End::Closed) })
            }
            Order::Finish => Poll::Ready(Some(End::Closed)),
            Order::Cut => Poll::Ready(Some(End::Cut)),
        }
    });
    timeout(limit, woken).await.unwrap_or(Some(End::Late(Waiting::Idle)))
}

async fn http2(core: Arc<Core>, link: Arc<Link>, wire: Wire) {
    let limits = limits(&core, link.service);
    let mut builder = http2::Builder::new(Tasks(core.parts().shutdown.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_WAITING)
        .max_local_error_reset_streams(RESETS_BY_US)
        .max_send_buf_size(BUFFER_BYTES)
        .keep_alive_interval(PING_TIME)
        .keep_alive_timeout(PONG_TIME);
    let (answering, asked) = (core.clone(), link.clone());
    let service = service_fn(move |request: Request<Incoming>| answering.call(&asked, request));
    let mut connection = builder.serve_connection(TokioIo::new(wire), service);
    let mut clock = Clock::new(&limits);
    let mut finishing = false;
    poll_fn(|context| {
        link.pulse.waker.register(context.waker());
        loop {
            if Pin::new(&mut connection).poll(context).is_ready() {
                return Poll::Ready(());
            }
            match link.pulse.told() {
                Order::Cut => return Poll::Ready(()),
                Order::Finish if !finishing => {
                    finishing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Order::Finish | Order::Serve => match clock.poll(link.pulse.waiting_http2(), &limits, context) {
                    Poll::Pending => return Poll::Pending,
                    // Goodbye is said once; what the clock finds late after that is cut off.
                    Poll::Ready(Waiting::Idle) if !finishing => {
                        finishing = true;
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                },
            }
        }
    })
    .await;
}

/// Runs the streams of HTTP/2 connections under a name.
#[derive(Clone)]
struct Tasks(Shutdown);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn("stream", task);
    }
}

/// The whole answer to a head that came too slowly, for a connection that ends with it.
fn late_head(limits: &Limits) -> Vec<u8> {
    let detail = format!("the head of a request must be complete within {} s", limits.head_time.as_secs_f64());
    let status = http::StatusCode::REQUEST_TIMEOUT;
    written(&failure::problem(status, Kind::Timeout, "Request timed out", &detail, None))
}

/// A response of the host's own as bytes, for a connection without a server.
pub fn written(response: &Response) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("Unknown");
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\nconnection: close\r\n", status.as_u16()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let body: &[u8] = match response.body() {
        Body::Full(body) => body,
        Body::Empty | Body::Stream(_) => b"",
    };
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Ends a connection on which the client may still be sending: closing over unread bytes would reset it, and the last
/// answer would be lost.
pub async fn linger(wire: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin), limits: &Limits) {
    let rest = async {
        let _ = wire.shutdown().await;
        let mut room = limits.body_bytes + LINGER_SLACK_BYTES;
        let mut buffer = vec![0; 16 << 10];
        while let Ok(bytes @ 1..) = wire.read(&mut buffer).await {
            room = room.saturating_sub(bytes);
            if room == 0 {
                break;
            }
        }
    };
    let _ = timeout(LINGER_TIME.min(limits.stall_time), rest).await;
}
