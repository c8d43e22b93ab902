//! The sessions of MCP's old era: each belongs to the principal that opened it, and there are only so many. Where a caller
//! opens one too many, its own that has been idle longest makes room.
//!
//! What a session is, and its streams, are `rmcp`'s; which of its requests run, and what ends them, is known here, since
//! `rmcp` hears of it only when it is done with what came before. The era since 2026-07-28 has none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt, stream};
use http::request::Parts as Head;
use http::{HeaderMap, Method};
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorData, Extensions, GetExtensions, JsonRpcRequest,
    ProtocolVersion, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionConfig, SessionError,
};
use rmcp::transport::streamable_http_server::session::{RestoreOutcome, ServerSseMessage, SessionId, SessionManager};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::base::shutdown::Shutdown;
use crate::edge::mcp_requests::{Event, KEPT_TIME, Requests, Running, event, weight};
use crate::edge::mcp_seats::{Seat, idle, of, owned};
use crate::edge::mcp_streams::{Passage, passed_on};
use crate::edge::parts::Parts;
use crate::kernel::call::{Caller, Door};
use crate::kernel::principal::Principal;
use crate::kernel::readable::Readable;
use crate::kernel::toolbox::{Misfit, Toolbox};

/// Names a session, in both directions.
const SESSION: &str = "mcp-session-id";
/// Names the revision of the protocol.
const VERSION: &str = "mcp-protocol-version";
/// A session that nothing happens in is closed after this time.
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// A session whose client has said nothing but its first message is closed after this time.
const BEGIN_TIME: Duration = Duration::from_secs(30);
/// So long an answer that `rmcp` has sent may take to its stream's end.
const ARRIVAL_TIME: Duration = Duration::from_secs(5);

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
    toolbox: Toolbox,
    shutdown: Shutdown,
    /// The sessions by id, from their making to their end.
    open: Mutex<HashMap<SessionId, Seat>>,
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

/// What a request takes along to what works on it: a call goes on without the stream of its answer.
#[derive(Clone)]
struct Held(Arc<Work>);

/// The work on a request, until it is dropped.
struct Work {
    held: Arc<Use>,
    running: Running,
    session: CancellationToken,
}

impl Drop for Work {
    fn drop(&mut self) {
        let Use { sessions, id } = &*self.held;
        sessions.with(id, |requests| requests.over(&self.running));
    }
}

/// A request that is about to be handed to `rmcp`; its id is free again when that never happens.
struct Begun {
    held: Arc<Use>,
    running: Option<Running>,
}

impl Begun {
    fn handed_over(mut self) -> Option<Running> {
        self.running.take()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.held.sessions.with(&self.held.id, |requests| requests.end(&running));
        }
    }
}

impl Sessions {
    /// No session yet.
    pub fn new(parts: &Parts) -> Self {
        let mut inner = LocalSessionManager::default();
        let mut config = SessionConfig::default();
        config.keep_alive = Some(IDLE_TIME);
        inner.session_config = config;
        let limits = &parts.settings.limits;
        let shared = Shared {
            inner,
            limit: limits.mcp_sessions,
            each: limits.caller_mcp_sessions,
            toolbox: parts.toolbox.clone(),
            shutdown: parts.shutdown.clone(),
            open: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Checks what a request says of a session before it is answered.
    ///
    /// # Errors
    /// `NotFound`: the session is another principal's, or of a token that is no more; or it has no event that is asked
    /// for. `Busy`: it asks for a new session, there are too many, and none of its own makes room.
    pub fn check(&self, Head { method, headers, .. }: &Head, caller: &Caller) -> Result<()> {
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
            _ => open.get(id).filter(|_| method == Method::GET).map_or(Ok(()), |seat| seat.has_event(headers)),
        }
    }

    /// What is cancelled when the session that a message came in ends; `None` when it came in none.
    pub fn end_of(&self, extensions: &Extensions) -> Option<CancellationToken> {
        let id = session_of(&extensions.get::<Head>()?.headers)?;
        self.open().get(id).map(|seat| seat.ended.clone())
    }

    /// Does something with what is known of a session's requests, if it is open.
    fn with<T>(&self, id: &SessionId, work: impl FnOnce(&mut Requests) -> T) -> Option<T> {
        self.open().get_mut(id).map(|seat| work(&mut seat.requests))
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

    /// What is cancelled when a session ends.
    fn ended(&self, id: &SessionId) -> Result<CancellationToken, LocalSessionManagerError> {
        let open = self.open();
        let seat = open.get(id).ok_or_else(|| LocalSessionManagerError::SessionNotFound(id.clone()))?;
        Ok(seat.ended.clone())
    }

    /// Begins a request; `None` when one of its name runs.
    fn begin(
        &self,
        held: &Arc<Use>,
        request: &mut JsonRpcRequest<ClientRequest>,
    ) -> Result<Option<Begun>, LocalSessionManagerError> {
        let session = self.ended(&held.id)?;
        let begun = self.with(&held.id, |requests| requests.begin(&request.id, &session)).flatten();
        let Some(running) = begun else { return Ok(None) };
        let work = Work { held: held.clone(), running: running.clone(), session };
        request.request.extensions_mut().insert(Held(Arc::new(work)));
        Ok(Some(Begun { held: held.clone(), running: Some(running) }))
    }

    /// Answers a request whose name another has that runs, and records a call among them.
    fn refuse(&self, request: &JsonRpcRequest<ClientRequest>) -> ServerSseMessage {
        let message = "a request with this id runs in this session: give each request an id of its own";
        let mut error = Error::new(Kind::Conflict, message);
        let named = match &request.request {
            ClientRequest::CallToolRequest(call) => Some(&*call.params.name),
            ClientRequest::ReadResourceRequest(_) => Some(Readable::Resource.as_str()),
            ClientRequest::GetPromptRequest(_) => Some(Readable::Prompt.as_str()),
            _ => None,
        };
        if let (Some(tool), Some(caller)) = (named, caller_of(request.request.extensions())) {
            let misfit = Misfit { door: Door::Mcp, principal: &caller.principal, tool };
            error = self.shared.toolbox.refuse(&misfit, error);
        }
        let data = serde_json::json!({ "code": error.kind().code() });
        let error = ErrorData::invalid_request(error.message().to_owned(), Some(data));
        event(ServerJsonRpcMessage::error(error, Some(request.id.clone())))
    }

    /// Passes a stream of a session on to its client, at most until `ended`.
    fn passed_on(
        &self,
        stream: impl Stream<Item = ServerSseMessage> + Send + 'static,
        held: Arc<Use>,
        running: Option<Running>,
        ended: CancellationToken,
    ) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static {
        let (sessions, id, is_awaited) = (self.clone(), held.id.clone(), running.is_some());
        let see = move |message: &ServerSseMessage| {
            if let Some(running) = &running {
                sessions.see(&id, running, message);
            }
        };
        passed_on(&self.shared.shutdown, stream, Passage { ended, is_awaited, see, held })
    }

    /// Takes note of what a request's stream brings, and sees to it that its answer is not kept for longer than it may be.
    fn see(&self, id: &SessionId, running: &Running, message: &ServerSseMessage) {
        let bytes = weight(message);
        let mut open = self.open();
        let Some(seat) = open.get_mut(id) else { return };
        seat.requests.see(running, message, bytes);
        if bytes > 0 && !std::mem::replace(&mut seat.is_swept, true) {
            let (sessions, id, ended) = (self.clone(), id.clone(), seat.ended.clone());
            self.shared.shutdown.spawn("mcp-answers", async move { sessions.sweep(id, ended).await });
        }
    }

    /// Lets go of a session's answers in time, until there are none.
    async fn sweep(&self, id: SessionId, ended: CancellationToken) {
        let is_left = || {
            let mut open = self.open();
            let Some(seat) = open.get_mut(&id) else { return false };
            seat.is_swept = seat.requests.sweep();
            seat.is_swept
        };
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.shared.shutdown.stopping() => return,
                () = tokio::time::sleep(KEPT_TIME) => if !is_left() { return },
            }
        }
    }

    /// What a stream has brought that `rmcp` knows no more.
    async fn kept(&self, id: &SessionId, event: Event) -> Option<Option<ServerSseMessage>> {
        let running = self.with(id, |requests| event.stream.and_then(|stream| requests.of_stream(stream))).flatten();
        if let Some(running) = running {
            // The answer has left `rmcp` and is on its way.
            let _ = timeout(ARRIVAL_TIME, running.answered.cancelled()).await;
        }
        self.with(id, |requests| requests.after(event)).flatten()
    }
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
        self.open().insert(id.clone(), Seat::default());
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
        let mut begun = None;
        if let ClientJsonRpcMessage::Request(request) = &mut message {
            begun = self.begin(&held, request)?;
            if begun.is_none() {
                let refused = self.refuse(request);
                return Ok(stream::once(async move { refused }).left_stream());
            }
        }
        let stream = self.shared.inner.create_stream(id, message).await?;
        let running = begun.and_then(Begun::handed_over);
        let ended = running.as_ref().map(|running| running.cancelled.clone()).unwrap_or_default();
        Ok(self.passed_on(stream, held, running, ended).right_stream())
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        let _use = self.go_on(id);
        if self.is_repeated(id, &message) {
            return Ok(());
        }
        if let Some(given_up) = given_up(&message) {
            self.with(id, |requests| requests.cancel(given_up));
        }
        self.shared.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let (held, ended) = (self.go_on(id), self.ended(id)?);
        let stream = self.shared.inner.create_standalone_stream(id).await?;
        Ok(self.passed_on(stream, held, None, ended))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let (held, session) = (self.go_on(id), self.ended(id)?);
        let event = Event::parse(&last_event_id);
        match self.shared.inner.resume(id, last_event_id).await {
            Ok(stream) => {
                let of = event.and_then(|event| event.stream);
                let running = self.with(id, |requests| of.and_then(|stream| requests.of_stream(stream))).flatten();
                let ended = running.as_ref().map_or(session, |running| running.cancelled.clone());
                Ok(self.passed_on(stream, held, running, ended).left_stream())
            }
            Err(error) => {
                let event = event.ok_or(error)?;
                Ok(stream::iter(self.kept(id, event).await.flatten()).right_stream())
            }
        }
    }

    async fn restore_session(&self, _id: SessionId) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        Ok(RestoreOutcome::NotSupported)
    }
}

/// Which request a client says that it gives up.
fn given_up(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    let ClientJsonRpcMessage::Notification(said) = message else { return None };
    let ClientNotification::CancelledNotification(cancelled) = &said.notification else { return None };
    cancelled.params.request_id.as_ref()
}

/// Resolves when a request of a session has to end before it is answered, with why; never for one of no session.
pub async fn ended(extensions: &Extensions) -> &'static str {
    let Some(Held(work)) = extensions.get::<Held>() else { return std::future::pending().await };
    work.running.cancelled.cancelled().await;
    match work.session.is_cancelled() {
        true => "the call was cancelled: its MCP session was closed",
        false => "the call was cancelled",
    }
}

/// Who sent a message, as the gate in front of every route found it.
pub fn caller_of(extensions: &Extensions) -> Option<&Caller> {
    extensions.get::<Head>()?.extensions.get::<Caller>()
}
