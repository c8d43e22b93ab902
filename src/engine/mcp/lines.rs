//! What a server says on its standard output, as long as no line of it is too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::base::error::{Error, Kind};

/// Bytes of one message, as over HTTP.
pub const LINE_BYTES: usize = 16 << 20;

/// Passes on what it reads, and ends with an error in the middle of a line that is too long.
pub struct Lines<R> {
    inner: R,
    /// Bytes since the last end of a line.
    begun: usize,
    overrun: Overrun,
}

/// Whether a line was too long. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Overrun(Arc<AtomicBool>);

impl Overrun {
    /// What is said of it; `None` when there was none.
    pub fn error(&self) -> Option<Error> {
        let message = format!(
            "the MCP server has said more than {} MiB in one line, which no message may have; it is tried again",
            LINE_BYTES >> 20
        );
        self.0.load(Ordering::Acquire).then(|| Error::new(Kind::Upstream, message))
    }
}

impl<R> Lines<R> {
    /// Around what a server says.
    pub fn new(inner: R) -> (Self, Overrun) {
        let overrun = Overrun::default();
        (Self { inner, begun: 0, overrun: overrun.clone() }, overrun)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let said = &buffer.filled()[before..];
        self.begun = match said.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => said.len() - end - 1,
            None => self.begun + said.len(),
        };
        if self.begun > LINE_BYTES {
            self.overrun.0.store(true, Ordering::Release);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}
