//! A bounded queue of questions for one Python consumer, with wake-ups that are put off and shared.
//!
//! Beside the questions there are signals: a caller that went away, more bytes of a body, what an errand has brought. Their
//! number is bounded by the questions and connections that they belong to, so they are never refused, and they overtake the
//! questions that wait.
//!
//! Waking a sleeping thread costs several times what handing over a question costs. So a tokio worker that pushes does
//! not ring the bell; it rings when it is about to park, having run out of other work. Nothing is stranded by that:
//! every push rings, at once or later, by one of four rules (see [`Lane::push`]), and the consumer looks at the queue
//! again after it has said that it sleeps.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::engine::plain::bell::Bell;

/// So many questions are worth a wake-up of their own.
const RING_AT_QUEUED: usize = 32;
/// So long may the oldest question wait for the worker to park.
const RING_AT_AGE: Duration = Duration::from_micros(200);

thread_local! {
    /// Whether this thread is a tokio worker, which will park and ring then.
    static PARKS: Cell<bool> = const { Cell::new(false) };
}

/// Called by the runtime when this thread is about to park. From then on the thread counts as one that parks; before
/// its first park its pushes ring at once.
pub fn note_parking_thread() {
    PARKS.set(true);
}

/// A queue with one consumer at a time and any number of producers.
pub struct Lane<T, S> {
    queue: ArrayQueue<T>,
    signals: SegQueue<S>,
    bell: Bell,
    /// The consumer sleeps, or is about to: who takes this to false must ring.
    asleep: AtomicBool,
    /// Nanoseconds from `born` to the first push that did not ring; 0 when there is none.
    put_off_since: AtomicU64,
    born: Instant,
}

impl<T, S> Lane<T, S> {
    /// An empty lane for at most `limit` questions, whose consumer is asleep.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new(limit: usize) -> io::Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(limit.max(1)),
            signals: SegQueue::new(),
            bell: Bell::new()?,
            asleep: AtomicBool::new(true),
            put_off_since: AtomicU64::new(0),
            born: Instant::now(),
        })
    }

    /// Puts a question at the end. When the consumer sleeps, it is woken
    ///
    /// 1. at once, when this thread is no tokio worker;
    /// 2. at once, when 32 questions wait;
    /// 3. at once, when an earlier question has waited for longer than 200 µs;
    /// 4. else when this tokio worker parks, by [`Lane::ring_if_due`].
    ///
    /// # Errors
    /// The lane is full: the question comes back.
    pub fn push(&self, question: T) -> Result<(), T> {
        self.queue.push(question)?;
        self.pushed();
        Ok(())
    }

    /// Puts a signal, and wakes the consumer by the rules of [`Lane::push`].
    pub fn signal(&self, signal: S) {
        self.signals.push(signal);
        self.pushed();
    }

    fn pushed(&self) {
        // Either this load sees that the consumer sleeps, or the consumer, which says so before it looks at the queue
        // for the last time, sees what was pushed. The fence orders the push before the load.
        fence(Ordering::SeqCst);
        if !self.asleep.load(Ordering::SeqCst) {
            return;
        }
        if !PARKS.get() || self.queue.len() >= RING_AT_QUEUED || self.waited_too_long() {
            self.wake();
        }
    }

    /// Wakes the consumer if it sleeps over a question. A tokio worker calls this whenever it is about to park.
    pub fn ring_if_due(&self) {
        if self.asleep.load(Ordering::SeqCst) && !self.is_empty() {
            self.wake();
        }
    }

    /// Wakes the consumer if it sleeps, whatever the queue holds.
    pub fn wake(&self) {
        self.put_off_since.store(0, Ordering::Relaxed);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// The next question. Only the consumer asks.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// The next signal. Only the consumer asks.
    pub fn pop_signal(&self) -> Option<S> {
        self.signals.pop()
    }

    /// How many questions wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether neither a question nor a signal waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.signals.is_empty()
    }

    /// The consumer says that it goes to sleep. True: it may, and the bell will ring for the next question. False: a
    /// question came meanwhile, and it is awake again.
    pub fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.is_empty() {
            return true;
        }
        // A producer that wakes us between these lines rings a bell that nobody needs; it is heard and ignored.
        self.asleep.swap(false, Ordering::SeqCst);
        false
    }

    /// The bell that rings for this lane.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    fn waited_too_long(&self) -> bool {
        let now = u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        match self.put_off_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => false,
            Err(since) => Duration::from_nanos(now.saturating_sub(since)) > RING_AT_AGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A worker that parks after pushes which rang nothing still wakes the consumer: no interleaving strands one.
    #[test]
    fn every_question_is_taken_whatever_the_interleaving() {
        const PRODUCERS: usize = 4;
        const EACH: usize = 20_000;
        let lane = Arc::new(Lane::<usize, ()>::new(64).expect("a file descriptor"));
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let lane = lane.clone();
                std::thread::spawn(move || {
                    if producer % 2 == 0 {
                        note_parking_thread();
                    }
                    for number in 0..EACH {
                        let mut question = number;
                        while let Err(back) = lane.push(question) {
                            lane.ring_if_due();
                            question = back;
                            std::thread::yield_now();
                        }
                        if number % 7 == 0 {
                            lane.ring_if_due();
                        }
                    }
                    lane.ring_if_due();
                })
            })
            .collect();
        let mut taken = 0;
        while taken < PRODUCERS * EACH {
            while lane.pop().is_some() {
                taken += 1;
            }
            if taken < PRODUCERS * EACH && lane.sleep() {
                lane.bell().wait();
            }
        }
        for producer in producers {
            producer.join().expect("no producer panics");
        }
        assert!(lane.is_empty());
    }

    #[test]
    fn a_full_lane_gives_the_question_back() {
        let lane = Lane::<i32, ()>::new(2).expect("a file descriptor");
        assert_eq!(lane.push(1), Ok(()));
        assert_eq!(lane.push(2), Ok(()));
        assert_eq!(lane.push(3), Err(3));
    }
}
