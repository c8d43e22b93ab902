//! A path below `/api` → the plugin's mount that answers it.
//!
//! Paths stay percent-encoded, and a plugin's answer passes byte for byte. What belongs to the host below a plugin's
//! prefix (`assets`, `rpc`) is left to the host's own router.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts as Head;

use crate::base::error::{Error, Kind, Result};
use crate::edge::link::{Link, Protocol};
use crate::edge::parts::Parts;
use crate::edge::reply;
use crate::edge::socket::{Asked, Terms, unasked};
use crate::kernel::call::{Body, Caller, Request, Response};
use crate::kernel::contribution::Mount;
use crate::kernel::registry::{Offered, Snapshot};

/// What begins the path of everything that a plugin may answer.
const API: &str = "/api/";

/// Who answers a path.
pub enum Found {
    /// A plugin.
    Mount(Arc<Offered<Mount>>),
    /// Nobody, though plugins' paths begin like it.
    Nobody,
    /// The host's own router.
    Host,
}

/// Finds who answers `path`.
pub fn find(snapshot: &Snapshot, path: &str) -> Found {
    let Some(below) = path.strip_prefix(API).filter(|below| !is_or_begins(below, "host")) else { return Found::Host };
    if is_reserved(snapshot, below) {
        return Found::Host;
    }
    match snapshot.mount(below) {
        Some((mount, _)) => Found::Mount(mount.clone()),
        None => Found::Nobody,
    }
}

/// Whether the path lies in a plugin's web files, or in its child's own HTTP.
fn is_reserved(snapshot: &Snapshot, below: &str) -> bool {
    let Some((id, rest)) = below.strip_prefix("plugins/").and_then(|below| below.split_once('/')) else { return false };
    let (assets, rpc) = (is_or_begins(rest, "assets"), is_or_begins(rest, "rpc"));
    (assets || rpc)
        && snapshot
            .plugin(id)
            .is_some_and(|plugin| assets && plugin.offers.assets.is_some() || rpc && plugin.offers.server)
}

fn is_or_begins(path: &str, segment: &str) -> bool {
    path.strip_prefix(segment).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether plugins can be asked now.
///
/// # Errors
/// `Unavailable`: they are still being loaded.
pub fn awake(parts: &Parts) -> Result<()> {
    if parts.ready.get() {
        return Ok(());
    }
    Err(Error::new(Kind::Unavailable, "the host is still loading its plugins: ask again in a moment"))
}

/// The failure of a path that no plugin has.
pub fn nobody(path: &str) -> Error {
    let shown: String = path.chars().take(200).collect();
    Error::new(Kind::NotFound, format!("no plugin answers {shown}: `plugbay routes` lists what there is"))
}

/// Asks a mount, and checks what it answers.
///
/// # Errors
/// `Plugin`: the handler failed, or its answer cannot be sent. `Timeout`: it gave none within the limit. `Busy`: the
/// way to it is full. Each blames the plugin where it is to blame.
pub async fn ask(
    parts: &Parts,
    link: &Link,
    mount: &Offered<Mount>,
    mut head: Head,
    asked: (Body, Caller),
) -> Result<Response> {
    let (body, caller) = asked;
    let (wish, offer, ends) = match Asked::of(&mut head) {
        Asked::Wrong(answer) => return Ok(*answer),
        Asked::No => (None, None, None),
        Asked::Socket(mut wish) => {
            let (offer, ends) = wish.offer();
            (Some((wish, caller.principal.clone())), Some(offer), Some(ends))
        }
    };
    let method = head.method.clone();
    // The path begins with the mount's own: that is how it was found.
    let place = Arc::from(&head.uri.path()[..API.len() + mount.prefix.as_str().len()]);
    let request = Request { head, body, mount: place, caller, socket: offer };
    let answer = within(link, parts.settings.limits.call_time, mount.handler.answer(request)).await;
    let blame = |error: Error| match (error.plugin(), error.kind()) {
        (None, Kind::Plugin | Kind::Timeout) => error.blame(mount.plugin.manifest.id.shared()),
        _ => error,
    };
    let response = answer.and_then(|answer| answer).map_err(blame)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return reply::check(&method, response).map_err(blame);
    }
    let (Some((wish, principal)), Some(ends)) = (wish, ends) else { return Err(blame(unasked())) };
    let terms = Terms { shutdown: parts.shutdown.clone(), principal, limits: parts.settings.limits.clone() };
    Ok(wish.grant(response, ends, terms))
}

/// Waits for an answer, at most `limit`. On HTTP/1 the connection's own clock keeps the time.
async fn within<T>(link: &Link, limit: Duration, answer: impl Future<Output = T>) -> Result<T> {
    let late = || {
        let message = format!("the handler gave no answer within {} s", limit.as_secs_f64());
        Error::new(Kind::Timeout, message)
    };
    if link.protocol == Protocol::Http2 {
        return tokio::time::timeout(limit, answer).await.map_err(|_| late());
    }
    link.pulse.watch_answer();
    let mut answer = pin!(answer);
    poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Pending if link.pulse.is_overdue() => Poll::Ready(Err(late())),
        answer => answer.map(Ok),
    })
    .await
}
