//! A question on its way to Python and back: who answers it, what is to be done, and where the answer goes.
//!
//! A handler's Python object stands in the [`Table`] alone; everywhere else it is a [`Handler`], a number that lets the
//! object go when its last holder does. Answers of many questions are handed to tokio together, with one wake-up.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_queue::SegQueue;
use pyo3::prelude::*;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::kernel::meter::Meter;

/// What is done for one question, on a Python thread and attached, and then delivered, on tokio.
pub trait Job: Send {
    /// Calls the handler. An `async def` handler gives its coroutine.
    ///
    /// # Errors
    /// What Python raised.
    fn call<'py>(&mut self, py: Python<'py>, target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// Takes what the handler returned or raised and turns it into plain data. True when it was a success.
    fn settle(&mut self, py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> bool;

    /// Takes a failure instead of calling the handler.
    fn refuse(&mut self, error: Error);

    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;

    /// Whether the question is new to the plugin.
    fn asked(&self) -> Asked {
        Asked::First
    }

    /// Whether who asks has another way to an answer: it is refused early, and before a handler that was slow is run.
    fn has_another_way(&self) -> bool {
        false
    }

    /// Whether there is still something to deliver after the call has ended.
    fn has_answer(&self) -> bool {
        true
    }

    /// Hands the answer to who waits for it.
    fn deliver(self: Box<Self>);
}

/// How often the plugin's handlers have been asked one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is new, and counts.
    First,
    /// Another handler was asked before, and it was counted then.
    Again,
}

/// A question in a lane.
pub struct Ask {
    /// Finds its running task when the caller goes away.
    pub key: u64,
    /// Who answers.
    pub handler: Handler,
    /// What is to be done.
    pub job: Box<dyn Job>,
}

/// Something to hand over on tokio.
pub trait Deliver: Send {
    /// Hands it over; quick and without waiting.
    fn deliver(self: Box<Self>);
}

/// A [`Job`] is delivered as it is.
pub enum Parcel {
    /// The answer to a question.
    Job(Box<dyn Job>),
    /// Anything else.
    Other(Box<dyn Deliver>),
}

/// The way back from Python: filled by Python threads, emptied by one tokio task.
#[derive(Default)]
pub struct Answers {
    parcels: SegQueue<Parcel>,
    ready: Notify,
}

impl Answers {
    /// Puts a parcel. It is handed over after the next [`Answers::flush`].
    pub fn put(&self, parcel: Parcel) {
        self.parcels.push(parcel);
    }

    /// Wakes tokio if something was put.
    pub fn flush(&self) {
        if !self.parcels.is_empty() {
            self.ready.notify_one();
        }
    }

    /// Hands parcels over until `closed`; what was put before that is handed over.
    pub async fn courier(self: Arc<Self>, closed: CancellationToken) {
        loop {
            while let Some(parcel) = self.parcels.pop() {
                match parcel {
                    Parcel::Job(job) => job.deliver(),
                    Parcel::Other(other) => other.deliver(),
                }
            }
            tokio::select! {
                // In this order: what was put before the end is handed over.
                biased;
                () = self.ready.notified() => {}
                () = closed.cancelled() => break,
            }
        }
    }
}

/// Which thread runs a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// `async def`: a task on the event loop.
    Loop,
    /// `def`: a worker thread.
    Worker,
}

/// What the host knows of a handler without touching Python.
pub struct Facts {
    /// The plugin that offers it.
    pub plugin: Arc<str>,
    /// Where its calls, failures and time are counted.
    pub meter: Arc<Meter>,
    /// Which thread runs it.
    pub place: Where,
    /// Whether its last run took so long that the worker which runs it had better hand over the lead first.
    pub slow: AtomicBool,
}

/// Holds one Python object of the [`Table`]; the object is let go after the last clone is dropped.
#[derive(Clone)]
pub struct Handler {
    held: Arc<Held>,
}

struct Held {
    id: u32,
    facts: Facts,
    table: Arc<Table>,
}

impl Handler {
    /// What the host knows of it.
    pub fn facts(&self) -> &Facts {
        &self.held.facts
    }

    /// The Python object.
    pub fn target<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.held.table.get(py, self.held.id)
    }

    /// Its number, never 0.
    pub fn id(&self) -> u32 {
        self.held.id
    }
}

impl Facts {
    /// Counts a question that the handler was asked.
    pub fn count(&self, asked: Asked) {
        if asked == Asked::First {
            self.meter.called();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.table.released.push(self.id);
        if let Some(sweeper) = self.table.sweeper.get() {
            sweeper();
        }
    }
}

/// The Python objects of all handlers. The one place that keeps them alive.
#[derive(Default)]
pub struct Table {
    /// The objects, by number less one.
    objects: Mutex<Vec<Option<Py<PyAny>>>>,
    /// Numbers whose objects may go; they go on a Python thread.
    released: SegQueue<u32>,
    /// Has a Python thread sweep soon.
    sweeper: OnceLock<Box<dyn Fn() + Send + Sync>>,
    holding: AtomicU32,
}

impl Table {
    /// Keeps `object` for as long as the returned handler has holders.
    pub fn hold(self: &Arc<Self>, object: Bound<'_, PyAny>, facts: Facts) -> Handler {
        self.sweep(object.py());
        let object = object.unbind();
        let mut objects = self.locked();
        let index = objects.iter().position(Option::is_none).unwrap_or_else(|| {
            objects.push(None);
            objects.len() - 1
        });
        objects[index] = Some(object);
        drop(objects);
        self.holding.fetch_add(1, Ordering::Relaxed);
        let id = u32::try_from(index + 1).expect("fewer than 2^32 handlers fit in memory");
        Handler { held: Arc::new(Held { id, facts, table: self.clone() }) }
    }

    /// Lets go the objects that nobody holds any more; their finalizers run here.
    pub fn sweep(&self, _py: Python<'_>) {
        while let Some(id) = self.released.pop() {
            let object = self.locked().get_mut(id as usize - 1).and_then(Option::take);
            // Dropped with the lock released: a finalizer may come back here.
            drop(object);
            self.holding.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Names what has a Python thread sweep: a handler may lose its last holder when nobody asks anything any more. Once.
    pub fn swept_by(&self, sweeper: impl Fn() + Send + Sync + 'static) {
        // A table has one bridge.
        let _ = self.sweeper.set(Box::new(sweeper));
    }

    fn get<'py>(&self, py: Python<'py>, id: u32) -> Bound<'py, PyAny> {
        let objects = self.locked();
        let object = objects.get(id as usize - 1).and_then(Option::as_ref);
        object.expect("a held handler has its object").bind(py).clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Option<Py<PyAny>>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question with one answer, made of two functions: call the handler, and turn its result into plain data.
pub struct Question<C, S, A> {
    call: Option<C>,
    settle: Option<S>,
    answer: Option<Result<A>>,
    reply: Option<oneshot::Sender<Result<A>>>,
}

impl<C, S, A> Question<C, S, A>
where
    C: for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> + Send,
    S: FnOnce(Python<'_>, PyResult<Bound<'_, PyAny>>) -> Result<A> + Send,
    A: Send,
{
    /// A question and the end at which its answer comes out.
    pub fn new(call: C, settle: S) -> (Self, oneshot::Receiver<Result<A>>) {
        let (reply, answer) = oneshot::channel();
        (Self { call: Some(call), settle: Some(settle), answer: None, reply: Some(reply) }, answer)
    }
}

impl<C, S, A> Job for Question<C, S, A>
where
    C: for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> + Send,
    S: FnOnce(Python<'_>, PyResult<Bound<'_, PyAny>>) -> Result<A> + Send,
    A: Send,
{
    fn call<'py>(&mut self, py: Python<'py>, target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let call = self.call.take().expect("a question is called once");
        call(py, target)
    }

    fn settle(&mut self, py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> bool {
        let settle = self.settle.take().expect("a question is settled once");
        let answer = settle(py, outcome);
        let success = answer.is_ok();
        self.answer = Some(answer);
        success
    }

    fn refuse(&mut self, error: Error) {
        self.answer = Some(Err(error));
    }

    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn deliver(mut self: Box<Self>) {
        if let (Some(reply), Some(answer)) = (self.reply.take(), self.answer.take()) {
            // Who asked may be gone; then nobody wants the answer.
            let _ = reply.send(answer);
        }
    }
}

/// What a caller is told whose question was dropped unanswered: the bridge was closed under it.
pub fn lost() -> Error {
    Error::new(Kind::Unavailable, "Python stopped before it answered: the host is stopping")
}
