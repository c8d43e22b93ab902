//! The only door from Rust into Python.
//!
//! A question goes in as plain data and its answer comes out as plain data; no tokio worker touches the interpreter, so
//! a plugin that holds the GIL stops Python and nothing else. `async def` handlers run on the event loop, `def`
//! handlers on worker threads.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Limits;
use crate::base::shutdown::Shutdown;
use crate::engine::plain::lane::note_parking_thread;
use crate::engine::python::event_loop::{EventLoop, Signal};
use crate::engine::python::job::{Answers, Ask, Facts, Handler, Job, Question, Table, Where, lost};
use crate::engine::python::watch::Watch;
use crate::engine::python::workers::Workers;
use crate::kernel::meter::Meters;

tokio::task_local! {
    /// The loop on which `async def` handlers run for this task, when it is not the host's: the loop of a caller who
    /// calls a tool with no host running.
    static CALLERS_LOOP: Arc<EventLoop>;
}

/// The loader threads that were given up and have not come back: a plugin keeps them inside its import or `setup`.
pub static LOADERS_GIVEN_UP: AtomicI64 = AtomicI64::new(0);

/// A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Bridge {
    shared: Arc<Shared>,
}

struct Shared {
    table: Arc<Table>,
    answers: Arc<Answers>,
    event_loop: Arc<EventLoop>,
    workers: Arc<Workers>,
    watch: Watch,
    meters: Meters,
    keys: AtomicU64,
    /// Whether a loop listens: a host runs.
    open: AtomicBool,
    /// Whether what is asked is refused: nobody would answer any more.
    stopped: AtomicBool,
    closed: Mutex<CancellationToken>,
    questions: usize,
}

impl Bridge {
    /// A bridge with nobody on the Python side yet.
    ///
    /// # Errors
    /// `Internal`: the system has no file descriptor left.
    pub fn new(limits: &Limits, meters: Meters) -> Result<Self> {
        let problem = |error| Error::new(Kind::Internal, "no file descriptor left for the bridge").with_source(error);
        let table = Arc::new(Table::default());
        let answers = Arc::new(Answers::default());
        let questions = limits.bridge_questions;
        let event_loop = EventLoop::new(questions, answers.clone(), table.clone()).map_err(problem)?;
        let sweeper = Arc::downgrade(&event_loop);
        table.swept_by(move || {
            if let Some(event_loop) = sweeper.upgrade() {
                event_loop.sweep_soon();
            }
        });
        let workers =
            Workers::new(limits.worker_threads, questions, answers.clone(), table.clone()).map_err(problem)?;
        let watch = Watch::new(event_loop.clone(), workers.clone());
        Ok(Self {
            shared: Arc::new(Shared {
                table,
                answers,
                event_loop,
                workers,
                watch,
                meters,
                keys: AtomicU64::new(1),
                open: AtomicBool::new(false),
                stopped: AtomicBool::new(false),
                closed: Mutex::default(),
                questions,
            }),
        })
    }

    /// Keeps a Python callable of a plugin for as long as the returned handler has holders.
    pub fn hold(&self, object: Bound<'_, PyAny>, plugin: &Arc<str>, place: Where) -> Handler {
        let meter = self.shared.meters.of(plugin);
        let facts = Facts { plugin: plugin.clone(), meter, place, slow: AtomicBool::new(false) };
        self.shared.table.hold(object, facts)
    }

    /// Lets go the Python objects that nobody holds any more.
    pub fn sweep(&self, py: Python<'_>) {
        self.shared.table.sweep(py);
    }

    /// Begins to answer: `async def` handlers on `event_loop`, on whose thread this is called, `def` handlers on
    /// threads of the pool.
    ///
    /// # Errors
    /// The loop is closed, or Python cannot start a thread.
    pub fn open(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        self.shared.event_loop.attach(event_loop)?;
        self.shared.workers.start(event_loop.py())?;
        self.shared.watch.start();
        self.shared.open.store(true, Ordering::Release);
        Ok(())
    }

    /// Hands answers over on the runtime around the caller, until [`Bridge::close_answers`].
    pub fn start_courier(&self, shutdown: &Shutdown) {
        let closed = self.closed_token();
        shutdown.spawn("answers of Python", self.shared.answers.clone().courier(closed));
    }

    /// Ends the courier and the watch. What is asked from now on is refused.
    pub fn close_answers(&self) {
        self.shared.open.store(false, Ordering::Release);
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.watch.stop();
        self.shared.workers.stop();
        let mut closed = self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.cancel();
        *closed = CancellationToken::new();
    }

    /// Leaves the event loop, after it has ended, and waits for the worker threads, a moment at most: one that takes
    /// up the interpreter while it is finalized would end the process.
    pub fn close(&self, py: Python<'_>) {
        if let Err(error) = self.shared.workers.join(py) {
            error.write_unraisable(py, None);
        }
        self.shared.event_loop.detach(py);
        self.shared.table.sweep(py);
    }

    /// Whether a host's loop listens.
    pub fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::Acquire)
    }

    /// The host's event loop.
    pub fn event_loop(&self) -> &Arc<EventLoop> {
        &self.shared.event_loop
    }

    /// A loop of a caller, for calls with no host running. Attach it before the first question.
    ///
    /// # Errors
    /// `Internal`: the system has no file descriptor left.
    pub fn callers_loop(&self) -> Result<Arc<EventLoop>> {
        let shared = &self.shared;
        EventLoop::new(shared.questions, shared.answers.clone(), shared.table.clone())
            .map_err(|error| Error::new(Kind::Internal, "no file descriptor left for the bridge").with_source(error))
    }

    /// Runs `future` with `async def` handlers on `event_loop` instead of the host's.
    pub async fn on_callers_loop<F: Future>(event_loop: Arc<EventLoop>, future: F) -> F::Output {
        CALLERS_LOOP.scope(event_loop, future).await
    }

    /// Starts the worker threads for calls with no host running. Once.
    ///
    /// # Errors
    /// Python cannot start a thread.
    pub fn start_workers(&self, py: Python<'_>) -> PyResult<()> {
        if self.shared.workers.threads().0 == 0 {
            self.shared.workers.start(py)?;
            self.shared.watch.start();
        }
        Ok(())
    }

    /// Called by the runtime when one of its workers is about to park.
    pub fn worker_parks(&self) {
        note_parking_thread();
        self.shared.event_loop.ring_if_due();
        self.shared.workers.ring_if_due();
    }

    /// Asks a handler: `call` gets its Python object and calls it, `settle` makes plain data of what came; both run on
    /// a Python thread, attached. Dropping the answer cancels the call.
    ///
    /// # Errors
    /// `Busy`: the lane is full. `Unavailable`: Python has stopped. `Plugin`: the handler was cancelled by its own
    /// doing. Else what `settle` says.
    pub fn ask<C, S, A>(
        &self,
        handler: &Handler,
        call: C,
        settle: S,
    ) -> impl Future<Output = Result<A>> + Send + use<C, S, A>
    where
        C: for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
        S: FnOnce(Python<'_>, PyResult<Bound<'_, PyAny>>) -> Result<A> + Send + 'static,
        A: Send + 'static,
    {
        let (question, answer) = Question::new(call, settle);
        // Dropped in this order, polled or not: a call that is cancelled before it began is seen to be abandoned then.
        let asked = self.send(handler, Box::new(question)).map(|guard| (answer, guard));
        async move {
            let (answer, guard) = asked?;
            let outcome: std::result::Result<Result<A>, oneshot::error::RecvError> = answer.await;
            guard.done();
            // Somebody waits for this answer, so it was not the caller who cancelled the handler.
            outcome.unwrap_or_else(|_| Err(lost())).map_err(|error| match error.kind() {
                Kind::Cancelled => Error::new(Kind::Plugin, "the handler was cancelled before it had a result"),
                _ => error,
            })
        }
    }

    /// Puts a question into the lane of its handler. The returned guard cancels the call when it is dropped before it
    /// was told that the call is done.
    ///
    /// # Errors
    /// `Busy`: the lane is full.
    pub fn send(&self, handler: &Handler, job: Box<dyn Job>) -> Result<Guard> {
        self.send_as(handler, job, |_| {})
    }

    /// Like [`Bridge::send`]; `named` is told the key of the call before it can begin.
    ///
    /// # Errors
    /// `Busy`: the lane is full.
    pub fn send_as(&self, handler: &Handler, job: Box<dyn Job>, named: impl FnOnce(u64)) -> Result<Guard> {
        if self.shared.stopped.load(Ordering::Acquire) {
            return Err(lost());
        }
        let key = self.shared.keys.fetch_add(1, Ordering::Relaxed);
        named(key);
        let ask = Ask { key, handler: handler.clone(), job };
        let (lane, refused) = match handler.facts().place {
            Where::Loop => {
                let event_loop = CALLERS_LOOP.try_with(Arc::clone).unwrap_or_else(|_| self.shared.event_loop.clone());
                let refused = event_loop.ask(ask);
                (Lane::Loop(event_loop), refused)
            }
            Where::Worker => (Lane::Workers(self.shared.workers.clone()), self.shared.workers.ask(ask)),
        };
        if refused.is_err() {
            let message = format!("{} questions wait for Python already: try again later", self.shared.questions);
            return Err(Error::new(Kind::Busy, message).blame(handler.facts().plugin.clone()));
        }
        self.shared.watch.look();
        Ok(Guard { key, lane, done: false })
    }

    /// Notes that nobody waits any more for a call that a worker thread runs.
    pub fn abandon(&self, key: u64) {
        self.shared.workers.abandon(key);
    }

    /// What `/api/host/status` says of Python.
    pub fn status(&self) -> Value {
        let (waiting, tasks) = self.shared.event_loop.load();
        let (threads, outlived) = self.shared.workers.threads();
        let busy = self.shared.workers.busy();
        let stuck: Vec<Value> = busy
            .iter()
            .filter(|busy| busy.stuck)
            .map(|busy| json!({"plugin": &*busy.handler.facts().plugin, "seconds": busy.time.as_secs_f64()}))
            .collect();
        let running = self.shared.event_loop.running();
        json!({
            "event_loop": {
                "waiting": waiting,
                "tasks": tasks,
                "running": running.map(|(handler, time)|
                    json!({"plugin": &*handler.facts().plugin, "seconds": time.as_secs_f64()})),
                "blocked": self.shared.watch.blocked(),
            },
            "loader": { "stuck": LOADERS_GIVEN_UP.load(Ordering::Relaxed) },
            "workers": {
                "waiting": self.shared.workers.waiting(),
                "threads": threads,
                "busy": busy.len(),
                "stuck": stuck,
                "outlived": outlived,
            },
        })
    }

    /// How many worker threads are inside a handler.
    pub fn busy_threads(&self) -> usize {
        self.shared.workers.busy().len()
    }

    fn closed_token(&self) -> CancellationToken {
        self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

enum Lane {
    Loop(Arc<EventLoop>),
    Workers(Arc<Workers>),
}

/// Cancels a call when who asked goes away.
pub struct Guard {
    key: u64,
    lane: Lane,
    done: bool,
}

impl Guard {
    /// The call has been answered, or somebody else sees to its end.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match &self.lane {
            Lane::Loop(event_loop) => event_loop.signal(Signal::Cancel(self.key)),
            Lane::Workers(workers) => workers.abandon(self.key),
        }
    }
}
