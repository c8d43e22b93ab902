//! What went wrong with a plugin: at which stage of its life, how, and when.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use time::OffsetDateTime;

use crate::base::error::Error;

/// At which step of its life a plugin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Looking for plugins.
    Discover,
    /// Reading its file or manifest.
    Read,
    /// Importing its module.
    Import,
    /// `setup(host)`.
    Setup,
    /// Checking what it offers against the others.
    Commit,
    /// A startup hook, or starting its server.
    Startup,
    /// While it served.
    Run,
    /// A shutdown hook, or stopping its server.
    Shutdown,
}

impl Stage {
    /// Every stage, in the order of a plugin's life.
    pub const ALL: [Self; 8] =
        [Self::Discover, Self::Read, Self::Import, Self::Setup, Self::Commit, Self::Startup, Self::Run, Self::Shutdown];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Read => "read",
            Self::Import => "import",
            Self::Setup => "setup",
            Self::Commit => "commit",
            Self::Startup => "startup",
            Self::Run => "run",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong with one plugin. Cloning is cheap.
#[derive(Clone, Debug, Serialize)]
pub struct PluginError {
    /// The file, the bundled module or `entry_point:<name>`.
    pub source: Arc<str>,
    /// The plugin's id, where it is known.
    pub plugin: Option<Arc<str>>,
    /// When it failed.
    pub stage: Stage,
    /// The [`Kind`]'s code.
    pub code: &'static str,
    /// `Type: text`, with the cure where there is one.
    pub message: Arc<str>,
    /// The traceback, where Python gave one.
    pub traceback: Option<Arc<str>>,
    /// When, in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl PluginError {
    /// A failure that happens now.
    pub fn new(source: impl Into<Arc<str>>, plugin: Option<Arc<str>>, stage: Stage, error: &Error) -> Self {
        Self {
            source: source.into(),
            plugin,
            stage,
            code: error.kind().code(),
            message: error.message().into(),
            traceback: error.detail().map(Into::into),
            at: OffsetDateTime::now_utc(),
        }
    }
}
