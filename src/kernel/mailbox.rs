//! The messages of one connection for one channel, handed over one at a time.
//!
//! The task that owns the connection drives its mailboxes itself: a message costs no task and no lock.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::{ClientFrame, Ref, ServerFrame};
use crate::base::json::Json;
use crate::base::name::ChannelName;
use crate::kernel::call::ChannelMessage;
use crate::kernel::connection::Connection;
use crate::kernel::guarded::Guarded;
use crate::kernel::handler::ChannelHandler;
use crate::kernel::registry::Registry;

/// What every mailbox of one connection works with.
pub struct Desk {
    /// Whose messages they are.
    pub connection: Connection,
    /// Where the channels' handlers are.
    pub registry: Registry,
    /// How many messages may wait in one mailbox.
    pub messages: usize,
    /// How long a handler may take for one.
    pub call_time: Duration,
}

/// The messages of one connection for one channel.
pub struct Mailbox {
    channel: ChannelName,
    /// Who was asked last, to be told when the connection leaves.
    handler: Option<Arc<dyn ChannelHandler>>,
    asked: Option<Asked>,
    waiting: VecDeque<ClientFrame>,
}

/// A message that its handler has and has not answered.
struct Asked {
    reference: Option<Ref>,
    answer: Guarded<Json>,
    until: Instant,
    /// Who is to blame for a failure.
    plugin: Arc<str>,
}

impl Asked {
    fn blame(&self, error: Error) -> Error {
        if error.plugin().is_none() { error.blame(self.plugin.clone()) } else { error }
    }
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(channel: ChannelName) -> Self {
        Self { channel, handler: None, asked: None, waiting: VecDeque::new() }
    }

    /// Whose messages these are.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Whether a handler was ever asked.
    pub fn is_used(&self) -> bool {
        self.handler.is_some()
    }

    /// Takes a message. [`Mailbox::poll`] must follow.
    ///
    /// An error frame is the answer when the mailbox is full (`busy`) or no plugin offers the channel (`not_found`).
    pub fn put(&mut self, desk: &Desk, frame: ClientFrame) {
        if self.asked.is_none() && self.waiting.is_empty() {
            self.ask(desk, frame);
        } else if self.waiting.len() < desk.messages {
            self.waiting.push_back(frame);
        } else {
            let message = format!(
                "{} messages wait for channel {:?} already: wait for answers before sending more",
                desk.messages,
                self.channel.as_str()
            );
            self.fail(desk, frame.reference.as_ref(), Error::new(Kind::Busy, message));
        }
    }

    /// Passes answers on and hands over the next messages, until one is not answered at once.
    pub fn poll(&mut self, desk: &Desk, context: &mut Context<'_>) {
        loop {
            if let Some(asked) = &mut self.asked {
                let Poll::Ready(answer) = Pin::new(&mut asked.answer).poll(context) else { return };
                let (reference, answer) = (asked.reference.take(), answer.map_err(|error| asked.blame(error)));
                self.asked = None;
                self.reply(desk, reference.as_ref(), answer);
            }
            let Some(next) = self.waiting.pop_front() else {
                self.waiting = VecDeque::new();
                return;
            };
            self.ask(desk, next);
        }
    }

    /// When the handler's time for its message is over; `None` when it has none.
    pub fn until(&self) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.until)
    }

    /// Gives up a message whose handler has had its time: its answer is dropped, which cancels it.
    pub fn expire(&mut self, desk: &Desk, now: Instant) {
        if let Some(asked) = self.asked.take_if(|asked| asked.until <= now) {
            let message =
                format!("channel {:?} gave no answer within {} s", self.channel.as_str(), desk.call_time.as_secs_f64());
            self.fail(desk, asked.reference.as_ref(), asked.blame(Error::new(Kind::Timeout, message)));
        }
    }

    /// Drops every message and tells the handler that the connection is gone.
    pub fn close(&mut self, connection: &Connection) {
        self.asked = None;
        self.waiting.clear();
        if let Some(handler) = self.handler.take() {
            handler.leave(connection);
        }
    }

    /// Looks the channel up for each message, so that a plugin which was withdrawn gets none.
    fn ask(&mut self, desk: &Desk, frame: ClientFrame) {
        let snapshot = desk.registry.snapshot();
        let Some(offered) = snapshot.channel(self.channel.as_str()) else {
            let message =
                format!("no plugin offers a channel {:?}: GET /api/host/channels lists them", self.channel.as_str());
            return self.fail(desk, frame.reference.as_ref(), Error::new(Kind::NotFound, message));
        };
        if !self.handler.as_ref().is_some_and(|handler| Arc::ptr_eq(handler, &offered.handler)) {
            // A new plugin has taken the channel over: to the old one this connection is gone.
            if let Some(old) = self.handler.replace(offered.handler.clone()) {
                old.leave(&desk.connection);
            }
        }
        let reference = frame.reference.clone();
        let message = ChannelMessage { connection: desk.connection.clone(), frame };
        let answer = Guarded::ask(|| offered.handler.receive(message));
        let plugin = offered.plugin.manifest.id.shared();
        self.asked = Some(Asked { reference, answer, until: Instant::now() + desk.call_time, plugin });
    }

    fn reply(&self, desk: &Desk, reference: Option<&Ref>, answer: Result<Json>) {
        match (answer, reference) {
            (Ok(data), Some(reference)) => {
                // A connection that is gone needs no answer.
                let _ = desk.connection.send(ServerFrame::new(self.channel.as_str(), "reply", Some(reference), &data));
            }
            (Ok(_), None) => {}
            (Err(error), reference) => self.fail(desk, reference, error),
        }
    }

    fn fail(&self, desk: &Desk, reference: Option<&Ref>, error: Error) {
        desk.connection.send_failure(self.channel.as_str(), reference, &error);
    }
}
