//! What plugins are there: drafts become snapshots whole or not at all, and every failure is kept.
//!
//! What serves requests is an immutable [`Snapshot`]. A commit checks a [`Draft`] against the snapshot and swaps in a
//! new one; on any failure the old one keeps serving.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;

use crate::base::error::{Error, Kind, Result};
use crate::base::manifest::Manifest;
use crate::base::name::{HOST_CHANNELS, PREFIX_BYTES, Prefix};
use crate::kernel::contribution::{
    Assets, Channel, Contributions, Facade, Hook, Mount, Pattern, Prompt, Resource, Tool,
};
use crate::kernel::fault::PluginError;

/// How many errors are kept; older ones make room.
const ERRORS_KEPT: usize = 1000;

/// What runs a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Python in the host's own process.
    Python,
    /// A child process.
    Process,
    /// A native library.
    Native,
    /// An outside MCP server.
    Mcp,
}

/// A plugin that serves.
pub struct Plugin {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Where it came from: a file, a bundled module or `entry_point:<name>`.
    pub source: Arc<str>,
    /// What runs it.
    pub engine: Engine,
    /// What it offers.
    pub offers: Contributions,
}

/// A contribution together with the plugin that offers it.
pub struct Offered<T> {
    /// Who offers it.
    pub plugin: Arc<Plugin>,
    /// What is offered.
    pub it: T,
}

impl<T: Clone> Offered<T> {
    fn by(plugin: &Arc<Plugin>, it: &T) -> Arc<Self> {
        Arc::new(Self { plugin: plugin.clone(), it: it.clone() })
    }
}

impl<T> Deref for Offered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.it
    }
}

/// The contributions of one plugin before they are committed. Names clash at once within the draft.
pub struct Draft {
    manifest: Manifest,
    source: Arc<str>,
    engine: Engine,
    offers: Contributions,
}

impl Draft {
    /// An empty draft.
    pub fn new(manifest: Manifest, source: impl Into<Arc<str>>, engine: Engine) -> Self {
        Self { manifest, source: source.into(), engine, offers: Contributions::default() }
    }

    /// What the plugin says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds routes.
    pub fn add_mount(&mut self, mount: Mount) {
        self.offers.mounts.push(mount);
    }

    /// Adds a tool.
    ///
    /// # Errors
    /// `Conflict`: this plugin already offers one of this name.
    pub fn add_tool(&mut self, tool: Tool) -> Result<()> {
        self.free("tool", tool.name.as_str(), self.offers.tools.iter().map(|other| other.name.as_str()))?;
        self.offers.tools.push(tool);
        Ok(())
    }

    /// Adds a channel.
    ///
    /// # Errors
    /// `Conflict`: this plugin already offers one of this name, or it is one of the host's own.
    pub fn add_channel(&mut self, channel: Channel) -> Result<()> {
        let name = channel.name.as_str();
        if HOST_CHANNELS.contains(&name) {
            let message = format!("channel {name:?} belongs to the host: choose a name other than {HOST_CHANNELS:?}");
            return Err(Error::new(Kind::Conflict, message));
        }
        self.free("channel", name, self.offers.channels.iter().map(|other| other.name.as_str()))?;
        self.offers.channels.push(channel);
        Ok(())
    }

    /// Adds a name on `dash`.
    ///
    /// # Errors
    /// `Conflict`: this plugin already offers one of this name.
    pub fn add_facade(&mut self, facade: Facade) -> Result<()> {
        self.free("facade", facade.name.as_str(), self.offers.facades.iter().map(|other| other.name.as_str()))?;
        self.offers.facades.push(facade);
        Ok(())
    }

    /// Adds a hook.
    pub fn add_hook(&mut self, hook: Hook) {
        self.offers.hooks.push(hook);
    }

    /// Adds the folder of web files.
    ///
    /// # Errors
    /// `Conflict`: there is one already.
    pub fn add_assets(&mut self, assets: Assets) -> Result<()> {
        if self.offers.assets.is_some() {
            let message = format!("plugin {} has a folder of assets already: a plugin has one", self.manifest.id);
            return Err(Error::new(Kind::Conflict, message));
        }
        self.offers.assets = Some(assets);
        Ok(())
    }

    /// Says that the plugin has a server, a child process.
    pub fn add_server(&mut self) {
        self.offers.server = true;
    }

    /// Adds an MCP resource.
    ///
    /// # Errors
    /// `Conflict`: this plugin already offers one with this uri.
    pub fn add_resource(&mut self, resource: Resource) -> Result<()> {
        self.free("resource", &resource.uri, self.offers.resources.iter().map(|other| &*other.uri))?;
        self.offers.resources.push(resource);
        Ok(())
    }

    /// Adds an MCP prompt.
    ///
    /// # Errors
    /// `Conflict`: this plugin already offers one of this name.
    pub fn add_prompt(&mut self, prompt: Prompt) -> Result<()> {
        self.free("prompt", &prompt.name, self.offers.prompts.iter().map(|other| &*other.name))?;
        self.offers.prompts.push(prompt);
        Ok(())
    }

    /// Whether this draft offers `channel`, so that its plugin may publish to topics of it.
    pub fn offers_channel(&self, channel: &str) -> bool {
        self.offers.channels.iter().any(|other| other.name.as_str() == channel)
    }

    fn free<'a>(&self, what: &str, name: &str, mut taken: impl Iterator<Item = &'a str>) -> Result<()> {
        if taken.any(|other| other == name) {
            let message = format!("plugin {} already offers a {what} {name:?}: each name once", self.manifest.id);
            return Err(Error::new(Kind::Conflict, message));
        }
        Ok(())
    }
}

/// All that serves at one moment; it never changes.
#[derive(Default)]
pub struct Snapshot {
    generation: u64,
    plugins: Vec<Arc<Plugin>>,
    mounts: HashMap<Prefix, Vec<Arc<Offered<Mount>>>>,
    tools: BTreeMap<Arc<str>, Arc<Offered<Tool>>>,
    channels: HashMap<Arc<str>, Arc<Offered<Channel>>>,
    facades: BTreeMap<Arc<str>, Arc<Offered<Facade>>>,
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
            for tool in &plugin.offers.tools {
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

/// Whether `draft` fits beside these plugins.
fn check(plugins: &[Arc<Plugin>], draft: &Draft) -> Result<()> {
    let id = &draft.manifest.id;
    let clash = |message: String| Err(Error::new(Kind::Conflict, message));
    for plugin in plugins {
        let other = &plugin.manifest.id;
        if other.as_str().eq_ignore_ascii_case(id.as_str()) {
            return clash(format!(
                "plugin id {id} of {} is taken by {other} of {}: give one of them another id, or remove one",
                draft.source, plugin.source
            ));
        }
        if let Some(taken) = clash_of_names(draft, plugin).or_else(|| clash_of_mounts(draft, plugin)) {
            return clash(format!("{taken} of plugin {id} is taken by plugin {other}: rename one of them"));
        }
    }
    reserved_paths(draft)
}

/// The first name that both offer, as `tool "a"`.
fn clash_of_names(draft: &Draft, plugin: &Plugin) -> Option<String> {
    fn common<'a>(
        what: &str,
        mine: impl Iterator<Item = &'a str>,
        theirs: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<String> {
        let mut mine = mine;
        mine.find(|name| theirs.clone().any(|other| other == *name)).map(|name| format!("{what} {name:?}"))
    }
    let (mine, theirs) = (&draft.offers, &plugin.offers);
    common("tool", mine.tools.iter().map(|it| it.name.as_str()), theirs.tools.iter().map(|it| it.name.as_str()))
        .or_else(|| {
            let theirs = theirs.channels.iter().map(|it| it.name.as_str());
            common("channel", mine.channels.iter().map(|it| it.name.as_str()), theirs)
        })
        .or_else(|| {
            let theirs = theirs.facades.iter().map(|it| it.name.as_str());
            common("facade", mine.facades.iter().map(|it| it.name.as_str()), theirs)
        })
        .or_else(|| {
            common("resource", mine.resources.iter().map(|it| &*it.uri), theirs.resources.iter().map(|it| &*it.uri))
        })
        .or_else(|| {
            common("prompt", mine.prompts.iter().map(|it| &*it.name), theirs.prompts.iter().map(|it| &*it.name))
        })
}

/// The first path that both answer, as `path "/api/a"`.
fn clash_of_mounts(draft: &Draft, plugin: &Plugin) -> Option<String> {
    let absolute =
        |mount: &Mount| -> Vec<Pattern> { mount.patterns.iter().map(|pattern| pattern.below(&mount.prefix)).collect() };
    let taken: Vec<Pattern> = plugin.offers.mounts.iter().flat_map(absolute).collect();
    draft.offers.mounts.iter().find_map(|mount| {
        let overlaps = absolute(mount).iter().any(|mine| taken.iter().any(|theirs| mine.overlaps(theirs)));
        overlaps.then(|| format!("a route below \"/api/{}\"", mount.prefix))
    })
}

/// `assets` below a mount belongs to the host in a plugin that has assets, `rpc` in one that has a server.
fn reserved_paths(draft: &Draft) -> Result<()> {
    let own = Prefix::of_plugin(&draft.manifest.id);
    let words = [("assets", draft.offers.assets.is_some()), ("rpc", draft.offers.server)];
    for (word, _) in words.into_iter().filter(|(_, reserved)| *reserved) {
        let taken =
            |mount: &&Mount| mount.prefix == own && mount.patterns.iter().any(|pattern| pattern.begins_with(word));
        if draft.offers.mounts.iter().any(|mount| taken(&mount)) {
            let message = format!(
                "plugin {} has {word} of its own, so \"/api/{own}/{word}\" belongs to the host: move the routes that lie there",
                draft.manifest.id
            );
            return Err(Error::new(Kind::Conflict, message));
        }
    }
    Ok(())
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

    /// Makes a draft serve in place of the plugin that has its id, if there is one, with nothing between the two.
    ///
    /// # Errors
    /// `Conflict`: as [`Registry::commit`]; the plugin before serves on then.
    pub fn replace(&self, draft: Draft) -> Result<Arc<Plugin>> {
        let _alone = self.alone();
        let old = self.snapshot();
        let others = old.plugins.iter().filter(|plugin| plugin.manifest.id != draft.manifest.id).cloned().collect();
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
    }

    /// Keeps what went wrong with a plugin.
    pub fn record(&self, error: PluginError) {
        let mut errors = self.errors_locked();
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back(error);
    }

    /// What went wrong, oldest first; the last thousand.
    pub fn errors(&self) -> Vec<PluginError> {
        self.errors_locked().iter().cloned().collect()
    }

    /// Checks a draft against the plugins that stay, and swaps in a snapshot of both. The lock of commits is held.
    fn commit_beside(&self, mut plugins: Vec<Arc<Plugin>>, draft: Draft, generation: u64) -> Result<Arc<Plugin>> {
        check(&plugins, &draft)?;
        let Draft { manifest, source, engine, offers } = draft;
        let plugin = Arc::new(Plugin { manifest, source, engine, offers });
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

    fn errors_locked(&self) -> MutexGuard<'_, VecDeque<PluginError>> {
        self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
