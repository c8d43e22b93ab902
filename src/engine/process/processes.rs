//! The plugins that are processes of their own: all of them, by id.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Limits;
use crate::base::shutdown::Shutdown;
use crate::engine::process::desk::{Change, Desk, Live, News, State, Status, Wish};
use crate::engine::process::equipment::{Check, Equipment, blocking};
use crate::engine::process::leftovers::Leftovers;
use crate::engine::process::log::ChildLog;
use crate::engine::process::manifest::ChildManifest;
use crate::engine::process::supervisor::Supervisor;
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::registry::Registry;
use crate::kernel::secrets::Secrets;
use crate::kernel::store::Store;
use crate::kernel::switches::Switches;
use crate::kernel::upstream::{Confirming, Standing, Starting, Upstream, Upstreams};

/// The folder of the children's logs, in the home folder.
const LOGS: &str = "logs";
/// Changes of state that a listener may be behind.
const NEWS_KEPT: usize = 256;
/// So much of the time to stop is left for what comes after the children.
const RESERVE: Duration = Duration::from_millis(300);

/// The plugins that are processes of their own. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Processes {
    shared: Arc<Shared>,
}

struct Shared {
    equipment: Arc<Equipment>,
    store: Store,
    registry: Registry,
    switches: Switches,
    secrets: Secrets,
    runtime: OnceLock<Handle>,
    /// By plugin. Nothing is called while it is held.
    desks: Mutex<BTreeMap<String, Arc<Desk>>>,
    /// Whether children that are added begin at once.
    begun: AtomicBool,
    news: broadcast::Sender<News>,
}

/// What is known of one child, with its plugin's manifest.
pub struct Report {
    /// The manifest in force.
    pub manifest: Arc<ChildManifest>,
    /// Whether the operator lets it run.
    pub enabled: bool,
    /// How it is.
    pub status: Status,
}

impl Processes {
    /// No children yet; those that an earlier host has left behind in this home folder are ended first.
    pub fn new(store: Store, registry: Registry, (limits, shutdown): (Limits, Shutdown), secrets: Secrets) -> Self {
        let logs = store.home().join(LOGS);
        let (leftovers, left) = Leftovers::open(store.clone());
        if left > 0 {
            tracing::warn!("ended {left} child processes that an earlier host has left behind");
        }
        let shared = Shared {
            equipment: Arc::new(Equipment::new(limits, shutdown, leftovers, logs)),
            switches: Switches::open(store.clone()),
            store,
            registry,
            secrets,
            runtime: OnceLock::new(),
            desks: Mutex::default(),
            begun: AtomicBool::new(false),
            news: broadcast::Sender::new(NEWS_KEPT),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lets children be added, whose tasks this runtime runs; `port` is the host's own, 0 where it has none.
    ///
    /// # Errors
    /// `Internal`: the system gives no thread.
    pub fn run_on(&self, handle: Handle, port: u16) -> Result<()> {
        let shared = &self.shared;
        shared.equipment.run_on(handle.clone(), port)?;
        let _inside = handle.enter();
        shared.equipment.shutdown.spawn("children", self.clone().follow_registry());
        // Set twice only by one host, with one runtime.
        let _ = shared.runtime.set(handle);
        Ok(())
    }

    /// Lets `check` look at the files of each child before every start; what it refuses is not started. To be called once.
    pub fn check_with(&self, check: Check) {
        // Set twice only by one host, with one check.
        let _ = self.shared.equipment.check.set(check);
    }

    /// Takes in a plugin that the registry has. It begins with the others, or at once when they have begun.
    ///
    /// # Errors
    /// `Unavailable`: the host does not run.
    pub fn add(&self, manifest: ChildManifest, source: &str) -> Result<()> {
        let shared = &self.shared;
        let runtime = shared.runtime.get();
        let runtime = runtime.ok_or_else(|| Error::new(Kind::Unavailable, "the host does not run: start it first"))?;
        for note in &manifest.notes {
            tracing::info!(plugin = manifest.id.as_str(), "{note}");
        }
        let id = manifest.id.clone();
        let log = ChildLog::open(&shared.equipment.logs, id.as_str());
        let (desk, wishes) = Desk::new(manifest, log, shared.news.clone());
        let before = shared.desks().insert(id.to_string(), desk.clone());
        let host = (shared.registry.clone(), shared.switches.clone());
        let supervisor = Supervisor::new(shared.equipment.clone(), host, desk.clone(), source.into(), wishes);
        let _inside = runtime.enter();
        if let Some(before) = before {
            // Withdrawn from the registry a moment ago, else the id would be taken.
            let processes = self.clone();
            shared.equipment.shutdown.spawn("child-leaving", async move { processes.leave(&before).await });
        }
        shared.equipment.shutdown.spawn("child", supervisor.run());
        if shared.begun.load(Ordering::Acquire) {
            desk.begin();
        }
        Ok(())
    }

    /// Starts every child that may run. Returns at once.
    pub fn begin(&self) {
        if let Some(damage) = self.shared.switches.damage() {
            tracing::error!("{damage}");
            let source = self.shared.store.home().join("plugins.json").display().to_string();
            self.shared.registry.record(PluginError::new(source, None, Stage::Read, &damage));
        }
        self.shared.begun.store(true, Ordering::Release);
        self.all_desks().iter().for_each(|desk| desk.begin());
    }

    /// Ends every child, at most until the deadline, and the guard. What was asked for meanwhile is refused.
    pub async fn close(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let grace = self.shared.equipment.limits.stop_grace.min(left.saturating_sub(RESERVE));
        let desks = std::mem::take(&mut *self.shared.desks());
        let leave = |desk: Arc<Desk>| async move { desk.ask(|reply| Wish::Leave(grace, reply)).await.ok() };
        if timeout(left, join_all(desks.into_values().map(leave))).await.is_err() {
            tracing::warn!("children that did not end in time are left to the guard");
        }
        let guard = self.shared.equipment.guard.clone();
        let _ = timeout(RESERVE, blocking(move || guard.close())).await;
    }

    /// Ends every child at once, as the last thing of a host that ends by force. Blocks for some milliseconds.
    pub fn kill(&self) {
        self.shared.equipment.guard.close();
    }

    /// Starts a child; returns when it is ready.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin, or it has no server. `Unavailable`: it is disabled, or did not get ready;
    /// the message says why.
    pub async fn start(&self, plugin: &str) -> Result<()> {
        self.desk(plugin)?.ask(Wish::Start).await
    }

    /// Stops a child; returns when nothing of it runs. A request starts it again, unless it has failed.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin.
    pub async fn stop(&self, plugin: &str) -> Result<()> {
        self.desk(plugin)?.ask(Wish::Stop).await
    }

    /// Lets a child run from now on and starts it; returns when it is ready. That it may run holds also when it does
    /// not get ready.
    ///
    /// # Errors
    /// As [`Processes::start`], and `Unavailable` when the switch cannot be kept.
    pub async fn enable(&self, plugin: &str) -> Result<()> {
        self.desk(plugin)?.ask(Wish::Enable).await
    }

    /// Does not let a child run any more; returns when nothing of it runs.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin. `Unavailable`: the switch cannot be kept.
    pub async fn disable(&self, plugin: &str) -> Result<()> {
        self.desk(plugin)?.ask(Wish::Disable).await
    }

    /// Stops a child, makes `change` (which may block), and starts what is there then; returns when it is ready.
    /// Requests that come meanwhile wait. What the registry has of the plugin is for `change` to replace.
    ///
    /// # Errors
    /// What `change` gives: then nothing has changed. Else as [`Processes::start`].
    pub async fn replace(&self, plugin: &str, change: Change) -> Result<()> {
        self.desk(plugin)?.ask(|reply| Wish::Replace(change, reply)).await
    }

    /// Stops a child for ever and takes its plugin out of the registry; returns when nothing of it runs.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin.
    pub async fn remove(&self, plugin: &str) -> Result<()> {
        let desk = self.desk(plugin)?;
        self.shared.registry.withdraw(plugin);
        self.leave(&desk).await
    }

    /// Whether there is no child at all.
    pub fn is_empty(&self) -> bool {
        self.shared.desks().is_empty()
    }

    /// Whether a child is there, disabled or not.
    pub fn has(&self, plugin: &str) -> bool {
        self.shared.desks().contains_key(plugin)
    }

    /// What every process is started with.
    pub fn equipment(&self) -> &Arc<Equipment> {
        &self.shared.equipment
    }

    /// The operator's switches.
    pub fn switches(&self) -> &Switches {
        &self.shared.switches
    }

    /// How a child is.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin.
    pub fn report(&self, plugin: &str) -> Result<Report> {
        self.desk(plugin).map(|desk| self.report_of(&desk))
    }

    /// How every child is, by id.
    pub fn reports(&self) -> Vec<Report> {
        self.all_desks().iter().map(|desk| self.report_of(desk)).collect()
    }

    /// Tells of every child that is in another state.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.shared.news.subscribe()
    }

    /// Resolves at each change of a child's state.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin.
    pub fn changes(&self, plugin: &str) -> Result<watch::Receiver<State>> {
        self.desk(plugin).map(|desk| desk.changes())
    }

    /// What a child wrote.
    ///
    /// # Errors
    /// `NotFound`: there is no such plugin.
    pub fn log(&self, plugin: &str) -> Result<ChildLog> {
        self.desk(plugin).map(|desk| desk.log.clone())
    }

    fn report_of(&self, desk: &Desk) -> Report {
        let enabled = self.shared.switches.enabled(desk.id.as_str());
        Report { manifest: desk.manifest(), enabled, status: desk.status() }
    }

    fn desk(&self, plugin: &str) -> Result<Arc<Desk>> {
        let desk = self.shared.desks().get(plugin).cloned();
        desk.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no plugin {plugin:?} with a server")))
    }

    fn all_desks(&self) -> Vec<Arc<Desk>> {
        self.shared.desks().values().cloned().collect()
    }

    async fn leave(&self, desk: &Arc<Desk>) -> Result<()> {
        let grace = self.shared.equipment.limits.stop_grace;
        let left = match desk.ask(|reply| Wish::Leave(grace, reply)).await {
            // Somebody else has told it so a moment ago, and it has.
            Err(error) if error.kind() == Kind::Unavailable => Ok(()),
            left => left,
        };
        let mut desks = self.shared.desks();
        if desks.get(desk.id.as_str()).is_some_and(|kept| Arc::ptr_eq(kept, desk)) {
            desks.remove(desk.id.as_str());
        }
        left
    }

    /// Ends the children of plugins that the registry has no more, until the host ends.
    async fn follow_registry(self) {
        let mut changes = self.shared.registry.changes();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = self.shared.equipment.shutdown.stopping() => return,
            }
            let snapshot = self.shared.registry.snapshot();
            let gone: Vec<_> =
                self.all_desks().into_iter().filter(|desk| snapshot.plugin(desk.id.as_str()).is_none()).collect();
            for desk in gone {
                // It fails only when too many want something of it; then it ends with the host.
                let _ = self.leave(&desk).await;
            }
        }
    }

    fn upstream(&self, desk: &Desk, live: &Live) -> Result<Upstream> {
        Ok(Upstream {
            plugin: desk.id.clone(),
            port: live.port,
            run: live.run,
            key: live.key.clone(),
            // A request without its secrets is of no use: it fails here, where the reason is known.
            secrets: self.shared.secrets.headers(desk.id.as_str())?,
            answered: live.answered.clone(),
        })
    }
}

impl Upstreams for Processes {
    fn find(&self, plugin: &str) -> Starting<'_> {
        let desk = match self.desk(plugin) {
            Ok(desk) => desk,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        if let Some(live) = desk.live() {
            return Box::pin(ready(self.upstream(&desk, &live)));
        }
        Box::pin(async move {
            let limit = self.shared.equipment.limits.ready_time;
            let found = timeout(limit, desk.ask(Wish::Find)).await.unwrap_or_else(|_| {
                let seconds = limit.as_secs_f64();
                let text = format!(
                    "plugin {plugin} is still starting after {seconds} s: ask again in a moment",
                    plugin = desk.id
                );
                Err(Error::new(Kind::Busy, text).blame(desk.id.shared()))
            });
            found.and_then(|live| self.upstream(&desk, &live))
        })
    }

    fn now(&self, plugin: &str) -> Option<Result<Upstream>> {
        let desk = self.desk(plugin).ok()?;
        desk.live().map(|live| self.upstream(&desk, &live))
    }

    fn confirm<'a>(&'a self, upstream: &'a Upstream) -> Confirming<'a> {
        let plugin = upstream.plugin.as_str();
        let live = self.desk(plugin).ok().and_then(|desk| desk.live()).filter(|live| live.run == upstream.run);
        let Some(live) = live else {
            let error = Error::new(Kind::Unavailable, format!("the server of plugin {plugin} has ended meanwhile"));
            return Box::pin(ready(Err(error.blame(upstream.plugin.shared()))));
        };
        if live.is_reached() {
            return Box::pin(ready(Ok(())));
        }
        Box::pin(async move {
            let found = blocking(move || live.find_again()).await;
            found.unwrap_or_else(|| Err("the host ends".to_owned())).map_err(|why| {
                let message = format!("the server of plugin {plugin} was not asked: {why}");
                Error::new(Kind::Upstream, message).blame(upstream.plugin.shared())
            })
        })
    }

    fn standing(&self, plugin: &str) -> Standing {
        match self.desk(plugin) {
            // What can be asked has a server and is enabled: no need to look further, with every request.
            Ok(desk) if desk.is_live() => Standing::Enabled,
            Ok(desk) if desk.manifest().has_server() && self.shared.switches.enabled(plugin) => Standing::Enabled,
            Ok(desk) if desk.manifest().has_server() => Standing::Disabled,
            _ => Standing::Unknown,
        }
    }
}

impl Shared {
    fn desks(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
