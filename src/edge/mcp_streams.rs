//! The streams of MCP's old era, between `rmcp` and the client: one that is not read holds up neither its session nor
//! whoever ends it.
//!
//! `rmcp` has one worker for a session, which waits for room in the stream that it writes to. As long as that was the
//! client's own, a client that did not read kept its whole session from hearing anything, that it was to end included.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use rmcp::model::ServerJsonRpcMessage;
use rmcp::transport::streamable_http_server::session::ServerSseMessage;
use tokio::sync::mpsc::{self, Sender, error::TrySendError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::base::shutdown::Shutdown;

/// So many messages wait for a client.
const WAITING: usize = 16;

/// So long a message that may be missed waits for room.
const ROOM_TIME: Duration = Duration::from_secs(1);

/// How a stream is passed on.
pub struct Passage<F, H> {
    /// Ends it, whether or not its client reads.
    pub ended: CancellationToken,
    /// Whether it goes on without its client: the answer to a request is awaited.
    pub is_awaited: bool,
    /// Sees each message before the client does.
    pub see: F,
    /// Let go of before the client hears that the stream has ended.
    pub held: H,
}

/// Passes a stream on to its client.
pub fn passed_on<S, F, H>(
    shutdown: &Shutdown,
    stream: S,
    passage: Passage<F, H>,
) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static
where
    S: Stream<Item = ServerSseMessage> + Send + 'static,
    F: Fn(&ServerSseMessage) + Send + Sync + 'static,
    H: Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(WAITING);
    shutdown.spawn("mcp-stream", pass_on(shutdown.clone(), stream, passage, sender));
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

async fn pass_on<S, F, H>(
    shutdown: Shutdown,
    stream: S,
    Passage { ended, is_awaited, see, held }: Passage<F, H>,
    sender: Sender<ServerSseMessage>,
) where
    S: Stream<Item = ServerSseMessage>,
    F: Fn(&ServerSseMessage),
{
    {
        let passing = pass(stream, &sender, see);
        tokio::select! {
            () = ended.cancelled() => {}
            () = passing => {}
            () = unawaited(&shutdown, &sender, is_awaited) => {}
        }
    }
    drop(held);
}

/// Resolves when nobody wants a stream any more.
async fn unawaited(shutdown: &Shutdown, sender: &Sender<ServerSseMessage>, is_awaited: bool) {
    sender.closed().await;
    if is_awaited {
        shutdown.stopping().await;
    }
}

async fn pass(
    stream: impl Stream<Item = ServerSseMessage>,
    sender: &Sender<ServerSseMessage>,
    see: impl Fn(&ServerSseMessage),
) {
    let mut stream = std::pin::pin!(stream);
    let mut is_read = true;
    while let Some(message) = stream.next().await {
        see(&message);
        is_read = give(sender, message, is_read).await;
    }
}

/// Gives a client one message; whether it reads. One that does not misses what may be missed: how far a call is.
async fn give(sender: &Sender<ServerSseMessage>, message: ServerSseMessage, is_read: bool) -> bool {
    let may_be_missed = matches!(message.message.as_deref(), Some(ServerJsonRpcMessage::Notification(_)));
    match sender.try_send(message) {
        Ok(()) | Err(TrySendError::Closed(_)) => true,
        Err(TrySendError::Full(_)) if may_be_missed && !is_read => false,
        Err(TrySendError::Full(message)) if may_be_missed => timeout(ROOM_TIME, sender.send(message)).await.is_ok(),
        // Who is gone by then needs it no more.
        Err(TrySendError::Full(message)) => sender.send(message).await.is_ok(),
    }
}
