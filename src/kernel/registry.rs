//! What plugins are there: drafts become snapshots whole or not at all, and every failure is kept.
//!
//! What serves requests is an immutable [`Snapshot`]. A commit checks a [`Draft`] against the snapshot and swaps in a
//! new one; on any failure the old one keeps serving.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::base::error::{Error, Kind, Result};
use crate::base::name::{PREFIX_BYTES, Prefix};
use crate::kernel::contribution::{Channel, Facade, Mount, Tool};
use crate::kernel::fault::PluginError;
use crate::kernel::fingerprint::Identity;

pub use crate::kernel::draft::{Draft, Engine, Offered, Plugin};

/// How many errors are kept; older ones make room.
const ERRORS_KEPT: usize = 1000;

/// All that serves at one moment; it never changes.
#[derive(Default)]
pub struct Snapshot {
    generation: u64,
    plugins: Vec<Arc<Plugin>>,
    mounts: HashMap<Prefix, Vec<Arc<Offered<Mount>>>>,
    tools: BTreeMap<Arc<str>, Arc<Offered<Tool>>>,
    channels: HashMap<Arc<str>, Arc<Offered<Channel>>>,
    facades: BTreeMap<Arc<str>, Arc<Offered<Facade>>>,
    /// By the tool's name.
    identities: HashMap<Arc<str>, Arc<Identity>>,
}

impl Snapshot {
    /// Rises by one with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The plugins, in the order in which they were committed.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// The plugin of that id.
    pub fn plugin(&self, id: &str) -> Option<&Arc<Plugin>> {
        self.plugins.iter().find(|plugin| plugin.manifest.id.as_str() == id)
    }

    /// The mount that answers `path`, which is given below `/api/`, and the path below the mount (with its slash).
    ///
    /// The longest prefix wins; where two plugins share one, the mount that has the path, else the first.
    pub fn mount<'p>(&self, path: &'p str) -> Option<(&Arc<Offered<Mount>>, &'p str)> {
        // No prefix is longer than this: a path of ten thousand segments costs no more than one of a few.
        let mut end = match path.len() {
            short @ ..=PREFIX_BYTES => short,
            _ => path.as_bytes()[..=PREFIX_BYTES].iter().rposition(|byte| *byte == b'/')?,
        };
        loop {
            let (prefix, rest) = path.split_at(end);
            if let Some(mounts) = self.mounts.get(prefix) {
                let mount = match &mounts[..] {
                    [only] => only,
                    several => several
                        .iter()
                        .find(|mount| mount.patterns.iter().any(|pattern| pattern.matches(rest)))
                        .unwrap_or(&several[0]),
                };
                return Some((mount, rest));
            }
            end = prefix.rfind('/')?;
        }
    }

    /// Every mount, in no order.
    pub fn mounts(&self) -> impl Iterator<Item = &Arc<Offered<Mount>>> {
        self.mounts.values().flatten()
    }

    /// The tool of that name.
    ///
    /// # Errors
    /// `NotFound`: no plugin offers it.
    pub fn tool(&self, name: &str) -> Result<&Arc<Offered<Tool>>> {
        self.tools.get(name).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("no plugin offers a tool {name:?}: `plugbay tools` lists what there is"))
        })
    }

    /// What identifies the tool of that name; `None` when no plugin offers it.
    pub fn identity(&self, name: &str) -> Option<&Arc<Identity>> {
        self.identities.get(name)
    }

    /// The tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<Offered<Tool>>> {
        self.tools.values()
    }

    /// The channel of that name.
    pub fn channel(&self, name: &str) -> Option<&Arc<Offered<Channel>>> {
        self.channels.get(name)
    }

    /// The channels, by name.
    pub fn channels(&self) -> Vec<&Arc<Offered<Channel>>> {
        let mut channels: Vec<_> = self.channels.values().collect();
        channels.sort_by(|left, right| left.name.cmp(&right.name));
        channels
    }

    /// The names on `dash`, sorted.
    pub fn facades(&self) -> impl Iterator<Item = &Arc<Offered<Facade>>> {
        self.facades.values()
    }

    /// A new snapshot of these plugins. What clashes was refused before, so a later name never replaces an earlier.
    fn of(generation: u64, plugins: Vec<Arc<Plugin>>) -> Self {
        let mut new = Self { generation, ..Self::default() };
        for plugin in &plugins {
            for mount in &plugin.offers.mounts {
                new.mounts.entry(mount.prefix.clone()).or_default().push(Offered::by(plugin, mount));
            }
            for (tool, identity) in plugin.offers.tools.iter().zip(&plugin.identities) {
                new.identities.insert(tool.name.shared(), identity.clone());
                new.tools.insert(tool.name.shared(), Offered::by(plugin, tool));
            }
            for channel in &plugin.offers.channels {
                new.channels.insert(channel.name.shared(), Offered::by(plugin, channel));
            }
            for facade in &plugin.offers.facades {
                new.facades.insert(facade.name.shared(), Offered::by(plugin, facade));
            }
        }
        new.plugins = plugins;
        new
    }
}

/// What plugins are there, and what went wrong with others. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// Held while a new snapshot is made, so that two commits cannot lose one another.
    commits: Mutex<()>,
    /// The errors, oldest first, at most [`ERRORS_KEPT`].
    errors: Mutex<VecDeque<PluginError>>,
    /// The plugins that are switched off, each with where it is.
    passed_over: Mutex<BTreeMap<String, String>>,
    changed: watch::Sender<u64>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                snapshot: ArcSwap::default(),
                commits: Mutex::default(),
                errors: Mutex::default(),
                passed_over: Mutex::default(),
                changed: watch::Sender::new(0),
            }),
        }
    }

    /// What serves now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Resolves at each change, with the new generation.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Makes a draft serve, whole or not at all.
    ///
    /// # Errors
    /// `Conflict`: an id, a name or a path is taken; the message names both plugins. Nothing has changed then.
    pub fn commit(&self, draft: Draft) -> Result<Arc<Plugin>> {
        let _alone = self.alone();
        let old = self.snapshot();
        self.commit_beside(old.plugins.clone(), draft, old.generation)
    }

    /// Makes a draft serve in place of the plugin of its id and source, if there is one, with nothing between the two.
    ///
    /// # Errors
    /// `Conflict`: as [`Registry::commit`]; the plugin before serves on then.
    pub fn replace(&self, draft: Draft) -> Result<Arc<Plugin>> {
        let _alone = self.alone();
        let old = self.snapshot();
        let stays =
            |plugin: &&Arc<Plugin>| plugin.manifest.id != draft.manifest().id || plugin.source != *draft.source();
        let others = old.plugins.iter().filter(stays).cloned().collect();
        self.commit_beside(others, draft, old.generation)
    }

    /// Takes a plugin out of what serves. Returns it, or `None` when there was none of that id.
    pub fn withdraw(&self, id: &str) -> Option<Arc<Plugin>> {
        let _alone = self.alone();
        let old = self.snapshot();
        let gone = old.plugin(id)?.clone();
        let plugins = old.plugins.iter().filter(|plugin| !Arc::ptr_eq(plugin, &gone)).cloned().collect();
        self.swap(old.generation + 1, plugins);
        Some(gone)
    }

    /// Takes out every plugin and forgets every error. For tests.
    pub fn reset(&self) {
        let _alone = self.alone();
        let generation = self.snapshot().generation + 1;
        self.swap(generation, Vec::new());
        self.errors_locked().clear();
        self.passed_over_locked().clear();
    }

    /// Keeps what went wrong with a plugin.
    pub fn record(&self, error: PluginError) {
        let mut errors = self.errors_locked();
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back(error);
    }

    /// Keeps that a plugin was not loaded, because it is switched off.
    pub fn pass_over(&self, id: &str, source: &str) {
        self.passed_over_locked().insert(id.to_owned(), source.to_owned());
    }

    /// Forgets that a plugin was not loaded: it is gone.
    pub fn forget_passed_over(&self, id: &str) {
        self.passed_over_locked().remove(id);
    }

    /// The plugins that were not loaded because they are switched off, each with where it is, by id.
    pub fn passed_over(&self) -> Vec<(String, String)> {
        let snapshot = self.snapshot();
        let passed_over = self.passed_over_locked();
        let idle = passed_over.iter().filter(|(id, _)| snapshot.plugin(id).is_none());
        idle.map(|(id, source)| (id.clone(), source.clone())).collect()
    }

    /// What went wrong, oldest first; the last thousand.
    pub fn errors(&self) -> Vec<PluginError> {
        self.errors_locked().iter().cloned().collect()
    }

    /// Checks a draft against the plugins that stay, and swaps in a snapshot of both. The lock of commits is held.
    fn commit_beside(&self, mut plugins: Vec<Arc<Plugin>>, draft: Draft, generation: u64) -> Result<Arc<Plugin>> {
        draft.check_beside(&plugins)?;
        let plugin = Arc::new(draft.into_plugin());
        plugins.push(plugin.clone());
        self.swap(generation + 1, plugins);
        Ok(plugin)
    }

    fn swap(&self, generation: u64, plugins: Vec<Arc<Plugin>>) {
        self.shared.snapshot.store(Arc::new(Snapshot::of(generation, plugins)));
        self.shared.changed.send_replace(generation);
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.shared.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed_over_locked(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.shared.passed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn errors_locked(&self) -> MutexGuard<'_, VecDeque<PluginError>> {
        self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
