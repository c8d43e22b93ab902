//! Servers as plugins' processes have them, on loopback, and a host that knows where they listen.
#![expect(clippy::disallowed_methods, reason = "a task of a test ends with its runtime")]

use std::collections::HashMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use http::{HeaderName, HeaderValue};
use plugbay::base::error::{Error, Kind};
use plugbay::base::name::PluginId;
use plugbay::base::settings::Settings;
use plugbay::kernel::upstream::{Confirming, Standing, Starting, Upstream, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::served::{PATIENCE, Served};

/// The key of every server: 32 bytes.
pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// Where plugins' servers are, as a supervisor would know it.
#[derive(Default)]
pub struct Servers {
    known: Mutex<HashMap<String, Known>>,
}

/// What is known of one plugin.
#[derive(Clone)]
pub enum Known {
    Runs(Upstream),
    /// It is seen to run once more, and then it has ended.
    Dies(Upstream),
    Disabled,
    Fails(Kind, &'static str),
}

impl Servers {
    pub fn set(&self, plugin: &str, known: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(plugin.to_owned(), known);
    }

    pub fn get(&self, plugin: &str) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(plugin).cloned()
    }
}

impl Upstreams for Servers {
    fn find(&self, plugin: &str) -> Starting<'_> {
        let known = self.get(plugin);
        if let Some(Known::Dies(_)) = known {
            self.set(plugin, Known::Fails(Kind::Unavailable, "it has ended"));
        }
        Box::pin(async move {
            match known {
                Some(Known::Runs(upstream) | Known::Dies(upstream)) => Ok(upstream),
                Some(Known::Disabled) => Err(Error::new(Kind::Unavailable, "the plugin is disabled")),
                Some(Known::Fails(kind, message)) => Err(Error::new(kind, message)),
                None => Err(Error::new(Kind::NotFound, "no such plugin")),
            }
        })
    }

    fn confirm<'a>(&'a self, _: &'a Upstream) -> Confirming<'a> {
        Box::pin(async { Ok(()) })
    }

    fn standing(&self, plugin: &str) -> Standing {
        match self.get(plugin) {
            None => Standing::Unknown,
            Some(Known::Disabled) => Standing::Disabled,
            Some(_) => Standing::Enabled,
        }
    }
}

/// A host with the plugin `clock`, whose server is a closure that serves one connection at a time each.
pub struct Proxied {
    pub served: Served,
    pub servers: Arc<Servers>,
    pub heard: mpsc::UnboundedReceiver<String>,
}

/// What a test's server does with a connection; it says what it sees.
pub type Say = mpsc::UnboundedSender<String>;

impl Proxied {
    pub async fn to<F, Fut>(serve: F) -> Self
    where
        F: Fn(Peer, Say) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::with(|_| {}, serve).await
    }

    pub async fn with<F, Fut>(change: impl FnOnce(&mut Settings), serve: F) -> Self
    where
        F: Fn(Peer, Say) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let servers = Arc::new(Servers::default());
        let (say, heard) = mpsc::unbounded_channel();
        let port = listen(serve, say).await;
        servers.set("clock", Known::Runs(upstream("clock", port, 1)));
        let served = Served::of(change, Router::new(), servers.clone());
        Self { served, servers, heard }
    }

    /// The head of a request to the plugin's server, without its end.
    pub fn head(&self, method: &str, path: &str) -> String {
        self.served.head_at(method, &format!("/api/plugins/clock/rpc{path}"))
    }

    /// A whole GET.
    pub fn get(&self, path: &str) -> String {
        format!("{}\r\n", self.head("GET", path))
    }

    /// The next thing that the server says.
    pub async fn hear(&mut self) -> String {
        timeout(PATIENCE, self.heard.recv()).await.expect("a word in time").expect("a server that lives")
    }
}

/// A server on a port of its own.
pub async fn listen<F, Fut>(serve: F, say: Say) -> u16
where
    F: Fn(Peer, Say) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(Peer { stream, read: Vec::new() }, say.clone()));
        }
    });
    port
}

/// A run of a server.
pub fn upstream(plugin: &str, port: u16, run: u64) -> Upstream {
    let mut secret = HeaderValue::from_static("s3cret");
    secret.set_sensitive(true);
    Upstream {
        plugin: PluginId::parse(plugin).expect("a valid id"),
        port,
        run,
        key: KEY.into(),
        secrets: Arc::from([(HeaderName::from_static("x-plugin-secret-apikey"), secret)]),
        answered: Arc::default(),
    }
}

/// The host's end of a connection, as a server sees it.
pub struct Peer {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    /// The head of the next request; `None` at the end of the stream.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return Some(head.into_iter().map(char::from).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// So many bytes.
    pub async fn exact(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.read.len() < bytes {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..bytes).collect())
    }

    /// What has come and was not asked for yet.
    pub fn early(&self) -> &[u8] {
        &self.read
    }

    /// Waits for the end of the stream.
    pub async fn ended(&mut self) {
        while self.more().await {
            self.read.clear();
        }
    }

    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 16 << 10];
        match self.stream.read(&mut buffer).await {
            Ok(bytes) if bytes > 0 => {
                self.read.extend_from_slice(&buffer[..bytes]);
                true
            }
            _ => false,
        }
    }
}

/// The value of a header in a head.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

/// An answer with a body of a known length.
pub fn answer(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}
