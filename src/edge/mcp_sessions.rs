//! The sessions of MCP's old era: each belongs to the principal that opened it, and there are only so many. Where a caller
//! opens one too many, its own that has been idle longest makes room.
//!
//! What a session is, and its streams, are `rmcp`'s. The era since 2026-07-28 has none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use http::request::Parts as Head;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, Extensions, GetExtensions, ProtocolVersion, ServerJsonRpcMessage,
};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionConfig, SessionError,
};
use rmcp::transport::streamable_http_server::session::{RestoreOutcome, ServerSseMessage, SessionId, SessionManager};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::base::shutdown::Shutdown;
use crate::kernel::call::Caller;
use crate::kernel::principal::Principal;

/// Names a session, in both directions.
const SESSION: &str = "mcp-session-id";
/// Names the revision of the protocol.
const VERSION: &str = "mcp-protocol-version";
/// A session that nothing happens in is closed after this time.
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// A session whose client has said nothing but its first message is closed after this time.
const BEGIN_TIME: Duration = Duration::from_secs(30);

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
    shutdown: Shutdown,
    /// The sessions by id, from their making to their end.
    open: Mutex<HashMap<SessionId, Seat>>,
}

/// One session.
struct Seat {
    /// Who opened it; unknown until its first message.
    owner: Option<Principal>,
    ended: CancellationToken,
    /// Its streams and calls, and the messages that are being taken.
    uses: usize,
    /// When one of these began or ended last.
    last: Instant,
    /// Whether its client has said anything but the first message.
    has_begun: bool,
    /// Whether its client has said that it is initialized.
    is_initialized: bool,
}

impl Seat {
    fn new() -> Self {
        let (ended, last) = (CancellationToken::new(), Instant::now());
        Self { owner: None, ended, uses: 0, last, has_begun: false, is_initialized: false }
    }

    fn is_of(&self, principal: &str) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.name() == principal)
    }
}

/// One use of a session, until it is dropped.
struct Use {
    sessions: Sessions,
    id: SessionId,
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(seat) = self.sessions.open().get_mut(&self.id) {
            seat.uses = seat.uses.saturating_sub(1);
            seat.last = Instant::now();
        }
    }
}

impl Sessions {
    /// No session, and at most `limit` at a time, `each` of one principal.
    pub fn new(limit: usize, each: usize, shutdown: Shutdown) -> Self {
        let mut inner = LocalSessionManager::default();
        let mut config = SessionConfig::default();
        config.keep_alive = Some(IDLE_TIME);
        inner.session_config = config;
        Self { shared: Arc::new(Shared { inner, limit, each, shutdown, open: Mutex::default() }) }
    }

    /// Checks what a request says of a session before it is answered.
    ///
    /// # Errors
    /// `NotFound`: the session is another principal's, or of a token that is no more. `Busy`: it asks for a new session,
    /// there are too many, and none of its own makes room.
    pub fn check(&self, headers: &HeaderMap, caller: &Caller) -> Result<()> {
        let open = self.open();
        let Some(id) = session_of(headers) else {
            let is_modern = headers
                .get(VERSION)
                .is_some_and(|version| version.as_bytes() >= ProtocolVersion::V_2026_07_28.as_str().as_bytes());
            let name = caller.principal.name();
            let (all, own) = (owned(&open), of(&open, name));
            let message = if is_modern || idle(&open, name).is_some() {
                return Ok(());
            } else if own >= self.shared.each {
                format!(
                    "{own} MCP sessions of {name} are in use, as many as one caller may have: end one, or ask later"
                )
            } else if all >= self.shared.limit {
                format!("{all} MCP sessions are open, as many as may be: end one, or ask later")
            } else {
                return Ok(());
            };
            return Err(Error::new(Kind::Busy, message));
        };
        // Whatever the version: what a header says does not decide alone in which era a message is read.
        match open.get(id).and_then(|seat| seat.owner.as_ref()) {
            // A new token of the same name is another principal.
            Some(owner) if owner.name() != caller.principal.name() || owner.is_revoked() => {
                Err(Error::new(Kind::NotFound, "there is no such MCP session: begin a new one"))
            }
            _ => Ok(()),
        }
    }

    /// What is cancelled when the session that a message came in ends; `None` when it came in none.
    pub fn end_of(&self, extensions: &Extensions) -> Option<CancellationToken> {
        let id = session_of(&extensions.get::<Head>()?.headers)?;
        self.open().get(id).map(|seat| seat.ended.clone())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SessionId, Seat>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a session to its principal; also the one that has to end for it.
    fn take(&self, id: &SessionId, principal: &Principal) -> Result<Option<SessionId>, LocalSessionManagerError> {
        let mut open = self.open();
        let is_full = of(&open, principal.name()) >= self.shared.each || owned(&open) >= self.shared.limit;
        let idle = idle(&open, principal.name()).filter(|_| is_full);
        if is_full && idle.is_none() {
            return Err(full());
        }
        if let Some(seat) = idle.as_ref().and_then(|idle| open.remove(idle)) {
            seat.ended.cancel();
        }
        if let Some(seat) = open.get_mut(id) {
            seat.owner = Some(principal.clone());
            let sessions = self.clone();
            let (id, principal, ended) = (id.clone(), principal.clone(), seat.ended.clone());
            self.shared.shutdown.spawn("mcp-session-end", async move { sessions.mind(id, principal, ended).await });
        }
        Ok(idle)
    }

    /// Closes a session whose principal is no more, or in which nothing begins.
    async fn mind(&self, id: SessionId, principal: Principal, ended: CancellationToken) {
        let unbegun = async {
            tokio::time::sleep(BEGIN_TIME).await;
            if self.open().get(&id).is_none_or(|seat| seat.has_begun) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = ended.cancelled() => return,
            () = self.shared.shutdown.stopping() => return,
            () = principal.revoked() => {}
            () = unbegun => {}
        }
        let _ = self.close_session(&id).await;
    }

    /// Keeps a session from making room for another.
    fn hold(&self, id: &SessionId) -> Arc<Use> {
        if let Some(seat) = self.open().get_mut(id) {
            seat.uses += 1;
        }
        Arc::new(Use { sessions: self.clone(), id: id.clone() })
    }

    /// The same for what a client says after its first message.
    fn go_on(&self, id: &SessionId) -> Arc<Use> {
        if let Some(seat) = self.open().get_mut(id) {
            seat.has_begun = true;
        }
        self.hold(id)
    }

    /// Whether a message says a second time that the client is initialized.
    fn is_repeated(&self, id: &SessionId, message: &ClientJsonRpcMessage) -> bool {
        let is_initialized = matches!(message, ClientJsonRpcMessage::Notification(said)
            if matches!(said.notification, ClientNotification::InitializedNotification(_)));
        is_initialized && self.open().get_mut(id).is_some_and(|seat| std::mem::replace(&mut seat.is_initialized, true))
    }

    fn forget(&self, id: &SessionId) {
        if let Some(seat) = self.open().remove(id) {
            seat.ended.cancel();
        }
    }
}

/// How many of the sessions are that principal's.
fn of(open: &HashMap<SessionId, Seat>, principal: &str) -> usize {
    open.values().filter(|seat| seat.is_of(principal)).count()
}

/// How many have got their first message.
fn owned(open: &HashMap<SessionId, Seat>) -> usize {
    open.values().filter(|seat| seat.owner.is_some()).count()
}

/// Which of that principal's has been out of use for longest.
fn idle(open: &HashMap<SessionId, Seat>, principal: &str) -> Option<SessionId> {
    let idle = open.iter().filter(|(_, seat)| seat.uses == 0 && seat.is_of(principal));
    idle.min_by_key(|(_, seat)| seat.last).map(|(id, _)| id.clone())
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
        let (id, transport) = self.shared.inner.create_session().await?;
        self.open().insert(id.clone(), Seat::new());
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let _use = self.hold(id);
        if let ClientJsonRpcMessage::Request(request) = &message
            && let Some(caller) = caller_of(request.request.extensions())
        {
            match self.take(id, &caller.principal) {
                Ok(None) => {}
                Ok(Some(idle)) => drop(self.close_session(&idle).await),
                Err(error) => {
                    self.close_session(id).await?;
                    return Err(error);
                }
            }
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
        mut message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let held = self.go_on(id);
        if let ClientJsonRpcMessage::Request(request) = &mut message {
            // A call goes on without the stream of its answer.
            request.request.extensions_mut().insert(held.clone());
        }
        Ok(while_held(self.shared.inner.create_stream(id, message).await?, held))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        let _use = self.go_on(id);
        if self.is_repeated(id, &message) {
            return Ok(());
        }
        self.shared.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let held = self.go_on(id);
        Ok(while_held(self.shared.inner.create_standalone_stream(id).await?, held))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let held = self.go_on(id);
        Ok(while_held(self.shared.inner.resume(id, last_event_id).await?, held))
    }

    async fn restore_session(&self, _id: SessionId) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        Ok(RestoreOutcome::NotSupported)
    }
}

/// The same stream, which is a use of its session.
fn while_held<S: Stream>(stream: S, held: Arc<Use>) -> impl Stream<Item = S::Item> {
    stream.map(move |message| {
        let _held = &held;
        message
    })
}

/// Who sent a message, as the gate in front of every route found it.
pub fn caller_of(extensions: &Extensions) -> Option<&Caller> {
    extensions.get::<Head>()?.extensions.get::<Caller>()
}
