//! One signal to stop, one wait for every task.
//!
//! Every task of the host is spawned here, under a name, and is waited for when the host stops. A task that panics is
//! caught at its root and logged by name, once.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// A handle on the stop signal and the tasks that obey it; cloning is cheap.
#[derive(Clone, Default)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: CancellationToken,
    tasks: TaskTracker,
    panics: AtomicU64,
    /// How many tasks of each name are running.
    running: Mutex<BTreeMap<&'static str, usize>>,
}

impl Shutdown {
    /// A signal that nobody has given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends, under `name`. Needs a tokio runtime around the caller.
    ///
    /// The task must end by itself soon after [`Shutdown::stopping`] resolves, or be bounded in time.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = Running::enter(name, &self.shared);
        // Combinators, because an `async` block would keep the task twice: as what it holds and as what it awaits.
        self.shared.tasks.spawn(AssertUnwindSafe(task).catch_unwind().map(move |outcome| match outcome {
            Ok(output) => Some(output),
            Err(panic) => {
                running.shared.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, "task panicked: {}", panic_text(&*panic));
                None
            }
        }))
    }

    /// Gives the signal. Giving it again changes nothing.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Whether the signal was given.
    pub fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Resolves when the signal is given.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.shared.stop.cancelled()
    }

    /// How many tasks have panicked since the start.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Waits until every task has ended, at most `limit`.
    ///
    /// Returns the names of the tasks that were still running, with their number; empty when all had ended.
    pub async fn finished(&self, limit: Duration) -> BTreeMap<&'static str, usize> {
        self.shared.tasks.close();
        let _ = tokio::time::timeout(limit, self.shared.tasks.wait()).await;
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter(|(_, number)| **number > 0).map(|(name, number)| (*name, *number)).collect()
    }
}

/// Counts a task as running for as long as it lives, also when it is cut off.
struct Running {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Running {
    fn enter(name: &'static str, shared: &Arc<Shared>) -> Self {
        *shared.running.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Self { name, shared: shared.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = running.get_mut(self.name) {
            *number -= 1;
        }
    }
}

/// What a panic said, for the log.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
