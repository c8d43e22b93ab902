//! What makes the gate ask where it would have allowed: too many side effects by one caller, or a tool that keeps
//! failing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many callers are counted at a time; those that were quiet for longest make room.
const CALLERS: usize = 10_000;

/// When breakers trip.
#[derive(Clone, Copy, Debug)]
pub struct BreakerLimits {
    /// Side effects of one caller within `time`; one more trips.
    pub calls: usize,
    /// The time in which they are counted.
    pub time: Duration,
    /// Failures of one tool in a row that trip.
    pub failures: usize,
}

/// Why the gate asks although a rule or the mode would allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tripped {
    /// The caller has had its number of side effects for now.
    Calls,
    /// The tool has failed too often in a row.
    Failures,
}

/// Counts side effects. Every method may be called on any thread.
pub struct Breaker {
    limits: BreakerLimits,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// When each caller's last side effects were let through, oldest first, at most `limits.calls`.
    callers: HashMap<Arc<str>, VecDeque<Instant>>,
    /// Failures in a row, by tool. Those whose last call went well are not here.
    failures: HashMap<Arc<str>, usize>,
}

impl Breaker {
    /// A breaker that has counted nothing.
    pub fn new(limits: BreakerLimits) -> Self {
        Self { limits, counts: Mutex::default() }
    }

    /// Whether a side effect of `tool` by `caller` is to be asked for; if not, it is counted as let through.
    pub fn take(&self, caller: &str, tool: &str) -> Option<Tripped> {
        let mut counts = self.counts();
        if let Some(tripped) = self.look_at(&mut counts, caller, tool) {
            return Some(tripped);
        }
        self.count(&mut counts, caller);
        None
    }

    /// Counts a side effect that a person let through.
    pub fn count_one(&self, caller: &str) {
        let mut counts = self.counts();
        self.forget_old(&mut counts, caller);
        self.count(&mut counts, caller);
    }

    /// What [`Breaker::take`] would say, without counting.
    pub fn look(&self, caller: &str, tool: &str) -> Option<Tripped> {
        self.look_at(&mut self.counts(), caller, tool)
    }

    /// Says how a side effect ended.
    pub fn ended(&self, tool: &Arc<str>, failed: bool) {
        let mut counts = self.counts();
        if failed {
            *counts.failures.entry(tool.clone()).or_default() += 1;
        } else {
            counts.failures.remove(tool);
        }
    }

    fn look_at(&self, counts: &mut Counts, caller: &str, tool: &str) -> Option<Tripped> {
        self.forget_old(counts, caller);
        if counts.callers.get(caller).is_some_and(|times| times.len() >= self.limits.calls) {
            return Some(Tripped::Calls);
        }
        let failed = counts.failures.get(tool).is_some_and(|failures| *failures >= self.limits.failures);
        failed.then_some(Tripped::Failures)
    }

    fn forget_old(&self, counts: &mut Counts, caller: &str) {
        let Some(times) = counts.callers.get_mut(caller) else { return };
        let now = Instant::now();
        while times.front().is_some_and(|time| now.duration_since(*time) >= self.limits.time) {
            times.pop_front();
        }
        if times.is_empty() {
            counts.callers.remove(caller);
        }
    }

    fn count(&self, counts: &mut Counts, caller: &str) {
        if counts.callers.len() >= CALLERS && !counts.callers.contains_key(caller) {
            let quiet = counts.callers.iter().min_by_key(|(_, times)| times.back().copied());
            if let Some(quiet) = quiet.map(|(name, _)| name.clone()) {
                counts.callers.remove(&quiet);
            }
        }
        let times = counts.callers.entry(caller.into()).or_default();
        if times.len() >= self.limits.calls {
            times.pop_front();
        }
        times.push_back(Instant::now());
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_effect_too_many_by_one_caller_trips_and_others_go_on() {
        let breaker = Breaker::new(BreakerLimits { calls: 2, time: Duration::from_secs(3600), failures: 3 });
        assert_eq!((breaker.take("ann", "t"), breaker.take("ann", "t")), (None, None));
        assert_eq!(breaker.take("ann", "t"), Some(Tripped::Calls));
        assert_eq!(breaker.take("bob", "t"), None);
        let short = Breaker::new(BreakerLimits { calls: 1, time: Duration::ZERO, failures: 3 });
        assert_eq!((short.take("ann", "t"), short.take("ann", "t")), (None, None));
    }

    #[test]
    fn a_tool_that_keeps_failing_trips_until_it_works_again() {
        let breaker = Breaker::new(BreakerLimits { calls: 100, time: Duration::from_secs(3600), failures: 2 });
        let tool: Arc<str> = "t".into();
        breaker.ended(&tool, true);
        assert_eq!(breaker.look("ann", "t"), None);
        breaker.ended(&tool, true);
        assert_eq!((breaker.look("ann", "t"), breaker.look("ann", "other")), (Some(Tripped::Failures), None));
        breaker.ended(&tool, false);
        assert_eq!(breaker.look("ann", "t"), None);
    }
}
