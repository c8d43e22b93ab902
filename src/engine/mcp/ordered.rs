//! A transport whose reports of progress are heard in the order in which they came.
//!
//! `rmcp` hears each notification in a task of its own, so that a later report could overtake an earlier one, which then
//! says nothing new and is left out.

use std::future::Future;

use rmcp::handler::client::progress::ProgressDispatcher;
use rmcp::model::{JsonRpcMessage, ProgressNotificationParam, ServerNotification};
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

/// Passes on all but reports of progress, which it gives to those who wait for them.
pub struct Ordered<T> {
    inner: T,
    progress: ProgressDispatcher,
    /// A report that was received and not yet given on; whoever receives may stop half-way.
    held: Option<ProgressNotificationParam>,
}

impl<T> Ordered<T> {
    /// Around `inner`; reports go to `progress`.
    pub fn new(inner: T, progress: ProgressDispatcher) -> Self {
        Self { inner, progress, held: None }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Ordered<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(report) = self.held.clone() {
                self.progress.handle_notification(report).await;
                self.held = None;
            }
            match self.inner.receive().await? {
                JsonRpcMessage::Notification(message) => match message.notification {
                    ServerNotification::ProgressNotification(report) => self.held = Some(report.params),
                    notification => return Some(JsonRpcMessage::notification(notification)),
                },
                message => return Some(message),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
