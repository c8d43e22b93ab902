//! A host on port 0 behind the real gate and the real routes, and a client that speaks raw bytes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use hyper_util::rt::TokioIo;
use plugbay::base::settings::Settings;
use plugbay::base::shutdown::Shutdown;
use plugbay::edge::admin;
use plugbay::edge::caller::{Admission, Gatekeeper, share};
use plugbay::edge::failure;
use plugbay::edge::parts::{Parts, Ready};
use plugbay::engine::process::installer::Installer;
use plugbay::engine::process::placing::Placing;
use plugbay::engine::process::processes::Processes;
use plugbay::kernel::audit::Audit;
use plugbay::kernel::auth::Auth;
use plugbay::kernel::call::Caller;
use plugbay::kernel::database::Place;
use plugbay::kernel::gate::Gate;
use plugbay::kernel::hub::Hub;
use plugbay::kernel::meter::Meters;
use plugbay::kernel::registry::Registry;
use plugbay::kernel::secrets::Secrets;
use plugbay::kernel::store::Store;
use plugbay::kernel::toolbox::Toolbox;
use plugbay::kernel::upstream::NoUpstreams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

/// A running host; it stops when it is dropped.
pub struct Host {
    pub address: SocketAddr,
    pub parts: Parts,
    _home: tempfile::TempDir,
}

/// An answer, taken apart.
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }
}

/// The parts of a host over a home folder of its own.
pub fn parts_in(home: &std::path::Path, change: impl FnOnce(&mut Settings)) -> Parts {
    let mut settings = Settings::defaults(home.to_owned());
    change(&mut settings);
    let store = Store::open(&settings).unwrap();
    let auth = Auth::open(&settings, &store).unwrap();
    let registry = Registry::new();
    let shutdown = Shutdown::new();
    let audit = Audit::new(&settings, Place::of(&settings, store.home()).unwrap()).unwrap();
    let processes = no_children(&settings, &store, &registry, &shutdown);
    let settings = Arc::new(settings);
    let (secrets, installer) = no_installs(&settings, &store, &processes, &registry, &shutdown);
    Parts {
        installer,
        processes,
        toolbox: Toolbox::new(registry.clone(), Gate::open(&settings, &store).unwrap())
            .recording(audit, &settings.limits),
        hub: Hub::new(registry.clone(), shutdown.clone(), settings.limits.clone()),
        settings,
        secrets,
        store,
        auth,
        registry,
        upstreams: Arc::new(NoUpstreams),
        meters: Meters::default(),
        shutdown,
        ready: Ready::default(),
        engines: Arc::new(|| serde_json::json!({})),
    }
}

/// What runs child processes, of which there are none yet.
pub fn no_children(settings: &Settings, store: &Store, registry: &Registry, shutdown: &Shutdown) -> Processes {
    let limits = (settings.limits.clone(), shutdown.clone());
    Processes::new(store.clone(), registry.clone(), limits, Secrets::open(store.home()))
}

/// What installs plugins, of which there are none yet.
pub fn no_installs(
    settings: &Arc<Settings>,
    store: &Store,
    processes: &Processes,
    registry: &Registry,
    shutdown: &Shutdown,
) -> (Secrets, Installer) {
    let secrets = Secrets::open(store.home());
    let placing = Placing::new(store, registry.clone(), processes.clone(), secrets.clone());
    (secrets, Installer::new(settings.clone(), shutdown.clone(), placing))
}

impl Host {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let parts = parts_in(home.path(), change);
        let listener = TcpListener::bind((parts.settings.host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gatekeeper::new(&parts, address);
        let routes = admin::router(parts.clone()).fallback(echo);
        let shutdown = parts.shutdown.clone();
        parts.shutdown.spawn("accept", async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = shutdown.stopping() => return,
                };
                let Ok((stream, peer)) = accepted else { continue };
                let (gate, routes) = (gate.clone(), routes.clone());
                shutdown.spawn("connection", serve(stream, peer, gate, routes));
            }
        });
        Self { address, parts, _home: home }
    }

    /// The owner's token as a header line.
    pub fn owner(&self) -> String {
        format!("Authorization: Bearer {}", self.parts.auth.owner_token())
    }

    /// Sends a request with these header lines, and the right `Host` unless a line has one.
    pub async fn ask(&self, start: &str, lines: &[&str], body: &str) -> Reply {
        let mut text = format!("{start} HTTP/1.1\r\nConnection: close\r\n");
        if !lines.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
            text.push_str(&format!("Host: {}\r\n", self.address));
        }
        for line in lines {
            text.push_str(&format!("{line}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str(&format!("\r\n{body}"));
        self.say(text.as_bytes()).await
    }

    pub async fn get(&self, path: &str, lines: &[&str]) -> Reply {
        self.ask(&format!("GET {path}"), lines, "").await
    }

    /// Asks as the owner.
    pub async fn owned(&self, start: &str, body: &str) -> Reply {
        self.ask(start, &[&self.owner()], body).await
    }

    /// Sends these very bytes and reads until the host closes.
    pub async fn say(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        read(&answer)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.parts.shutdown.stop();
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, gate: Gatekeeper, routes: axum::Router) {
    let local = stream.local_addr().unwrap();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (gate, mut routes) = (gate.clone(), routes.clone());
        async move {
            let (mut head, body) = request.into_parts();
            let foreign = gate.foreign_origin(&head.headers);
            let mut response = match gate.admit(&mut head, peer, local, "http") {
                Err(error) => failure::response(&error).map(Body::new),
                Ok(Admission::Preflight(response)) => response.map(Body::new),
                Ok(Admission::Pass(caller)) => {
                    head.extensions.insert(caller);
                    routes.call(http::Request::from_parts(head, Body::new(body))).await.unwrap()
                }
            };
            if let Some(origin) = foreign {
                share(origin, response.headers_mut());
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Tells what a handler behind the gate sees.
async fn echo(Extension(caller): Extension<Caller>, request: axum::extract::Request) -> String {
    let principal = caller.principal.name();
    let seen = serde_json::json!({
        "principal": principal,
        "client": caller.client.ip().to_string(),
        "scheme": caller.scheme,
        "uri": request.uri().to_string(),
    });
    seen.to_string()
}

fn read(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok()).unwrap_or(0);
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.into(), value.into())).collect();
    let mut body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    let names: HashMap<String, &str> =
        headers.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.as_str())).collect();
    if names.get("transfer-encoding") == Some(&"chunked") {
        body = unchunked(&body);
    }
    Reply { status, headers, body }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[(end + size + 4).min(bytes.len())..];
    }
    whole
}
