//! Topics to connections: who is there, who listens to what, and what is told to many at once.
//!
//! Nothing here waits for a client: a frame is encoded once and put into each listener's outbox, and a client whose
//! outbox is full pays alone. Every method may be called on any thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::ServerFrame;
use crate::base::json::Json;
use crate::base::name::ChannelName;
use crate::base::settings::Limits;
use crate::base::shutdown::Shutdown;
use crate::kernel::connection::{Connection, OutboxLimits};
use crate::kernel::crier::{Crier, Pause};
use crate::kernel::members::Members;
use crate::kernel::principal::Scope;
use crate::kernel::registry::Registry;

/// Bytes of a topic's name.
const TOPIC_BYTES: usize = 256;

/// How often the credentials behind the sockets are looked at: a revoked one's sockets end within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Moves frames to connections. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    shutdown: Shutdown,
    limits: Limits,
    members: Mutex<Members>,
    crier: Crier,
}

impl Hub {
    /// A hub without connections, over the channels of `registry`.
    pub fn new(registry: Registry, shutdown: Shutdown, limits: Limits) -> Self {
        let crier = Crier::new(shutdown.clone());
        Self { shared: Arc::new(Shared { registry, shutdown, limits, members: Mutex::default(), crier }) }
    }

    /// Starts the task that tells clients of changes, closes the sockets of revoked credentials, and closes all when
    /// the host stops. Once, and with a tokio runtime around the caller.
    ///
    /// `pause` is called by the thread that wakes a large audience, between one part of it and the next.
    pub fn start(&self, pause: Pause) {
        self.shared.shutdown.spawn("hub", self.clone().watch());
        let shared = self.shared.clone();
        self.shared.shutdown.spawn("crier", async move { shared.crier.walk(pause).await });
    }

    /// The plugins whose channels are served.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// The limits of mailboxes, calls and outboxes.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// How much may wait for one client.
    pub fn outbox_limits(&self) -> OutboxLimits {
        OutboxLimits { frames: self.shared.limits.outbox_frames, bytes: self.shared.limits.outbox_bytes }
    }

    /// Lets a connection hear what is told to all, and subscribe. Its pair is [`Hub::leave`].
    pub fn join(&self, connection: &Connection) {
        // Asked before joining: what is changed in between is told.
        let generation = self.shared.registry.snapshot().generation();
        self.members().join(connection, generation);
        // Asked after joining: whoever joins before the signal is closed by the task, whoever joins after it here.
        if self.shared.shutdown.is_stopping() {
            say_goodbye(connection);
        }
    }

    /// Forgets a connection and its subscriptions.
    pub fn leave(&self, connection: &Connection) {
        self.members().leave(connection);
    }

    /// Lets a connection hear a topic: `<channel>` or `<channel>/<rest>`. Doing it again changes nothing.
    ///
    /// # Errors
    /// `Invalid`: it is not of that form, or longer than 256 bytes. `Busy`: the connection hears too many topics.
    /// `Cancelled`: the connection is gone.
    pub fn subscribe(&self, connection: &Connection, topic: &str) -> Result<()> {
        let channel = topic.split('/').next().unwrap_or_default();
        ChannelName::parse(channel).map_err(|error| bad_topic(topic, error.message()))?;
        if topic.len() > TOPIC_BYTES {
            return Err(bad_topic(topic, "it is longer than 256 bytes"));
        }
        self.members().subscribe(connection, topic)
    }

    /// Ends a subscription. False when there was none.
    pub fn unsubscribe(&self, connection: &Connection, topic: &str) -> bool {
        self.members().unsubscribe(connection, topic)
    }

    /// Puts `{"channel", "event": "message", "topic", "data"}` into the outbox of each connection that hears `topic`,
    /// encoded once. Never waits. Returns how many took it; a client whose outbox is full is closed instead.
    pub fn publish(&self, channel: &str, topic: &str, data: &Json) -> usize {
        let Some(audience) = self.members().audience(topic) else { return 0 };
        self.send_to(&audience, &ServerFrame::message(channel, topic, data))
    }

    /// Says something to every connection, on the channel `system`. Never waits.
    pub fn announce(&self, event: &str, data: &Json) {
        self.send_to(&self.all(), &ServerFrame::new("system", event, None, data));
    }

    /// Puts one frame into the outbox of each connection whose principal has `scope`. Never waits.
    pub fn send_to_those_with(&self, scope: Scope, frame: &ServerFrame) {
        let connections: Vec<Connection> =
            self.members().all().filter(|connection| connection.principal().has(scope)).cloned().collect();
        self.send_to(&connections, frame);
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.members().len()
    }

    /// How many topics somebody hears.
    pub fn topics(&self) -> usize {
        self.members().topics()
    }

    async fn watch(self) {
        let mut changes = self.shared.registry.changes();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shared.shutdown.stopping() => break,
                Ok(()) = changes.changed() => {
                    let generation = *changes.borrow_and_update();
                    self.tell_of(generation);
                }
                _ = look.tick() => {
                    for connection in self.revoked() {
                        connection.close_at_once(1008, "the credential was revoked or has expired");
                    }
                }
            }
        }
        self.all().iter().for_each(say_goodbye);
    }

    /// Tells of a change who does not know it yet: whoever came after it sees its fruit.
    fn tell_of(&self, generation: u64) {
        let told: Vec<Connection> = self.members().older_than(generation).cloned().collect();
        let data = Json::of(&json!({ "generation": generation }));
        self.send_to(&told, &ServerFrame::new("system", "registry_changed", None, &data));
    }

    /// Puts one frame into many outboxes. Returns how many took it.
    fn send_to(&self, connections: &[Connection], frame: &ServerFrame) -> usize {
        let mut taken = 0;
        let mut writers = Vec::with_capacity(connections.len());
        for connection in connections {
            if let Ok(writer) = connection.put(frame.clone()) {
                taken += 1;
                writers.extend(writer);
            }
        }
        self.shared.crier.wake(writers);
        taken
    }

    fn all(&self) -> Vec<Connection> {
        self.members().all().cloned().collect()
    }

    fn revoked(&self) -> Vec<Connection> {
        self.members().all().filter(|connection| connection.principal().is_revoked()).cloned().collect()
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say_goodbye(connection: &Connection) {
    connection.close(1001, "the host is stopping");
}

fn bad_topic(topic: &str, why: &str) -> Error {
    let shown: String = topic.chars().take(80).collect();
    let message =
        format!("topic {shown:?} is not valid: write <channel> or <channel>/<rest>, for example chat/room-1 ({why})");
    Error::new(Kind::Invalid, message)
}
