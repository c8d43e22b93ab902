//! The body of a request on its way to a handler: small ones whole, others as a stream with a limit and a clock.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::request::Parts as Head;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::base::error::{Error, Kind, Result};
use crate::kernel::call::Body;

/// Bodies up to this are handed over whole when all of their bytes came with the head.
const WHOLE_BYTES: u64 = 64 << 10;

/// So many bytes must come in each stall time that a handler waits.
const STALL_BYTES: usize = 1 << 10;

/// What became of a streamed body, so that the answer can say it whatever the handler made of it. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Verdict(Option<Arc<Course>>);

/// How a body goes.
struct Course {
    /// The most bytes that it may have.
    limit: usize,
    outcome: AtomicU8,
    /// How many pieces of it were taken.
    pieces: AtomicU64,
}

const TOO_LARGE: u8 = 1;
const STALLED: u8 = 2;
const WHOLE: u8 = 3;

impl Verdict {
    /// The limit that the body went beyond, if it did.
    pub fn too_large(&self) -> Option<usize> {
        self.0.as_ref().filter(|course| course.is(TOO_LARGE)).map(|course| course.limit)
    }

    /// Whether its bytes stopped coming.
    pub fn is_stalled(&self) -> bool {
        self.0.as_ref().is_some_and(|course| course.is(STALLED))
    }

    /// Whether bytes of it may still come: after an answer the connection cannot go on then.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|course| !course.is(WHOLE))
    }

    /// How many pieces of it were taken.
    pub fn pieces(&self) -> u64 {
        self.0.as_ref().map_or(0, |course| course.pieces.load(Ordering::Relaxed))
    }
}

impl Course {
    fn is(&self, outcome: u8) -> bool {
        self.outcome.load(Ordering::Acquire) == outcome
    }

    fn end(&self, outcome: u8) {
        self.outcome.store(outcome, Ordering::Release);
    }
}

/// How much a body may have, and how long it may pause.
pub struct Terms {
    /// The most bytes.
    pub limit: usize,
    /// The longest time without a byte.
    pub stall_time: Duration,
}

/// Makes a request's body ready for its handler.
///
/// # Errors
/// `TooLarge`: the head says that it is beyond the limit; nothing of it was read then.
pub async fn receive(head: &Head, incoming: Incoming, terms: Terms) -> Result<(Body, Verdict)> {
    let Terms { limit, stall_time } = terms;
    if incoming.is_end_stream() {
        return Ok((Body::Empty, Verdict::default()));
    }
    let announced = incoming.size_hint().exact();
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(too_large(limit));
    }
    let mut upload = Upload {
        first: Bytes::new(),
        failed: None,
        incoming,
        room: limit,
        stall_time,
        alarm: None,
        waited: Duration::ZERO,
        came: 0,
        course: Arc::new(Course { limit, outcome: AtomicU8::new(0), pieces: AtomicU64::new(0) }),
    };
    // A client that expects 100 gets it when the handler reads, so that a refusal costs it no upload.
    let small = announced.is_some_and(|bytes| bytes <= WHOLE_BYTES) && !head.headers.contains_key(EXPECT);
    if small {
        let whole = poll_fn(|context| Poll::Ready(upload.take_ready(context))).await;
        if let Some(bytes) = whole {
            return Ok((Body::from(bytes), Verdict::default()));
        }
    }
    let verdict = Verdict(Some(upload.course.clone()));
    Ok((Body::stream(upload), verdict))
}

/// Throws away the body of a request that nobody will read, as far as it is here. False when there is more to come.
pub async fn discard(incoming: &mut Incoming) -> bool {
    let mut room = WHOLE_BYTES;
    poll_fn(|context| {
        while !incoming.is_end_stream() {
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *incoming).poll_frame(context) else {
                return Poll::Ready(incoming.is_end_stream());
            };
            room = room.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
            if room == 0 {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    })
    .await
}

/// A body that comes in pieces.
struct Upload {
    /// What was read already.
    first: Bytes,
    /// What went wrong behind that.
    failed: Option<Error>,
    incoming: Incoming,
    /// How many more bytes may come.
    room: usize,
    stall_time: Duration,
    /// Set while the handler waits for bytes, with the time at which it began to.
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long the handler has waited for the bytes that have come since the clock was set back.
    waited: Duration,
    /// How many those are.
    came: usize,
    course: Arc<Course>,
}

impl Upload {
    /// All bytes, if they are here; else keeps those that are.
    fn take_ready(&mut self, context: &mut Context<'_>) -> Option<Bytes> {
        let mut more = BytesMut::new();
        while !self.incoming.is_end_stream() {
            let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                // It is said once: a body that broke off must not pass for a whole one.
                Poll::Ready(Some(Err(error))) => {
                    self.failed = Some(broken(error));
                    self.keep(more);
                    return None;
                }
                Poll::Ready(None) | Poll::Pending => {
                    self.keep(more);
                    return None;
                }
            };
            let Ok(bytes) = frame.into_data() else { continue };
            self.room = self.room.saturating_sub(bytes.len());
            match (self.first.is_empty(), more.is_empty()) {
                (true, true) => self.first = bytes,
                _ => more.extend_from_slice(&bytes),
            }
        }
        self.keep(more);
        Some(std::mem::take(&mut self.first))
    }

    fn keep(&mut self, more: BytesMut) {
        if !more.is_empty() {
            let mut whole = BytesMut::with_capacity(self.first.len() + more.len());
            whole.extend_from_slice(&self.first);
            whole.extend_from_slice(&more);
            self.first = whole.freeze();
        }
    }

    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.stall_time.saturating_sub(self.waited);
        let set = || (Instant::now(), Box::pin(tokio::time::sleep(left)));
        self.alarm.get_or_insert_with(set).1.as_mut().poll(context)
    }

    /// Sets the clock back once enough has come; a client that lets bytes drip gains no time by each.
    fn count(&mut self, bytes: usize) {
        self.came = self.came.saturating_add(bytes);
        if let Some((since, _)) = self.alarm.take() {
            self.waited += since.elapsed();
        }
        if self.came >= STALL_BYTES {
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if !self.course.is(0) {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                std::task::ready!(self.poll_stalled(context));
                self.course.end(STALLED);
                return Poll::Ready(Some(Err(stalled(self.stall_time))));
            }
        };
        let came = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.count(came);
        if frame.is_none() || self.incoming.is_end_stream() {
            self.course.end(WHOLE);
        }
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => Some(Err(broken(error))),
            Some(Ok(frame)) => {
                if came > self.room {
                    self.course.end(TOO_LARGE);
                    return Poll::Ready(Some(Err(too_large(self.course.limit))));
                }
                self.room -= came;
                self.course.pieces.fetch_add(1, Ordering::Relaxed);
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.failed.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = self.first.len() as u64;
        let inner = self.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + waiting);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
    }
}

/// The failure of a body beyond the limit.
pub fn too_large(limit: usize) -> Error {
    Error::new(
        Kind::TooLarge,
        format!("the request's body is larger than {limit} bytes: send less, or raise the limit"),
    )
}

/// The failure of a body whose bytes stopped coming.
pub fn stalled(stall_time: Duration) -> Error {
    let message =
        format!("hardly a byte of the request's body came for {} s: send it without a pause", stall_time.as_secs_f64());
    Error::new(Kind::Timeout, message)
}

fn broken(error: hyper::Error) -> Error {
    let mut source = std::error::Error::source(&error);
    let mut malformed = error.is_parse();
    while let Some(cause) = source {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        malformed |= matches!(kind, Some(ErrorKind::InvalidInput | ErrorKind::InvalidData));
        source = cause.source();
    }
    if malformed {
        Error::new(Kind::Malformed, "the request's body is not what its head announced").with_source(error)
    } else {
        Error::new(Kind::Cancelled, "the client went away before the end of its request").with_source(error)
    }
}
