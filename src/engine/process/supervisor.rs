//! One child and its states: a single task does all that is done to it, so that no two things can race.
//!
//! ```text
//! stopped ──▶ starting ──▶ running ──▶ waiting ──▶ starting …
//!    ▲            │            │           │
//!    └─ stopping ◀┴────────────┘           └─▶ failed (five failures in a row, or not to be restarted)
//! ```
//!
//! A failure is an end before ready, or within ten seconds of ready without having answered a request. A run that has
//! answered, or has lived so long, resets the count and the pause.

use std::pin::pin;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::child::Child;
use crate::engine::process::desk::{Desk, Live, Reply, State, Wish};
use crate::engine::process::equipment::{Equipment, blocking};
use crate::engine::process::manifest::Restart;
use crate::engine::process::port::Listener;
use crate::engine::process::waiters::{Waiter, Waiters};
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::registry::Registry;
use crate::kernel::switches::Switches;

/// So many failures in a row are too many.
const FAILURES: u32 = 5;
/// The pause after the first failure, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A run that has lived so long is no failure.
const STEADY: Duration = Duration::from_secs(10);
/// How often a run is measured.
const LOOK: Duration = Duration::from_secs(1);
/// So often in a row it is seen to be suspended before that counts: who looks into it suspends it for a moment, too.
const SUSPENDED_LOOKS: u32 = 2;
/// How long a child that begins with the host keeps its place, so that one that never gets ready delays nobody.
const PLACE_TIME: Duration = Duration::from_millis(100);

/// The task of one child.
pub struct Supervisor {
    equipment: Arc<Equipment>,
    registry: Registry,
    switches: Switches,
    desk: Arc<Desk>,
    /// Where the plugin came from, for records.
    source: Arc<str>,
    wishes: mpsc::Receiver<Wish>,
    pauses: ExponentialBackoff,
    /// Who waits for the start that is under way.
    waiters: Waiters,
}

/// What comes next in a child's life.
enum Next {
    /// Nothing, for so long or until somebody asks.
    Rest(Option<Duration>),
    /// A start.
    Start(Crowd),
    /// It is ready.
    Serve(Box<Child>),
    /// Nothing, ever.
    End,
}

/// Whether many children start at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Many,
    Alone,
}

/// How a run, or a start, came to its end.
enum Turn {
    Ended(Option<ExitStatus>),
    Ready(Result<(u16, Listener)>),
    Told(Wish),
    Broke(String),
}

impl Supervisor {
    /// The task of the child at `desk`.
    pub fn new(
        equipment: Arc<Equipment>,
        (registry, switches): (Registry, Switches),
        desk: Arc<Desk>,
        source: Arc<str>,
        wishes: mpsc::Receiver<Wish>,
    ) -> Self {
        Self { equipment, registry, switches, desk, source, wishes, pauses: pauses(), waiters: Waiters::default() }
    }

    /// Lives until it is told to leave.
    pub async fn run(mut self) {
        let mut next = Next::Rest(None);
        loop {
            next = match next {
                Next::Rest(pause) => self.rest(pause).await,
                Next::Start(crowd) => self.start(crowd).await,
                Next::Serve(child) => self.serve(child).await,
                Next::End => return,
            };
        }
    }

    /// Waits for a wish, or until the pause is over.
    async fn rest(&mut self, pause: Option<Duration>) -> Next {
        let over = pause.map(|pause| Instant::now() + pause);
        loop {
            let wish = tokio::select! {
                wish = self.wishes.recv() => wish,
                () = at(over) => {
                    // A host that ends starts nothing any more.
                    let rests = self.equipment.shutdown.is_stopping();
                    return if rests { Next::Rest(None) } else { Next::Start(Crowd::Alone) };
                }
            };
            let Some(wish) = wish else { return Next::End };
            if let Some(next) = self.obey(wish).await {
                return next;
            }
        }
    }

    /// Does what is asked while nothing of the child runs. `None`: nothing has changed.
    async fn obey(&mut self, wish: Wish) -> Option<Next> {
        match wish {
            Wish::Begin => self.refusal().is_none().then_some(Next::Start(Crowd::Many)),
            Wish::Find(reply) => match self.refusal() {
                Some(error) => answer(reply, Err(error)),
                None => self.start_for(Waiter::Request(reply)),
            },
            Wish::Start(reply) => {
                self.forgive();
                match self.unwanted() {
                    Some(error) => answer(reply, Err(error)),
                    None => self.start_for(Waiter::Person(reply)),
                }
            }
            Wish::Enable(reply) => match self.switch(true).await {
                Err(error) => answer(reply, Err(error)),
                Ok(()) if !self.desk.manifest().has_server() => answer(reply, Ok(())),
                Ok(()) => {
                    self.forgive();
                    self.start_for(Waiter::Person(reply))
                }
            },
            Wish::Stop(reply) => {
                // One that has failed stays so: a request must not start it.
                self.desk.change(|status| {
                    if status.state != State::Failed {
                        status.state = State::Stopped;
                    }
                });
                answer(reply, Ok(()));
                Some(Next::Rest(None))
            }
            Wish::Disable(reply) => {
                let switched = self.switch(false).await;
                self.forgive();
                self.set(State::Stopped);
                answer(reply, switched);
                Some(Next::Rest(None))
            }
            Wish::Replace(change, reply) => {
                let changed = blocking(change).await;
                let changed = changed.unwrap_or_else(|| Err(Error::new(Kind::Internal, "the change did not end")));
                self.forgive();
                match changed {
                    Ok(manifest) => self.desk.set_manifest(manifest),
                    Err(error) => {
                        answer(reply, Err(error));
                        return Some(if self.unwanted().is_none() {
                            Next::Start(Crowd::Alone)
                        } else {
                            Next::Rest(None)
                        });
                    }
                }
                match self.unwanted() {
                    None => self.start_for(Waiter::Person(reply)),
                    Some(_) => answer(reply, Ok(())),
                }
            }
            Wish::Leave(_, reply) => {
                self.set(State::Stopped);
                answer(reply, Ok(()));
                Some(Next::End)
            }
        }
    }

    fn start_for(&mut self, waiter: Waiter) -> Option<Next> {
        self.waiters.add(waiter);
        Some(Next::Start(Crowd::Alone))
    }

    /// Starts the child and waits until it is ready.
    async fn start(&mut self, crowd: Crowd) -> Next {
        self.set(State::Starting);
        let mut place = None;
        if crowd == Crowd::Many {
            match self.take_place().await {
                Ok(taken) => place = taken.map(|taken| (taken, Instant::now() + PLACE_TIME)),
                Err(wish) => return self.interrupted(wish).await,
            }
        }
        let began = Instant::now();
        let (manifest, run) = (self.desk.manifest(), self.desk.status().runs + 1);
        self.desk.change(|status| status.runs = run);
        let mut child = match Child::start(&self.equipment, &manifest, &self.desk.log).await {
            Ok(child) => Box::new(child),
            Err(error) => return self.failed(Stage::Startup, error),
        };
        self.desk.change(|status| status.pid = Some(child.household.pid));
        self.desk.log.note(&format!("run {run} started as process {}", child.household.pid));
        let mut ready = pin!(child.readiness());
        let turn = loop {
            tokio::select! {
                biased;
                ended = child.exited() => break Turn::Ended(ended),
                ready = &mut ready => break Turn::Ready(ready),
                wish = self.wishes.recv() => match wish.map(|wish| self.waiters.join(wish)) {
                    None => break Turn::Told(leave()),
                    Some(Some(wish)) => break Turn::Told(wish),
                    Some(None) => {}
                },
                () = at(place.as_ref().map(|(_, until)| *until)) => place = None,
            }
        };
        match turn {
            Turn::Ready(Ok(place)) => {
                self.desk.change(|status| status.start_time = Some(began.elapsed()));
                self.publish(&child, place, run);
                Next::Serve(child)
            }
            Turn::Ready(Err(error)) => {
                let error = child.explain(&error);
                self.waiters.tell(&Err(error.clone()));
                self.set(State::Stopping);
                child.stop(self.equipment.limits.stop_grace).await;
                self.failed(Stage::Startup, error)
            }
            Turn::Told(wish) => self.stop_for(child, wish).await,
            Turn::Ended(status) => {
                let ended = child.how_it_ended(status);
                let text = format!("the server of plugin {} {ended} before it was ready", self.desk.id);
                self.desk.tally(child.cpu_s());
                child.bury().await;
                let error = child.explain(&Error::new(Kind::Upstream, text));
                self.failed(Stage::Startup, error)
            }
            Turn::Broke(text) => self.failed(Stage::Startup, Error::new(Kind::Upstream, text)),
        }
    }

    /// Waits for a place among the children that start with the host. `Ok(None)`: somebody has asked for this one.
    async fn take_place(&mut self) -> std::result::Result<Option<OwnedSemaphorePermit>, Wish> {
        let places = self.equipment.places.clone();
        let mut place = pin!(places.acquire_owned());
        loop {
            tokio::select! {
                place = &mut place => return Ok(place.ok()),
                wish = self.wishes.recv() => match wish.map(|wish| self.waiters.join(wish)) {
                    None => return Err(leave()),
                    Some(Some(wish)) => return Err(wish),
                    Some(None) if self.waiters.is_empty() => {}
                    Some(None) => return Ok(None),
                },
            }
        }
    }

    /// Is there for requests until the child ends or is to end.
    async fn serve(&mut self, mut child: Box<Child>) -> Next {
        let ready_at = Instant::now();
        let (live, mut suspended) = (self.desk.live(), 0);
        let mut looks = interval_at(ready_at + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let turn = loop {
            tokio::select! {
                biased;
                ended = child.exited() => break Turn::Ended(ended),
                wish = self.wishes.recv() => match wish {
                    None => break Turn::Told(leave()),
                    Some(Wish::Begin) => {}
                    Some(Wish::Find(reply)) => {
                        answer(reply, self.desk.live().ok_or_else(|| self.desk.suspension()));
                    }
                    Some(Wish::Start(reply) | Wish::Enable(reply)) => _ = answer(reply, Ok(())),
                    Some(other) => break Turn::Told(other),
                },
                _ = looks.tick() => {
                    if ready_at.elapsed() >= STEADY {
                        self.forgive();
                    }
                    let (used, broken) = child.measure().await;
                    self.desk.measured(used);
                    if let Some(text) = broken {
                        break Turn::Broke(text);
                    }
                    suspended = if child.household.is_suspended() { suspended + 1 } else { 0 };
                    self.mark(suspended >= SUSPENDED_LOOKS, live.as_ref());
                }
            }
        };
        self.desk.publish(None);
        let good = ready_at.elapsed() >= STEADY || live.is_some_and(|live| live.answered.load(Ordering::Relaxed));
        if good {
            self.forgive();
        }
        let text = match turn {
            Turn::Told(wish) => return self.stop_for(child, wish).await,
            Turn::Broke(text) => {
                self.set(State::Stopping);
                format!("the server of plugin {} was ended: {text}", self.desk.id)
            }
            Turn::Ended(status) => format!("the server of plugin {} {}", self.desk.id, child.how_it_ended(status)),
            Turn::Ready(_) => String::new(),
        };
        self.desk.tally(child.cpu_s());
        child.bury().await;
        let error = child.explain(&Error::new(Kind::Upstream, text));
        if good { self.ended(Stage::Run, error) } else { self.failed(Stage::Run, error) }
    }

    /// Ends a child because of a wish, then does what is wished.
    async fn stop_for(&mut self, mut child: Box<Child>, wish: Wish) -> Next {
        let grace = match &wish {
            Wish::Leave(grace, _) => *grace,
            _ => self.equipment.limits.stop_grace,
        };
        self.set(State::Stopping);
        self.waiters.tell(&Err(self.desk.interruption()));
        self.desk.tally(child.cpu_s());
        child.stop(grace).await;
        self.desk.log.note("stopped");
        self.interrupted(wish).await
    }

    /// Does what is wished in place of what was under way, of which nothing is left.
    async fn interrupted(&mut self, wish: Wish) -> Next {
        self.waiters.tell(&Err(self.desk.interruption()));
        self.set(State::Stopped);
        self.obey(wish).await.unwrap_or(Next::Rest(None))
    }

    /// A failure: it counts.
    fn failed(&mut self, stage: Stage, error: Error) -> Next {
        self.desk.change(|status| status.failures += 1);
        self.ended(stage, error)
    }

    /// An end that nobody has asked for.
    fn ended(&mut self, stage: Stage, error: Error) -> Next {
        let error = error.blame(self.desk.id.shared());
        self.record(stage, &error);
        let restart = self.desk.manifest().restart;
        let is_last = restart == Restart::Never || self.desk.status().failures >= FAILURES;
        let state = if is_last { State::Failed } else { State::Waiting };
        self.set(state);
        self.waiters.tell(&Err(self.desk.unavailable(&error)));
        match restart {
            // The jitter comes on top.
            Restart::Always if !is_last => Next::Rest(self.pauses.next().map(|pause| pause.min(PAUSE.1))),
            _ => Next::Rest(None),
        }
    }

    /// Says what went wrong, everywhere.
    fn record(&self, stage: Stage, error: &Error) {
        tracing::warn!(plugin = self.desk.id.as_str(), stage = stage.as_str(), "{error}");
        self.desk.log.note(error.message());
        self.registry.record(PluginError::new(self.source.clone(), Some(self.desk.id.shared()), stage, error));
        self.desk.change(|status| status.error = Some((stage, error.clone())));
    }

    /// Lets requests come.
    fn publish(&mut self, child: &Child, (port, listener): (u16, Listener), run: u64) {
        let (household, key) = (child.household.clone(), child.key.clone());
        let live = Live { household, listener: Mutex::new(listener), port, run, key, answered: Arc::default() };
        let live = Arc::new(live);
        self.desk.publish(Some(live.clone()));
        self.desk.change(|status| {
            status.state = State::Running;
            status.port = Some(port);
        });
        self.desk.log.note(&format!("run {run} is ready at port {port}"));
        self.waiters.tell(&Ok(live));
    }

    /// Does not let a run be asked that was suspended from outside, until it goes on.
    fn mark(&self, suspended: bool, live: Option<&Arc<Live>>) {
        if suspended == self.desk.status().suspended {
            return;
        }
        self.desk.publish(live.filter(|_| !suspended).cloned());
        self.desk.change(|status| status.suspended = suspended);
        if suspended {
            self.record(Stage::Run, &self.desk.suspension());
        } else {
            self.desk.log.note("it goes on");
        }
    }

    /// Why a request does not start it; `None` when it does.
    fn refusal(&self) -> Option<Error> {
        let status = self.desk.status();
        if let Some(error) = self.unwanted() {
            return Some(error);
        }
        let never = self.desk.manifest().restart == Restart::Never && status.runs > 0;
        if status.state == State::Failed || never {
            return Some(status.error.map_or_else(|| self.desk.missing(), |(_, error)| self.desk.unavailable(&error)));
        }
        None
    }

    /// Why it is not to run at all.
    fn unwanted(&self) -> Option<Error> {
        let id = &self.desk.id;
        let (kind, text) = if !self.desk.manifest().has_server() {
            (Kind::NotFound, format!("plugin {id} has no server: its manifest.json names none"))
        } else if let Some(damage) = self.switches.damage() {
            (Kind::Unavailable, damage.message().to_owned())
        } else if !self.switches.enabled(id.as_str()) {
            (Kind::Unavailable, format!("plugin {id} is disabled: `plugbay enable {id}` lets it run"))
        } else if self.equipment.shutdown.is_stopping() {
            (Kind::Unavailable, "the host is ending".to_owned())
        } else {
            return None;
        };
        Some(Error::new(kind, text).blame(id.shared()))
    }

    async fn switch(&self, enabled: bool) -> Result<()> {
        let (switches, id) = (self.switches.clone(), self.desk.id.clone());
        let switched = blocking(move || switches.set_enabled(id.as_str(), enabled)).await;
        switched.unwrap_or_else(|| Err(Error::new(Kind::Internal, "the switch was not written")))
    }

    /// Resets the count of failures and the pause.
    fn forgive(&mut self) {
        self.pauses = pauses();
        self.desk.change(|status| status.failures = 0);
    }

    fn set(&self, state: State) {
        self.desk.change(|status| {
            status.state = state;
            status.suspended = false;
            if !matches!(state, State::Running | State::Stopping) {
                status.port = None;
                status.pid = None;
                status.past_cpu_s += std::mem::take(&mut status.usage).cpu_s;
            }
            if state == State::Stopping {
                status.port = None;
            }
        });
    }
}

/// Tells one who waits; it fails when they have gone.
fn answer<T>(reply: Reply<T>, outcome: Result<T>) -> Option<Next> {
    let _ = reply.send(outcome);
    None
}

/// What a task is told when everybody who could tell it something is gone.
fn leave() -> Wish {
    Wish::Leave(Duration::ZERO, tokio::sync::oneshot::channel().0)
}

/// Resolves then, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn pauses() -> ExponentialBackoff {
    let (first, longest) = PAUSE;
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}
