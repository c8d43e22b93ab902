//! The tool calls of one connection that are running: the host's channel `tools`.
//!
//! `call` starts one, `progress` frames may follow, then `result` or `error`; `cancel` ends it early. Many run at a
//! time; dropping this cancels all.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::{FuturesUnordered, Stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::{ClientFrame, Ref, ServerFrame};
use crate::base::json::Json;
use crate::base::name::ToolName;
use crate::kernel::auth::Scope;
use crate::kernel::call::{Arguments, Door, Progress, ToolCall};
use crate::kernel::connection::Connection;
use crate::kernel::gate::{Notice, Patience};
use crate::kernel::toolbox::{Misfit, Toolbox};

/// The channel's name.
pub const CHANNEL: &str = "tools";

/// The tool calls of one connection that are running.
pub struct Calls {
    connection: Connection,
    toolbox: Toolbox,
    limit: usize,
    running: FuturesUnordered<Running>,
    /// How a running call with a ref is ended early.
    by_reference: HashMap<Ref, AbortHandle>,
}

type Running = Pin<Box<dyn Future<Output = Ended> + Send>>;

struct Ended {
    reference: Option<Ref>,
    outcome: Result<Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish<'a> {
    tool: String,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl<'a> Wish<'a> {
    /// Reads the `data` of a call.
    fn read(data: &'a Json) -> Result<Self> {
        let invalid = |why: &dyn std::fmt::Display| {
            let example = "{\"tool\": \"files.read\", \"arguments\": {\"path\": \"a\"}}";
            Error::new(Kind::Invalid, format!("the data of a call is an object like {example}: {why}"))
        };
        // Without this a list would be read as the fields in their order.
        if !data.as_str().starts_with('{') {
            return Err(invalid(&"it is none"));
        }
        serde_json::from_str(data.as_str()).map_err(|error| invalid(&error))
    }

    /// The tool and the arguments that it names.
    fn parts(&self, data: &Json) -> Result<(ToolName, Arguments)> {
        let tool = ToolName::parse(&self.tool)?;
        let arguments = self.arguments.map(|text| Json::found(&data.bytes(), text).bytes()).unwrap_or_default();
        Ok((tool, Arguments::parse(arguments)?))
    }
}

#[derive(Serialize)]
struct Outcome<'a> {
    result: &'a Json,
}

impl Calls {
    /// No calls yet, and at most `limit` at a time.
    pub fn new(connection: Connection, toolbox: Toolbox, limit: usize) -> Self {
        Self { connection, toolbox, limit, running: FuturesUnordered::new(), by_reference: HashMap::new() }
    }

    /// Does what a frame asks for. [`Calls::poll`] must follow.
    ///
    /// # Errors
    /// To be answered with an error frame: `NotFound`: an unknown event, or nothing to cancel. `Malformed`, `Invalid`:
    /// a call that cannot be read. `Conflict`: a call with this ref is running. `Busy`: too many are running.
    pub fn put(&mut self, frame: &ClientFrame) -> Result<()> {
        match &*frame.event {
            "call" => self.call(frame),
            "cancel" => self.cancel(frame),
            other => {
                let message = format!("channel \"tools\" knows \"call\" and \"cancel\", not {other:?}");
                Err(Error::new(Kind::NotFound, message))
            }
        }
    }

    /// Drives the calls and sends what they end with.
    pub fn poll(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(Ended { reference, outcome })) = Pin::new(&mut self.running).poll_next(context) {
            if let Some(reference) = &reference {
                self.by_reference.remove(reference);
            }
            match (outcome, &reference) {
                (Ok(result), Some(reference)) => {
                    let data = Json::of(&Outcome { result: &result });
                    // A connection that is gone needs no answer.
                    let _ = self.connection.send(ServerFrame::new(CHANNEL, "result", Some(reference), &data));
                }
                (Ok(_), None) => {}
                (Err(error), reference) => self.connection.send_failure(CHANNEL, reference.as_ref(), &error),
            }
        }
    }

    fn call(&mut self, frame: &ClientFrame) -> Result<()> {
        let principal = self.connection.principal();
        let wish = Wish::read(&frame.data).map_err(|error| match principal.has(Scope::Call) {
            true => error,
            // Who may call nothing is not told how.
            false => Error::new(
                Kind::Denied,
                format!("{} may not call tools: its token needs the scope \"call\"", principal.name()),
            ),
        })?;
        self.begin(frame, &wish).map_err(|error| {
            let misfit = Misfit { door: Door::Socket, principal: self.connection.principal(), tool: &wish.tool };
            self.toolbox.refuse(&misfit, error)
        })
    }

    fn begin(&mut self, frame: &ClientFrame, wish: &Wish<'_>) -> Result<()> {
        if self.running.len() >= self.limit {
            let message = format!("{} calls of this connection are running: wait for one to end", self.limit);
            return Err(Error::new(Kind::Busy, message));
        }
        if frame.reference.as_ref().is_some_and(|reference| self.by_reference.contains_key(reference)) {
            return Err(Error::new(Kind::Conflict, "a call with this ref is running: give each call a ref of its own"));
        }
        let (tool, arguments) = wish.parts(&frame.data)?;
        let over = Arc::new(AtomicBool::new(false));
        let call = ToolCall {
            tool,
            arguments,
            principal: self.connection.principal().clone(),
            door: Door::Socket,
            progress: frame.reference.clone().map(|reference| self.progress(reference, over.clone())),
        };
        let (handle, registration) = AbortHandle::new_pair();
        if let Some(reference) = &frame.reference {
            self.by_reference.insert(reference.clone(), handle);
        }
        let (toolbox, reference) = (self.toolbox.clone(), frame.reference.clone());
        let patience = Patience { most: None, notice: reference.clone().map(|reference| self.notice(reference)) };
        let run = Abortable::new(async move { toolbox.run_to_the_end(call, patience).await }, registration);
        self.running.push(Box::pin(async move {
            let outcome = run.await.unwrap_or_else(|_| Err(Error::new(Kind::Cancelled, "the call was cancelled")));
            over.store(true, Ordering::Release);
            Ended { reference, outcome }
        }));
        Ok(())
    }

    fn cancel(&mut self, frame: &ClientFrame) -> Result<()> {
        let running = frame.reference.as_ref().and_then(|reference| self.by_reference.get(reference));
        let Some(handle) = running else {
            return Err(Error::new(Kind::NotFound, "no call with this ref is running: it has ended, or never began"));
        };
        // Wakes the call, which then drops the tool's answer and ends with an error of kind `Cancelled`.
        handle.abort();
        Ok(())
    }

    /// Says at once that a person is asked, and where.
    fn notice(&self, reference: Ref) -> Notice {
        let connection = self.connection.clone();
        Arc::new(move |approval| {
            let data = Json::of(&json!({ "approval": &*approval.id, "url": &*approval.url }));
            let _ = connection.send(ServerFrame::new(CHANNEL, "progress", Some(&reference), &data));
        })
    }

    /// Sends progress of a call until it is over. What a crowded outbox has no room for is left out.
    fn progress(&self, reference: Ref, over: Arc<AtomicBool>) -> Progress {
        let connection = self.connection.clone();
        Arc::new(move |fraction, message| {
            if over.load(Ordering::Acquire) || connection.is_crowded() {
                return;
            }
            let data = Json::of(&json!({ "fraction": fraction, "message": message }));
            let _ = connection.send(ServerFrame::new(CHANNEL, "progress", Some(&reference), &data));
        })
    }
}
