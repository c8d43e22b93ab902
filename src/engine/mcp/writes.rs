//! What is written to a server's standard input, as long as it reads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

use crate::engine::mcp::lines::Overrun;

/// A server that takes no byte for so long does not read; longer where one of its calls may take longer, for a server that
/// does one thing after the other reads nothing while it works.
pub const READ_TIME: Duration = Duration::from_secs(5);

/// Passes on what is written, and ends with an error when nothing of it is taken for too long: what waits to be written
/// stays in memory.
pub struct Writes<W> {
    inner: W,
    limit: Duration,
    /// Since when nothing was taken of what there is to write; `None` when there is nothing.
    waiting: Option<Pin<Box<Sleep>>>,
    overrun: Overrun,
}

impl<W> Writes<W> {
    /// Around what a server reads, which takes a byte within `limit`; `overrun` is told of one that does not.
    pub fn new(inner: W, limit: Duration, overrun: Overrun) -> Self {
        Self { inner, limit, waiting: None, overrun }
    }

    /// The same, as long as the server is not late with it.
    fn in_time<T>(&mut self, taken: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.waiting = None;
            return taken;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        if waiting.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let seconds = limit.as_secs();
        self.overrun
            .tell(format!("the MCP server has read nothing of what it is sent for {seconds} s; it is tried again"));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "it does not read")))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Writes<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.in_time(taken, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let taken = Pin::new(&mut self.inner).poll_flush(context);
        self.in_time(taken, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
