//! Which connections there are and who listens to which topic: plain data that the hub keeps behind its lock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::error::{Error, Kind, Result};
use crate::kernel::connection::Connection;

/// How many topics one connection may listen to.
pub const TOPICS_PER_CONNECTION: usize = 1024;

/// The connections and the topics that they listen to.
#[derive(Default)]
pub struct Members {
    members: HashMap<Arc<str>, Member>,
    topics: HashMap<Arc<str>, Topic>,
}

struct Member {
    connection: Connection,
    /// The registry's when it came.
    generation: u64,
    topics: HashSet<Arc<str>>,
}

#[derive(Default)]
struct Topic {
    listeners: Vec<Connection>,
    /// The listeners as publishers share them; made anew at the first publish after a change.
    audience: Option<Arc<[Connection]>>,
}

impl Members {
    /// Adds a connection that has come while the registry was at `generation`.
    pub fn join(&mut self, connection: &Connection, generation: u64) {
        let member = Member { connection: connection.clone(), generation, topics: HashSet::new() };
        self.members.insert(connection.shared_id(), member);
    }

    /// Forgets a connection and all its topics.
    pub fn leave(&mut self, connection: &Connection) {
        let Some(member) = self.members.remove(connection.id()) else { return };
        for topic in &member.topics {
            self.remove_listener(connection, topic);
        }
    }

    /// Lets a connection listen to a topic. Doing it again changes nothing.
    ///
    /// # Errors
    /// `Cancelled`: it has left. `Busy`: it listens to [`TOPICS_PER_CONNECTION`] topics already.
    pub fn subscribe(&mut self, connection: &Connection, topic: &str) -> Result<()> {
        let Some(member) = self.members.get_mut(connection.id()) else {
            return Err(Error::new(Kind::Cancelled, "the connection is closed"));
        };
        if member.topics.contains(topic) {
            return Ok(());
        }
        if member.topics.len() >= TOPICS_PER_CONNECTION {
            let message = format!(
                "a connection listens to at most {TOPICS_PER_CONNECTION} topics: unsubscribe from some, or use a wider one"
            );
            return Err(Error::new(Kind::Busy, message));
        }
        let name: Arc<str> = match self.topics.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None => topic.into(),
        };
        member.topics.insert(name.clone());
        let topic = self.topics.entry(name).or_default();
        topic.listeners.push(connection.clone());
        topic.audience = None;
        Ok(())
    }

    /// Ends a subscription. False when there was none.
    pub fn unsubscribe(&mut self, connection: &Connection, topic: &str) -> bool {
        let Some(member) = self.members.get_mut(connection.id()) else { return false };
        let listened = member.topics.remove(topic);
        if listened {
            self.remove_listener(connection, topic);
        }
        listened
    }

    /// Who listens to a topic; `None` when nobody does.
    pub fn audience(&mut self, topic: &str) -> Option<Arc<[Connection]>> {
        let topic = self.topics.get_mut(topic)?;
        let audience = topic.audience.get_or_insert_with(|| topic.listeners.as_slice().into());
        Some(audience.clone())
    }

    /// Every connection, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Connection> {
        self.members.values().map(|member| &member.connection)
    }

    /// The connections that came before the registry was at `generation`, in no order.
    pub fn older_than(&self, generation: u64) -> impl Iterator<Item = &Connection> {
        self.members.values().filter(move |member| member.generation < generation).map(|member| &member.connection)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many topics have a listener.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    fn remove_listener(&mut self, connection: &Connection, name: &str) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        if let Some(place) = topic.listeners.iter().position(|listener| listener.is(connection)) {
            topic.listeners.swap_remove(place);
        }
        topic.audience = None;
        if topic.listeners.is_empty() {
            self.topics.remove(name);
        }
    }
}
