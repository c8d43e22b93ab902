//! `/plugin-ws/{id}` → the WebSocket `/ws` of a plugin's server: the handshake with it, then with the client, then one
//! task that joins the two streams.
//!
//! What the client offers is offered to the server, and what the server chose is chosen. Until the server has agreed,
//! nothing of the client reaches it; when it does not, the host opens the socket itself to say why, because browsers
//! show nothing of a handshake that was refused.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts as Head;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response as Answer, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::base::error::{Error, Kind, Result};
use crate::base::log;
use crate::edge::handshake::{self, Asked, VERSION_13, Wish, accept_of, needed};
use crate::edge::headers::without_tokens;
use crate::edge::line::{Target, dial};
use crate::edge::marks::{Reader, close_frame};
use crate::edge::metrics::{Metrics, OpenTunnel};
use crate::edge::parts::Parts;
use crate::edge::tunnel::{End, Goodbye, Tunnel};
use crate::edge::wire::Wire;
use crate::kernel::call::{Body, Caller, Response};
use crate::kernel::connection::fitting;
use crate::kernel::principal::Principal;
use crate::kernel::upstream::{Standing, Upstream};

/// What begins the path of every tunnel.
pub const ROOT: &str = "/plugin-ws";
/// Where a plugin's server has its WebSocket.
const PATH: &str = "/ws";
/// How long a server may take to agree to a WebSocket.
const AGREE_TIME: Duration = Duration::from_secs(10);
/// How long the client's stream may take to come, and a socket that only says goodbye to close.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// The longest name of a plugin.
const NAME_BYTES: usize = 64;

/// Why there is no tunnel, as the close code that the client gets and an error for the log and the reason.
struct Refused(u16, Error);

/// A server that has agreed.
struct Agreed {
    server: End<TcpStream>,
    protocol: Option<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

/// Answers a request for a tunnel, and starts its task.
pub async fn open(parts: &Parts, metrics: &Metrics, mut head: Head, caller: Caller) -> Response {
    let asks = handshake::Head { method: &head.method, version: head.version, headers: &head.headers };
    let wish = match Asked::of(&asks, &mut head.extensions) {
        Asked::Socket(wish) => wish,
        Asked::Wrong(answer) => return *answer,
        Asked::No => return *needed("a plugin's server is reached here by a WebSocket: GET over HTTP/1.1"),
    };
    match reach(parts, &head, &caller.principal).await {
        Ok(agreed) => grant(wish, agreed, parts, metrics, caller.principal),
        Err(refused) => refuse(wish, &head.headers, refused, parts),
    }
}

/// Completes the handshake as the server agreed to it, and joins the streams.
fn grant(wish: Wish, agreed: Agreed, parts: &Parts, metrics: &Metrics, principal: Principal) -> Response {
    let (mut response, upgrade) = wish.grant();
    let headers = response.headers_mut();
    if let Some(protocol) = agreed.protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    for extension in agreed.extensions {
        headers.append(SEC_WEBSOCKET_EXTENSIONS, extension);
    }
    let counted = metrics.tunnel();
    let shutdown = parts.shutdown.clone();
    let told = async move {
        tokio::select! {
            () = principal.revoked() => Goodbye(1008, "the token was taken back"),
            () = shutdown.stopping() => Goodbye(1001, "the host stops"),
        }
    };
    parts.shutdown.spawn("tunnel", serve(upgrade, agreed.server, told, counted));
    response
}

async fn serve(upgrade: OnUpgrade, server: End<TcpStream>, told: impl Future<Output = Goodbye>, _counted: OpenTunnel) {
    if let Some(client) = stream_of(upgrade).await {
        // Behind a pointer: tunnels are many and idle, and each move through a future would be room in it.
        Box::new(Tunnel::join(client, server)).live(told).await;
    }
}

/// The client's stream when the answer to its handshake has gone.
async fn stream_of(upgrade: OnUpgrade) -> Option<End<Wire>> {
    let upgraded = timeout(CLOSE_TIME, upgrade).await.ok()?.ok()?;
    let parts = upgraded.downcast::<TokioIo<Wire>>().ok()?;
    Some(End { stream: parts.io.into_inner(), early: parts.read_buf })
}

/// Completes the handshake to say in a close frame why there is nobody behind it.
fn refuse(wish: Wish, asked: &HeaderMap, Refused(code, error): Refused, parts: &Parts) -> Response {
    log::report(&error);
    let (mut response, upgrade) = wish.grant();
    // A browser gives up a socket for which none of its sub-protocols was chosen, and shows no close code then.
    if let Some(first) = handshake::protocols(asked).first().and_then(|first| HeaderValue::from_str(first).ok()) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, first);
    }
    parts.shutdown.spawn("tunnel", async move {
        let Some(End { mut stream, .. }) = stream_of(upgrade).await else { return };
        let goodbye = async {
            stream.write_all(&close_frame(Reader::Client, code, fitting(error.message()))).await?;
            stream.flush().await?;
            stream.shutdown().await?;
            // Closing over unread bytes would reset the connection, and the close frame would be lost.
            let mut unread = vec![0; 4 << 10];
            while stream.read(&mut unread).await? > 0 {}
            std::io::Result::Ok(())
        };
        let _ = timeout(CLOSE_TIME, goodbye).await;
    });
    response
}

/// Finds the plugin's server and has it agree to a WebSocket.
async fn reach(parts: &Parts, head: &Head, principal: &Principal) -> Result<Agreed, Refused> {
    let name = head.uri.path().strip_prefix(ROOT).and_then(|path| path.strip_prefix('/')).unwrap_or_default();
    let is_name = (1..=NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !is_name {
        let message = "the name of a plugin has 1 to 64 letters, digits, \"_\" and \"-\": /plugin-ws/NAME";
        return Err(Refused(4400, Error::new(Kind::Invalid, message)));
    }
    let nobody = |why: &str| Refused(4404, Error::new(Kind::NotFound, format!("plugin {name} {why}")));
    let disabled = || nobody("is disabled");
    match parts.upstreams.standing(name) {
        Standing::Unknown => return Err(nobody("is unknown or has no server")),
        Standing::Disabled => return Err(disabled()),
        Standing::Enabled => {}
    }
    let upstream = parts.upstreams.find(name).await.map_err(|error| match parts.upstreams.standing(name) {
        // It may have been disabled since.
        Standing::Disabled => disabled(),
        _ if error.kind() == Kind::NotFound => Refused(4404, error),
        _ => Refused(4502, error),
    })?;
    let meter = parts.meters.of(&upstream.plugin.shared());
    meter.called();
    let target = Target::new(&upstream, meter.clone());
    let agreed = agree(parts, &upstream, &target, head, principal).await;
    let agreed = agreed.inspect_err(|_| meter.failed()).map_err(|error| Refused(4502, error))?;
    upstream.has_answered();
    Ok(agreed)
}

/// Makes the handshake with a server, as its client.
///
/// # Errors
/// `Upstream`: it refuses, or its answer is none. `Timeout`: it does not answer. `Unavailable`: it ended meanwhile.
async fn agree(
    parts: &Parts,
    upstream: &Upstream,
    target: &Target,
    head: &Head,
    principal: &Principal,
) -> Result<Agreed> {
    let stream = dial(upstream).await?;
    // Whoever listens on the port that a dead server has left is not asked.
    if parts.upstreams.find(upstream.plugin.as_str()).await?.run != upstream.run {
        return Err(Error::new(Kind::Unavailable, "the plugin's server was started anew: connect again"));
    }
    parts.upstreams.confirm(upstream).await?;
    let key = random_key()?;
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = aim(&head.uri);
    let headers = request.headers_mut();
    headers.insert(HOST, target.host.clone());
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION_13);
    headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    for name in [SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS] {
        for value in head.headers.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    let asked = request.uri().path_and_query().map_or(PATH, PathAndQuery::as_str).to_owned();
    target.signer.sign(request.headers_mut(), principal.name(), "GET", &asked);
    let plugin = upstream.plugin.shared();
    let (answer, server) = timeout(AGREE_TIME, converse(stream, request)).await.map_err(|_| {
        let seconds = AGREE_TIME.as_secs();
        let message = format!("the server of plugin {plugin} did not answer the handshake within {seconds} s");
        Error::new(Kind::Timeout, message).blame(plugin.clone())
    })??;
    check(&answer, &key, &head.headers).map_err(|why| {
        let message = format!("the server of plugin {plugin} did not open a WebSocket at {PATH}: {why}");
        Error::new(Kind::Upstream, message).blame(plugin.clone())
    })?;
    let protocol = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned();
    let extensions = answer.headers().get_all(SEC_WEBSOCKET_EXTENSIONS).iter().cloned().collect();
    let Some(server) = server else {
        return Err(Error::new(Kind::Upstream, "the plugin's server ended the connection").blame(plugin));
    };
    Ok(Agreed { server, protocol, extensions })
}

/// Asks on a stream, and takes it back when the answer is 101.
///
/// # Errors
/// `Upstream`: no answer came, or none that is HTTP.
async fn converse(stream: TcpStream, request: Request<Body>) -> Result<(Answer<Incoming>, Option<End<TcpStream>>)> {
    let broken = |error: hyper::Error| {
        Error::new(Kind::Upstream, "the plugin's server did not answer the handshake").with_source(error)
    };
    let (mut sender, connection) = Builder::new().handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection = pin!(connection.with_upgrades());
    let mut ended = false;
    let mut answer = pin!(sender.send_request(request));
    let mut answer = poll_fn(|context| {
        ended = ended || connection.as_mut().poll(context).is_ready();
        answer.as_mut().poll(context)
    })
    .await
    .map_err(broken)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok((answer, None));
    }
    let mut upgrade = hyper::upgrade::on(&mut answer);
    let upgraded = poll_fn(|context| {
        ended = ended || connection.as_mut().poll(context).is_ready();
        Pin::new(&mut upgrade).poll(context)
    })
    .await
    .map_err(broken)?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok();
    Ok((answer, parts.map(|parts| End { stream: parts.io.into_inner(), early: parts.read_buf })))
}

/// Checks a server's answer (RFC 6455 §4.1): what it chose must be of what the client offered.
fn check(answer: &Answer<Incoming>, key: &HeaderValue, offered: &HeaderMap) -> Result<(), String> {
    let headers = answer.headers();
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("it answered {}", answer.status()));
    }
    if !handshake::names(headers, &UPGRADE, "websocket") || !handshake::names(headers, &CONNECTION, "upgrade") {
        return Err("its 101 does not say \"upgrade: websocket\"".into());
    }
    if handshake::single(headers, &SEC_WEBSOCKET_ACCEPT) != Some(&accept_of(key.as_bytes())) {
        return Err("its \"sec-websocket-accept\" is not that of the key".into());
    }
    let offers = handshake::protocols(offered);
    let mut chosen = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let is_offered = |value: &HeaderValue| value.to_str().is_ok_and(|value| offers.iter().any(|offer| offer == value));
    if !chosen.next().is_none_or(is_offered) || chosen.next().is_some() {
        return Err("it chose a sub-protocol that the client did not offer".into());
    }
    let known = extensions(offered, &SEC_WEBSOCKET_EXTENSIONS);
    if !extensions(headers, &SEC_WEBSOCKET_EXTENSIONS).iter().all(|extension| known.contains(extension)) {
        return Err("it chose an extension that the client did not offer".into());
    }
    Ok(())
}

/// The names of extensions in a header, in lower case, without their parameters.
fn extensions(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(','));
    let names = items.map(|item| item.split(';').next().unwrap_or(item).trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty()).collect()
}

/// Where a server is asked: its `/ws`, with what the client's query has beside its token.
fn aim(uri: &Uri) -> Uri {
    let query = uri.query().and_then(without_tokens).filter(|query| !query.is_empty());
    let target = query.map(|query| Bytes::from(format!("{PATH}?{query}")));
    let target = target.and_then(|target| PathAndQuery::from_maybe_shared(target).ok());
    Uri::from(target.unwrap_or(PathAndQuery::from_static(PATH)))
}

fn random_key() -> Result<HeaderValue> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::Internal, "the system gives no random bytes").with_source(error))?;
    Ok(HeaderValue::try_from(STANDARD.encode(bytes)).expect("base64 has only letters that a header may have"))
}
