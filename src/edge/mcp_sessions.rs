//! The sessions of MCP's old era: each belongs to the principal that opened it, and there are only so many.
//!
//! What a session is, and its streams, are `rmcp`'s. The era since 2026-07-28 has none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use http::HeaderMap;
use http::request::Parts as Head;
use rmcp::model::{ClientJsonRpcMessage, GetExtensions, ProtocolVersion, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionConfig, SessionError,
};
use rmcp::transport::streamable_http_server::session::{RestoreOutcome, ServerSseMessage, SessionId, SessionManager};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::kernel::call::Caller;

/// Names a session, in both directions.
const SESSION: &str = "mcp-session-id";
/// Names the revision of the protocol.
const VERSION: &str = "mcp-protocol-version";
/// A session that nothing happens in is closed after this time.
const IDLE_TIME: Duration = Duration::from_secs(3600);

/// The sessions that are open. Cloning is cheap.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    inner: LocalSessionManager,
    limit: usize,
    /// Of one principal.
    each: usize,
    /// The sessions by id, from their making to their end.
    open: Mutex<HashMap<SessionId, Seat>>,
}

/// One session.
struct Seat {
    /// Who opened it; unknown until its first message.
    owner: Option<Arc<str>>,
    ended: CancellationToken,
}

impl Sessions {
    /// No session, and at most `limit` at a time, `each` of one principal.
    pub fn new(limit: usize, each: usize) -> Self {
        let mut inner = LocalSessionManager::default();
        let mut config = SessionConfig::default();
        config.keep_alive = Some(IDLE_TIME);
        inner.session_config = config;
        Self { shared: Arc::new(Shared { inner, limit, each, open: Mutex::default() }) }
    }

    /// Checks what a request says of a session before it is answered.
    ///
    /// # Errors
    /// `NotFound`: the session is another principal's. `Busy`: it asks for a new session and there are too many.
    pub fn check(&self, headers: &HeaderMap, caller: &Caller) -> Result<()> {
        let open = self.open();
        let Some(id) = session_of(headers) else {
            let is_modern = headers
                .get(VERSION)
                .is_some_and(|version| version.as_bytes() >= ProtocolVersion::V_2026_07_28.as_str().as_bytes());
            let (name, all, own) = (caller.principal.name(), open.len(), of(&open, caller.principal.name()));
            let message = if is_modern {
                return Ok(());
            } else if own >= self.shared.each {
                format!("{own} MCP sessions of {name} are open, as many as one caller may have: end one, or ask later")
            } else if all >= self.shared.limit {
                format!("{all} MCP sessions are open, as many as may be: end one, or ask later")
            } else {
                return Ok(());
            };
            return Err(Error::new(Kind::Busy, message));
        };
        // Whatever the version: what a header says does not decide alone in which era a message is read.
        match open.get(id).and_then(|seat| seat.owner.as_deref()) {
            Some(owner) if owner != caller.principal.name() => {
                Err(Error::new(Kind::NotFound, "there is no such MCP session: begin a new one"))
            }
            _ => Ok(()),
        }
    }

    /// What is cancelled when the session that a message names ends.
    pub fn end_of(&self, head: &Head) -> Option<CancellationToken> {
        self.open().get(session_of(&head.headers)?).map(|seat| seat.ended.clone())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SessionId, Seat>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a session to its principal; whether they may have it.
    fn take(&self, id: &SessionId, principal: &str) -> bool {
        let mut open = self.open();
        let own = of(&open, principal);
        match open.get_mut(id) {
            Some(seat) if own < self.shared.each => seat.owner = Some(principal.into()),
            Some(_) => return false,
            None => {}
        }
        true
    }

    fn forget(&self, id: &SessionId) {
        if let Some(seat) = self.open().remove(id) {
            seat.ended.cancel();
        }
    }
}

/// How many of the sessions are that principal's.
fn of(open: &HashMap<SessionId, Seat>, principal: &str) -> usize {
    open.values().filter(|seat| seat.owner.as_deref() == Some(principal)).count()
}

/// What is said where the gate in front was passed: by first messages that came together, or whose header names the new
/// era.
fn full() -> LocalSessionManagerError {
    LocalSessionManagerError::SessionError(SessionError::Io(std::io::Error::other("too many MCP sessions are open")))
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        if self.open().len() >= self.shared.limit {
            return Err(full());
        }
        let (id, transport) = self.shared.inner.create_session().await?;
        self.open().insert(id.clone(), Seat { owner: None, ended: CancellationToken::new() });
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        if let ClientJsonRpcMessage::Request(request) = &message
            && let Some(caller) = caller_of(request.request.extensions())
            && !self.take(id, caller.principal.name())
        {
            self.close_session(id).await?;
            return Err(full());
        }
        self.shared.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.shared.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.forget(id);
        self.shared.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.shared.inner.create_stream(id, message).await
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.shared.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.shared.inner.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.shared.inner.resume(id, last_event_id).await
    }

    async fn restore_session(&self, _id: SessionId) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        Ok(RestoreOutcome::NotSupported)
    }
}

/// Who sent a message, as the gate in front of every route found it.
pub fn caller_of(extensions: &rmcp::model::Extensions) -> Option<&Caller> {
    extensions.get::<Head>()?.extensions.get::<Caller>()
}
