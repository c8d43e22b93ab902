//! The clocks of one connection: what it waits for, since when, and when that is too long.
//!
//! hyper's own timer for heads also ends idle connections and answers nothing, so the host keeps the time itself. The
//! connection's [`Pulse`] notes what happens on the wire and in the requests; after each turn of the connection the
//! [`Clock`] looks at it. One timer a connection is re-armed only when it rings or when something shorter begins, so
//! that a request costs a reading of the time and no work on the timer.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep};

use crate::base::settings::Limits;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The first byte of all.
    Silent,
    /// The rest of a head that has begun.
    Head,
    /// The next request.
    Idle,
    /// A handler's answer.
    Answer,
    /// The client, to take more of a response.
    Write,
    /// Something that may take any time: a quiet stream, a tool with its own limit.
    Nothing,
}

impl Waiting {
    fn limit(self, limits: &Limits) -> Option<Duration> {
        match self {
            Self::Silent => Some(limits.silent_time),
            Self::Head => Some(limits.head_time),
            Self::Idle => Some(limits.idle_time),
            Self::Answer => Some(limits.call_time),
            Self::Write => Some(limits.stall_time),
            Self::Nothing => None,
        }
    }
}

/// Nothing is asked.
const BETWEEN: u8 = 0;
/// A request is with a handler that keeps its own time.
const WORKING: u8 = 1;
/// A request is with a handler that this clock watches.
const ANSWERING: u8 = 2;
/// The response is on its way.
const SENDING: u8 = 3;

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Go on.
    Serve,
    /// Answer what was asked, and take nothing new.
    Finish,
    /// End at once.
    Cut,
}

/// What happens on one connection. Written by its wire and its requests, read by its clock.
#[derive(Default)]
pub struct Pulse {
    /// Where the one request of an HTTP/1 connection is.
    phase: AtomicU8,
    /// Bytes came since the last request ended.
    head_begun: AtomicBool,
    /// The client sends no more.
    ended: AtomicBool,
    /// An answer's body ended in a failure.
    broken_off: AtomicBool,
    /// The last write found no room.
    blocked: AtomicBool,
    /// The watched handler is out of time.
    overdue: AtomicBool,
    /// Bytes of a request may come after its answer.
    is_owed: AtomicBool,
    /// What the connection was told from outside.
    order: AtomicU8,
    requests: AtomicU64,
    written_bytes: AtomicU64,
    /// Streams of an HTTP/2 connection.
    streams: AtomicUsize,
    /// Streams whose last piece of a body has not been taken yet.
    held_back: AtomicUsize,
    /// Pieces of bodies that were given to the connection.
    pieces: AtomicU64,
    /// The connection's task.
    pub waker: AtomicWaker,
}

impl Pulse {
    /// Bytes came; zero of them mean the end.
    pub fn read(&self, bytes: usize) {
        if bytes == 0 {
            self.ended.store(true, Ordering::Relaxed);
        } else if self.phase.load(Ordering::Relaxed) == BETWEEN {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the client sends no more.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// An answer's body failed half-way, so that its end must not look like one.
    pub fn break_off(&self) {
        self.broken_off.store(true, Ordering::Relaxed);
    }

    /// Whether an answer's body failed half-way.
    pub fn is_broken_off(&self) -> bool {
        self.broken_off.load(Ordering::Relaxed)
    }

    /// Bytes went.
    pub fn wrote(&self, bytes: usize) {
        self.blocked.store(false, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes would not go.
    pub fn write_blocked(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    /// A request begins. Its other half is [`Pulse::end`].
    pub fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.overdue.store(false, Ordering::Relaxed);
        self.phase.store(WORKING, Ordering::Relaxed);
    }

    /// The request is with a handler that must answer within the limit.
    pub fn watch_answer(&self) {
        self.phase.store(ANSWERING, Ordering::Relaxed);
    }

    /// Tells the watched handler that it is out of time; the connection must be polled after this.
    pub fn set_overdue(&self) {
        self.overdue.store(true, Ordering::Relaxed);
    }

    /// Whether the watched handler is out of time.
    pub fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed)
    }

    /// A handler goes on to read its request's body while its answer is sent, and after that.
    pub fn owe(&self) {
        self.is_owed.store(true, Ordering::Relaxed);
    }

    /// Whether nothing of an earlier request is under way when the connection is idle.
    pub fn may_rest(&self) -> bool {
        !self.is_owed.load(Ordering::Relaxed)
    }

    /// Tells the connection's task something; a later order outranks an earlier one.
    pub fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// What the connection was told last.
    pub fn told(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Serve,
            1 => Order::Finish,
            _ => Order::Cut,
        }
    }

    /// The head of the response is there.
    pub fn send(&self) {
        self.phase.store(SENDING, Ordering::Relaxed);
    }

    /// The request is over, answered or not.
    pub fn end(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
        self.head_begun.store(false, Ordering::Relaxed);
        self.phase.store(BETWEEN, Ordering::Relaxed);
    }

    /// A piece of a body was given to an HTTP/2 connection. Its other half is [`Pulse::took_piece`].
    pub fn gave_piece(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.held_back.fetch_add(1, Ordering::Relaxed);
    }

    /// The connection has taken it, or the stream is gone.
    pub fn took_piece(&self) {
        self.held_back.fetch_sub(1, Ordering::Relaxed);
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What an HTTP/1 connection waits for, and a number that grows with each step towards it.
    pub fn waiting_http1(&self) -> (Waiting, u64) {
        if self.blocked.load(Ordering::Relaxed) {
            return (Waiting::Write, self.written_bytes.load(Ordering::Relaxed));
        }
        let waiting = match self.phase.load(Ordering::Relaxed) {
            ANSWERING => Waiting::Answer,
            BETWEEN if self.head_begun.load(Ordering::Relaxed) => Waiting::Head,
            BETWEEN if self.requests() == 0 => Waiting::Silent,
            BETWEEN => Waiting::Idle,
            _ => Waiting::Nothing,
        };
        // Bytes of a head are no step: it has so long from its first byte to its end.
        (waiting, self.requests())
    }

    /// The same for an HTTP/2 connection. Its handlers are watched one by one, elsewhere.
    pub fn waiting_http2(&self) -> (Waiting, u64) {
        if self.blocked.load(Ordering::Relaxed) {
            (Waiting::Write, self.written_bytes.load(Ordering::Relaxed))
        } else if self.streams.load(Ordering::Relaxed) == 0 {
            (if self.requests() == 0 { Waiting::Silent } else { Waiting::Idle }, self.requests())
        } else if self.held_back.load(Ordering::Relaxed) > 0 {
            (Waiting::Write, self.pieces.load(Ordering::Relaxed))
        } else {
            (Waiting::Nothing, 0)
        }
    }
}

/// The one timer of a connection.
pub struct Clock {
    waiting: (Waiting, u64),
    deadline: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
    /// Whether the task is told when `sleep` rings.
    registered: bool,
}

impl Clock {
    /// A clock of a connection that has said nothing yet. Needs a tokio runtime with a timer around the caller.
    pub fn new(limits: &Limits) -> Self {
        let deadline = Instant::now() + limits.silent_time;
        Self {
            waiting: (Waiting::Silent, 0),
            deadline: Some(deadline),
            sleep: Box::pin(tokio::time::sleep_until(deadline)),
            registered: false,
        }
    }

    /// Resolves when what the connection waits for took too long; the same wait is not reported twice.
    pub fn poll(&mut self, waiting: (Waiting, u64), limits: &Limits, context: &mut Context<'_>) -> Poll<Waiting> {
        if waiting != self.waiting {
            self.waiting = waiting;
            self.deadline = waiting.0.limit(limits).map(|limit| Instant::now() + limit);
        }
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if deadline < self.sleep.deadline() {
            self.arm(deadline);
        }
        loop {
            if self.registered && !self.sleep.is_elapsed() {
                return Poll::Pending;
            }
            self.registered = true;
            std::task::ready!(self.sleep.as_mut().poll(context));
            if Instant::now() >= deadline {
                self.deadline = None;
                return Poll::Ready(waiting.0);
            }
            self.arm(deadline);
        }
    }

    fn arm(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
        self.registered = false;
    }
}
