//! Those who wait for the start of a child that is under way: requests, and people who have asked for it.

use std::sync::Arc;

use crate::base::error::Result;
use crate::engine::process::desk::{Live, Reply, Wish};

/// Who waits; all are told at once how the start has ended.
#[derive(Default)]
pub struct Waiters {
    list: Vec<Waiter>,
}

/// One who waits.
pub enum Waiter {
    /// Wants to ask it.
    Request(Reply<Arc<Live>>),
    /// Wants to know that it is ready.
    Person(Reply),
}

impl Waiters {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds one.
    pub fn add(&mut self, waiter: Waiter) {
        self.list.push(waiter);
    }

    /// Takes in who only wants the child to run. Gives back what wants something else.
    pub fn join(&mut self, wish: Wish) -> Option<Wish> {
        match wish {
            Wish::Begin => None,
            Wish::Find(reply) => {
                self.add(Waiter::Request(reply));
                None
            }
            // It is enabled, else it would not start.
            Wish::Start(reply) | Wish::Enable(reply) => {
                self.add(Waiter::Person(reply));
                None
            }
            other => Some(other),
        }
    }

    /// Tells all of them; who has gone meanwhile is told nothing.
    pub fn tell(&mut self, outcome: &Result<Arc<Live>>) {
        for waiter in self.list.drain(..) {
            match waiter {
                Waiter::Request(reply) => _ = reply.send(outcome.clone()),
                Waiter::Person(reply) => _ = reply.send(outcome.as_ref().map(drop).map_err(Clone::clone)),
            }
        }
    }
}
