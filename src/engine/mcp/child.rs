//! A server that is a child process: it speaks on its standard streams, and what it writes to its error stream is logged.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::base::error::{Error, Kind, Result};
use crate::base::mcp_servers::McpServer;
use crate::base::shutdown::Shutdown;

/// The variables of this process that a child gets: what programs need to find themselves, and no secret.
const INHERITED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR"];

/// Bytes of one line that is logged.
const LINE_BYTES: u64 = 8 << 10;

/// A child that runs; dropping it ends the child.
pub struct Running {
    /// The process, for as long as it is wanted.
    pub child: Child,
    /// What it says.
    pub output: ChildStdout,
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
    pub folder: &'a std::path::Path,
}

/// Starts a server. Needs a tokio runtime around the caller.
///
/// # Errors
/// `Unavailable`: the program cannot be started.
pub fn start(server: &McpServer, wish: &Wish<'_>, shutdown: &Shutdown) -> Result<Running> {
    let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let mut command = Command::new(wish.program);
    command
        .args(wish.arguments)
        .env_clear()
        .envs(inherited)
        .envs(wish.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(if wish.folder.as_os_str().is_empty() { std::path::Path::new(".") } else { wish.folder })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C is for the host, which ends its children itself.
        .process_group(0)
        .kill_on_drop(true);
    let problem = |error: std::io::Error| {
        let message = format!("cannot start {}: {error}; give the program's whole path in command", wish.program);
        Error::new(Kind::Unavailable, message)
    };
    let mut child = command.spawn().map_err(problem)?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::new(Kind::Internal, "a child was started without its streams"));
    };
    let name = server.name.shared();
    // It ends with the child, which the host's end ends.
    shutdown.spawn("mcp-child-log", async move {
        let mut lines = BufReader::new(errors);
        let mut line = Vec::new();
        while matches!((&mut lines).take(LINE_BYTES).read_until(b'\n', &mut line).await, Ok(1..)) {
            tracing::info!(plugin = &*name, "{}", String::from_utf8_lossy(line.trim_ascii_end()));
            line.clear();
        }
    });
    Ok(Running { child, output, input })
}
