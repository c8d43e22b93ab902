//! What is known of one child from outside, and the way to ask something of it.
//!
//! Only the child's own task changes anything here; everybody may look.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::base::error::{Error, Kind, Result};
use crate::base::name::PluginId;
use crate::engine::process::family::Usage;
use crate::engine::process::household::Household;
use crate::engine::process::log::ChildLog;
use crate::engine::process::manifest::ChildManifest;
use crate::engine::process::port::{Found, Listener, listener};
use crate::kernel::fault::Stage;

/// Wishes that may wait for a child's task; more are answered `Busy`.
const WISHES: usize = 4096;

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It does not run, and nobody has asked for it.
    Stopped,
    /// It was started and is not ready yet.
    Starting,
    /// It is ready.
    Running,
    /// It has ended, and is started again after a while or by a request.
    Waiting,
    /// It has ended too often, or is not to be restarted.
    Failed,
    /// It was told to end.
    Stopping,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Stopped, Self::Starting, Self::Running, Self::Waiting, Self::Failed, Self::Stopping];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
        }
    }
}

/// A run that can be asked.
pub struct Live {
    /// Its processes.
    pub household: Arc<Household>,
    /// Guards the socket at which it is reached.
    pub listener: Mutex<Listener>,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Which run it is.
    pub run: u64,
    /// The key of this run.
    pub key: Arc<str>,
    /// Whether it has answered a request.
    pub answered: Arc<AtomicBool>,
}

impl Live {
    /// Whether the socket that takes a connection at its port now is the one that it was found to have there. Takes
    /// microseconds.
    pub fn is_reached(&self) -> bool {
        listener(self.port) == Some(*self.known())
    }

    /// Looks whether one of its processes has opened another socket there. Takes milliseconds.
    ///
    /// # Errors
    /// What is wrong, as a part of a sentence.
    pub fn find_again(&self) -> std::result::Result<(), String> {
        match self.household.owns(self.port) {
            (Found::Good, Some(listener)) => {
                *self.known() = listener;
                Ok(())
            }
            (Found::Bad(text), _) => Err(text),
            _ => Err(format!("nobody listens at port {} any more", self.port)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a child.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// Since when, in UTC.
    pub since: OffsetDateTime,
    /// Whether it was suspended from outside, so that nobody asks it.
    pub suspended: bool,
    /// Its process, while there is one.
    pub pid: Option<i32>,
    /// Its port, while it is ready.
    pub port: Option<u16>,
    /// How long the last start took that made it ready.
    pub start_time: Option<Duration>,
    /// How often it was started.
    pub runs: u64,
    /// How often it failed in a row.
    pub failures: u32,
    /// What went wrong last, and when in its life.
    pub error: Option<(Stage, Error)>,
    /// What the run that there is uses.
    pub usage: Usage,
    /// The time on the processors of the runs before, in seconds.
    pub past_cpu_s: f64,
}

/// A change of a plugin's files, made while its child does not run; it blocks. Gives the manifest from then on.
pub type Change = Box<dyn FnOnce() -> Result<ChildManifest> + Send>;

/// How somebody is told that a wish has come true.
pub type Reply<T = ()> = oneshot::Sender<Result<T>>;

/// What a child's task is asked for.
pub enum Wish {
    /// Start when the host starts, unless it is disabled.
    Begin,
    /// Start, also after it has failed; told when it is ready.
    Start(Reply),
    /// Stop; told when nothing of it runs.
    Stop(Reply),
    /// Let it run from now on, and start it; told when it is ready.
    Enable(Reply),
    /// Do not let it run any more; told when nothing of it runs.
    Disable(Reply),
    /// Be there for a request.
    Find(Reply<Arc<Live>>),
    /// Stop, change the files, start; told when the new one is ready.
    Replace(Change, Reply),
    /// Stop for ever, within this grace; told when nothing of it runs.
    Leave(Duration, Reply),
}

/// One child, as others see it.
pub struct Desk {
    /// Whose server it is.
    pub id: PluginId,
    /// What it wrote.
    pub log: ChildLog,
    /// The run that can be asked; none in every state but `Running`.
    live: ArcSwapOption<Live>,
    /// Guards what is known; nothing is called while it is held.
    status: Mutex<Status>,
    /// Guards the manifest, which an update replaces.
    manifest: Mutex<Arc<ChildManifest>>,
    wishes: mpsc::Sender<Wish>,
    changed: watch::Sender<State>,
    news: broadcast::Sender<News>,
}

/// A child that is in another state: its plugin, and the state.
pub type News = (PluginId, State);

impl Desk {
    /// A desk for a child that was never started, and the other end of its way in.
    pub fn new(
        manifest: ChildManifest,
        log: ChildLog,
        news: broadcast::Sender<News>,
    ) -> (Arc<Self>, mpsc::Receiver<Wish>) {
        let (wishes, taken) = mpsc::channel(WISHES);
        let status = Status {
            state: State::Stopped,
            since: OffsetDateTime::now_utc(),
            suspended: false,
            pid: None,
            port: None,
            start_time: None,
            runs: 0,
            failures: 0,
            error: None,
            usage: Usage::default(),
            past_cpu_s: 0.0,
        };
        let desk = Self {
            id: manifest.id.clone(),
            log,
            live: ArcSwapOption::empty(),
            status: Mutex::new(status),
            manifest: Mutex::new(Arc::new(manifest)),
            wishes,
            changed: watch::Sender::new(State::Stopped),
            news,
        };
        (Arc::new(desk), taken)
    }

    /// The run that can be asked now.
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Whether there is a run that can be asked now.
    pub fn is_live(&self) -> bool {
        self.live.load().is_some()
    }

    /// What is known now.
    pub fn status(&self) -> Status {
        self.locked().clone()
    }

    /// The manifest in force.
    pub fn manifest(&self) -> Arc<ChildManifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a run uses.
    pub fn measured(&self, used: Usage) {
        self.change(|status| {
            // Who has ended and was waited for by nobody of the family has taken its time along.
            let cpu_s = used.cpu_s.max(status.usage.cpu_s);
            status.usage = Usage { cpu_s, ..used };
        });
    }

    /// Notes the time on the processors of a run that ends, where it is known.
    pub fn tally(&self, cpu_s: Option<f64>) {
        if let Some(cpu_s) = cpu_s {
            self.change(|status| status.usage.cpu_s = cpu_s);
        }
    }

    /// Resolves at each change of the state.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.changed.subscribe()
    }

    /// Asks for something that is told to `make`'s reply.
    ///
    /// # Errors
    /// What came of the wish. `Busy`: too many wait. `Unavailable`: the child is gone, and its host perhaps with it.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Wish) -> Result<T> {
        let (reply, told) = oneshot::channel();
        self.wishes.try_send(make(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::new(Kind::Busy, format!("too many wait for plugin {}: ask again in a moment", self.id))
            }
            mpsc::error::TrySendError::Closed(_) => self.gone(),
        })?;
        told.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Says that the host starts.
    pub fn begin(&self) {
        // It fails only when the child is gone already.
        let _ = self.wishes.try_send(Wish::Begin);
    }

    /// Lets a run be asked, or no run any more.
    pub fn publish(&self, live: Option<Arc<Live>>) {
        self.live.store(live);
    }

    /// Changes what is known.
    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.locked();
        let before = status.state;
        change(&mut status);
        let after = status.state;
        if after != before {
            status.since = OffsetDateTime::now_utc();
        }
        drop(status);
        if after != before {
            self.changed.send_replace(after);
            // It fails only when nobody listens.
            let _ = self.news.send((self.id.clone(), after));
        }
    }

    /// Puts another manifest in force.
    pub fn set_manifest(&self, manifest: ChildManifest) {
        *self.manifest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(manifest);
    }

    /// An error as it is told to a request.
    pub fn unavailable(&self, error: &Error) -> Error {
        Error::new(Kind::Unavailable, error.message()).blame(self.id.shared())
    }

    /// What is said of a child that does not run.
    pub fn missing(&self) -> Error {
        let text = format!("plugin {} does not run: start it with POST /api/host/plugins/{0}/start", self.id);
        Error::new(Kind::Unavailable, text).blame(self.id.shared())
    }

    /// What is said to who waited for a start that was broken off.
    pub fn interruption(&self) -> Error {
        let text = format!("plugin {} was stopped meanwhile", self.id);
        Error::new(Kind::Unavailable, text).blame(self.id.shared())
    }

    /// What is said of a child that runs and cannot answer.
    pub fn suspension(&self) -> Error {
        let text = format!(
            "the server of plugin {} is suspended: its process was stopped by a signal, or its control group is frozen; \
             let it go on (`kill -CONT`), or restart it",
            self.id
        );
        Error::new(Kind::Unavailable, text).blame(self.id.shared())
    }

    fn gone(&self) -> Error {
        Error::new(Kind::Unavailable, format!("plugin {} is going away", self.id)).blame(self.id.shared())
    }

    fn locked(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
