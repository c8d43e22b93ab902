//! The asyncio loop as a consumer: it drains its lane in batches and runs each question as a task of its own.
//!
//! Everything here runs on the loop's thread, attached; the rest of the host reaches it only through the lane.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyType};

use crate::base::error::{Error, Kind};
use crate::engine::plain::lane::Lane;
use crate::engine::python::job::{Answers, Ask, Handler, Job, Parcel, Table};
use crate::engine::python::new_task::{NewTask, sent};

/// One drain starts at most so many questions before other callbacks of the loop have their turn.
const BATCH: usize = 64;
/// One drain holds the GIL at most so long.
const BUDGET: Duration = Duration::from_millis(2);

/// Something to do on the loop's thread that is not a question.
pub enum Signal {
    /// Ends a task whose caller has gone.
    Cancel(u64),
    /// Tells a waiting Python object that something came for it.
    Poke(Arc<dyn Poke>),
    /// Runs a piece of work once.
    Run(Box<dyn FnOnce(Python<'_>) + Send>),
}

/// Is told, on the loop's thread, that something came for it.
pub trait Poke: Send + Sync {
    /// Looks at what came. Must not wait.
    fn poke(&self, py: Python<'_>);
}

/// One asyncio loop with its lane. A cheap handle is an `Arc` of it.
pub struct EventLoop {
    lane: Lane<Ask, Signal>,
    answers: Arc<Answers>,
    table: Arc<Table>,
    /// The most tasks that run at a time.
    tasks_limit: usize,
    /// Running tasks by the key of their question: the strong references that asyncio itself does not keep.
    tasks: Mutex<HashMap<u64, Py<PyAny>>>,
    running_tasks: AtomicUsize,
    /// Whether a flush of answers stands in the loop's queue, or will happen at the end of this drain.
    flush_due: AtomicBool,
    now: Now,
    /// The Python side, from attach to detach.
    attached: Mutex<Option<Attached>>,
    thread: AtomicU64,
}

/// Which handler's code the loop runs at this moment, for the watch.
#[derive(Default)]
struct Now {
    /// Counts the steps of tasks.
    step: AtomicU64,
    handler: Mutex<Option<(Handler, Instant)>>,
}

struct Attached {
    event_loop: Py<PyAny>,
    flush: Py<PyAny>,
}

impl EventLoop {
    /// A lane for at most `questions` questions that wait.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new(questions: usize, answers: Arc<Answers>, table: Arc<Table>) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            lane: Lane::new(questions)?,
            answers,
            table,
            tasks_limit: questions.saturating_mul(4),
            tasks: Mutex::default(),
            running_tasks: AtomicUsize::new(0),
            flush_due: AtomicBool::new(false),
            now: Now::default(),
            attached: Mutex::new(None),
            thread: AtomicU64::new(0),
        }))
    }

    /// Begins to drain on `event_loop`, on whose thread this is called.
    ///
    /// # Errors
    /// What the loop raises, for example when it is closed.
    pub fn attach(self: &Arc<Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let tasks = NewTask::of(event_loop)?;
        let drain = Bound::new(py, Drain { owner: self.clone(), event_loop: event_loop.clone().unbind(), tasks })?;
        let flush = Bound::new(py, Flush { owner: self.clone() })?;
        let thread: u64 = py.import("threading")?.call_method0("get_ident")?.extract()?;
        self.thread.store(thread, Ordering::Release);
        event_loop.call_method1("add_reader", (self.lane.bell().descriptor(), &drain))?;
        *self.attached_locked() =
            Some(Attached { event_loop: event_loop.clone().unbind(), flush: flush.into_any().unbind() });
        // What was asked before somebody listened.
        self.lane.wake();
        Ok(())
    }

    /// Stops to drain and refuses what waits; called on the loop's thread, or after the loop has ended.
    pub fn detach(&self, py: Python<'_>) {
        let attached = self.attached_locked().take();
        if let Some(attached) = attached {
            let descriptor = self.lane.bell().descriptor();
            // A closed loop has forgotten its readers.
            let _ = attached.event_loop.bind(py).call_method1("remove_reader", (descriptor,));
        }
        while let Some(Ask { mut job, .. }) = self.lane.pop() {
            job.refuse(crate::engine::python::job::lost());
            self.answers.put(Parcel::Job(job));
        }
        while self.lane.pop_signal().is_some() {}
        self.answers.flush();
        let tasks = std::mem::take(&mut *self.tasks_locked());
        drop(tasks);
        self.table.sweep(py);
    }

    /// The loop, while attached.
    pub fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.attached_locked().as_ref().map(|attached| attached.event_loop.bind(py).clone())
    }

    /// The Python identity of the loop's thread.
    pub fn thread(&self) -> u64 {
        self.thread.load(Ordering::Acquire)
    }

    /// Puts a question. Never waits.
    ///
    /// # Errors
    /// The lane is full: the question comes back.
    pub fn ask(&self, ask: Ask) -> Result<(), Ask> {
        self.lane.push(ask)
    }

    /// Puts a signal. Never waits.
    pub fn signal(&self, signal: Signal) {
        self.lane.signal(signal);
    }

    /// Has the loop let go the objects that nobody holds any more, where there is a loop.
    pub fn sweep_soon(&self) {
        if self.attached_locked().is_some() {
            // Every drain ends with that.
            self.signal(Signal::Run(Box::new(|_| {})));
        }
    }

    /// Rings the bell that tokio workers have put off; called when one parks.
    pub fn ring_if_due(&self) {
        self.lane.ring_if_due();
    }

    /// How many questions wait and how many tasks run.
    pub fn load(&self) -> (usize, usize) {
        (self.lane.len(), self.running_tasks.load(Ordering::Relaxed))
    }

    /// Whether anything waits to be seen by the loop.
    pub fn is_idle(&self) -> bool {
        self.lane.is_empty()
    }

    /// The handler whose code runs on the loop now, and since when.
    pub fn running(&self) -> Option<(Handler, Duration)> {
        let handler = self.now.handler.lock().unwrap_or_else(PoisonError::into_inner);
        handler.as_ref().map(|(handler, since)| (handler.clone(), since.elapsed()))
    }

    /// Counts the steps of tasks: unchanged between two looks means that the loop ran no other step.
    pub fn steps(&self) -> u64 {
        self.now.step.load(Ordering::Relaxed)
    }

    /// Puts an answer on its way back; called on the loop's thread. The answers of one turn of the loop share a wake-up.
    pub fn answer(&self, py: Python<'_>, parcel: Parcel) {
        self.answers.put(parcel);
        if !self.flush_due.swap(true, Ordering::Relaxed) {
            self.flush_later(py);
        }
    }

    fn flush_later(&self, py: Python<'_>) {
        let scheduled = self.attached_locked().as_ref().map(|attached| {
            let (event_loop, flush) = (attached.event_loop.bind(py).clone(), attached.flush.bind(py).clone());
            (event_loop, flush)
        });
        let scheduled = scheduled
            .ok_or(())
            .and_then(|(event_loop, flush)| event_loop.call_method1(intern!(py, "call_soon"), (flush,)).map_err(drop));
        if scheduled.is_err() {
            self.flush_now();
        }
    }

    fn flush_now(&self) {
        self.flush_due.store(false, Ordering::Relaxed);
        self.answers.flush();
    }

    /// One drain: starts what waits, within the budget. Returns how many were started.
    fn drain(self: &Arc<Self>, py: Python<'_>, tasks: &NewTask) -> usize {
        while let Some(signal) = self.lane.pop_signal() {
            self.obey(py, signal);
        }
        let began = Instant::now();
        for number in 1..=BATCH {
            let Some(ask) = self.lane.pop() else { return number - 1 };
            self.begin(py, tasks, ask);
            if number % 8 == 0 && began.elapsed() > BUDGET {
                return number;
            }
        }
        BATCH
    }

    fn obey(&self, py: Python<'_>, signal: Signal) {
        match signal {
            Signal::Poke(poke) => poke.poke(py),
            Signal::Run(run) => run(py),
            Signal::Cancel(key) => self.cancel(py, key),
        }
    }

    /// Cancels a running task; called on the loop's thread. One that has ended is left alone.
    pub fn cancel(&self, py: Python<'_>, key: u64) {
        let task = self.tasks_locked().get(&key).map(|task| task.bind(py).clone());
        if let Some(task) = task {
            let _ = task.call_method0(intern!(py, "cancel"));
        }
    }

    fn begin(self: &Arc<Self>, py: Python<'_>, tasks: &NewTask, ask: Ask) {
        let Ask { key, handler, mut job } = ask;
        if job.is_abandoned() {
            return;
        }
        if self.running_tasks.load(Ordering::Relaxed) >= self.tasks_limit {
            job.refuse(Error::new(Kind::Busy, "too many calls are running: try again later"));
            return self.answer(py, Parcel::Job(job));
        }
        let target = handler.target(py);
        handler.facts().count(job.asked());
        let coroutine = match job.call(py, &target).and_then(|result| tasks.coroutine(result)) {
            Ok(coroutine) => coroutine.unbind(),
            Err(error) => return self.settle(py, &handler, job, Err(error)),
        };
        self.running_tasks.fetch_add(1, Ordering::Relaxed);
        let turn = Turn { coroutine, owner: self.clone(), key, state: Mutex::new(Some((handler, job))) };
        match Bound::new(py, turn).and_then(|turn| tasks.start(py, turn.as_any())) {
            Ok(Some(task)) => {
                self.tasks_locked().insert(key, task.unbind());
            }
            Ok(None) => {}
            // The turn was dropped with its job unanswered: the caller is told that it was lost.
            Err(error) => error.write_unraisable(py, None),
        }
    }

    fn settle(&self, py: Python<'_>, handler: &Handler, mut job: Box<dyn Job>, outcome: PyResult<Bound<'_, PyAny>>) {
        if !job.settle(py, outcome) {
            handler.facts().meter.failed();
        }
        if job.has_answer() {
            self.answer(py, Parcel::Job(job));
        }
    }

    fn attached_locked(&self) -> MutexGuard<'_, Option<Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks_locked(&self) -> MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callback of the loop for the lane's bell, and of itself when one batch was not enough.
#[pyclass(frozen, module = "plugbay._core")]
struct Drain {
    owner: Arc<EventLoop>,
    event_loop: Py<PyAny>,
    tasks: NewTask,
}

#[pymethods]
impl Drain {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Self { owner, event_loop, tasks } = slf.get();
        owner.lane.bell().hear();
        // Dropped at the end, also after a panic: a consumer that neither sleeps nor comes back strands every question.
        let _rest = Rest { drain: slf, event_loop: event_loop.bind(py) };
        let due = owner.flush_due.swap(true, Ordering::Relaxed);
        let started = owner.drain(py, tasks);
        if tasks.eager || started == 0 {
            owner.flush_now();
        } else if !due {
            // The tasks made in this drain take their first step before this.
            owner.flush_later(py);
        }
        owner.table.sweep(py);
        Ok(())
    }
}

/// What a drain does last: it goes to sleep, or has itself called again.
struct Rest<'a, 'py> {
    drain: &'a Bound<'py, Drain>,
    event_loop: &'a Bound<'py, PyAny>,
}

impl Drop for Rest<'_, '_> {
    fn drop(&mut self) {
        let py = self.drain.py();
        let lane = &self.drain.get().owner.lane;
        // Asleep is said last: from then on the next question rings.
        if (!lane.is_empty() || !lane.sleep())
            && let Err(error) = self.event_loop.call_method1(intern!(py, "call_soon"), (self.drain,))
        {
            error.write_unraisable(py, None);
        }
    }
}

#[pyclass(frozen, module = "plugbay._core")]
struct Flush {
    owner: Arc<EventLoop>,
}

#[pymethods]
impl Flush {
    fn __call__(&self) {
        self.owner.flush_now();
    }
}

/// What an asyncio task drives instead of the handler's coroutine itself: it sees the result the moment it is there,
/// so that no callback has to be scheduled for it.
#[pyclass(frozen, module = "plugbay._core")]
struct Turn {
    coroutine: Py<PyAny>,
    owner: Arc<EventLoop>,
    key: u64,
    /// Taken when the coroutine has ended.
    state: Mutex<Option<(Handler, Box<dyn Job>)>>,
}

impl Turn {
    /// Takes one step and looks at what came of it.
    fn step<'py>(
        &self,
        py: Python<'py>,
        step: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<PySendResult<'py>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let handler = self.state().as_ref().map(|(handler, _)| handler.clone());
        let Some(handler) = handler else { return Ok(None) };
        let began = Instant::now();
        *self.owner.now.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some((handler.clone(), began));
        self.owner.now.step.fetch_add(1, Ordering::Relaxed);
        let outcome = step(self.coroutine.bind(py));
        *self.owner.now.handler.lock().unwrap_or_else(PoisonError::into_inner) = None;
        handler.facts().meter.ran(began.elapsed());
        match outcome {
            Ok(PySendResult::Next(awaited)) => Ok(Some(awaited)),
            Ok(PySendResult::Return(value)) => {
                self.end(py, Ok(value));
                Ok(None)
            }
            Err(error) => {
                // A task that does not see its own cancellation would count as completed.
                let cancelled = error.is_instance(py, cancelled_error(py)?);
                let seen = if cancelled { Some(error.clone_ref(py)) } else { None };
                self.end(py, Err(error));
                seen.map_or(Ok(None), Err)
            }
        }
    }

    fn end(&self, py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) {
        let state = self.state().take();
        if let Some((handler, job)) = state {
            self.owner.tasks_locked().remove(&self.key);
            self.owner.settle(py, &handler, job, outcome);
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<(Handler, Box<dyn Job>)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.owner.running_tasks.fetch_sub(1, Ordering::Relaxed);
    }
}

#[pymethods]
impl Turn {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[expect(unsafe_code, reason = "PyO3 offers PyIter_Send for iterators alone; a coroutine is none")]
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.step(py, |coroutine| {
            // SAFETY: `PyIterator::send` is `PyIter_Send`, which takes coroutines as well as iterators; only the cast
            // asks for the latter.
            let iterator = unsafe { coroutine.cast_unchecked::<PyIterator>() };
            iterator.send(&coroutine.py().None().into_bound(coroutine.py()))
        })
    }

    fn send<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let step = self.step(py, |coroutine| sent(py, coroutine.call_method1(intern!(py, "send"), (value,))))?;
        step.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        kind: Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
        traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // The form with one argument is the only one that later versions of Python take without a warning.
        let thrown = match (value, traceback) {
            (Some(value), _) if value.is_instance_of::<PyBaseException>() => value,
            _ => kind,
        };
        let step = self.step(py, |coroutine| sent(py, coroutine.call_method1(intern!(py, "throw"), (thrown,))))?;
        step.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.coroutine.bind(py).call_method0(intern!(py, "close"))?;
        Ok(())
    }

    /// The frame of the handler, so that `asyncio.Task.get_stack` shows it.
    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_frame"))
    }

    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_code"))
    }

    #[getter]
    fn cr_running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_running"))
    }

    #[getter]
    fn cr_await<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_await"))
    }

    #[getter]
    fn __qualname__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "__qualname__"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coroutine)
    }
}

fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CANCELLED.import(py, "asyncio", "CancelledError")
}
