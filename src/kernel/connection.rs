//! One open `/ws` socket, as the rest of the host sees it: a bounded outbox, a set of topics and a way to close it.
//!
//! The edge owns the socket itself; it drains the outbox and does what [`Connection::closed`] says.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Notify, mpsc};

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::ServerFrame;
use crate::kernel::auth::Principal;

/// How much may wait in an outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Frames.
    pub frames: usize,
    /// Bytes of their text.
    pub bytes: usize,
}

/// Why a socket is to be closed: a close code (RFC 6455 §7.4) and a reason of at most 123 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The code.
    pub code: u16,
    /// The reason, possibly empty.
    pub reason: Box<str>,
    /// Whether what waits in the outbox is sent first.
    pub flush: bool,
}

/// A handle on one open socket; cloning is cheap.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    id: Box<str>,
    principal: Principal,
    outbox: mpsc::Sender<ServerFrame>,
    limits: OutboxLimits,
    waiting_bytes: AtomicUsize,
    closed: OnceLock<CloseReason>,
    closing: Notify,
    /// The topics that it is subscribed to, for the hub to forget when it leaves.
    topics: Mutex<Vec<Arc<str>>>,
}

/// The other end of a connection's outbox, for the one task that writes to the socket.
pub struct Outbox {
    frames: mpsc::Receiver<ServerFrame>,
    shared: Arc<Shared>,
}

impl Connection {
    /// A new connection and the outbox that its writer drains.
    pub fn open(id: impl Into<Box<str>>, principal: Principal, limits: OutboxLimits) -> (Self, Outbox) {
        let (outbox, frames) = mpsc::channel(limits.frames);
        let shared = Arc::new(Shared {
            id: id.into(),
            principal,
            outbox,
            limits,
            waiting_bytes: AtomicUsize::new(0),
            closed: OnceLock::new(),
            closing: Notify::new(),
            topics: Mutex::default(),
        });
        (Self { shared: shared.clone() }, Outbox { frames, shared })
    }

    /// Unique among all connections of this host; 128 random bits.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Who is at the other end.
    pub fn principal(&self) -> &Principal {
        &self.shared.principal
    }

    /// Puts a frame into the outbox; never waits. A full outbox closes the connection with 1013.
    ///
    /// # Errors
    /// `Cancelled`: it is closed or closing. `Busy`: the outbox was full, so it is closing now.
    pub fn send(&self, frame: ServerFrame) -> Result<()> {
        if self.is_closed() {
            return Err(gone());
        }
        let bytes = frame.text().len();
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        // One frame larger than the whole limit still passes when nothing else waits.
        let full = waiting > 0 && waiting + bytes > self.shared.limits.bytes;
        let sent = if full { Err(None) } else { self.shared.outbox.try_send(frame).map_err(Some) };
        match sent {
            Ok(()) => Ok(()),
            Err(why) => {
                self.shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
                if let Some(mpsc::error::TrySendError::Closed(_)) = why {
                    return Err(gone());
                }
                self.finish(CloseReason { code: 1013, reason: "the outbox is full: read faster".into(), flush: false });
                Err(Error::new(
                    Kind::Busy,
                    "the connection's outbox is full: it does not read, and is closed with 1013",
                ))
            }
        }
    }

    /// Closes the socket once what waits in the outbox was sent. The first close decides the code.
    pub fn close(&self, code: u16, reason: &str) {
        self.finish(CloseReason { code, reason: fitting(reason).into(), flush: true });
    }

    /// Closes the socket without sending what waits.
    pub fn close_at_once(&self, code: u16, reason: &str) {
        self.finish(CloseReason { code, reason: fitting(reason).into(), flush: false });
    }

    /// Whether it is closed or closing.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get().is_some()
    }

    /// Resolves when the socket is to be closed, or was.
    pub async fn closed(&self) -> CloseReason {
        let told = self.shared.closing.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        if self.shared.closed.get().is_none() {
            told.await;
        }
        self.shared.closed.get().cloned().unwrap_or(CloseReason { code: 1011, reason: Box::default(), flush: false })
    }

    /// Whether two handles are of one socket.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Notes a topic. False when it was noted already.
    pub(in crate::kernel) fn note_topic(&self, topic: &Arc<str>) -> bool {
        let mut topics = self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let new = !topics.contains(topic);
        if new {
            topics.push(topic.clone());
        }
        new
    }

    /// Forgets a topic. False when it was not noted.
    pub(in crate::kernel) fn forget_topic(&self, topic: &str) -> bool {
        let mut topics = self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let before = topics.len();
        topics.retain(|noted| **noted != *topic);
        topics.len() < before
    }

    /// Takes all topics, for a connection that leaves.
    pub(in crate::kernel) fn take_topics(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn finish(&self, reason: CloseReason) {
        if self.shared.closed.set(reason).is_ok() {
            self.shared.closing.notify_waiters();
        }
    }
}

impl Outbox {
    /// The next frame to write; `None` when every handle is gone.
    pub async fn next(&mut self) -> Option<ServerFrame> {
        let frame = self.frames.recv().await?;
        self.shared.waiting_bytes.fetch_sub(frame.text().len(), Ordering::AcqRel);
        Some(frame)
    }

    /// The next frame if one waits.
    pub fn next_now(&mut self) -> Option<ServerFrame> {
        let frame = self.frames.try_recv().ok()?;
        self.shared.waiting_bytes.fetch_sub(frame.text().len(), Ordering::AcqRel);
        Some(frame)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} of {}", self.id(), self.principal().name())
    }
}

fn gone() -> Error {
    Error::new(Kind::Cancelled, "the connection is closed")
}

/// As much of `reason` as fits a close frame (RFC 6455 §5.5): 125 bytes less the code.
fn fitting(reason: &str) -> &str {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
