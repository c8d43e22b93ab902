//! What is known of each session of MCP's old era: whose it is, whether it is in use, what runs in it.

use std::collections::HashMap;
use std::time::Instant;

use http::HeaderMap;
use rmcp::transport::streamable_http_server::session::SessionId;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::edge::mcp_requests::{Event, KEPT_TIME, Requests};
use crate::kernel::principal::Principal;

/// Names the last event that a client has got of a stream that it asks for again.
const LAST_EVENT: &str = "last-event-id";

/// One session.
pub struct Seat {
    /// Who opened it; unknown until its first message.
    pub owner: Option<Principal>,
    /// Cancelled when it ends.
    pub ended: CancellationToken,
    /// Its streams and calls, and the messages that are being taken.
    pub uses: usize,
    /// When one of these began or ended last.
    pub last: Instant,
    /// Whether its client has said anything but the first message.
    pub has_begun: bool,
    /// Whether its client has said that it is initialized.
    pub is_initialized: bool,
    /// Which run, and what the last ones were answered.
    pub requests: Requests,
    /// Whether a task lets go of its answers in time.
    pub is_swept: bool,
}

impl Default for Seat {
    fn default() -> Self {
        Self {
            owner: None,
            ended: CancellationToken::new(),
            uses: 0,
            last: Instant::now(),
            has_begun: false,
            is_initialized: false,
            requests: Requests::default(),
            is_swept: false,
        }
    }
}

impl Seat {
    /// Whether it has what is asked for where a client says which event it has got last.
    ///
    /// # Errors
    /// `NotFound`: it has not.
    pub fn has_event(&self, headers: &HeaderMap) -> Result<()> {
        let Some(last) = headers.get(LAST_EVENT) else { return Ok(()) };
        let event = last.to_str().ok().and_then(Event::parse);
        if event.is_some_and(|event| self.requests.is_known(event)) {
            return Ok(());
        }
        let kept = KEPT_TIME.as_secs();
        let message = format!("this session has no such event: what a stream has brought is kept for {kept} s");
        Err(Error::new(Kind::NotFound, message))
    }

    fn is_of(&self, principal: &str) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.name() == principal)
    }
}

/// How many of the sessions are that principal's.
pub fn of(open: &HashMap<SessionId, Seat>, principal: &str) -> usize {
    open.values().filter(|seat| seat.is_of(principal)).count()
}

/// How many have got their first message.
pub fn owned(open: &HashMap<SessionId, Seat>) -> usize {
    open.values().filter(|seat| seat.owner.is_some()).count()
}

/// Which of that principal's has been out of use for longest.
pub fn idle(open: &HashMap<SessionId, Seat>, principal: &str) -> Option<SessionId> {
    let idle = open.iter().filter(|(_, seat)| seat.uses == 0 && seat.is_of(principal));
    idle.min_by_key(|(_, seat)| seat.last).map(|(id, _)| id.clone())
}
