//! The threads that run `def` handlers, which may block.
//!
//! One of them leads: it takes questions from the lane and runs them itself, one after the other, which costs no
//! hand-over at all while handlers are quick. A leader that stays inside one handler for a few milliseconds loses the
//! lead to a standby, and hands it over by itself before it runs a handler that was slow the last time. So a handler
//! that sleeps delays nobody else.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_queue::SegQueue;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::base::error::{Error, Kind};
use crate::engine::plain::lane::Lane;
use crate::engine::python::context::in_own_context;
use crate::engine::python::job::{Answers, Ask, Facts, Handler, Job, Parcel, Table};

/// What the threads are called, before their number.
pub const THREAD_NAME: &str = "plugbay-worker-";
/// After so long inside one handler the leader loses the lead.
const LEAD: Duration = Duration::from_millis(4);
/// A handler that ran for longer than this is expected to do so again.
const SLOW: Duration = Duration::from_millis(1);
/// So long a thread may take to end that is inside no handler.
const JOIN: Duration = Duration::from_secs(1);
/// One batch runs at most so many questions before others may have the GIL and the answers go out.
const BATCH: usize = 64;
/// One batch holds the GIL at most so long.
const BUDGET: Duration = Duration::from_millis(2);

/// Whether a handler that ran for so many seconds is expected to hold up others.
pub fn is_slow(seconds: f64) -> bool {
    seconds > SLOW.as_secs_f64()
}

/// The pool. A cheap handle is an `Arc` of it.
pub struct Workers {
    lane: Lane<Ask, ()>,
    answers: Arc<Answers>,
    table: Arc<Table>,
    /// The most threads that count; stuck ones do not, and are replaced at most as many times.
    limit: usize,
    /// The number of the thread that leads; 0 when none does.
    leader: AtomicU64,
    seats: Mutex<Seats>,
    lead_is_free: Condvar,
    /// How many threads are inside a handler.
    inside: AtomicUsize,
    /// Whether a thread is being made for those that are stuck.
    hiring: AtomicBool,
    /// Refused jobs that hold Python objects, until somebody comes by who may let them go.
    left: SegQueue<Box<dyn Job>>,
}

/// Who is in the pool.
#[derive(Default)]
struct Seats {
    next: u64,
    /// Every thread, by its number.
    threads: HashMap<u64, Arc<Seat>>,
    /// Every thread as Python knows it, by its number.
    objects: HashMap<u64, Py<PyAny>>,
    standby: usize,
    stopping: bool,
    /// Calls that went on after their caller was answered `timeout` or had gone, since the start.
    outlived: usize,
}

/// What one thread does at this moment.
#[derive(Default)]
struct Seat {
    running: Mutex<Option<Running>>,
    identity: AtomicU64,
}

struct Running {
    handler: Handler,
    key: u64,
    since: Instant,
    /// Its caller was answered `timeout` or has gone.
    abandoned: bool,
}

/// What the watch and the status page are told of a busy thread.
pub struct Busy {
    /// The handler that it is inside.
    pub handler: Handler,
    /// For how long.
    pub time: Duration,
    /// The Python identity of the thread.
    pub thread: u64,
    /// Whether nobody waits for it any more.
    pub stuck: bool,
}

impl Workers {
    /// A pool of at most `limit` threads over a lane for at most `questions` questions. No thread yet.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new(limit: usize, questions: usize, answers: Arc<Answers>, table: Arc<Table>) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            lane: Lane::new(questions)?,
            answers,
            table,
            limit: limit.max(2),
            leader: AtomicU64::new(0),
            seats: Mutex::default(),
            lead_is_free: Condvar::new(),
            inside: AtomicUsize::new(0),
            hiring: AtomicBool::new(false),
            left: SegQueue::new(),
        }))
    }

    /// Starts the first threads.
    ///
    /// # Errors
    /// Python cannot start a thread.
    pub fn start(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.seats().stopping = false;
        self.hire(py)
    }

    /// Lets every thread end after what it does now. Does not wait.
    pub fn stop(&self) {
        let mut seats = self.seats();
        seats.stopping = true;
        drop(seats);
        self.lead_is_free.notify_all();
        self.lane.wake();
        while let Some(Ask { mut job, .. }) = self.lane.pop() {
            job.refuse(crate::engine::python::job::lost());
            if job.has_answer() {
                self.answers.put(Parcel::Job(job));
            } else {
                self.left.push(job);
            }
        }
        self.answers.flush();
    }

    /// Waits until the threads that are inside no handler have ended; after [`Workers::stop`].
    ///
    /// # Errors
    /// What `threading` raises.
    pub fn join(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(job) = self.left.pop() {
            drop(job);
        }
        let threads = {
            let mut seats = self.seats();
            let objects = std::mem::take(&mut seats.objects);
            let stuck = |number: &u64| seats.threads.get(number).is_some_and(|seat| seat.running().is_some());
            objects.into_iter().map(|(number, thread)| (stuck(&number), thread)).collect::<Vec<_>>()
        };
        for (_, thread) in threads.iter().filter(|(stuck, _)| !stuck) {
            thread.bind(py).call_method1("join", (JOIN.as_secs_f64(),))?;
        }
        Ok(())
    }

    /// Lets the answers that wait for the end of a batch go out now. The watch calls this.
    pub fn flush(&self) {
        self.answers.flush();
    }

    /// Puts a question. Never waits.
    ///
    /// # Errors
    /// The lane is full: the question comes back.
    pub fn ask(&self, ask: Ask) -> Result<(), Ask> {
        self.lane.push(ask)
    }

    /// Rings the bell that tokio workers have put off; called when one parks.
    pub fn ring_if_due(&self) {
        self.lane.ring_if_due();
    }

    /// How many questions wait.
    pub fn waiting(&self) -> usize {
        self.lane.len()
    }

    /// How many threads there are, and how many calls outlived their callers since the start.
    pub fn threads(&self) -> (usize, usize) {
        let seats = self.seats();
        (seats.threads.len(), seats.outlived)
    }

    /// The threads that are inside a handler.
    pub fn busy(&self) -> Vec<Busy> {
        let seats = self.seats();
        let busy = |seat: &Arc<Seat>| {
            seat.running().as_ref().map(|running| Busy {
                handler: running.handler.clone(),
                time: running.since.elapsed(),
                thread: seat.identity.load(Ordering::Relaxed),
                stuck: running.abandoned,
            })
        };
        seats.threads.values().filter_map(busy).collect()
    }

    /// Notes that nobody waits for the answer of this question any more; the thread that runs it counts as stuck.
    pub fn abandon(&self, key: u64) {
        let mut seats = self.seats();
        let running = |seat: &Arc<Seat>| {
            seat.running().as_mut().is_some_and(|running| {
                let mine = running.key == key;
                running.abandoned |= mine;
                mine
            })
        };
        if seats.threads.values().any(running) {
            seats.outlived += 1;
        }
    }

    /// Takes the lead from a leader that has been inside one handler for too long, and has a thread made when all are
    /// taken and some are stuck. The watch calls this.
    pub fn relieve(self: &Arc<Self>) {
        let leader = self.leader.load(Ordering::Acquire);
        let seats = self.seats();
        let deserted = leader == 0 && seats.standby == 0 && !seats.stopping;
        if deserted && !self.lane.is_empty() && seats.threads.len() < self.room(&seats) {
            drop(seats);
            return self.hire_apart();
        }
        let Some(seat) = seats.threads.get(&leader) else { return };
        let late = seat.running().as_ref().is_some_and(|running| {
            let late = running.since.elapsed() > LEAD;
            if late {
                // Those that wait for the same need not find out one by one.
                running.handler.facts().slow.store(true, Ordering::Relaxed);
            }
            late
        });
        if late && self.leader.compare_exchange(leader, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.lead_is_free.notify_one();
        }
    }

    /// Makes a thread from outside Python, on one that may wait for the interpreter.
    fn hire_apart(self: &Arc<Self>) {
        if self.hiring.swap(true, Ordering::AcqRel) {
            return;
        }
        let workers = self.clone();
        let asked = std::thread::Builder::new().name("plugbay-hire".into()).spawn(move || {
            Python::attach(|py| {
                // The interpreter may have come late.
                let stopping = workers.seats().stopping;
                if !stopping && let Err(error) = workers.hire(py) {
                    error.write_unraisable(py, None);
                }
            });
            workers.hiring.store(false, Ordering::Release);
        });
        if asked.is_err() {
            self.hiring.store(false, Ordering::Release);
        }
    }

    /// Makes a Python thread and gives it a seat.
    fn hire(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let (number, seat) = {
            let mut seats = self.seats();
            seats.next += 1;
            let number = seats.next;
            let seat = Arc::new(Seat::default());
            seats.threads.insert(number, seat.clone());
            seats.standby += 1;
            (number, seat)
        };
        let body = Bound::new(py, Body { owner: Arc::downgrade(self), number, seat })?;
        let keywords = PyDict::new(py);
        keywords.set_item("target", body)?;
        keywords.set_item("name", format!("{THREAD_NAME}{number}"))?;
        // A stuck thread must not keep the process.
        keywords.set_item("daemon", true)?;
        let thread = py.import("threading")?.getattr("Thread")?.call((), Some(&keywords))?;
        if let Err(error) = thread.call_method0("start") {
            let mut seats = self.seats();
            seats.threads.remove(&number);
            seats.standby -= 1;
            return Err(error);
        }
        // Not before: what has not started cannot be joined by a host that ends at this moment.
        self.seats().objects.insert(number, thread.unbind());
        Ok(())
    }

    /// The life of one thread.
    fn work(self: &Arc<Self>, py: Python<'_>, number: u64, seat: &Seat) -> PyResult<()> {
        let identity: u64 = py.import("threading")?.call_method0("get_ident")?.extract()?;
        seat.identity.store(identity, Ordering::Relaxed);
        while py.detach(|| self.take_the_lead(number)) {
            if self.needs_a_standby() {
                // Without one the lead can pass to nobody; then handlers that block delay others, and that is all.
                if let Err(error) = self.hire(py) {
                    error.write_unraisable(py, None);
                }
            }
            self.lead(py, number, seat);
        }
        if !self.seats().stopping {
            // Dropped with the lock released: `threading` keeps weak references with callbacks.
            let ended = self.seats().objects.remove(&number);
            drop(ended);
        }
        Ok(())
    }

    /// Waits for the lead. False when this thread is to end.
    fn take_the_lead(&self, number: u64) -> bool {
        let mut seats = self.seats();
        loop {
            // A free lead is taken first: the one who was told of it must not go away with the news.
            if !seats.stopping && self.leader.compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                seats.standby -= 1;
                return true;
            }
            let surplus = seats.standby > 1 && seats.threads.len() > self.room(&seats);
            if seats.stopping || surplus {
                seats.threads.remove(&number);
                seats.standby -= 1;
                return false;
            }
            seats = self.lead_is_free.wait(seats).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many threads may be inside handlers: the limit, and one for each that is stuck, up to twice the limit.
    fn most_inside(&self, seats: &Seats) -> usize {
        let stuck =
            seats.threads.values().filter(|seat| seat.running().as_ref().is_some_and(|it| it.abandoned)).count();
        self.limit + stuck.min(self.limit)
    }

    /// How many threads there may be: beyond those, one for each plugin that is inside, since a plugin is let in where
    /// others have taken all, and one that leads.
    fn room(&self, seats: &Seats) -> usize {
        let inside: HashSet<Arc<str>> = seats
            .threads
            .values()
            .filter_map(|seat| seat.running().as_ref().map(|it| it.handler.facts().plugin.clone()))
            .collect();
        self.most_inside(seats) + inside.len() + 1
    }

    fn needs_a_standby(&self) -> bool {
        let seats = self.seats();
        !seats.stopping && seats.standby == 0 && seats.threads.len() < self.room(&seats)
    }

    /// Runs questions for as long as this thread leads.
    fn lead(self: &Arc<Self>, py: Python<'_>, number: u64, seat: &Seat) {
        let mut batch = 0;
        let mut began = Instant::now();
        loop {
            let Some(ask) = self.lane.pop() else {
                self.answers.flush();
                self.table.sweep(py);
                if self.seats().stopping {
                    self.give_up_the_lead(number);
                    self.seats().standby += 1;
                    return;
                }
                // A stop that came after the look above has found this thread awake, and rung no bell.
                if self.lane.sleep() && !self.seats().stopping {
                    py.detach(|| self.lane.bell().wait());
                }
                (batch, began) = (0, Instant::now());
                continue;
            };
            if ask.handler.facts().slow.load(Ordering::Relaxed) && !ask.job.has_another_way() {
                self.answers.flush();
                self.give_up_the_lead(number);
            }
            self.run(py, seat, ask);
            if self.leader.load(Ordering::Acquire) != number {
                self.answers.flush();
                self.seats().standby += 1;
                return;
            }
            batch += 1;
            if batch == BATCH || (batch % 8 == 0 && began.elapsed() > BUDGET) {
                self.answers.flush();
                py.detach(std::thread::yield_now);
                (batch, began) = (0, Instant::now());
            }
        }
    }

    fn give_up_the_lead(&self, number: u64) {
        let seats = self.seats();
        if self.leader.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            drop(seats);
            self.lead_is_free.notify_one();
        }
    }

    /// Runs one question.
    fn run(&self, py: Python<'_>, seat: &Seat, ask: Ask) {
        let Ask { key, handler, mut job } = ask;
        if job.is_abandoned() {
            return;
        }
        let facts = handler.facts();
        if let Some(why) = self.too_many(facts, &*job) {
            let message = format!("{why} inside plugin {} already: try again later", facts.plugin);
            job.refuse(Error::new(Kind::Busy, message).blame(facts.plugin.clone()));
            if job.has_answer() {
                self.answers.put(Parcel::Job(job));
            }
            return;
        }
        let target = handler.target(py);
        let since = Instant::now();
        *seat.running() = Some(Running { handler: handler.clone(), key, since, abandoned: false });
        // Who left before this thread was known to run the call could not say so to it.
        if job.is_abandoned() {
            self.abandon(key);
        }
        self.inside.fetch_add(1, Ordering::Relaxed);
        let outcome = in_own_context(&target).and_then(|target| job.call(py, &target));
        facts.count(job.asked());
        if !job.settle(py, outcome) {
            facts.meter.failed();
        }
        drop(target);
        *seat.running() = None;
        self.inside.fetch_sub(1, Ordering::Relaxed);
        let time = since.elapsed();
        facts.slow.store(time > SLOW, Ordering::Relaxed);
        facts.meter.ran(time);
        if job.has_answer() {
            self.answers.put(Parcel::Job(job));
        }
    }

    /// Why a plugin gets no thread for a job; `None` when it gets one. Whatever others hold, it has one.
    fn too_many(&self, facts: &Facts, job: &dyn Job) -> Option<&'static str> {
        if job.has_another_way() && facts.slow.load(Ordering::Relaxed) {
            return Some("slow calls are");
        }
        // Looked at closely only when so many threads are taken that one plugin may have half of them.
        let inside = self.inside.load(Ordering::Relaxed);
        if inside < self.limit / 2 {
            return None;
        }
        let seats = self.seats();
        let of_plugin =
            |seat: &&Arc<Seat>| seat.running().as_ref().is_some_and(|it| it.handler.facts().plugin == facts.plugin);
        let held = seats.threads.values().filter(of_plugin).count();
        if held >= self.limit / 2 {
            return Some("half of all worker threads are");
        }
        (held > 0 && inside >= self.most_inside(&seats)).then_some("all worker threads are taken, and some are")
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a worker's Python thread calls.
#[pyclass(frozen, module = "plugbay._core")]
struct Body {
    owner: Weak<Workers>,
    number: u64,
    seat: Arc<Seat>,
}

#[pymethods]
impl Body {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        match self.owner.upgrade() {
            Some(owner) => owner.work(py, self.number, &self.seat),
            None => Ok(()),
        }
    }
}
