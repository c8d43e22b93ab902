//! Installations under way: the state of each, its log, and the answer of whoever reviews it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::{oneshot, watch};

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::job_log::JobLog;
use crate::kernel::secret::random_text;

/// What the id of a job begins with, and no plugin's id.
pub const JOB_PREFIX: &str = "job.";
/// How many may be under way.
const UNDER_WAY: usize = 8;
/// How many that have ended are remembered.
const ENDED: usize = 50;
/// How much of its output each keeps.
const LOG_BYTES: usize = 256 << 10;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// The plugin is fetched or copied.
    Fetching,
    /// Somebody has to look at it and confirm.
    Review,
    /// Packages are installed, the plugin is built.
    Building,
    /// The new version takes its place and is started.
    Starting,
    /// It is installed.
    Done,
    /// It is not; what was there before is there still.
    Failed,
    /// Nobody wanted it.
    Cancelled,
}

impl Progress {
    fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// What somebody is to look at before anything of a plugin is run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Review {
    /// The plugin's id; of a Python plugin, the name of its folder.
    pub id: String,
    /// `process`, or `python`.
    pub kind: &'static str,
    /// The name that people see.
    pub name: String,
    /// Free text.
    pub version: String,
    /// One sentence, possibly empty.
    pub description: String,
    /// Free text, possibly empty.
    pub author: String,
    /// What it says that it needs; never enforced.
    pub permissions: Vec<String>,
    /// The words that start its server.
    pub command: Vec<String>,
    /// A URL or a folder.
    pub source: String,
    /// The branch, tag or commit that was asked for.
    pub reference: Option<String>,
    /// The commit that was fetched.
    pub commit: Option<String>,
    /// The commit that is installed, when this is an update.
    pub replaces: Option<String>,
    /// The scripts of its `package.json`, of which `build` and its companions are run.
    pub scripts: std::collections::BTreeMap<String, String>,
    /// How many packages it asks npm for.
    pub dependencies: usize,
    /// Packages with scripts to install themselves, as far as a lock file says; not run unless allowed.
    pub install_scripts: Vec<String>,
    /// Native modules that are known now; others are found when npm has fetched the packages.
    pub native_modules: Vec<String>,
    /// The native modules that were allowed so far.
    pub allow_build: Vec<String>,
    /// What is odd and does no harm.
    pub notes: Vec<String>,
}

/// What a reviewer says.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leave {
    /// The native modules that may be built, beside those allowed before.
    pub allow_build: Vec<String>,
    /// Whether the plugin is started now; else when a host starts.
    pub start: bool,
}

impl Default for Leave {
    fn default() -> Self {
        Self { allow_build: Vec::new(), start: true }
    }
}

/// One installation. Cloning is cheap.
#[derive(Clone)]
pub struct Job {
    /// Unguessable, and no plugin's id.
    pub id: Arc<str>,
    /// What its commands say.
    pub log: JobLog,
    state: Arc<Mutex<State>>,
    /// Told at each step, while the state is locked.
    reached: watch::Sender<Progress>,
}

struct State {
    what: &'static str,
    progress: Progress,
    created: OffsetDateTime,
    review: Option<Review>,
    /// Waits for the reviewer.
    reviewer: Option<oneshot::Sender<Leave>>,
    /// Set when somebody has called it off.
    called_off: bool,
    plugin: Option<String>,
    error: Option<Error>,
}

/// A job as it is shown.
#[derive(Serialize)]
pub struct Shown {
    job: Arc<str>,
    what: &'static str,
    state: Progress,
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
    plugin: Option<String>,
    review: Option<Review>,
    error: Option<Failure>,
    log: String,
}

#[derive(Serialize)]
struct Failure {
    code: &'static str,
    message: String,
}

impl Job {
    /// Says how far it is.
    pub fn reach(&self, progress: Progress) {
        self.set(&mut self.state(), progress);
    }

    /// Resolves when it is no longer as far as `seen`, the word of a [`Progress`].
    pub async fn moved_on(&self, seen: &str) {
        // It fails when the job is gone, which it is not while it is asked.
        let _ = self.reached.subscribe().wait_for(|progress| word(*progress) != seen).await;
    }

    /// Shows what is to be reviewed; whoever confirms it is heard through what is returned. An error when it is dropped.
    pub fn ask(&self, review: Review) -> oneshot::Receiver<Leave> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.plugin = Some(review.id.clone());
        state.review = Some(review);
        self.set(&mut state, Progress::Review);
        state.reviewer = (!state.called_off).then_some(sender);
        receiver
    }

    /// Gives leave to go on.
    ///
    /// # Errors
    /// `Conflict`: it waits for no leave.
    pub fn confirm(&self, leave: Leave) -> Result<()> {
        let mut state = self.state();
        let heard = state.reviewer.take().is_some_and(|reviewer| reviewer.send(leave).is_ok());
        if heard {
            self.set(&mut state, Progress::Building);
            return Ok(());
        }
        let message = format!("job {} waits for no confirmation: its state is {}", self.id, word(state.progress));
        Err(Error::new(Kind::Conflict, message))
    }

    /// Calls it off, which is heard while it waits for its review.
    ///
    /// # Errors
    /// `Conflict`: it has been confirmed or has ended.
    pub fn call_off(&self) -> Result<()> {
        let mut state = self.state();
        if !matches!(state.progress, Progress::Fetching | Progress::Review) {
            let message = format!("job {} can no longer be called off: its state is {}", self.id, word(state.progress));
            return Err(Error::new(Kind::Conflict, message));
        }
        state.called_off = true;
        state.reviewer = None;
        Ok(())
    }

    /// Says how it has ended.
    pub fn end(&self, outcome: Result<String>) {
        let mut state = self.state();
        state.reviewer = None;
        match outcome {
            Ok(plugin) => {
                state.plugin = Some(plugin);
                self.set(&mut state, Progress::Done);
            }
            Err(error) if error.kind() == Kind::Cancelled => self.set(&mut state, Progress::Cancelled),
            Err(error) => {
                state.error = Some(error);
                self.set(&mut state, Progress::Failed);
            }
        }
    }

    /// As it is now.
    pub fn shown(&self) -> Shown {
        let log = self.log.text();
        let state = self.state();
        let error = state.error.as_ref();
        Shown {
            job: self.id.clone(),
            what: state.what,
            state: state.progress,
            created: state.created,
            plugin: state.plugin.clone(),
            review: state.review.clone(),
            error: error.map(|error| Failure { code: error.kind().code(), message: error.message().to_owned() }),
            log,
        }
    }

    fn set(&self, state: &mut State, progress: Progress) {
        state.progress = progress;
        self.reached.send_replace(progress);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word(progress: Progress) -> String {
    serde_json::to_value(progress).ok().and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default()
}

/// The jobs of this host, oldest first. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Jobs {
    all: Arc<Mutex<VecDeque<Job>>>,
}

impl Jobs {
    /// A new job; `what` is `install` or `update`.
    ///
    /// # Errors
    /// `Busy`: too many are under way.
    pub fn begin(&self, what: &'static str) -> Result<Job> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = all.iter().filter(|job| !job.state().progress.has_ended()).count();
        if under_way >= UNDER_WAY {
            let message = format!("{UNDER_WAY} installations are under way: wait for one to end, or call one off");
            return Err(Error::new(Kind::Busy, message));
        }
        while all.len() - under_way >= ENDED {
            let Some(oldest) = all.iter().position(|job| job.state().progress.has_ended()) else { break };
            all.remove(oldest);
        }
        let state = State {
            what,
            progress: Progress::Fetching,
            created: OffsetDateTime::now_utc(),
            review: None,
            reviewer: None,
            called_off: false,
            plugin: None,
            error: None,
        };
        let id = format!("{JOB_PREFIX}{}", random_text()?);
        let job = Job {
            id: id.into(),
            log: JobLog::new(LOG_BYTES),
            state: Arc::new(Mutex::new(state)),
            reached: watch::Sender::new(Progress::Fetching),
        };
        all.push_back(job.clone());
        Ok(job)
    }

    /// The job of that id.
    pub fn find(&self, id: &str) -> Option<Job> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|job| *job.id == *id).cloned()
    }
}
