//! What the operator may set, the limits of everything, and the defaults of both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::base::mcp_servers::Mcp;
use crate::base::permissions::Permissions;

/// Who may ask without a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Nobody: a token or a signed-in browser is needed.
    #[default]
    Token,
    /// Everybody on this machine; only on a loopback address.
    None,
}

/// What the gate does with side effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Ask first.
    #[default]
    Default,
    /// Never allow them.
    Plan,
    /// Allow them.
    Autonomous,
}

/// A source of plugins that the operator has to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// `file://` repositories.
    File,
    /// Repositories over plain `http://`.
    Http,
    /// Servers at private addresses, this machine's own among them.
    Private,
}

impl SourceKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::File, Self::Http, Self::Private];

    /// The word of the setting.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Http => "http",
            Self::Private => "private",
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Everything that the operator may set.
#[derive(Clone)]
pub struct Settings {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port to listen on; 0 picks one.
    pub port: u16,
    /// `PLUGINS_DIR` and every `--plugins-dir`, in the order of discovery.
    pub plugins_dirs: Vec<PathBuf>,
    /// Who may ask without a credential.
    pub auth: AuthMode,
    /// What the gate does with side effects.
    pub mode: Mode,
    /// The rules that the operator has set.
    pub permissions: Permissions,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Whether each request is a log line.
    pub access_log: bool,
    /// How many threads the core runs on; at least one.
    pub workers: usize,
    /// The address that clients use when it is not the one listened on.
    pub public_url: Option<Url>,
    /// Further names that a `Host` header may have.
    pub allow_hosts: Vec<String>,
    /// Further origins that may ask, as `scheme://host[:port]`.
    pub allow_origins: Vec<Url>,
    /// The proxies whose `Forwarded` headers are believed.
    pub trust_proxies: Vec<IpNet>,
    /// The certificate chain and the key (PEM); both or none.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Which log lines are written, as `tracing` filters are: `info`, `plugbay=debug,warn`.
    pub log_level: String,
    /// Whether a line with the port is written to standard output once the host serves.
    pub ready_json: bool,
    /// Reserved for compiled FastAPI routes: nothing reads it yet.
    pub fast_routes: bool,
    /// Whether SIGTERM and SIGINT stop the host; off where another program embeds it.
    pub handle_signals: bool,
    /// Sources of plugins beside folders, `https://` and `ssh://` repositories at public addresses.
    pub install_sources: Vec<SourceKind>,
    /// Variables that git, npm and builds may see beside the usual ones.
    pub install_env: Vec<String>,
    /// Whether child processes start with the host; off where a command loads the plugins for one call.
    pub children: bool,
    /// The folder of everything that the host keeps.
    pub home: PathBuf,
    /// The PostgreSQL server that keeps the records instead of a file in the home folder.
    pub database: Option<Url>,
    /// What is kept of calls.
    pub audit: Keeping,
    /// The file that was read, where there was one.
    pub config: Option<PathBuf>,
    /// The outside MCP servers that are mounted.
    pub mcp: Mcp,
    /// The limits.
    pub limits: Limits,
}

impl fmt::Debug for Settings {
    /// No more than where it listens: some of the rest is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settings of a host at {}:{}", self.host, self.port)
    }
}

impl Settings {
    /// What is in force where nobody says otherwise.
    pub fn defaults(home: PathBuf) -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 8000,
            plugins_dirs: Vec::new(),
            auth: AuthMode::default(),
            mode: Mode::default(),
            permissions: Permissions::default(),
            log_format: LogFormat::default(),
            access_log: true,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            public_url: None,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            trust_proxies: Vec::new(),
            tls: None,
            log_level: "info".into(),
            ready_json: false,
            fast_routes: true,
            handle_signals: true,
            children: true,
            install_sources: Vec::new(),
            install_env: Vec::new(),
            home,
            database: None,
            audit: Keeping::default(),
            config: None,
            mcp: Mcp::default(),
            limits: Limits::default(),
        }
    }
}

/// What is kept of each call, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Whether its arguments are, without their secrets.
    pub arguments: bool,
    /// Days after which it is let go.
    pub days: u16,
    /// MiB that all calls may take; the oldest are let go.
    pub mib: u32,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { arguments: true, days: 90, mib: 1024 }
    }
}

/// The limits of everything. Full means an answer, not silence.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of the body of a request to a plugin's server, which passes as a stream; none means no limit.
    pub proxy_body_bytes: Option<usize>,
    /// Bytes of a message of MCP that `rmcp` reads.
    pub mcp_body_bytes: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// From the first byte of a head to its end.
    pub head_time: Duration,
    /// A kept-alive connection without a request.
    pub idle_time: Duration,
    /// A new connection that says nothing.
    pub silent_time: Duration,
    /// A body of which no byte comes, a response of which no byte can be written.
    pub stall_time: Duration,
    /// Open connections.
    pub connections: usize,
    /// From a question to its answer.
    pub call_time: Duration,
    /// Bytes of a frame on `/ws`.
    pub frame_bytes: usize,
    /// Frames that wait for a `/ws` client.
    pub outbox_frames: usize,
    /// Bytes that wait for a `/ws` client.
    pub outbox_bytes: usize,
    /// Messages of one connection that wait for one channel.
    pub mailbox_messages: usize,
    /// Questions that wait for Python.
    pub bridge_questions: usize,
    /// Python threads for `def` handlers.
    pub worker_threads: usize,
    /// Import, `setup` and each hook of a plugin.
    pub hook_time: Duration,
    /// Each step of an installation: fetching, `npm install`, a rebuild, the build.
    pub install_time: Duration,
    /// From the start of a child process to its ready line.
    pub ready_time: Duration,
    /// From TERM to KILL when a child process is stopped.
    pub stop_grace: Duration,
    /// From the stop signal to the end.
    pub drain_time: Duration,
    /// From the filing of an approval to its end.
    pub approval_time: Duration,
    /// A call over MCP that waits for a person, where its client cannot be told meanwhile; the approval lives on.
    pub pending_time: Duration,
    /// Calls that wait for a person; of one caller at most half of it.
    pub approvals: usize,
    /// Side effects of one caller within `breaker_time`; the next is asked for.
    pub breaker_calls: usize,
    /// The time in which they are counted.
    pub breaker_time: Duration,
    /// Failures of one tool in a row; then its side effects are asked for.
    pub breaker_failures: usize,
    /// Bytes of a tool's result.
    pub result_bytes: usize,
    /// Tool calls of one caller that run or wait for leave.
    pub caller_calls: usize,
    /// Open MCP sessions, of the eras that have them.
    pub mcp_sessions: usize,
    /// The same, of one caller.
    pub caller_mcp_sessions: usize,
    /// Tool calls that run or whose record waits to be written.
    pub audit_records: usize,
    /// For room in the audit log, and until a record is on the disk.
    pub audit_time: Duration,
}

impl Limits {
    /// From the stop signal until requests that still run are cut: what is left of the drain time is for the plugins'
    /// shutdown hooks.
    pub fn request_drain_time(&self) -> Duration {
        self.drain_time * 3 / 4
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            proxy_body_bytes: None,
            mcp_body_bytes: 4 << 20,
            head_bytes: 64 << 10,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            silent_time: Duration::from_secs(10),
            stall_time: Duration::from_secs(30),
            connections: 10_000,
            call_time: Duration::from_secs(60),
            frame_bytes: 1 << 20,
            outbox_frames: 1024,
            outbox_bytes: 1 << 20,
            mailbox_messages: 256,
            bridge_questions: 4096,
            worker_threads: 40,
            hook_time: Duration::from_secs(10),
            install_time: Duration::from_secs(300),
            ready_time: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            drain_time: Duration::from_secs(10),
            approval_time: Duration::from_secs(300),
            pending_time: Duration::from_secs(45),
            approvals: 1000,
            breaker_calls: 100,
            breaker_time: Duration::from_secs(60),
            breaker_failures: 5,
            result_bytes: 4 << 20,
            caller_calls: 1024,
            mcp_sessions: 1000,
            caller_mcp_sessions: 100,
            audit_records: 16_384,
            audit_time: Duration::from_secs(5),
        }
    }
}
