//! A question to a server: it waits for its turn, and whoever stops waiting for the answer tells the server so.

use std::sync::Arc;

use rmcp::ServiceError;
use rmcp::handler::client::progress::ProgressDispatcher;
use rmcp::model::{ClientRequest, GetExtensions, ProgressToken, ServerResult};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle, RoleClient};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::base::shutdown::Shutdown;

/// So many questions may wait to be written to a server on standard streams. Whoever asks one more waits with it, so that
/// it is gone when nobody waits any more: what was given to `rmcp` stays in memory until the server reads it.
pub const UNWRITTEN: usize = 16;

/// The connection that questions go over. Cloning is cheap.
#[derive(Clone)]
pub struct Line {
    /// The other side.
    pub peer: Peer<RoleClient>,
    /// Where its progress is dealt out.
    pub progress: ProgressDispatcher,
    /// Told when the list of tools may be another, or the server gone: it is asked for its list.
    pub changed: Arc<Notify>,
    /// What owns the tasks that say goodbye.
    pub shutdown: Shutdown,
    /// A question holds one until it is written; `None` where none waits for others to be read.
    pub places: Option<Arc<Semaphore>>,
}

/// A question under way. Dropped before its answer, it tells the server that nobody waits.
pub struct Question {
    /// What its reports of progress are named by.
    pub token: ProgressToken,
    /// None when it was answered.
    handle: Option<RequestHandle<RoleClient>>,
    shutdown: Shutdown,
}

/// Dropped with the message that it belongs to, once that is written.
#[derive(Clone)]
struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Question {
    /// Asks.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn ask(line: &Line, mut request: ClientRequest) -> Result<Self, ServiceError> {
        if let Some(places) = &line.places {
            let permit = places.clone().acquire_owned().await.map_err(|_| ServiceError::TransportClosed)?;
            request.extensions_mut().insert(Place { _permit: Arc::new(permit) });
        }
        let handle = line.peer.send_request_with_option(request, PeerRequestOptions::no_options()).await?;
        Ok(Self { token: handle.progress_token.clone(), handle: Some(handle), shutdown: line.shutdown.clone() })
    }

    /// Waits for the answer. Loses nothing when it is dropped half way and called again.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn answer(&mut self) -> Result<ServerResult, ServiceError> {
        let Some(handle) = &mut self.handle else { return Err(ServiceError::UnexpectedResponse) };
        let answer = (&mut handle.rx).await.unwrap_or(Err(ServiceError::TransportClosed));
        self.handle = None;
        answer
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.shutdown.spawn("mcp-cancel", handle.cancel(Some("nobody waits for the result".to_owned())));
        }
    }
}
