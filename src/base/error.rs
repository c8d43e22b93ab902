//! What can go wrong: one [`Error`], whose [`Kind`] alone decides every code that a caller sees.
//!
//! Errors are made where something fails and travel up unlogged; the edge turns them into an answer, once.

use std::fmt;
use std::sync::Arc;

/// The result of anything that can fail in the host.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is. Programs read this, people read the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The bytes cannot be read as what they should be: not JSON, not UTF-8, not HTTP.
    Malformed,
    /// Readable, but it does not fit: arguments against a schema, a name against its rule.
    Invalid,
    /// No credential, or one that is not known.
    Unauthenticated,
    /// Known, but not allowed.
    Denied,
    /// The request names a host that this one does not serve.
    Misdirected,
    /// There is no such thing.
    NotFound,
    /// It clashes with something that is already there.
    Conflict,
    /// More bytes than the limit.
    TooLarge,
    /// A queue is full; the same question may pass later.
    Busy,
    /// What should answer is not running.
    Unavailable,
    /// No answer within the time limit.
    Timeout,
    /// The caller went away.
    Cancelled,
    /// A plugin's handler failed.
    Plugin,
    /// A child process or a remote server failed.
    Upstream,
    /// A defect of the host itself.
    Internal,
}

impl Kind {
    /// Every kind, in the order of the documentation's table.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Invalid,
        Self::Unauthenticated,
        Self::Denied,
        Self::Misdirected,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::Busy,
        Self::Unavailable,
        Self::Timeout,
        Self::Cancelled,
        Self::Plugin,
        Self::Upstream,
        Self::Internal,
    ];

    /// The word for programs: the `code` of a problem, an error frame or a tool's failure.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::Misdirected => "misdirected",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Plugin => "plugin",
            Self::Upstream => "upstream",
            Self::Internal => "internal",
        }
    }

    /// The kind that a code names, or `None`.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The HTTP status (RFC 9110 §15). 499 is written to the log only: its caller has gone.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Invalid => 422,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::Misdirected => 421,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Busy | Self::Unavailable => 503,
            Self::Timeout => 504,
            Self::Cancelled => 499,
            Self::Plugin | Self::Internal => 500,
            Self::Upstream => 502,
        }
    }

    /// The short text of a problem (RFC 9457 `title`).
    pub const fn title(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::Invalid => "Invalid",
            Self::Unauthenticated => "Sign-in needed",
            Self::Denied => "Denied",
            Self::Misdirected => "Misdirected request",
            Self::NotFound => "Not found",
            Self::Conflict => "Conflict",
            Self::TooLarge => "Too large",
            Self::Busy => "Busy",
            Self::Unavailable => "Unavailable",
            Self::Timeout => "Timed out",
            Self::Cancelled => "Cancelled",
            Self::Plugin => "Plugin failed",
            Self::Upstream => "Upstream failed",
            Self::Internal => "Internal error",
        }
    }

    /// The close code of a `/ws` socket (RFC 6455 §7.4) for the failures that close one.
    pub const fn close_code(self) -> Option<u16> {
        match self {
            Self::Malformed => Some(1007),
            Self::Unauthenticated | Self::Denied | Self::Misdirected => Some(1008),
            Self::TooLarge => Some(1009),
            Self::Busy | Self::Unavailable => Some(1013),
            Self::Upstream | Self::Internal => Some(1011),
            Self::Invalid | Self::NotFound | Self::Conflict | Self::Timeout | Self::Cancelled | Self::Plugin => None,
        }
    }

    /// The JSON-RPC 2.0 error code, for the failures that are an error there and not a result with `isError`.
    pub const fn json_rpc_code(self) -> Option<i32> {
        match self {
            Self::Malformed => Some(-32700),
            Self::NotFound => Some(-32602),
            Self::Internal => Some(-32603),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A failure: a kind for programs, a message for people, and for the log what lay beneath it.
///
/// Cloning is cheap.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    message: Arc<str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    plugin: Option<Arc<str>>,
}

impl Error {
    /// A failure of `kind`. The message says what was expected, what came and what to do.
    pub fn new(kind: Kind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into(), source: None, plugin: None }
    }

    /// Keeps what lay beneath (an I/O error, a Python traceback) for the log; callers never see it.
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Names the plugin that is to blame.
    pub fn blame(mut self, plugin: impl Into<Arc<str>>) -> Self {
        self.plugin = Some(plugin.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// One or more sentences for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The id of the plugin that is to blame, where one is.
    pub fn plugin(&self) -> Option<&str> {
        self.plugin.as_deref()
    }

    /// What lay beneath, as text for the log: for a Python handler, its traceback.
    pub fn detail(&self) -> Option<String> {
        self.source.as_ref().map(ToString::to_string)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// A Python traceback, kept as the source of an [`Error`] for the log.
#[derive(Clone, Debug)]
pub struct Traceback(pub Box<str>);

impl fmt::Display for Traceback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Traceback {}
