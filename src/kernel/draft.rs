//! What one plugin offers, before it serves and while it does.
//!
//! A [`Draft`] is filled, checked against the plugins that serve, and becomes a [`Plugin`] whole or not at all.

use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;

use crate::base::error::{Error, Kind, Result};
use crate::base::manifest::Manifest;
use crate::base::name::{HOST_CHANNELS, Prefix};
use crate::kernel::contribution::{
    Assets, Channel, Contributions, Facade, Hook, Mount, Pattern, Prompt, Resource, Tool,
};
use crate::kernel::fingerprint::Identity;
use crate::kernel::readable::Readable;

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
    /// What identifies each of its tools, in their order.
    pub identities: Vec<Arc<Identity>>,
}

/// A contribution together with the plugin that offers it.
pub struct Offered<T> {
    /// Who offers it.
    pub plugin: Arc<Plugin>,
    /// What is offered.
    pub it: T,
}

impl<T: Clone> Offered<T> {
    /// One contribution of a plugin.
    pub(in crate::kernel) fn by(plugin: &Arc<Plugin>, it: &T) -> Arc<Self> {
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

    /// Where it comes from.
    pub fn source(&self) -> &Arc<str> {
        &self.source
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
    /// `Conflict`: this plugin already offers one of this name, or it is one of the host's own. `Invalid`: its specifier
    /// template names an argument that it does not have.
    pub fn add_tool(&mut self, tool: Tool) -> Result<()> {
        if Readable::of(tool.name.as_str()).is_some() {
            let names = Readable::ALL.map(Readable::as_str);
            let message =
                format!("tool {:?} belongs to the host: choose a name other than {names:?}", tool.name.as_str());
            return Err(Error::new(Kind::Conflict, message));
        }
        tool.check_template()?;
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

    /// Whether it fits beside these plugins.
    ///
    /// # Errors
    /// `Conflict`: an id, a name or a path is taken; the message names both plugins.
    pub(in crate::kernel) fn check_beside(&self, plugins: &[Arc<Plugin>]) -> Result<()> {
        check(plugins, self)
    }

    /// The plugin that it makes.
    pub(in crate::kernel) fn into_plugin(self) -> Plugin {
        let Self { manifest, source, engine, offers } = self;
        let identities = offers.tools.iter().map(|tool| Arc::new(tool.identity())).collect();
        Plugin { manifest, source, engine, offers, identities }
    }

    fn free<'a>(&self, what: &str, name: &str, mut taken: impl Iterator<Item = &'a str>) -> Result<()> {
        if taken.any(|other| other == name) {
            let message = format!("plugin {} already offers a {what} {name:?}: each name once", self.manifest.id);
            return Err(Error::new(Kind::Conflict, message));
        }
        Ok(())
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

/// `assets` below a mount belongs to the host in a plugin that has assets or a server, `rpc` in one that has a server.
fn reserved_paths(draft: &Draft) -> Result<()> {
    let own = Prefix::of_plugin(&draft.manifest.id);
    let server = draft.offers.server;
    let words = [("assets", server || draft.offers.assets.is_some()), ("rpc", server)];
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
