//! A thread of Rust's own that looks after the Python threads: it passes the lead on from a worker that blocks, and
//! names the plugin, file and line of what blocks the event loop.
//!
//! It never attaches itself, so that nothing which holds the GIL can stop it; where a stack is wanted, a short-lived
//! thread asks for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;

use crate::engine::python::event_loop::EventLoop;
use crate::engine::python::workers::Workers;

/// How often it looks while there is something to look at.
const TICK: Duration = Duration::from_millis(4);
/// It stops to look after so long without a question.
const QUIET: Duration = Duration::from_secs(1);
/// A loop that runs one step for longer than this is blocked.
const BLOCKED: Duration = Duration::from_secs(1);
/// So long it waits for a stack; who holds the GIL may give none.
const STACK_WAIT: Duration = Duration::from_secs(1);

/// Who blocks the event loop, as the status page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Blocked {
    /// The plugin whose handler runs, where one is known.
    pub plugin: Option<Arc<str>>,
    /// The innermost line of Python that runs on the loop's thread, `file:line in function`.
    pub place: Option<String>,
}

/// A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    event_loop: Arc<EventLoop>,
    workers: Arc<Workers>,
    running: AtomicBool,
    sleeping: AtomicBool,
    /// Milliseconds from `born` to the last question.
    asked: AtomicU64,
    born: Instant,
    /// Guards nothing: only there for the condition to wait on.
    bed: Mutex<()>,
    rise: Condvar,
    blocked: Mutex<Option<Blocked>>,
}

impl Watch {
    /// A watch that has not begun.
    pub fn new(event_loop: Arc<EventLoop>, workers: Arc<Workers>) -> Self {
        Self {
            shared: Arc::new(Shared {
                event_loop,
                workers,
                running: AtomicBool::new(false),
                sleeping: AtomicBool::new(false),
                asked: AtomicU64::new(0),
                born: Instant::now(),
                bed: Mutex::default(),
                rise: Condvar::new(),
                blocked: Mutex::default(),
            }),
        }
    }

    /// Begins to look.
    pub fn start(&self) {
        if self.shared.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let watch = self.clone();
        let thread = std::thread::Builder::new().name("plugbay-watch".into()).spawn(move || watch.run());
        if let Err(error) = thread {
            self.shared.running.store(false, Ordering::Release);
            tracing::error!("no thread to watch over Python: {error}");
        }
    }

    /// Ends.
    pub fn stop(&self) {
        self.shared.running.store(false, Ordering::Release);
        self.wake();
    }

    /// Says that a question was put: there is something to look at. Costs a load while it looks already.
    pub fn look(&self) {
        if self.shared.sleeping.load(Ordering::SeqCst) {
            self.wake();
        } else {
            let now = u64::try_from(self.shared.born.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.shared.asked.store(now, Ordering::Relaxed);
        }
    }

    /// Who blocks the event loop now, if somebody does.
    pub fn blocked(&self) -> Option<Blocked> {
        self.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wake(&self) {
        let _bed = self.shared.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.sleeping.store(false, Ordering::SeqCst);
        self.shared.rise.notify_one();
    }

    fn run(&self) {
        let shared = &self.shared;
        let mut suspicion: Option<(u64, Instant, bool)> = None;
        while shared.running.load(Ordering::Acquire) {
            shared.workers.relieve();
            // A handler that blocks must not hold back the answers of those before it.
            shared.workers.flush();
            self.look_at_the_loop(&mut suspicion);
            let now = u64::try_from(shared.born.elapsed().as_millis()).unwrap_or(u64::MAX);
            let quiet = now.saturating_sub(shared.asked.load(Ordering::Relaxed)) > QUIET.as_millis() as u64;
            let idle = shared.event_loop.is_idle()
                && shared.event_loop.running().is_none()
                && shared.workers.waiting() == 0
                && shared.workers.busy().is_empty();
            if quiet && idle {
                self.sleep();
            } else {
                std::thread::park_timeout(TICK);
            }
        }
    }

    fn sleep(&self) {
        let shared = &self.shared;
        let mut bed = shared.bed.lock().unwrap_or_else(PoisonError::into_inner);
        shared.sleeping.store(true, Ordering::SeqCst);
        // A question that came before `sleeping` was seen is in a lane by now.
        if !shared.event_loop.is_idle() || shared.workers.waiting() > 0 {
            shared.sleeping.store(false, Ordering::SeqCst);
            return;
        }
        while shared.sleeping.load(Ordering::SeqCst) && shared.running.load(Ordering::Acquire) {
            bed = shared.rise.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        let now = u64::try_from(shared.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        shared.asked.store(now, Ordering::Relaxed);
    }

    /// A loop is blocked when a step of a task, or anything else while questions wait, lasts too long.
    fn look_at_the_loop(&self, suspicion: &mut Option<(u64, Instant, bool)>) {
        let event_loop = &self.shared.event_loop;
        let running = event_loop.running();
        let steps = event_loop.steps();
        let waits = running.is_some() || !event_loop.is_idle();
        match suspicion {
            Some((step, since, told)) if *step == steps && waits => {
                if !*told && since.elapsed() > BLOCKED {
                    *told = true;
                    self.blame(running.map(|(handler, _)| handler.facts().plugin.clone()));
                }
            }
            _ => {
                if suspicion.is_some_and(|(_, _, told)| told) {
                    *self.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    tracing::info!("the event loop runs again");
                }
                *suspicion = waits.then(|| (steps, Instant::now(), false));
            }
        }
    }

    fn blame(&self, plugin: Option<Arc<str>>) {
        let place = stack_of(self.shared.event_loop.thread());
        let who = plugin.as_deref().unwrap_or("unknown").to_owned();
        // Before the warning: who reads that and asks finds it.
        *self.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Blocked { plugin, place: place.clone() });
        match &place {
            Some(place) => tracing::warn!(
                plugin = who,
                place,
                "plugin {who} blocks the event loop at {place}: use `await`, a plain `def` handler or a thread for what takes long"
            ),
            None => tracing::warn!(
                plugin = who,
                "plugin {who} blocks the event loop and holds the interpreter, so its line cannot be read: \
                 use code that releases the GIL"
            ),
        }
    }
}

/// The innermost line of Python on a thread, or `None` when the interpreter is not to be had.
fn stack_of(thread: u64) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    let asked = std::thread::Builder::new().name("plugbay-blame".into()).spawn(move || {
        let place = Python::attach(|py| innermost(py, thread).ok().flatten());
        // Who asked may have given up.
        let _ = sender.send(place);
    });
    asked.ok()?;
    receiver.recv_timeout(STACK_WAIT).ok().flatten()
}

fn innermost(py: Python<'_>, thread: u64) -> PyResult<Option<String>> {
    let frames = py.import("sys")?.call_method0("_current_frames")?.cast_into::<PyDict>()?;
    let Some(frame) = frames.get_item(thread)? else { return Ok(None) };
    let code = frame.getattr("f_code")?;
    let (file, function): (String, String) =
        (code.getattr("co_filename")?.extract()?, code.getattr("co_qualname")?.extract()?);
    let line: Option<u32> = frame.getattr("f_lineno")?.extract()?;
    Ok(Some(format!("{file}:{} in {function}", line.unwrap_or(0))))
}
