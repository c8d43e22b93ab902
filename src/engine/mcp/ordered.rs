//! A transport whose reports of progress are heard in the order in which they came, and whose server cannot ask without
//! end.
//!
//! `rmcp` hears each notification in a task of its own, so that a later report could overtake an earlier one, which then
//! says nothing new and is left out. Each request and each answer to one has such a task too: those of a server that asks
//! and does not read what it is answered would take all memory.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rmcp::handler::client::progress::ProgressDispatcher;
use rmcp::model::{
    JsonRpcMessage, JsonRpcRequest, ProgressNotificationParam, RequestId, ServerNotification, ServerRequest,
};
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::engine::mcp::lines::Overrun;

/// So many requests of a server may have no answer that it has taken.
const UNANSWERED: usize = 64;
/// So long one more waits for its turn.
const TURN_TIME: Duration = Duration::from_secs(5);

/// Passes on all but reports of progress, which it gives to those who wait for them.
pub struct Ordered<T> {
    inner: T,
    progress: ProgressDispatcher,
    /// A report that was received and not yet given on; whoever receives may stop half-way.
    held: Option<ProgressNotificationParam>,
    /// A request that was received and has no place yet, with the end of its time.
    asked: Option<(JsonRpcRequest<ServerRequest>, Instant)>,
    /// A request takes one until its answer is written.
    places: Arc<Semaphore>,
    /// The places of requests whose answers were not yet given to `inner`.
    unanswered: HashMap<RequestId, OwnedSemaphorePermit>,
    overrun: Overrun,
}

impl<T> Ordered<T> {
    /// Around `inner`; reports go to `progress`, and `overrun` is told of a server that asks too much.
    pub fn new(inner: T, progress: ProgressDispatcher, overrun: Overrun) -> Self {
        let places = Arc::new(Semaphore::new(UNANSWERED));
        Self { inner, progress, held: None, asked: None, places, unanswered: HashMap::new(), overrun }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Ordered<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &item {
            JsonRpcMessage::Response(answer) => Some(&answer.id),
            JsonRpcMessage::Error(answer) => answer.id.as_ref(),
            _ => None,
        };
        let place = answered.and_then(|id| self.unanswered.remove(id));
        let sent = self.inner.send(item);
        async move {
            let _until_written = place;
            sent.await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(report) = self.held.clone() {
                self.progress.handle_notification(report).await;
                self.held = None;
            }
            if let Some((_, until)) = &self.asked {
                let Ok(Ok(place)) = timeout_at(*until, self.places.clone().acquire_owned()).await else {
                    self.overrun.tell(format!(
                        "the MCP server has asked {UNANSWERED} times and does not read the answers; it is tried again"
                    ));
                    return None;
                };
                if let Some((request, _)) = self.asked.take() {
                    self.unanswered.insert(request.id.clone(), place);
                    return Some(JsonRpcMessage::Request(request));
                }
            }
            match self.inner.receive().await? {
                JsonRpcMessage::Notification(message) => match message.notification {
                    ServerNotification::ProgressNotification(report) => self.held = Some(report.params),
                    notification => {
                        // What is cancelled gets no answer.
                        if let ServerNotification::CancelledNotification(cancelled) = &notification
                            && let Some(id) = &cancelled.params.request_id
                        {
                            self.unanswered.remove(id);
                        }
                        return Some(JsonRpcMessage::notification(notification));
                    }
                },
                // A second of the same id, which MCP forbids, would get no answer of its own.
                JsonRpcMessage::Request(request) if self.unanswered.contains_key(&request.id) => {}
                JsonRpcMessage::Request(request) => self.asked = Some((request, Instant::now() + TURN_TIME)),
                message => return Some(message),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
