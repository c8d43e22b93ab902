//! One open `/ws` socket, as the rest of the host sees it: a bounded outbox and a way to close it.
//!
//! The edge owns the socket itself; it drains the outbox and does what [`Outgoing::Close`] says.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::{Ref, ServerFrame};
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
    id: Arc<str>,
    principal: Principal,
    limits: OutboxLimits,
    state: Mutex<State>,
}

/// What waits for the writer, and whether it does.
#[derive(Default)]
struct State {
    frames: VecDeque<ServerFrame>,
    /// The sum of the frames' text.
    bytes: usize,
    close: Option<CloseReason>,
    writer: Writer,
}

/// What the writer waits for.
#[derive(Default)]
enum Writer {
    /// Nothing: it is at work.
    #[default]
    Awake,
    /// A frame or the close.
    Frame(Waker),
    /// The close alone: its socket takes no more bytes at the moment.
    Close(Waker),
}

/// The other end of a connection's outbox, for the one task that writes to the socket. Dropping it says that the
/// socket is gone.
pub struct Outbox {
    shared: Arc<Shared>,
}

/// What the writer is to do next.
#[derive(Debug)]
pub enum Outgoing {
    /// Write this.
    Frame(ServerFrame),
    /// Close the socket; the frames that wait stay in [`Outbox::next_now`].
    Close(CloseReason),
}

impl Connection {
    /// A new connection and the outbox that its writer drains.
    pub fn open(id: impl Into<Arc<str>>, principal: Principal, limits: OutboxLimits) -> (Self, Outbox) {
        let shared = Arc::new(Shared { id: id.into(), principal, limits, state: Mutex::default() });
        (Self { shared: shared.clone() }, Outbox { shared })
    }

    /// Unique among all connections of this host; 128 random bits.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The id as shared text.
    pub fn shared_id(&self) -> Arc<str> {
        self.shared.id.clone()
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
        if let Some(writer) = self.put(frame)? {
            writer.wake();
        }
        Ok(())
    }

    /// Puts a frame into the outbox like [`Connection::send`], and leaves it to the caller to wake the writer that is
    /// returned. Until then nobody else wakes it.
    ///
    /// # Errors
    /// `Cancelled`: it is closed or closing. `Busy`: the outbox was full, so it is closing now.
    pub fn put(&self, frame: ServerFrame) -> Result<Option<Waker>> {
        let mut state = self.shared.state();
        if state.close.is_some() {
            return Err(Error::new(Kind::Cancelled, "the connection is closed"));
        }
        let limits = self.shared.limits;
        let bytes = state.bytes + frame.text().len();
        // One frame larger than the whole limit still passes when nothing else waits.
        if state.frames.len() >= limits.frames || (state.bytes > 0 && bytes > limits.bytes) {
            drop(state);
            self.close_at_once(1013, "the outbox is full: read faster");
            let message = "the connection's outbox is full: it does not read, and is closed with 1013";
            return Err(Error::new(Kind::Busy, message));
        }
        state.bytes = bytes;
        state.frames.push_back(frame);
        Ok(state.take_writer_for_frame())
    }

    /// Sends an error frame that answers `reference`, and logs what is not the client's own fault.
    pub fn send_failure(&self, channel: &str, reference: Option<&Ref>, error: &Error) {
        if matches!(error.kind(), Kind::Plugin | Kind::Upstream | Kind::Timeout | Kind::Internal) {
            let plugin = error.plugin().unwrap_or_default();
            match error.detail() {
                Some(traceback) => {
                    tracing::warn!(connection = self.id(), channel, plugin, code = %error.kind(), traceback, "{error}");
                }
                None => tracing::warn!(connection = self.id(), channel, plugin, code = %error.kind(), "{error}"),
            }
        }
        // A connection that is gone needs no answer.
        let _ = self.send(ServerFrame::error(channel, reference, error));
    }

    /// Whether more than half of the outbox is taken, so that what can be left out should be.
    pub fn is_crowded(&self) -> bool {
        let state = self.shared.state();
        let limits = self.shared.limits;
        state.frames.len() > limits.frames / 2 || state.bytes > limits.bytes / 2
    }

    /// Closes the socket once what waits in the outbox was sent. The first close decides the code; one that may not be
    /// sent (RFC 6455 §7.4) counts as 1000.
    pub fn close(&self, code: u16, reason: &str) {
        self.shared.finish(CloseReason { code: sendable(code), reason: fitting(reason).into(), flush: true });
    }

    /// The same without sending what waits.
    pub fn close_at_once(&self, code: u16, reason: &str) {
        self.shared.finish(CloseReason { code: sendable(code), reason: fitting(reason).into(), flush: false });
    }

    /// Whether it is closed or closing.
    pub fn is_closed(&self) -> bool {
        self.shared.state().close.is_some()
    }

    /// Whether two handles are of one socket.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, reason: CloseReason) {
        let mut state = self.state();
        if state.close.is_some() {
            return;
        }
        if !reason.flush {
            state.clear();
        }
        state.close = Some(reason);
        let writer = std::mem::take(&mut state.writer);
        drop(state);
        if let Writer::Frame(waker) | Writer::Close(waker) = writer {
            waker.wake();
        }
    }
}

impl State {
    fn clear(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }

    fn next(&mut self) -> Option<ServerFrame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.text().len();
        if self.frames.is_empty() && self.frames.capacity() > 64 {
            // A burst is over: most sockets are idle most of the time, and there are many of them.
            self.frames = VecDeque::new();
        }
        Some(frame)
    }

    fn take_writer_for_frame(&mut self) -> Option<Waker> {
        match std::mem::take(&mut self.writer) {
            Writer::Frame(waker) => Some(waker),
            other => {
                self.writer = other;
                None
            }
        }
    }
}

impl Outbox {
    /// Says that the writer is at work: until it waits again, a frame does not wake it. It will look by itself.
    pub fn attend(&mut self) {
        self.shared.state().writer = Writer::Awake;
    }

    /// The close when there is one, else the next frame; else the writer is woken by either.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Outgoing> {
        let mut state = self.shared.state();
        if let Some(reason) = &state.close {
            return Poll::Ready(Outgoing::Close(reason.clone()));
        }
        if let Some(frame) = state.next() {
            return Poll::Ready(Outgoing::Frame(frame));
        }
        state.writer = Writer::Frame(context.waker().clone());
        Poll::Pending
    }

    /// The close when there is one; else the writer is woken by it alone.
    pub fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<CloseReason> {
        let mut state = self.shared.state();
        if let Some(reason) = &state.close {
            return Poll::Ready(reason.clone());
        }
        state.writer = Writer::Close(context.waker().clone());
        Poll::Pending
    }

    /// The next frame if one waits.
    pub fn next_now(&mut self) -> Option<ServerFrame> {
        self.shared.state().next()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.clear();
        state.writer = Writer::Awake;
        // Nobody sends this code (RFC 6455 §7.4.1): it says that the socket ended without a close.
        state.close.get_or_insert_with(|| CloseReason { code: 1006, reason: Box::default(), flush: false });
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} of {}", self.id(), self.principal().name())
    }
}

fn sendable(code: u16) -> u16 {
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => code,
        _ => 1000,
    }
}

/// As much of `reason` as fits a close frame (RFC 6455 §5.5): 125 bytes less the code.
pub fn fitting(reason: &str) -> &str {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
