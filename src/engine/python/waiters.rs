//! The futures of an app that wait for the same thing.
//!
//! An app may wait in several of its tasks at once, and each may give up while it waits (a time-out, a cancelled scope);
//! none may be forgotten, and nothing may be given to one that has gone.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;

/// Futures in the order in which they came. Touched on the loop's thread, and dropped on any that is attached.
#[derive(Default)]
pub struct Waiters {
    futures: Mutex<VecDeque<Py<PyAny>>>,
}

impl Waiters {
    /// Adds one at the end.
    pub fn join(&self, future: &Bound<'_, PyAny>) {
        let future = future.clone().unbind();
        self.locked().push_back(future);
    }

    /// Takes the one that came first and still waits; those that gave up are let go.
    pub fn leave<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        loop {
            let future = self.locked().pop_front()?.into_bound(py);
            if !has_given_up(&future) {
                return Some(future);
            }
        }
    }

    /// Puts one back that was taken, since there is nothing for it yet.
    pub fn put_back(&self, future: Bound<'_, PyAny>) {
        let future = future.unbind();
        self.locked().push_front(future);
    }

    /// How many wait, those among them that gave up and were not let go yet.
    pub fn len(&self) -> usize {
        self.locked().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    /// Lets all of them go, unanswered.
    pub fn clear(&self, _py: Python<'_>) {
        let futures = std::mem::take(&mut *self.locked());
        drop(futures);
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Py<PyAny>>> {
        self.futures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_given_up(future: &Bound<'_, PyAny>) -> bool {
    let done = future.call_method0(intern!(future.py(), "done")).and_then(|done| done.is_truthy());
    // What cannot even be asked can be told nothing.
    done.unwrap_or(true)
}
