//! Where an installation meets what runs: a new version takes its place in the folder, in the registry of plugins and
//! among the processes; or all of them stay as they were.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::desk::Change;
use crate::engine::process::installed::{self, Installed, Record};
use crate::engine::process::integrity::digest_of;
use crate::engine::process::jobs::Review;
use crate::engine::process::manifest::ChildManifest;
use crate::engine::process::processes::Processes;
use crate::engine::process::staging::blocking;
use crate::engine::process::swap::Places;
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::registry::{Draft, Engine, Registry};
use crate::kernel::secrets::Secrets;
use crate::kernel::store::Store;

/// Puts plugins in their place and takes them out of it. Cloning is cheap.
#[derive(Clone)]
pub struct Placing {
    home: Arc<Path>,
    registry: Registry,
    processes: Processes,
    secrets: Secrets,
    installed: Installed,
}

/// A version of a plugin on its way to its place.
#[derive(Clone)]
struct Version {
    id: String,
    folder: PathBuf,
    record: Record,
}

impl Placing {
    /// With the parts of a host. A damaged registry of installed plugins is recorded as an error.
    pub fn new(store: &Store, registry: Registry, processes: Processes, secrets: Secrets) -> Self {
        let installed = Installed::open(store.clone());
        if let Err(error) = installed.read() {
            tracing::error!("{error}");
            let source = store.home().join(installed::FILE).display().to_string();
            registry.record(PluginError::new(source, None, Stage::Read, &error));
        }
        Self { home: store.home().into(), registry, processes, secrets, installed }
    }

    /// The host's home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What is installed.
    pub fn installed(&self) -> &Installed {
        &self.installed
    }

    /// What runs.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Puts a new version in place. With `start` its server is started, unless the plugin is disabled, and has to get
    /// ready.
    ///
    /// # Errors
    /// `Upstream`, `Unavailable`, `Conflict`: it did not get ready, or does not fit; what was there before is there
    /// again. The message says both.
    pub async fn put(&self, review: &Review, record: Record, folder: &Path, start: bool) -> Result<()> {
        let version = Version { id: review.id.clone(), folder: folder.to_owned(), record };
        let installed = self.installed.clone();
        let before = blocking(move || installed.read()).await?.remove(&review.id);
        if review.kind != "process" || !start {
            let placing = self.clone();
            return blocking(move || placing.put_files(&version, before.as_ref())).await;
        }
        if self.processes.has(&review.id) {
            self.replace(version, before).await
        } else {
            self.add(version, before).await
        }
    }

    /// Refuses what was installed and has changed since.
    ///
    /// # Errors
    /// `Unavailable`: its code is not what was installed, or cannot be read; or the registry of installed plugins is
    /// damaged.
    pub fn check(&self, manifest: &ChildManifest) -> Result<()> {
        let id = manifest.id.as_str();
        let current = Places::of(&self.home, id).current;
        // One that lies elsewhere was never installed.
        if current.canonicalize().ok().as_deref() != Some(&*manifest.folder) {
            return Ok(());
        }
        let Some((_, record)) = self.installed.find(id)? else { return Ok(()) };
        if digest_of(&current)? == record.digest {
            return Ok(());
        }
        let message = format!(
            "the code of plugin {id} has changed since it was installed, so it is not started: `plugbay update {id}` \
             fetches it again from {}",
            record.source
        );
        Err(Error::new(Kind::Unavailable, message))
    }

    /// Whether what is installed is what was fetched, byte for byte.
    pub async fn is_current(&self, id: &str, record: &Record, review: &Review) -> bool {
        if record.commit.is_none() || record.commit != review.commit {
            return false;
        }
        let (folder, digest) = (Places::of(&self.home, id).current, record.digest.clone());
        blocking(move || Ok(digest_of(&folder)? == digest)).await.unwrap_or(false)
    }

    /// Says when the id of a new plugin is another's.
    ///
    /// # Errors
    /// `Conflict`: it is, and whose.
    pub fn check_free(&self, id: &str) -> Result<()> {
        let current = Places::of(&self.home, id).current;
        let taken = match self.elsewhere(id) {
            Some(source) => source,
            None if current.symlink_metadata().is_ok() => current.display().to_string(),
            None => return Ok(()),
        };
        let message = format!("plugin id {id} is taken by {taken}: remove that one first");
        Err(Error::new(Kind::Conflict, message))
    }

    /// Why a plugin that was not installed is not removed.
    pub fn not_ours(&self, id: &str) -> Error {
        match self.elsewhere(id) {
            Some(source) => {
                let message =
                    format!("plugin {id} was not installed by this host: it comes from {source}; remove it there");
                Error::new(Kind::Conflict, message)
            }
            None => Error::new(Kind::NotFound, format!("there is no plugin {id:?}")),
        }
    }

    /// Why a plugin is neither enabled nor disabled.
    pub fn not_switched(&self, id: &str) -> Error {
        match self.elsewhere(id) {
            Some(source) => {
                let message = format!(
                    "plugin {id} of {source} runs in the host's own process: it is there as long as its file is; only a \
                     plugin that is a process of its own can be enabled and disabled"
                );
                Error::new(Kind::Invalid, message)
            }
            None => Error::new(Kind::NotFound, format!("there is no plugin {id:?} with a server here")),
        }
    }

    /// Stops a plugin and removes its files, secrets and switch. What is kept of it in the registry of what is installed
    /// stays, so that it can be tried again.
    ///
    /// # Errors
    /// `Unavailable`: a file cannot be removed.
    pub async fn clear(&self, id: &str) -> Result<()> {
        if self.processes.has(id) {
            self.processes.remove(id).await?;
        }
        self.registry.withdraw(id);
        self.registry.forget_passed_over(id);
        let (placing, id) = (self.clone(), id.to_owned());
        blocking(move || {
            Places::of(&placing.home, &id).clear()?;
            placing.secrets.forget(&id)?;
            placing.processes.switches().forget(&id)
        })
        .await
    }

    /// Where the plugin of that id, whatever its case, comes from.
    fn elsewhere(&self, id: &str) -> Option<String> {
        let snapshot = self.registry.snapshot();
        let mut plugins = snapshot.plugins().iter();
        plugins
            .find(|plugin| plugin.manifest.id.as_str().eq_ignore_ascii_case(id))
            .map(|plugin| plugin.source.to_string())
    }

    /// A plugin that was not there.
    async fn add(&self, version: Version, before: Option<Record>) -> Result<()> {
        let id = version.id.clone();
        let placing = self.clone();
        let (manifest, source) = blocking({
            let (version, before) = (version, before.clone());
            move || {
                placing.put_files(&version, before.as_ref())?;
                placing.commit(&version.id).inspect_err(|_| placing.put_back(&version.id, before.as_ref()))
            }
        })
        .await?;
        let starts = manifest.has_server() && self.processes.switches().enabled(&id);
        let mut outcome = self.processes.add(manifest, &source);
        if outcome.is_ok() && starts {
            outcome = self.processes.start(&id).await;
        }
        let Err(error) = outcome else { return Ok(()) };
        if self.processes.has(&id) {
            // What it said is in the error.
            let _ = self.processes.remove(&id).await;
        }
        self.registry.withdraw(&id);
        let placing = self.clone();
        let kept = id.clone();
        blocking(move || {
            placing.put_back(&kept, before.as_ref());
            Ok(())
        })
        .await?;
        Err(told(&error, &format!("plugin {id} was taken out again")))
    }

    /// A new version of a plugin that is there.
    async fn replace(&self, version: Version, before: Option<Record>) -> Result<()> {
        let id = version.id.clone();
        let changed = Arc::new(AtomicBool::new(false));
        let forth: Change = Box::new({
            let (placing, changed, before) = (self.clone(), changed.clone(), before.clone());
            move || {
                placing.put_files(&version, before.as_ref())?;
                let manifest = placing.offer_again(&version.id);
                match manifest {
                    Ok(manifest) => {
                        changed.store(true, Ordering::Release);
                        Ok(manifest)
                    }
                    Err(error) => {
                        placing.put_back(&version.id, before.as_ref());
                        Err(error)
                    }
                }
            }
        });
        let Err(error) = self.processes.replace(&id, forth).await else { return Ok(()) };
        if !changed.load(Ordering::Acquire) {
            return Err(told(&error, "the version before is in place"));
        }
        let back: Change = Box::new({
            let (placing, id) = (self.clone(), id.clone());
            move || {
                placing.put_back(&id, before.as_ref());
                placing.offer_again(&id)
            }
        });
        let end = match self.processes.replace(&id, back).await {
            Ok(()) => "the version before runs again".to_owned(),
            Err(error) => format!("the version before is in place again and does not get ready either: {error}"),
        };
        Err(told(&error, &end))
    }

    /// Files and record.
    fn put_files(&self, version: &Version, before: Option<&Record>) -> Result<()> {
        let places = Places::of(&self.home, &version.id);
        places.put(&version.folder)?;
        self.installed.keep(&version.id, version.record.clone()).inspect_err(|_| self.put_back(&version.id, before))
    }

    /// Files and record as they were. A failure is logged: there is nothing better to do.
    fn put_back(&self, id: &str, before: Option<&Record>) {
        let places = Places::of(&self.home, id);
        let restored = match before {
            Some(record) => places.restore().and_then(|()| self.installed.keep(id, record.clone())),
            None => places.clear().and_then(|()| self.installed.forget(id)),
        };
        if let Err(error) = restored {
            tracing::error!(plugin = id, "what was there before could not be put back: {error}");
        }
    }

    /// Lets the registry have a plugin that is new.
    fn commit(&self, id: &str) -> Result<(ChildManifest, String)> {
        let (manifest, draft, source) = self.draft(id)?;
        self.registry.commit(draft)?;
        Ok((manifest, source))
    }

    /// Lets the registry have what lies in the plugin's place now. One with a Python half keeps what that half offers,
    /// until a host starts next.
    fn offer_again(&self, id: &str) -> Result<ChildManifest> {
        let (manifest, draft, _) = self.draft(id)?;
        let is_python = self.registry.snapshot().plugin(id).is_some_and(|plugin| plugin.engine == Engine::Python);
        if !is_python {
            self.registry.replace(draft)?;
        }
        Ok(manifest)
    }

    fn draft(&self, id: &str) -> Result<(ChildManifest, Draft, String)> {
        let folder = Places::of(&self.home, id).current;
        let manifest = ChildManifest::read(&folder)?;
        let source = folder.display().to_string();
        let mut draft = Draft::new(manifest.manifest(), source.clone(), Engine::Process);
        if manifest.has_server() {
            draft.add_server();
        }
        Ok((manifest, draft, source))
    }
}

/// An error with what became of the plugin.
fn told(error: &Error, end: &str) -> Error {
    Error::new(error.kind(), format!("{error}\n{end}"))
}
