//! Installs, updates and removes plugins in `PLUGBAY_HOME/plugins`, while others run.
//!
//! A plugin is fetched, reviewed and built in a folder of its own; only then does it take its place, in one step, and the
//! version before is kept until the new one is ready. One thing at a time is done to one plugin.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Settings;
use crate::base::shutdown::Shutdown;
use crate::engine::process::command::Watch;
use crate::engine::process::inspect::{check_built, inspect};
use crate::engine::process::installed::Record;
use crate::engine::process::integrity::digest_of;
use crate::engine::process::jobs::{Job, Jobs, Leave, Progress, Review};
use crate::engine::process::origin::Origin;
use crate::engine::process::placing::Placing;
use crate::engine::process::prepare::prepare;
use crate::engine::process::staging::{blocking, fetch};
use crate::engine::process::swap::{STAGING, remove};
use crate::engine::process::tools::Tools;

/// How long a job waits for its review.
const REVIEW_TIME: Duration = Duration::from_secs(3600);

/// Brings plugins in and takes them out. Cloning is cheap.
#[derive(Clone)]
pub struct Installer {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    shutdown: Shutdown,
    placing: Placing,
    jobs: Jobs,
    /// The ids, in lower case, to which something is being done.
    claims: Mutex<HashSet<String>>,
}

/// What a job is to do.
struct Errand {
    origin: Origin,
    before: Option<(String, Record)>,
    /// Held from the beginning, where the id is known then.
    claim: Option<Claim>,
}

/// The sole right to do something to a plugin, until it is dropped.
struct Claim {
    shared: Arc<Shared>,
    id: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Installer {
    /// With the parts of a host. What an earlier host has left half made is removed.
    pub fn new(settings: Arc<Settings>, shutdown: Shutdown, placing: Placing) -> Self {
        let (jobs, claims) = (Jobs::default(), Mutex::default());
        let installer = Self { shared: Arc::new(Shared { settings, shutdown, placing, jobs, claims }) };
        // It only takes room: nothing is ever run from there.
        let _ = remove(&installer.staging());
        installer
    }

    /// Begins to install from `source`, a URL or the absolute path of a folder.
    ///
    /// # Errors
    /// `Invalid`, `Denied`: as [`Origin::parse`]. `Unavailable`: the registry of installed plugins is damaged. `Busy`:
    /// too many jobs.
    pub fn install(&self, source: &str, reference: Option<&str>) -> Result<Job> {
        let origin = Origin::parse(source, reference, None, &self.shared.settings.install_sources)?;
        self.shared.placing.installed().read()?;
        self.begin("install", Errand { origin, before: None, claim: None })
    }

    /// Begins to fetch a plugin again from where it was installed.
    ///
    /// # Errors
    /// `NotFound`: it was not installed. `Conflict`: something is being done to it. Others as [`Installer::install`].
    pub fn update(&self, id: &str) -> Result<Job> {
        let (id, record) = self.shared.placing.installed().find(id)?.ok_or_else(|| not_installed(id))?;
        let claim = Some(self.claim(&id)?);
        let allowed = &self.shared.settings.install_sources;
        let origin = Origin::parse(&record.source, record.reference.as_deref(), None, allowed)?;
        self.begin("update", Errand { origin, before: Some((id, record)), claim })
    }

    /// Stops a plugin and removes it, its secrets and its switch.
    ///
    /// # Errors
    /// `NotFound`: it was not installed. `Conflict`: something is being done to it. `Unavailable`: it cannot be removed.
    pub async fn uninstall(&self, id: &str) -> Result<()> {
        let installed = self.shared.placing.installed().clone();
        let wanted = id.to_owned();
        let found = blocking(move || installed.find(&wanted)).await?;
        let (id, _) = found.ok_or_else(|| self.shared.placing.not_ours(id))?;
        let _claim = self.claim(&id)?;
        self.shared.placing.clear(&id).await?;
        let (installed, id) = (self.shared.placing.installed().clone(), id);
        blocking(move || installed.forget(&id)).await
    }

    /// Lets a plugin run from now on and, in a host that has it, starts it; returns when it is ready.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin with a server. `Unavailable`: it did not get ready; it may run all the same.
    pub async fn enable(&self, id: &str) -> Result<()> {
        let id = &self.switched(id).await?;
        if self.shared.placing.processes().has(id) {
            return self.shared.placing.processes().enable(id).await;
        }
        self.switch(id, true).await
    }

    /// Does not let a plugin run any more; returns when nothing of it runs.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin with a server. `Unavailable`: the switch cannot be kept.
    pub async fn disable(&self, id: &str) -> Result<()> {
        let id = &self.switched(id).await?;
        if self.shared.placing.processes().has(id) {
            return self.shared.placing.processes().disable(id).await;
        }
        self.switch(id, false).await
    }

    /// The id, as it is written, of a plugin that can be turned on and off.
    async fn switched(&self, id: &str) -> Result<String> {
        let (shared, wanted) = (self.shared.clone(), id.to_owned());
        blocking(move || match shared.placing.processes().has(&wanted) {
            true => Ok(wanted),
            false => match shared.placing.installed().find(&wanted)? {
                Some((id, _)) => Ok(id),
                None => Err(shared.placing.not_switched(&wanted)),
            },
        })
        .await
    }

    /// Turns a plugin on or off that is installed and not loaded.
    async fn switch(&self, id: &str, enabled: bool) -> Result<()> {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        blocking(move || shared.placing.processes().switches().set_enabled(&id, enabled)).await
    }

    /// The job of that id.
    ///
    /// # Errors
    /// `NotFound`: there is none; it may have ended long ago.
    pub fn job(&self, id: &str) -> Result<Job> {
        let missing = || Error::new(Kind::NotFound, "there is no such job: it may have ended long ago");
        self.shared.jobs.find(id).ok_or_else(missing)
    }

    fn staging(&self) -> PathBuf {
        self.shared.placing.home().join(STAGING)
    }

    fn begin(&self, what: &'static str, errand: Errand) -> Result<Job> {
        let job = self.shared.jobs.begin(what)?;
        let (installer, begun) = (self.clone(), job.clone());
        self.shared.shutdown.spawn(what, async move {
            let folder = installer.staging().join(&*begun.id);
            let outcome = installer.bring(&begun, errand, folder.join("plugin")).await;
            if let Err(error) = &outcome {
                begun.log.say(&format!("failed: {error}"));
            }
            let _ = blocking(move || remove(&folder).map_err(|error| unusable(&folder, &error))).await;
            begun.end(outcome);
        });
        Ok(job)
    }

    /// The whole way of a plugin. Gives its id.
    async fn bring(&self, job: &Job, errand: Errand, folder: PathBuf) -> Result<String> {
        let shared = &self.shared;
        let (tools, watch) =
            (Tools::new(&shared.settings), Watch { log: &job.log, equipment: shared.placing.processes().equipment() });
        let Errand { origin, before, claim } = errand;
        let commit = fetch(&origin, &folder, &tools, &shared.settings.install_sources, watch).await?;
        let review = {
            let (folder, before) = (folder.clone(), before.clone());
            blocking(move || {
                let before = before.as_ref().map(|(id, record)| (id.as_str(), record));
                inspect(&folder, &origin, commit.as_deref(), before)
            })
            .await?
        };
        let _claim = match claim {
            Some(claim) => claim,
            None => self.claim_new(&review.id).await?,
        };
        if let Some((id, record)) = &before
            && shared.placing.is_current(id, record, &review).await
        {
            job.log.say(&format!("{id} is up to date"));
            return Ok(id.clone());
        }
        let leave = self.heard(job, review.clone()).await?;
        let mut allowed = review.allow_build.clone();
        allowed.extend(leave.allow_build);
        allowed.sort();
        allowed.dedup();
        prepare(&folder, &allowed, &tools, watch).await?;
        let digest = {
            let (folder, id) = (folder.clone(), review.id.clone());
            blocking(move || check_built(&folder, &id).and_then(|()| digest_of(&folder))).await?
        };
        job.reach(Progress::Starting);
        let record = record_of(&review, allowed, digest);
        shared.placing.put(&review, record, &folder, leave.start).await?;
        job.log.say(&format!("{} {} is in place", review.id, review.version));
        Ok(review.id)
    }

    /// Waits for the review.
    async fn heard(&self, job: &Job, review: Review) -> Result<Leave> {
        let version = if review.version.is_empty() { String::new() } else { format!(" {}", review.version) };
        job.log.say(&format!("{}{version} waits for its review", review.id));
        let answer = job.ask(review);
        tokio::select! {
            answer = answer => answer.map_err(|_| Error::new(Kind::Cancelled, "it was called off")),
            () = tokio::time::sleep(REVIEW_TIME) => Err(Error::new(Kind::Cancelled, "nobody has reviewed it within an hour")),
            () = self.shared.shutdown.stopping() => Err(Error::new(Kind::Cancelled, "the host stops")),
        }
    }

    /// The sole right to an id that is not taken yet.
    async fn claim_new(&self, id: &str) -> Result<Claim> {
        let claim = self.claim(id)?;
        let (installed, wanted) = (self.shared.placing.installed().clone(), id.to_owned());
        if let Some((id, record)) = blocking(move || installed.find(&wanted)).await? {
            let message = format!(
                "plugin {id} is installed already, from {}: `plugbay update {id}` fetches it again, `plugbay uninstall {id}` \
                 makes room for another",
                record.source
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        self.shared.placing.check_free(id)?;
        Ok(claim)
    }

    fn claim(&self, id: &str) -> Result<Claim> {
        let key = id.to_ascii_lowercase();
        let mut claims = self.shared.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if !claims.insert(key.clone()) {
            let message = format!("something is being done to plugin {id} already: wait for that job, or call it off");
            return Err(Error::new(Kind::Conflict, message));
        }
        drop(claims);
        Ok(Claim { shared: self.shared.clone(), id: key })
    }
}

fn record_of(review: &Review, allow_build: Vec<String>, digest: String) -> Record {
    Record {
        source: review.source.clone(),
        reference: review.reference.clone(),
        commit: review.commit.clone(),
        version: review.version.clone(),
        allow_build,
        digest,
        installed: OffsetDateTime::now_utc(),
    }
}

fn not_installed(id: &str) -> Error {
    let message = format!("plugin {id} was not installed by this host, so it knows no source of it");
    Error::new(Kind::NotFound, message)
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot use {}: {error}", path.display()))
}
