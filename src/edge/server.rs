//! The listener: accepts connections up to the limit, serves each in a task of its own, and drains them at the end.
//!
//! The accept loop is the host's own, because the ready-made ones never drop a client that says nothing.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Settings;
use crate::edge::caller::Gatekeeper;
use crate::edge::clock::{Order, Pulse};
use crate::edge::drive;
use crate::edge::failure::{self, Failure};
use crate::edge::link::{Link, Protocol, Seat, Seats, Service};
use crate::edge::metrics::Metrics;
use crate::edge::parts::Parts;
use crate::edge::service::{Core, full};
use crate::edge::tls;
use crate::edge::wire::{Stream, Wire};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// Connections beyond the limit that are answered at all, one after the other: health checks are among them.
const RESERVE: usize = 64;
/// How long a connection beyond the limit has to say what it wants before it is told that the host is full.
const PATIENCE: Duration = Duration::from_millis(8);
/// How long accepting rests when the process has no more file descriptors.
const REST: Duration = Duration::from_millis(100);
/// How long connections have to end after they were cut.
const CUT_TIME: Duration = Duration::from_millis(500);

/// Takes the address that the operator asked for, so that another host's presence is known before anything starts.
///
/// # Errors
/// `Conflict`: another program listens there. `Unavailable`: this machine or this user cannot listen there.
pub fn bind(settings: &Settings) -> Result<std::net::TcpListener> {
    let address = SocketAddr::new(settings.host, settings.port);
    listen(address).map_err(|error| {
        let (kind, cure) = match error.kind() {
            io::ErrorKind::AddrInUse => {
                (Kind::Conflict, "stop the program that listens there, or choose another --port")
            }
            io::ErrorKind::PermissionDenied => (Kind::Unavailable, "choose a --port above 1023"),
            _ => (Kind::Unavailable, "choose a --host that this machine has"),
        };
        Error::new(kind, format!("cannot listen on {address}: {error}; {cure}")).with_source(error)
    })
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart may take the address over from connections that are still closing.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A server that runs.
pub struct Serving {
    /// The address that it listens on.
    pub bound: SocketAddr,
    /// What it counts.
    pub metrics: Metrics,
    task: JoinHandle<Option<()>>,
}

impl Serving {
    /// Resolves when the stop signal was given and every connection has ended, or the time for that is over.
    pub async fn drained(self) {
        let _ = self.task.await;
    }
}

/// Serves the plugins of `parts`, and `extra` for all other paths, until [`Shutdown::stop`].
///
/// Needs a tokio runtime around the caller.
///
/// [`Shutdown::stop`]: crate::base::shutdown::Shutdown::stop
///
/// # Errors
/// `Invalid`: the certificate or its key cannot be used. `Unavailable`: the listener cannot be used.
pub fn serve(parts: Parts, listener: std::net::TcpListener, extra: Router) -> Result<Serving> {
    let tls = parts.settings.tls.as_ref().map(|(chain, key)| tls::acceptor(chain, key)).transpose()?;
    let unusable = |error: io::Error| {
        Error::new(Kind::Unavailable, format!("cannot serve on this listener: {error}")).with_source(error)
    };
    let bound = listener.local_addr().map_err(unusable)?;
    let listener = TcpListener::from_std(listener).map_err(unusable)?;
    let metrics = Metrics::default();
    let gate = Gatekeeper::new(&parts, bound);
    let seats = Seats::new(parts.settings.limits.connections, RESERVE, metrics.clone());
    let shutdown = parts.shutdown.clone();
    let core = Arc::new(Core::new(parts, gate, own(extra), metrics.clone()));
    let server = Arc::new(Server { core, seats, tls, open: Open::default() });
    let task = shutdown.spawn("server", run(server, listener));
    Ok(Serving { bound, metrics, task })
}

/// The host's own router: what no route answers is a problem, and the limit of bodies is the server's.
fn own(extra: Router) -> Router {
    extra
        .fallback(async |uri: http::Uri| {
            let shown: String = uri.path().chars().take(200).collect();
            Failure(Error::new(Kind::NotFound, format!("this host has nothing at {shown}")))
        })
        .layer(DefaultBodyLimit::disable())
}

struct Server {
    core: Arc<Core>,
    seats: Seats,
    tls: Option<TlsAcceptor>,
    open: Open,
}

/// The connections that are open, so that each can be told to end.
#[derive(Default)]
struct Open {
    next: AtomicU64,
    /// By number of arrival.
    links: Mutex<HashMap<u64, Arc<Link>>>,
}

impl Open {
    fn join(&self, link: &Arc<Link>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(number, link.clone());
        number
    }

    fn leave(&self, number: u64) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    fn tell(&self, order: Order) {
        let links: Vec<_> = self.links.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for link in links {
            link.pulse.tell(order);
        }
    }
}

async fn run(server: Arc<Server>, listener: TcpListener) {
    let parts = server.core.parts().clone();
    accept(&server, &listener).await;
    // From here on the kernel refuses new connections, so that a client tries elsewhere at once.
    drop(listener);
    server.open.tell(Order::Finish);
    if timeout(parts.settings.limits.request_drain_time(), server.seats.empty()).await.is_err() {
        server.open.tell(Order::Cut);
        let _ = timeout(CUT_TIME, server.seats.empty()).await;
    }
}

async fn accept(server: &Arc<Server>, listener: &TcpListener) {
    let shutdown = server.core.parts().shutdown.clone();
    let stopping = shutdown.stopping();
    tokio::pin!(stopping);
    let mut resting = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.as_mut() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut resting) {
                    tracing::info!("connections are accepted again");
                }
                admit(server, stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // No file descriptor or no memory: at once it would fail again, and one log line is enough.
                if !std::mem::replace(&mut resting, true) {
                    tracing::warn!("cannot accept connections: {error}; trying again every {REST:?}");
                }
                tokio::select! {
                    () = stopping.as_mut() => return,
                    () = tokio::time::sleep(REST) => {}
                }
            }
        }
    }
}

/// Whether the failure is about the connection that would have been accepted, and not about this process.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn admit(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) {
    // Without it small answers wait for acknowledgements. It fails only on a connection that is gone already.
    let _ = stream.set_nodelay(true);
    match server.seats.take() {
        Some(seat) => {
            let server = server.clone();
            server.core.parts().shutdown.clone().spawn("connection", async move {
                connect(&server, stream, peer, seat).await;
            });
        }
        None => {
            if server.tls.is_none() {
                let _ = stream.try_write(&drive::written(&failure::response(&full())));
            }
        }
    }
}

async fn connect(server: &Server, stream: TcpStream, peer: SocketAddr, seat: Seat) {
    let parts = server.core.parts();
    let limits = &parts.settings.limits;
    let Ok(local) = stream.local_addr() else { return };
    let begun = tokio::select! {
        begun = begin(server, stream, &seat, limits.silent_time) => begun,
        () = parts.shutdown.stopping() => None,
    };
    let Some((protocol, first, stream)) = begun else { return };
    let link = Arc::new(Link {
        peer,
        local,
        scheme: if server.tls.is_some() { "https" } else { "http" },
        protocol,
        service: seat.service(),
        pulse: Pulse::default(),
        metrics: server.core.metrics().clone(),
    });
    let wire = Wire::new(stream, first, link.clone(), seat);
    let number = server.open.join(&link);
    if parts.shutdown.is_stopping() {
        // It may have come too late to be told with the others.
        link.pulse.tell(Order::Finish);
    }
    drive::serve(server.core.clone(), link, wire).await;
    server.open.leave(number);
}

/// Finds out what a new connection speaks; `None` when it said nothing in time, or nothing of use.
async fn begin(
    server: &Server,
    stream: TcpStream,
    seat: &Seat,
    silent_time: Duration,
) -> Option<(Protocol, bytes::Bytes, Stream)> {
    let mut stream = match &server.tls {
        None => Stream::Plain(stream),
        Some(acceptor) => Stream::Tls(Box::new(timeout(silent_time, acceptor.accept(stream)).await.ok()?.ok()?)),
    };
    if let Stream::Tls(tls) = &stream
        && tls.get_ref().1.alpn_protocol() == Some(tls::H2)
    {
        return Some((Protocol::Http2, bytes::Bytes::new(), stream));
    }
    let patience = match seat.service() {
        Service::Full => silent_time,
        Service::Reserve => PATIENCE,
    };
    match timeout(patience, stream.sniff()).await {
        Ok(Ok((protocol, first))) => Some((protocol, first, stream)),
        Ok(Err(_)) => None,
        Err(_) => {
            if seat.service() == Service::Reserve {
                let answer = drive::written(&failure::response(&full()));
                let _ = timeout(PATIENCE, stream.write_all(&answer)).await;
                drive::linger(&mut stream, &drive::limits(&server.core, Service::Reserve)).await;
            }
            None
        }
    }
}
