//! The life of a mounted server: connect, list its tools, commit them, and begin again when it goes away.
//!
//! Its end is an error of its plugin. While it is away its tools are gone; a list that has changed replaces the old one
//! in one step, at a pace that the host sets.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use rmcp::model::Tool;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use wildmatch::WildMatch;

use crate::base::error::{Error, Kind, Result};
use crate::base::manifest::Manifest;
use crate::base::mcp_servers::McpServer;
use crate::base::shutdown::Shutdown;
use crate::engine::mcp::connection::{Connection, connect, listen};
use crate::engine::mcp::list::listed;
use crate::engine::mcp::question::Line;
use crate::engine::mcp::tool::offered;
use crate::engine::process::equipment::{Equipment, blocking};
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::registry::{Draft, Engine, Registry};

/// From a start to the list of tools.
const START_TIME: Duration = Duration::from_secs(30);
/// The rest between two lists: every client hears of a new one, and a server may say without end that it has one.
const REST: Duration = Duration::from_secs(1);
/// So many errors of its lists are recorded of one connection.
const ERRORS: usize = 100;
/// The first wait before a new try, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// A server that was there for so long begins with the first wait again.
const STEADY_TIME: Duration = Duration::from_secs(60);

/// What a mounted server needs of the host. Cloning is cheap.
#[derive(Clone)]
pub struct Place {
    /// Where its tools are committed.
    pub registry: Registry,
    /// What ends it.
    pub shutdown: Shutdown,
    /// What starts child processes and ends them.
    pub equipment: Arc<Equipment>,
}

/// Mounts servers, each in a task of its own, until the host stops. Returns at once, with what resolves for each when its
/// first try is over. Needs a tokio runtime around the caller.
pub fn mount(servers: &[McpServer], place: &Place) -> Vec<oneshot::Receiver<()>> {
    let start = |server: &McpServer| {
        let (tried, ready) = oneshot::channel();
        let life = Life { server: server.clone(), place: place.clone() };
        place.shutdown.spawn("mcp-server", life.live(tried));
        ready
    };
    servers.iter().map(start).collect()
}

/// So many tools are named in a message.
const TOLD: usize = 30;

/// One server's life.
struct Life {
    server: McpServer,
    place: Place,
}

/// What has come of a connection's lists.
#[derive(Default)]
struct Done {
    /// The list that was committed last.
    tools: Option<Vec<Tool>>,
    /// The messages of the errors that were recorded.
    told: HashSet<String>,
}

impl Life {
    async fn live(self, tried: oneshot::Sender<()>) {
        let mut tried = Some(tried);
        let mut waits = waits();
        loop {
            let begun = Instant::now();
            let stopping = self.place.shutdown.clone();
            let ended = tokio::select! {
                biased;
                () = stopping.stopping() => return,
                ended = self.serve_once(&mut tried) => ended,
            };
            if self.is_ours() {
                self.place.registry.withdraw(self.server.name.as_str());
            }
            self.record(&ended);
            // Whoever waits for the first try may have gone.
            tried.take().map(|tried| tried.send(()));
            if begun.elapsed() > STEADY_TIME {
                waits = self::waits();
            }
            tokio::select! {
                () = stopping.stopping() => return,
                () = sleep(waits.next().unwrap_or(WAITS.1)) => {}
            }
        }
    }

    /// Connects and serves until the server goes away; why it did.
    async fn serve_once(&self, tried: &mut Option<oneshot::Sender<()>>) -> (Stage, Error) {
        let (connection, done) = match timeout(START_TIME, self.begin()).await.unwrap_or_else(|_| Err(late(""))) {
            Ok(begun) => begun,
            Err(error) => return (Stage::Startup, error),
        };
        tracing::info!(plugin = self.server.name.as_str(), "the MCP server is there");
        tried.take().map(|tried| tried.send(()));
        (Stage::Run, self.serve(connection, done).await)
    }

    async fn begin(&self) -> Result<(Connection, Done)> {
        self.check_name()?;
        let connection = connect(&self.server, &self.place.equipment).await?;
        let mut done = Done::default();
        connection.overrun.or(self.commit(&connection.line, &mut done)).await?;
        self.tell_unmatched(done.tools.as_deref().unwrap_or_default());
        Ok((connection, done))
    }

    /// Follows the list of a server until it goes away; why it did.
    async fn serve(&self, connection: Connection, mut done: Done) -> Error {
        let Connection { service, line, must_listen, ward: _ward, overrun } = connection;
        let mut gone = pin!(service.waiting());
        let mut listening = pin!(listen(&line));
        loop {
            let rested = Instant::now() + REST;
            // What is said during the rest is one change.
            let changed = async {
                sleep_until(rested).await;
                line.changed.notified().await;
            };
            tokio::select! {
                () = changed => {}
                () = &mut listening, if must_listen => continue,
                error = overrun.told() => return error,
                _ = &mut gone => {
                    let gone = || Error::new(Kind::Upstream, "the MCP server has gone away; it is tried again");
                    return overrun.error().unwrap_or_else(gone);
                }
            }
            let committed = timeout(START_TIME, overrun.or(self.commit(&line, &mut done))).await;
            match committed.unwrap_or_else(|_| Err(late("; those that it had before stay, and it is asked again"))) {
                Ok(()) => {}
                // What it offers now cannot be had; what it offered before serves on.
                Err(error) if error.kind() == Kind::Conflict => self.record_once(&mut done.told, error),
                // It is there, and may be busy with its calls.
                Err(error) if error.kind() == Kind::Timeout => {
                    self.record_once(&mut done.told, error);
                    line.changed.notify_one();
                }
                Err(error) => return error,
            }
        }
    }

    /// Commits the tools that the server has now in place of those that it had, where they differ.
    async fn commit(&self, line: &Line, done: &mut Done) -> Result<()> {
        let tools = listed(line).await?;
        if done.tools.as_ref() == Some(&tools) {
            return Ok(());
        }
        let said = line.peer.peer_info().and_then(|said| said.server_info.clone());
        let (name, version) = said.as_ref().map_or((self.server.name.as_str(), "0.0.0"), |said| {
            (said.title.as_deref().unwrap_or(&said.name), said.version.as_str())
        });
        let manifest = Manifest::of_child(self.server.name.clone(), name, version, "an outside MCP server");
        let mut draft = Draft::new(manifest, self.source(), Engine::Mcp);
        let (server, line) = (self.server.clone(), line.clone());
        // Thousands of schemas take seconds.
        let drafted = blocking(move || {
            let add = |described| offered(&server, described, &line).and_then(|tool| draft.add_tool(tool));
            // One tool that cannot be used does not take the others away.
            let unusable: Vec<Error> = tools.iter().map(add).filter_map(Result::err).collect();
            (tools, draft, unusable)
        });
        let Some((tools, draft, unusable)) = drafted.await else {
            return Err(Error::new(Kind::Internal, "the MCP server's list of tools was not read to its end"));
        };
        for error in unusable {
            self.record_once(&mut done.told, error);
        }
        self.place.registry.replace(draft)?;
        done.tools = Some(tools);
        Ok(())
    }

    /// Records what the settings say of tools that the server does not have: it would have no effect, and nobody would know.
    fn tell_unmatched(&self, tools: &[Tool]) {
        let is_there = |pattern: &str| tools.iter().any(|tool| WildMatch::new(pattern).matches(&tool.name));
        let read_only = self.server.read_only.iter().map(|pattern| ("read_only", pattern, is_there(pattern)));
        let named = |tool: &String| tools.iter().any(|offered| *offered.name == **tool);
        let specifiers = self.server.specifiers.iter().map(|(tool, _)| ("specifiers", tool, named(tool)));
        for (setting, pattern, _) in read_only.chain(specifiers).filter(|(_, _, is_there)| !is_there) {
            let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).take(TOLD).collect();
            let message = format!(
                "{setting} of [mcp.servers.{}] names {pattern:?}, and the server has no such tool: it has {}",
                self.server.name,
                names.join(", ")
            );
            self.record(&(Stage::Commit, Error::new(Kind::Invalid, message)));
        }
    }

    /// Where it is named.
    fn source(&self) -> String {
        format!("[mcp.servers.{}]", self.server.name)
    }

    /// Whether the plugin of its name is the server's own.
    fn is_ours(&self) -> bool {
        let snapshot = self.place.registry.snapshot();
        snapshot.plugin(self.server.name.as_str()).is_some_and(|plugin| *plugin.source == *self.source())
    }

    /// Says that no other plugin has its name; else it need not be started.
    fn check_name(&self) -> Result<()> {
        match self.place.registry.snapshot().plugin(self.server.name.as_str()) {
            Some(other) if !self.is_ours() => {
                let message = format!(
                    "plugin {} of {} has the name of this MCP server, and the first stays: give the server another name",
                    other.manifest.id, other.source
                );
                Err(Error::new(Kind::Conflict, message))
            }
            _ => Ok(()),
        }
    }

    /// Records an error of a list that this connection has not had before: each list may have the same.
    fn record_once(&self, told: &mut HashSet<String>, error: Error) {
        if told.len() < ERRORS && told.insert(error.message().to_owned()) {
            self.record(&(Stage::Commit, error));
            if told.len() == ERRORS {
                let message =
                    format!("{ERRORS} errors of the MCP server's lists are told; mend them to see the others");
                self.record(&(Stage::Commit, Error::new(Kind::Upstream, message)));
            }
        }
    }

    fn record(&self, (stage, error): &(Stage, Error)) {
        let id = self.server.name.shared();
        tracing::warn!(plugin = &*id, stage = stage.as_str(), "{error}");
        self.place.registry.record(PluginError::new(self.source(), Some(id), *stage, error));
    }
}

/// What is said of a list that does not come.
fn late(and: &str) -> Error {
    let seconds = START_TIME.as_secs();
    Error::new(Kind::Timeout, format!("the MCP server gave no list of tools within {seconds} s{and}"))
}

fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(WAITS.0)
        .with_max_delay(WAITS.1)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}
