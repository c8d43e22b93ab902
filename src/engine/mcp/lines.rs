//! What a server says on its standard output, as long as no line of it is too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::SetOnce;

use crate::base::error::{Error, Kind, Result};

/// Bytes of one message, as over HTTP.
pub const LINE_BYTES: usize = 16 << 20;

/// Passes on what it reads, and ends with an error in the middle of a line that is too long.
pub struct Lines<R> {
    inner: R,
    /// Bytes since the last end of a line.
    begun: usize,
    overrun: Overrun,
}

/// What a server has said too much of, or read too little of, which ends its connection. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Overrun(Arc<SetOnce<String>>);

impl Overrun {
    /// Ends the connection; the first message stays.
    pub fn tell(&self, message: String) {
        let _ = self.0.set(message);
    }

    /// What is said of it; `None` when there was none.
    pub fn error(&self) -> Option<Error> {
        self.0.get().map(|message| Error::new(Kind::Upstream, message.as_str()))
    }

    /// Waits for it. A connection whose server does not read cannot be closed, so that its own end may never come.
    pub async fn told(&self) -> Error {
        Error::new(Kind::Upstream, self.0.wait().await.as_str())
    }

    /// Does `work` as long as there is none.
    ///
    /// # Errors
    /// What is said of it, or the work's own.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            error = self.told() => Err(error),
            result = work => result,
        }
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
            self.overrun.tell(format!(
                "the MCP server has said more than {} MiB in one line, which no message may have; it is tried again",
                LINE_BYTES >> 20
            ));
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}
