//! Large messages of MCP, read one at a time and where that holds up nobody else.
//!
//! To find out what a message is, `rmcp` takes it apart as far as it goes and keeps the parts: in memory, they are up to a
//! hundred times the text.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Semaphore;

use crate::base::error::{Error, Kind, Result};

/// A message of more bytes is a large one.
const LARGE_BYTES: usize = 256 << 10;

/// Reads large messages. Cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    turns: Arc<Semaphore>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(1)) }
    }
}

impl Reader {
    /// Does what reads a message, on a thread for such work, once others have ended.
    ///
    /// # Errors
    /// `Internal`: it panicked.
    pub async fn read<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = self.turns.clone().acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            // Kept until the end, also where the client is gone by then.
            let _turn = turn;
            work()
        });
        done.await.map_err(|error| Error::new(Kind::Internal, "reading a message has failed").with_source(error))
    }

    /// Runs what begins with reading a message that is there: its first step is such work, all others are not.
    ///
    /// # Errors
    /// `Internal`: the first step panicked.
    pub async fn begin<F>(&self, answer: F) -> Result<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut answer = Box::pin(answer);
        let begun = self.read(move || {
            // Nobody need be woken: it is asked again at once.
            let first = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            (answer, first)
        });
        match begun.await? {
            (_, Poll::Ready(answer)) => Ok(answer),
            (answer, Poll::Pending) => Ok(answer.await),
        }
    }
}

/// Whether a message is a large one.
pub fn is_large(body: &[u8]) -> bool {
    body.len() > LARGE_BYTES
}
