//! Where a plugin that is a process of its own can be asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderName, HeaderValue};

use crate::base::error::{Error, Kind, Result};
use crate::base::name::PluginId;

/// One run of a plugin's server: it listens on 127.0.0.1 and was checked. Cloning is cheap.
#[derive(Clone)]
pub struct Upstream {
    /// Which plugin it serves.
    pub plugin: PluginId,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Grows with each start of this plugin's server: connections to another run are of no use.
    pub run: u64,
    /// The key that it got on its standard input, with which the caller's identity is signed: base64url text.
    pub key: Arc<str>,
    /// `x-plugin-secret-<name>` headers as they are now.
    pub secrets: Arc<[(HeaderName, HeaderValue)]>,
    /// Set when this run has answered a request: what dies later has not failed to start.
    pub answered: Arc<AtomicBool>,
}

impl Upstream {
    /// Says that this run has answered a request.
    pub fn has_answered(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }
}

/// What was found of a server's port.
pub type Confirming<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A server on its way.
pub type Starting<'a> = Pin<Box<dyn Future<Output = Result<Upstream>> + Send + 'a>>;

/// What a plugin is to those who would ask its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no such plugin, or it has no server.
    Unknown,
    /// It has a server, which may not run.
    Disabled,
    /// It has a server, which runs or can be started, or has failed.
    Enabled,
}

/// The plugins that are processes of their own.
pub trait Upstreams: Send + Sync {
    /// The server of a plugin, started when it does not run. Requests that come meanwhile share one start.
    ///
    /// # Errors
    /// `NotFound`: no such plugin, or it has no server. `Unavailable`: it is disabled, failed, or not to be started by
    /// a request; the message gives its last error. `Busy`: it is not ready in time, which more patience may cure.
    fn find(&self, plugin: &str) -> Starting<'_>;

    /// What [`Upstreams::find`] would give at once; `None` where it may have to wait.
    fn now(&self, plugin: &str) -> Option<Result<Upstream>> {
        let _ = plugin;
        None
    }

    /// Whether a connection that was opened a moment ago ends at this run of the server, and at nobody who has taken its
    /// port since. To be asked before anything is sent on it.
    ///
    /// # Errors
    /// `Upstream`: the port is another's, or nobody's. `Unavailable`: that run has ended. Each blames the plugin.
    fn confirm<'a>(&'a self, upstream: &'a Upstream) -> Confirming<'a>;

    /// Whether a plugin has a server; never waits. While it has one, `rpc` below the plugin belongs to the host.
    fn standing(&self, plugin: &str) -> Standing;
}

/// A host without such plugins.
pub struct NoUpstreams;

impl Upstreams for NoUpstreams {
    fn find(&self, _: &str) -> Starting<'_> {
        Box::pin(async { Err(Error::new(Kind::NotFound, "this host runs no plugin as a process of its own")) })
    }

    fn confirm<'a>(&'a self, _: &'a Upstream) -> Confirming<'a> {
        Box::pin(async { Err(Error::new(Kind::Unavailable, "this host runs no plugin as a process of its own")) })
    }

    fn standing(&self, _: &str) -> Standing {
        Standing::Unknown
    }
}
