//! The connections to plugins' servers that rest between two requests, by plugin and run, and answers that bring theirs
//! back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

use crate::base::error::{Error, Result};
use crate::base::shutdown::Shutdown;
use crate::edge::line::{Failure, Line, Target};
use crate::kernel::call::Body;
use crate::kernel::meter::Meters;
use crate::kernel::upstream::Upstream;

/// How many connections to one server may rest; what is beyond is closed.
const RESTING: usize = 128;
/// How often connections that have rested too long are looked for.
const SWEEP_TIME: Duration = Duration::from_secs(1);
/// Bodies up to this, if they are here with their head, are handed on whole.
const WHOLE_BYTES: usize = 64 << 10;

/// The connections that rest. Cloning is cheap.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    meters: Meters,
    /// By plugin.
    shelves: Mutex<BTreeMap<Arc<str>, Shelf>>,
    /// Told when a connection comes to rest.
    rested: Notify,
}

/// The connections to one run of a plugin's server; the last that came is the first to go.
struct Shelf {
    target: Arc<Target>,
    #[expect(clippy::vec_box, reason = "a connection moves from hand to hand with every request")]
    lines: Vec<Box<Line>>,
}

impl Pool {
    /// An empty pool, swept until the stop. Needs a tokio runtime around the caller.
    pub fn new(meters: Meters, shutdown: &Shutdown) -> Self {
        let shared = Arc::new(Shared { meters, shelves: Mutex::default(), rested: Notify::new() });
        let (sweeping, told) = (shared.clone(), shutdown.clone());
        shutdown.spawn("upstream pool", async move {
            tokio::select! {
                () = sweeping.sweep() => {}
                () = told.stopping() => {}
            }
        });
        Self { shared }
    }

    /// What requests to this run of a server have in common.
    pub fn target(&self, upstream: &Upstream) -> Arc<Target> {
        let plugin = upstream.plugin.shared();
        if let Some(shelf) = self.shared.shelves().get(&plugin).filter(|shelf| shelf.is_of(upstream)) {
            return shelf.target.clone();
        }
        let target = Arc::new(Target::new(upstream, self.shared.meters.of(&plugin)));
        let old = self.shared.shelves().insert(plugin, Shelf { target: target.clone(), lines: Vec::new() });
        // Connections to an earlier run are closed when the lock is free again.
        drop(old);
        target
    }

    /// A connection that rests and still serves, taken off its shelf.
    pub fn take(&self, upstream: &Upstream) -> Option<Box<Line>> {
        let plugin = upstream.plugin.shared();
        loop {
            let line = {
                let mut shelves = self.shared.shelves();
                let shelf = shelves.get_mut(&plugin).filter(|shelf| shelf.is_of(upstream))?;
                shelf.lines.pop()?
            };
            if line.is_fresh() {
                return Some(line);
            }
        }
    }

    /// Puts a connection to rest whose last answer is whole; one that cannot serve again is closed.
    fn keep(&self, plugin: &Arc<str>, mut line: Box<Line>) {
        if !line.rests() {
            return;
        }
        let mut shelves = self.shared.shelves();
        match shelves.get_mut(plugin) {
            Some(shelf) if shelf.target.run == line.target.run && shelf.lines.len() < RESTING => shelf.lines.push(line),
            _ => return,
        }
        drop(shelves);
        self.shared.rested.notify_one();
    }

    /// The body of an answer that came on `line`: whole if it is here already, else as a stream that brings the
    /// connection back at its end.
    pub fn body(&self, plugin: Arc<str>, mut line: Box<Line>) -> Body {
        if let Some(bytes) = line.take_whole() {
            self.keep(&plugin, line);
            return Body::from(bytes);
        }
        let mut early = Vec::new();
        let mut room = WHOLE_BYTES;
        let mut failed = None;
        // What is announced to be larger is not looked at: copying it together would cost more than it saves.
        while !line.is_end_stream() && line.size_hint().lower() <= room as u64 {
            match line.poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    room = room.saturating_sub(bytes.len());
                    early.push(bytes);
                    if room == 0 {
                        break;
                    }
                }
                Poll::Ready(Some(Err(failure))) => {
                    failed = Some(failure);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if line.is_end_stream() && failed.is_none() {
            self.keep(&plugin, line);
            return Body::from(joined(early));
        }
        Body::stream(Answer { early: early.into_iter(), failed, line: Some(line), plugin, pool: self.clone() })
    }
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() > 1 { Bytes::from(pieces.concat()) } else { pieces.pop().unwrap_or_default() }
}

/// An answer's body on its way. Dropped before its end, it closes its connection, which cancels the request.
struct Answer {
    /// What came with the head.
    early: std::vec::IntoIter<Bytes>,
    /// What went wrong behind that.
    failed: Option<Failure>,
    /// None when the body has ended.
    line: Option<Box<Line>>,
    plugin: Arc<str>,
    pool: Pool,
}

impl Answer {
    fn end(&mut self) {
        if let Some(line) = self.line.take() {
            self.pool.keep(&self.plugin, line);
        }
    }

    fn break_off(&mut self, failure: Failure) -> Error {
        if let Some(line) = self.line.take() {
            line.target.meter.failed();
        }
        let error = failure.into_error(&self.plugin);
        tracing::warn!(plugin = &*self.plugin, "{error}");
        error
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.early.next() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(failure) = self.failed.take() {
            return Poll::Ready(Some(Err(self.break_off(failure))));
        }
        let Some(line) = &mut self.line else { return Poll::Ready(None) };
        let frame = ready!(line.poll_frame(context));
        if let Some(Err(failure)) = frame {
            return Poll::Ready(Some(Err(self.break_off(failure))));
        }
        if line.is_end_stream() {
            // Nobody asks again for a body whose announced length is reached.
            self.end();
        }
        Poll::Ready(frame.and_then(Result::ok).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        let has_ended = self.line.as_ref().is_none_or(|line| line.is_end_stream());
        self.early.as_slice().is_empty() && self.failed.is_none() && has_ended
    }

    fn size_hint(&self) -> SizeHint {
        let waiting: u64 = self.early.as_slice().iter().map(|bytes| bytes.len() as u64).sum();
        let rest = self.line.as_ref().map_or(SizeHint::with_exact(0), |line| line.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + waiting);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
    }
}

impl Shared {
    fn shelves(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what has rested too long, for as long as anything rests.
    async fn sweep(&self) {
        loop {
            self.rested.notified().await;
            while self.any_rests() {
                tokio::time::sleep(SWEEP_TIME).await;
                let mut stale = Vec::new();
                for shelf in self.shelves().values_mut() {
                    stale.extend(shelf.lines.extract_if(.., |line| line.is_stale()));
                }
                // Closed here, where no lock is held.
                drop(stale);
            }
        }
    }

    fn any_rests(&self) -> bool {
        self.shelves().values().any(|shelf| !shelf.lines.is_empty())
    }
}

impl Shelf {
    fn is_of(&self, upstream: &Upstream) -> bool {
        self.target.run == upstream.run && self.target.port == upstream.port
    }
}
