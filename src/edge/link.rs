//! One accepted connection as its requests see it, and its seat among all connections.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::error::{Error, Kind, Result};
use crate::edge::clock::Pulse;
use crate::edge::metrics::Metrics;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One request after the other.
    Http1,
    /// Many streams.
    Http2,
}

/// What a connection may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Everything.
    Full,
    /// Only whether the host is well, and once: it came beyond the limit.
    Reserve,
}

/// One accepted connection.
pub struct Link {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that took the connection.
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What is spoken.
    pub protocol: Protocol,
    /// What may be asked.
    pub service: Service,
    /// What happens on it.
    pub pulse: Pulse,
    /// Where its requests are counted.
    pub metrics: Metrics,
}

impl Link {
    /// Waits for an answer, at most `limit`. On HTTP/1 the connection's own clock keeps the time, which costs no timer.
    ///
    /// # Errors
    /// `Timeout`: there was none.
    pub async fn within<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Result<T> {
        let late = || {
            let message = format!("the handler gave no answer within {} s", limit.as_secs_f64());
            Error::new(Kind::Timeout, message)
        };
        if self.protocol == Protocol::Http2 {
            return tokio::time::timeout(limit, answer).await.map_err(|_| late());
        }
        self.pulse.watch_answer();
        let mut answer = pin!(answer);
        poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Pending if self.pulse.is_overdue() => Poll::Ready(Err(late())),
            answer => answer.map(Ok),
        })
        .await
    }
}

/// One request on a connection: begins when its head is read, ends when this is dropped.
pub struct Turn(Arc<Link>);

impl Turn {
    /// Begins.
    pub fn begin(link: &Arc<Link>) -> Self {
        link.pulse.begin();
        Self(link.clone())
    }

    /// The connection.
    pub fn link(&self) -> &Link {
        &self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pulse.end();
    }
}

/// The seats for connections: so many with full service, and a small reserve. Cloning is cheap.
#[derive(Clone)]
pub struct Seats(Arc<Hall>);

struct Hall {
    full: usize,
    reserve: usize,
    taken: AtomicUsize,
    taken_reserve: AtomicUsize,
    emptied: Notify,
    metrics: Metrics,
}

/// A seat, until it is dropped.
pub struct Seat {
    service: Service,
    hall: Arc<Hall>,
}

impl Seats {
    /// A hall with `full` seats for everything and `reserve` further ones.
    pub fn new(full: usize, reserve: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Hall {
            full,
            reserve,
            taken: AtomicUsize::new(0),
            taken_reserve: AtomicUsize::new(0),
            emptied: Notify::new(),
            metrics,
        }))
    }

    /// Takes a seat, one of the reserve when the others are taken; `None` when all are.
    pub fn take(&self) -> Option<Seat> {
        let seat = |service| {
            self.0.metrics.opened();
            Some(Seat { service, hall: self.0.clone() })
        };
        if self.0.taken.fetch_add(1, Ordering::AcqRel) < self.0.full {
            return seat(Service::Full);
        }
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.refused();
        if self.0.taken_reserve.fetch_add(1, Ordering::AcqRel) < self.0.reserve {
            return seat(Service::Reserve);
        }
        self.0.taken_reserve.fetch_sub(1, Ordering::AcqRel);
        None
    }

    /// Resolves when nobody has a seat.
    pub async fn empty(&self) {
        loop {
            let told = self.0.emptied.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.0.taken.load(Ordering::Acquire) == 0 && self.0.taken_reserve.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }
}

impl Seat {
    /// What the seat is for.
    pub fn service(&self) -> Service {
        self.service
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let counter = match self.service {
            Service::Full => &self.hall.taken,
            Service::Reserve => &self.hall.taken_reserve,
        };
        self.hall.metrics.closed();
        if counter.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.hall.emptied.notify_waiters();
        }
    }
}
