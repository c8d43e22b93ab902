//! How many of one name may go on at a time: calls of one caller, calls of one tool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what goes on, by name. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Quota {
    /// No name with none.
    going_on: Arc<Mutex<HashMap<Arc<str>, usize>>>,
}

impl Quota {
    /// Takes a turn of `name` unless `limit` of them are taken.
    pub fn enter(&self, name: &str, limit: usize) -> Option<Turn> {
        let name: Arc<str> = name.into();
        let mut going_on = self.going_on.lock().unwrap_or_else(PoisonError::into_inner);
        let number = going_on.entry(name.clone()).or_default();
        // A limit is at least 1, so that a name that is new is never left here with none.
        if *number >= limit.max(1) {
            return None;
        }
        *number += 1;
        Some(Turn { quota: self.clone(), name })
    }
}

/// A turn, until it is dropped.
pub struct Turn {
    quota: Quota,
    name: Arc<str>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut going_on = self.quota.going_on.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = going_on.get_mut(&self.name) {
            *number -= 1;
            if *number == 0 {
                going_on.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_ends_is_free_for_the_next() {
        let (quota, one, other) = (Quota::default(), "one", "other");
        let first = quota.enter(one, 2);
        let second = quota.enter(one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(quota.enter(one, 2).is_none());
        assert!(quota.enter(other, 2).is_some());
        drop(first);
        let third = quota.enter(one, 2);
        assert!(third.is_some());
        drop((second, third));
        assert!(quota.going_on.lock().unwrap().is_empty());
    }
}
