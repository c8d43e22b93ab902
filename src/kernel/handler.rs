//! What answers a question.
//!
//! An engine implements these for its plugins (Python, a child process, a native library); who asks never knows which.
//! An answer that is dropped before it resolves means that the caller went away: the engine cancels the work.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use crate::base::error::Result;
use crate::base::json::Json;
use crate::kernel::call::{ChannelMessage, Moment, Request, Response};
use crate::kernel::connection::Connection;
use crate::kernel::gate::Admitted;

/// An answer that is on its way.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A route of a mount, as lists show it.
#[derive(Clone, Debug)]
pub struct RouteNote {
    /// `GET`, `WS` for a WebSocket, `ANY` when it takes any.
    pub methods: Vec<String>,
    /// Its whole path, in Starlette's form.
    pub path: String,
    /// What its author calls it.
    pub name: Option<String>,
    /// Whether it goes straight to a function of its own.
    pub is_compiled: bool,
    /// Why it does not.
    pub reason: Option<String>,
}

/// Answers the HTTP requests and WebSockets of one mount.
pub trait RouteHandler: Send + Sync {
    /// Answers one request. Any status is an answer.
    ///
    /// # Errors
    /// `Busy`: the way to the handler is full. `Plugin`: it failed before it had begun an answer.
    fn answer(&self, request: Request) -> Answer<Response>;

    /// The routes of the mount as lists show them, in the order in which they are tried; none when nobody knows them.
    fn routes(&self) -> &[RouteNote] {
        &[]
    }

    /// The handler itself, for the engine that made it and no one else.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// Runs one tool.
pub trait ToolHandler: Send + Sync {
    /// Runs the tool once, with arguments that fit its schema and leave from the gate. The caller holds the clock.
    ///
    /// # Errors
    /// `Busy`: the way to the handler is full. `Plugin`: it raised, or its result is not JSON.
    fn run(&self, call: Admitted) -> Answer<Json>;
}

/// Takes the messages of one channel.
pub trait ChannelHandler: Send + Sync {
    /// Takes one message; a connection's next message to this channel comes only after this one is answered.
    ///
    /// Returns what a frame with a `ref` is replied with.
    ///
    /// # Errors
    /// `Busy`: the way to the handler is full. `Plugin`: it raised, or its result is not JSON.
    fn receive(&self, message: ChannelMessage) -> Answer<Json>;

    /// Says that a connection which has sent at least one message to this channel is gone.
    fn leave(&self, connection: &Connection);
}

/// Acts at one moment of the host's life.
pub trait HookHandler: Send + Sync {
    /// Acts once.
    ///
    /// # Errors
    /// `Plugin`: it raised.
    fn act(&self, moment: Moment) -> Answer<()>;
}

/// Gives the content of an MCP resource or prompt.
pub trait TextHandler: Send + Sync {
    /// Answers with the arguments that the uri template or the prompt names, a JSON object.
    ///
    /// # Errors
    /// `Plugin`: it raised, or its result is not JSON.
    fn read(&self, arguments: Json) -> Answer<Json>;
}
