//! A path below `/api` → the plugin's mount that answers it.
//!
//! Paths stay percent-encoded, and a plugin's answer passes byte for byte. What belongs to the host below a plugin's
//! prefix is left to others: `assets` to the host's own router, `rpc` to the proxy.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts as Head;

use crate::base::error::{Error, Kind, Result};
use crate::edge::handshake::{self, Asked};
use crate::edge::link::Link;
use crate::edge::parts::Parts;
use crate::edge::plugin_ws;
use crate::edge::reply;
use crate::edge::socket::{self, Terms, unasked};
use crate::kernel::call::{Body, Caller, Request, Response};
use crate::kernel::contribution::Mount;
use crate::kernel::registry::{Offered, Plugin};
use crate::kernel::upstream::Standing;

/// What begins the path of everything that a plugin may answer.
const API: &str = "/api/";

/// Who answers a path.
pub enum Found {
    /// A plugin.
    Mount(Arc<Offered<Mount>>),
    /// A plugin's server.
    Server,
    /// A plugin's server, over a WebSocket.
    Tunnel,
    /// Nobody, though plugins' paths begin like it.
    Nobody,
    /// The host's own router.
    Host,
}

/// Finds who answers `path`.
pub fn find(parts: &Parts, path: &str) -> Found {
    let Some(below) = path.strip_prefix(API).filter(|below| !is_or_begins(below, "host")) else {
        return if is_or_begins(path, plugin_ws::ROOT) { Found::Tunnel } else { Found::Host };
    };
    let within = below.strip_prefix("plugins/").and_then(|below| below.split_once('/'));
    if let Some((id, rest)) = within
        && is_or_begins(rest, "rpc")
        && parts.upstreams.standing(id) != Standing::Unknown
    {
        return Found::Server;
    }
    let snapshot = parts.registry.snapshot();
    if let Some((id, rest)) = within {
        let has_assets = |plugin: &Arc<Plugin>| plugin.offers.assets.is_some() || parts.processes.has(id);
        if is_or_begins(rest, "assets") && snapshot.plugin(id).is_some_and(has_assets) {
            return Found::Host;
        }
    }
    match snapshot.mount(below) {
        Some((mount, _)) => Found::Mount(mount.clone()),
        None => Found::Nobody,
    }
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
    let asks = handshake::Head { method: &head.method, version: head.version, headers: &head.headers };
    let (wish, offer, ends) = match Asked::of(&asks, &mut head.extensions) {
        Asked::Wrong(answer) => return Ok(*answer),
        Asked::No => (None, None, None),
        Asked::Socket(wish) => {
            let (offer, ends) = socket::offer(&head.headers);
            (Some((wish, caller.principal.clone())), Some(offer), Some(ends))
        }
    };
    let method = head.method.clone();
    // The path begins with the mount's own: that is how it was found.
    let place = Arc::from(&head.uri.path()[..API.len() + mount.prefix.as_str().len()]);
    let request = Request { head, body, mount: place, caller, socket: offer };
    let answer = link.within(parts.settings.limits.call_time, mount.handler.answer(request)).await;
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
    Ok(socket::grant(wish, response, ends, terms))
}
