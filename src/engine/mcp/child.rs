//! A server that is a child process: it speaks on its standard streams, and what it writes to its error stream is logged.
//!
//! It is started and ended by the means of the children of plugins: a session of its own, a control group where there can
//! be one, and the guard for a host that is gone. Nothing that it has started is left when it is dropped.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::base::error::{Error, Kind, Result};
use crate::base::mcp_servers::McpServer;
use crate::engine::mcp::errors;
use crate::engine::mcp::lines::{Lines, Overrun};
use crate::engine::mcp::writes::{READ_TIME, Writes};
use crate::engine::process::equipment::{Equipment, blocking};
use crate::engine::process::household::Household;
use crate::engine::process::spawn::{Order, Spawned};

/// The variables of this process that a child gets: what programs need to find themselves, and no secret.
const INHERITED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR"];

/// How often it is looked at who belongs to a child.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So often an empty control group is tried to be removed: what dies is in it for a moment.
const CLOSES: u32 = 100;
const CLOSE_EVERY: Duration = Duration::from_millis(10);

/// A child that runs.
pub struct Running {
    /// What ends it, and all that it has started, when it is dropped.
    pub ward: Ward,
    /// What it says.
    pub output: Lines<ChildStdout>,
    /// What it has said too much of, or read too little of, if anything.
    pub overrun: Overrun,
    /// What it hears.
    pub input: Writes<ChildStdin>,
}

/// The command of a server that has one.
pub struct Wish<'a> {
    /// The program.
    pub program: &'a str,
    /// Its arguments.
    pub arguments: &'a [String],
    /// Variables beside those that every child gets.
    pub environment: &'a [(String, String)],
    /// Where it runs.
    pub folder: &'a Path,
}

/// Starts a server. Needs a tokio runtime around the caller.
///
/// # Errors
/// `Unavailable`: the program cannot be started.
pub async fn start(server: &McpServer, wish: &Wish<'_>, equipment: &Arc<Equipment>) -> Result<Running> {
    let inherited = INHERITED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let named = wish.environment.iter().map(|(name, value)| (name.into(), value.into()));
    let cgroup = equipment.cgroups.as_ref().and_then(|cgroups| cgroups.open(server.name.as_str()));
    let order = Order {
        program: wish.program.into(),
        arguments: wish.arguments.to_vec(),
        folder: if wish.folder.as_os_str().is_empty() { ".".into() } else { wish.folder.into() },
        environment: inherited.chain(named).collect(),
        open_files: None,
        door: cgroup.as_ref().and_then(|group| group.door().ok()),
    };
    let Spawned { process: mut child, mark } = equipment.spawner()?.spawn(order).await.map_err(|error| {
        let message = format!("cannot start {}: {error}; give the program's whole path in command", wish.program);
        Error::new(Kind::Unavailable, message)
    })?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let pid = child.id().map_or(0, u32::cast_signed);
    let household = Arc::new(Household::open(pid, mark, cgroup, equipment.guard.clone()));
    let ward = Ward { held: Some(Held { child, household }), equipment: equipment.clone() };
    let (Some(input), Some(output), Some(errors)) = streams else {
        return Err(Error::new(Kind::Internal, "a child was started without its streams"));
    };
    // It ends with the child, which the host's end ends.
    equipment.shutdown.spawn("mcp-child-log", errors::log(errors, server.name.shared()));
    let (output, overrun) = Lines::new(output);
    let input = Writes::new(input, READ_TIME.max(server.call_time), overrun.clone());
    Ok(Running { ward, output, overrun, input })
}

/// A child and all that it starts, until it is dropped.
pub struct Ward {
    /// None when it is being ended.
    held: Option<Held>,
    equipment: Arc<Equipment>,
}

struct Held {
    /// Waited for only after its family was found: what has lost its parent is no longer known as its child.
    child: Child,
    household: Arc<Household>,
}

impl Ward {
    /// Remembers who belongs to it, also when they have left its session. Resolves never.
    pub async fn watch(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            let table = self.equipment.table().await;
            if let Some(held) = &self.held {
                held.household.members(&table);
            }
        }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if Handle::try_current().is_err() {
            // The runtime is at its end: the child is ended as it is dropped, and the guard does the rest.
            return;
        }
        self.equipment.shutdown.spawn("mcp-child-end", end(held));
    }
}

/// Ends a child with all that it has started; the guard forgets it when nothing is left.
async fn end(Held { mut child, household }: Held) {
    let all_of_it = household.clone();
    let ended = blocking(move || all_of_it.kill()).await;
    // It was killed; who is not dead by now hangs in the kernel, and the guard keeps an eye on it.
    let _ = tokio::time::timeout(LOOK_EVERY, child.wait()).await;
    if let Some(group) = &household.cgroup {
        for _try in 0..CLOSES {
            if group.close() {
                break;
            }
            sleep(CLOSE_EVERY).await;
        }
    }
    if ended == Some(true) {
        household.release();
    }
}
