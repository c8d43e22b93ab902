//! What one connection says: each frame goes to its channel's mailbox, or to a channel of the host.
//!
//! The task that owns the socket owns this too: it puts frames in and drives the answers, which come out of the
//! connection's outbox. Dropping it is leaving.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::{ClientFrame, ServerFrame};
use crate::base::json::Json;
use crate::kernel::auth::Scope;
use crate::kernel::calls::{self, Calls};
use crate::kernel::clerk;
use crate::kernel::connection::Connection;
use crate::kernel::hub::Hub;
use crate::kernel::mailbox::{Desk, Mailbox};
use crate::kernel::toolbox::Toolbox;

/// The channel on which the host speaks of itself, and of frames that name no channel.
const SYSTEM: &str = "system";

/// What one connection says, until it is answered.
pub struct Inbox {
    hub: Hub,
    desk: Desk,
    toolbox: Toolbox,
    /// One for each channel that was used. There are as many at most as there are channels.
    mailboxes: Vec<Mailbox>,
    /// Made at the first call.
    calls: Option<Calls>,
    /// Rings at or before the end of the first message's time.
    clock: Option<Pin<Box<Sleep>>>,
}

impl Inbox {
    /// Joins the hub and says hello.
    pub fn open(hub: &Hub, toolbox: &Toolbox, connection: &Connection) -> Self {
        let hello = json!({ "version": env!("CARGO_PKG_VERSION"), "connection": connection.id() });
        // An empty outbox takes the hello; a connection that was closed meanwhile needs none.
        let _ = connection.send(ServerFrame::new(SYSTEM, "hello", None, &Json::of(&hello)));
        hub.join(connection);
        let desk = Desk {
            connection: connection.clone(),
            registry: hub.registry().clone(),
            messages: hub.limits().mailbox_messages,
            call_time: hub.limits().call_time,
        };
        let (hub, toolbox) = (hub.clone(), toolbox.clone());
        Self { hub, desk, toolbox, mailboxes: Vec::new(), calls: None, clock: None }
    }

    /// Takes a text frame. [`Inbox::poll`] must follow. Whatever is wrong with it is answered with an error frame.
    pub fn put(&mut self, text: Bytes) {
        let frame = match ClientFrame::parse(text) {
            Ok(frame) => frame,
            Err(bad) => {
                let channel = bad.channel.as_ref().map_or(SYSTEM, |channel| channel.as_str());
                return self.desk.connection.send_failure(channel, bad.reference.as_ref(), &bad.error);
            }
        };
        let outcome = match frame.channel.as_str() {
            SYSTEM => self.system(&frame),
            clerk::CHANNEL => clerk::put(self.toolbox.gate(), &self.desk.connection, &frame),
            calls::CHANNEL => self.calls().put(&frame),
            _ => match self.may_call() {
                Ok(()) => return self.deliver(frame),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = outcome {
            self.desk.connection.send_failure(frame.channel.as_str(), frame.reference.as_ref(), &error);
        }
    }

    /// Answers a frame that cannot even be read as text.
    pub fn refuse(&self, error: &Error) {
        self.desk.connection.send_failure(SYSTEM, None, error);
    }

    /// Drives every message that is being answered. Never done: the task is woken when there is more to do.
    pub fn poll(&mut self, context: &mut Context<'_>) {
        for mailbox in &mut self.mailboxes {
            mailbox.poll(&self.desk, context);
        }
        if let Some(calls) = &mut self.calls {
            calls.poll(context);
        }
        self.poll_clock(context);
    }

    /// Leaves the hub: pending answers are dropped, which cancels them, and each channel that was used is told.
    pub fn leave(&mut self) {
        self.hub.leave(&self.desk.connection);
        self.calls = None;
        for mut mailbox in std::mem::take(&mut self.mailboxes) {
            mailbox.close(&self.desk.connection);
        }
    }

    fn system(&self, frame: &ClientFrame) -> Result<()> {
        if &*frame.event != "ping" {
            return Err(unknown_event(SYSTEM, &frame.event));
        }
        // A connection that is gone needs no answer.
        let _ = self.desk.connection.send(ServerFrame::new(SYSTEM, "pong", frame.reference.as_ref(), &frame.data));
        Ok(())
    }

    fn may_call(&self) -> Result<()> {
        let principal = self.desk.connection.principal();
        if principal.has(Scope::Call) {
            return Ok(());
        }
        let message = format!("{} may not call: its token needs the scope \"call\"", principal.name());
        Err(Error::new(Kind::Denied, message))
    }

    fn calls(&mut self) -> &mut Calls {
        self.calls
            .get_or_insert_with(|| Calls::new(self.desk.connection.clone(), self.toolbox.clone(), self.desk.messages))
    }

    fn deliver(&mut self, frame: ClientFrame) {
        if let Some(mailbox) = self.mailboxes.iter_mut().find(|mailbox| *mailbox.channel() == frame.channel) {
            return mailbox.put(&self.desk, frame);
        }
        let mut mailbox = Mailbox::new(frame.channel.clone());
        mailbox.put(&self.desk, frame);
        // A name that no plugin offers is answered and forgotten, so that clients cannot fill the list with names.
        if mailbox.is_used() {
            self.mailboxes.push(mailbox);
        }
    }

    /// Gives up the messages whose time is over.
    ///
    /// All have the same time, so the clock is seldom set: while it rings before the first end, it is left alone.
    fn poll_clock(&mut self, context: &mut Context<'_>) {
        while let Some(first) = self.mailboxes.iter().filter_map(Mailbox::until).min() {
            let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(first)));
            if clock.deadline() > first {
                clock.as_mut().reset(first);
            }
            if clock.as_mut().poll(context).is_pending() {
                return;
            }
            self.clock = None;
            let now = Instant::now();
            for mailbox in &mut self.mailboxes {
                mailbox.expire(&self.desk, now);
                mailbox.poll(&self.desk, context);
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.leave();
    }
}

fn unknown_event(channel: &str, event: &str) -> Error {
    let shown: String = event.chars().take(80).collect();
    Error::new(Kind::NotFound, format!("channel {channel:?} knows no event {shown:?}"))
}
