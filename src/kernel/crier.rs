//! Wakes the writers of a large audience a few at a time.
//!
//! A publish puts its frame into every outbox at once, so that order is kept; only the waking is spread. What else the
//! runtime has to do, the next message of the same publisher above all, has its turn between, so that a writer which is
//! woken late finds several frames and sends them with one write.

use std::sync::Arc;
use std::task::Waker;

use crossbeam_queue::SegQueue;
use tokio::sync::Notify;

use crate::base::shutdown::Shutdown;

/// So many writers are woken before others have their turn. An audience up to this size is woken at once.
pub const AT_A_TIME: usize = 32;

/// Called by a thread of the runtime before it lets others have their turn. Cheap, and never waits.
pub type Pause = Arc<dyn Fn() + Send + Sync>;

/// The writers that are to be woken.
pub struct Crier {
    wakers: SegQueue<Waker>,
    called: Notify,
    shutdown: Shutdown,
}

impl Crier {
    /// Nobody is to be woken yet.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { wakers: SegQueue::new(), called: Notify::new(), shutdown }
    }

    /// Wakes these soon, and never forgets one.
    pub fn wake(&self, wakers: Vec<Waker>) {
        if wakers.len() <= AT_A_TIME {
            return wakers.into_iter().for_each(Waker::wake);
        }
        for waker in wakers {
            self.wakers.push(waker);
        }
        // After the stop signal nobody else may be there to do it.
        if self.shutdown.is_stopping() {
            self.wake_all();
        } else {
            self.called.notify_one();
        }
    }

    /// Wakes whoever is to be woken, until the host stops; `pause` is called whenever others have their turn.
    pub async fn walk(&self, pause: Pause) {
        while !self.shutdown.is_stopping() {
            tokio::select! {
                () = self.called.notified() => {}
                () = self.shutdown.stopping() => break,
            }
            while !self.wakers.is_empty() {
                for _ in 0..AT_A_TIME {
                    let Some(waker) = self.wakers.pop() else { break };
                    waker.wake();
                }
                // Other threads too: on one core, the one that makes the next message waits for this one.
                pause();
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
        }
        self.wake_all();
    }

    fn wake_all(&self) {
        while let Some(waker) = self.wakers.pop() {
            waker.wake();
        }
    }
}
