//! How much each plugin is asked, how often it fails, and how long it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The counts of one plugin since the start.
#[derive(Debug, Default)]
pub struct Meter {
    calls: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Meter {
    /// Counts one question.
    pub fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one failure.
    pub fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds time in which its code ran.
    pub fn ran(&self, time: Duration) {
        self.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Questions asked.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Questions that it failed at.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// The time in which its code ran.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}

/// The meters of all plugins; cloning is cheap.
#[derive(Clone, Default)]
pub struct Meters {
    meters: Arc<Mutex<BTreeMap<Arc<str>, Arc<Meter>>>>,
}

impl Meters {
    /// The meter of a plugin, made at the first asking; it stays for the life of the host.
    pub fn of(&self, plugin: &Arc<str>) -> Arc<Meter> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).entry(plugin.clone()).or_default().clone()
    }

    /// Every meter, by plugin.
    pub fn all(&self) -> Vec<(Arc<str>, Arc<Meter>)> {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.iter().map(|(plugin, meter)| (plugin.clone(), meter.clone())).collect()
    }
}
