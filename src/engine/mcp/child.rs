//! A server that is a child process: it speaks on its standard streams, and what it writes to its error stream is logged.
//!
//! It is started and ended by the means of the children of plugins: a session of its own, a control group where there can
//! be one, and the guard for a host that is gone. Nothing that it has started is left when it is dropped.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::base::error::{Error, Kind, Result};
use crate::base::mcp_servers::McpServer;
use crate::base::shutdown::Shutdown;
use crate::engine::mcp::lines::{Lines, Overrun};
use crate::engine::process::cgroup::Cgroup;
use crate::engine::process::equipment::{Equipment, blocking};
use crate::engine::process::household::Household;
use crate::engine::process::spawn::{Order, Spawned};

/// The variables of this process that a child gets: what programs need to find themselves, and no secret.
const INHERITED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR"];

/// Bytes of one line that is logged.
const LOGGED_BYTES: u64 = 8 << 10;
/// From KILL to the end of a child.
const LAST_TIME: Duration = Duration::from_secs(1);
/// So often an empty control group is tried to be removed: what dies is in it for a moment.
const CLOSES: u32 = 100;
const CLOSE_EVERY: Duration = Duration::from_millis(10);

/// A child that runs.
pub struct Running {
    /// What ends it, and all that it has started, when it is dropped.
    pub ward: Ward,
    /// What it says.
    pub output: Lines<ChildStdout>,
    /// Whether it has said too much at once.
    pub overrun: Overrun,
    /// What it hears.
    pub input: ChildStdin,
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
    let mut spawned = equipment.spawner()?.spawn(order).await.map_err(|error| {
        let message = format!("cannot start {}: {error}; give the program's whole path in command", wish.program);
        Error::new(Kind::Unavailable, message)
    })?;
    let child = &mut spawned.process;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ward = Ward::of(spawned, cgroup, equipment);
    let (Some(input), Some(output), Some(errors)) = streams else {
        return Err(Error::new(Kind::Internal, "a child was started without its streams"));
    };
    let name = server.name.shared();
    // It ends with the child, which the host's end ends.
    equipment.shutdown.spawn("mcp-child-log", async move {
        let mut lines = BufReader::new(errors);
        let mut line = Vec::new();
        while matches!((&mut lines).take(LOGGED_BYTES).read_until(b'\n', &mut line).await, Ok(1..)) {
            tracing::info!(plugin = &*name, "{}", String::from_utf8_lossy(line.trim_ascii_end()));
            line.clear();
        }
    });
    let (output, overrun) = Lines::new(output);
    Ok(Running { ward, output, overrun, input })
}

/// A child and all that it starts, until it is dropped.
pub struct Ward {
    /// None when it is being ended. The child is waited for last.
    held: Option<(Child, Household)>,
    shutdown: Shutdown,
}

impl Ward {
    fn of(spawned: Spawned, cgroup: Option<Cgroup>, equipment: &Equipment) -> Self {
        let pid = spawned.process.id().map_or(0, u32::cast_signed);
        let household = Household::open(pid, spawned.mark, cgroup, equipment.guard.clone());
        Self { held: Some((spawned.process, household)), shutdown: equipment.shutdown.clone() }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        let Some((child, household)) = self.held.take() else { return };
        // At the end of the runtime the child is ended as it is dropped, and the guard does the rest.
        if Handle::try_current().is_ok() {
            self.shutdown.spawn("mcp-child-end", end(child, household));
        }
    }
}

/// Ends a child with all that it has started; the guard forgets it when nothing is left.
async fn end(mut child: Child, household: Household) {
    let Some((household, true)) = blocking(move || (household.kill(), household)).await.map(|(gone, it)| (it, gone))
    else {
        return;
    };
    // It was killed; who is not dead by now hangs in the kernel.
    let _ = tokio::time::timeout(LAST_TIME, child.wait()).await;
    for _try in 0..CLOSES {
        if household.cgroup.as_ref().is_none_or(Cgroup::close) {
            break;
        }
        sleep(CLOSE_EVERY).await;
    }
    household.release();
}
