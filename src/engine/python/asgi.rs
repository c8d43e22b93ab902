//! An ASGI app as a handler of requests and WebSockets.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::header::EXPECT;
use http_body::Body as _;
use http_body_util::BodyExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::base::error::Result;
use crate::base::shutdown::Shutdown;
use crate::engine::python::bridge::Bridge;
use crate::engine::python::http_call::HttpJob;
use crate::engine::python::http_exchange::Exchange;
use crate::engine::python::http_message::read_whole;
use crate::engine::python::job::{Asked, Handler, Where, lost};
use crate::engine::python::mounted::Mounted;
use crate::engine::python::scope::Scope;
use crate::engine::python::socket_call::SocketJob;
use crate::engine::python::socket_exchange::SocketExchange;
use crate::kernel::call::{Body, Request, Response, SocketOffer};
use crate::kernel::handler::{Answer, RouteHandler};

/// A request body of at most so many bytes is read before Python is asked, which saves a wake-up.
const READ_FIRST: u64 = 64 << 10;

/// What a mount's app sees as `root_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootPath {
    /// The mount: the app was written to stand anywhere.
    Mount,
    /// Nothing: its routes carry the whole path.
    Empty,
}

/// An ASGI 3 app.
pub struct AsgiApp {
    bridge: Bridge,
    handler: Handler,
    root_path: RootPath,
    shutdown: Shutdown,
}

impl AsgiApp {
    /// The app that `handler` holds, a `Mounted`.
    pub fn new(bridge: Bridge, handler: Handler, root_path: RootPath, shutdown: Shutdown) -> Self {
        Self { bridge, handler, root_path, shutdown }
    }

    /// What holds the app.
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Another app that goes on with a request of this one, with the same state.
    ///
    /// # Errors
    /// `TypeError`: it cannot be called.
    pub fn going_on_with(&self, app: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = app.py();
        if !app.is_callable() {
            let kind = app.get_type().name()?;
            return Err(PyTypeError::new_err(format!("expected an ASGI app from a compiled handler, found {kind}")));
        }
        let own = self.handler.target(py);
        let state = own.cast::<Mounted>()?.get().state(py).clone().unbind();
        let mounted = Bound::new(py, Mounted::new(app.clone().unbind(), state))?;
        let handler = self.bridge.hold(mounted.into_any(), &self.handler.facts().plugin, Where::Loop);
        Ok(Self::new(self.bridge.clone(), handler, self.root_path, self.shutdown.clone()))
    }

    /// `root_path` of a request below `mount`.
    pub fn root(&self, mount: &Arc<str>) -> Arc<str> {
        match self.root_path {
            RootPath::Mount => mount.clone(),
            RootPath::Empty => Arc::from(""),
        }
    }

    /// Answers a request whose question another handler was asked first.
    pub fn go_on(&self, request: Request) -> Answer<Response> {
        self.run(request, Asked::Again)
    }

    fn run(&self, request: Request, asked: Asked) -> Answer<Response> {
        let Request { head, body, mount, caller, socket } = request;
        let root_path = self.root(&mount);
        if let Some(mut offer) = socket {
            let protocols = std::mem::take(&mut offer.protocols);
            return self.socket(Scope { head, root_path, caller, protocols: Some(protocols) }, offer);
        }
        // A client that expects 100 gets it when the app asks for the body, so that a refusal costs it no upload.
        let (patient, method) = (head.headers.contains_key(EXPECT), head.method.clone());
        let scope = Scope { head, root_path, caller, protocols: None };
        let (bridge, handler, shutdown) = (self.bridge.clone(), self.handler.clone(), self.shutdown.clone());
        Box::pin(async move {
            let (first, rest) = if patient { (None, Some(body)) } else { read_first(body).await? };
            let event_loop = bridge.event_loop().clone();
            let (exchange, response) = Exchange::new(event_loop, handler.facts().plugin.clone(), method, first);
            let job = HttpJob { exchange: exchange.clone(), scope: Some(scope), asked };
            bridge.send_as(&handler, Box::new(job), |key| exchange.runs_as(key))?.done();
            if let Some(rest) = rest {
                let exchange = exchange.clone();
                shutdown.spawn("request body", async move {
                    if !patient || exchange.wanted().await {
                        pump(rest, exchange).await;
                    }
                });
            }
            let mut leaving = Leaving { exchange: Some(exchange) };
            let response = response.await.unwrap_or_else(|_| Err(lost()));
            leaving.exchange = None;
            response
        })
    }

    fn socket(&self, scope: Scope, offer: SocketOffer) -> Answer<Response> {
        let event_loop = self.bridge.event_loop().clone();
        let plugin = self.handler.facts().plugin.clone();
        let (exchange, response) = SocketExchange::new(event_loop, plugin, offer.outgoing);
        let job = SocketJob { exchange: exchange.clone(), scope: Some(scope) };
        let sent = self.bridge.send_as(&self.handler, Box::new(job), |key| exchange.runs_as(key));
        let shutdown = self.shutdown.clone();
        Box::pin(async move {
            sent?.done();
            let mut leaving = LeavingSocket { exchange: Some(exchange) };
            let response = response.await.unwrap_or_else(|_| Err(lost()))?;
            if let Some(exchange) = leaving.exchange.take()
                && response.status() == http::StatusCode::SWITCHING_PROTOCOLS
            {
                shutdown.spawn("socket of a plugin", exchange.pump(offer.incoming));
            }
            Ok(response)
        })
    }
}

impl RouteHandler for AsgiApp {
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn answer(&self, request: Request) -> Answer<Response> {
        self.run(request, Asked::First)
    }
}

/// A small body whole, or the body that is still to be read.
///
/// # Errors
/// `Cancelled`, `Timeout`: it was cut short.
pub async fn read_first(body: Body) -> Result<(Option<Bytes>, Option<Body>)> {
    let small = body.size_hint().exact().is_some_and(|bytes| bytes <= READ_FIRST);
    if small { Ok((Some(read_whole(body).await?), None)) } else { Ok((None, Some(body))) }
}

/// Moves the pieces of a request body to the app, as fast as it takes them.
async fn pump(mut body: Body, exchange: Arc<Exchange>) {
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    exchange.put(data).await;
                }
            }
            Some(Err(error)) => return exchange.cut(error),
            None => return exchange.complete(),
        }
    }
}

/// Tells the app that the client is gone when the answer is dropped before it is there.
struct Leaving {
    exchange: Option<Arc<Exchange>>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.disconnect();
        }
    }
}

struct LeavingSocket {
    exchange: Option<Arc<SocketExchange>>,
}

impl Drop for LeavingSocket {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.leave(1006, Box::default());
        }
    }
}
