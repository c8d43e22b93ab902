//! One command of an installation: git, npm, a build. Its output is always read, its time is bounded, and when it or the
//! host ends nothing of its session is left.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::timeout;

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::equipment::{Equipment, blocking};
use crate::engine::process::household::Household;
use crate::engine::process::job_log::JobLog;
use crate::engine::process::spawn::{Order, Spawned};

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(2);

/// What is run, and within which bounds.
pub struct Step {
    /// What people call it, for errors: `npm run build`.
    pub name: String,
    /// An absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// All that its environment holds.
    pub environment: Vec<(OsString, OsString)>,
    /// How long it may take.
    pub limit: Duration,
}

/// What commands are started with, and where they say what they do.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Their output.
    pub log: &'a JobLog,
    /// What starts processes and ends them with the host.
    pub equipment: &'a Arc<Equipment>,
}

impl Step {
    /// Runs it to its end. Dropping the future ends its whole group.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be started, or the host stops. `Timeout`: it took too long and was ended. `Upstream`:
    /// it failed; the message has its last lines.
    pub async fn run(&self, watch: Watch<'_>) -> Result<()> {
        self.finish(watch, None).await.map(drop)
    }

    /// Runs it and gives its standard output, at most 64 KiB of it.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub async fn output(&self, watch: Watch<'_>) -> Result<String> {
        let bytes = self.finish(watch, Some(64 << 10)).await?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    async fn finish(&self, watch: Watch<'_>, keep: Option<usize>) -> Result<Vec<u8>> {
        let log = watch.log;
        let (mut child, mut group) = self.spawn(watch.equipment).await?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut said = pin!(async { tokio::join!(read(stdout, log, keep), read(stderr, log, None)).0 });
        let mut waited = pin!(self.wait(&mut child, &mut group, watch.equipment));
        let mut kept = None;
        let status = loop {
            tokio::select! {
                status = &mut waited => break status,
                bytes = &mut said, if kept.is_none() => kept = Some(bytes),
            }
        };
        let said = match kept {
            Some(bytes) => bytes,
            // What has left the group may hold the pipe for ever.
            None => timeout(GRACE, said).await.unwrap_or_default(),
        };
        match status? {
            status if status.success() => Ok(said),
            status => Err(self.failed(status, log)),
        }
    }

    /// Waits for the end, and ends what is left of the group: only then do its pipes close.
    async fn wait(&self, child: &mut Child, group: &mut Group, equipment: &Equipment) -> Result<ExitStatus> {
        let outcome = tokio::select! {
            ended = child.wait() => ended.map_err(|error| self.not_started(error)),
            () = tokio::time::sleep(self.limit) => Err(self.too_long()),
            () = equipment.shutdown.stopping() => Err(Error::new(Kind::Unavailable, format!("{} was ended: the host stops", self.name))),
        };
        if outcome.is_err() {
            group.send(Signal::TERM);
            let _ = timeout(GRACE, child.wait()).await;
        }
        if let Some(household) = group.end() {
            // Those that have left its group.
            blocking(move || household.end()).await;
        }
        let _ = child.wait().await;
        outcome
    }

    async fn spawn(&self, equipment: &Arc<Equipment>) -> Result<(Child, Group)> {
        let order = Order {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            folder: self.folder.clone(),
            environment: self.environment.clone(),
            open_files: None,
            door: None,
        };
        let Spawned { process: mut child, mark } =
            equipment.spawner()?.spawn(order).await.map_err(|error| self.not_started(error))?;
        let pid = child.id().map_or(0, u32::cast_signed);
        let group = Group(Some(Household::open(pid, mark, None, equipment.guard.clone())));
        // There is nobody to answer a question.
        drop(child.stdin.take());
        Ok((child, group))
    }

    fn not_started(&self, error: std::io::Error) -> Error {
        let message = format!("cannot run {} ({}): {error}", self.name, self.program.display());
        Error::new(Kind::Unavailable, message).with_source(error)
    }

    fn too_long(&self) -> Error {
        let seconds = self.limit.as_secs_f64();
        let message =
            format!("{} did not end within {seconds} s and was ended with all that it had started", self.name);
        Error::new(Kind::Timeout, message)
    }

    fn failed(&self, status: ExitStatus, log: &JobLog) -> Error {
        let message = format!("{} failed ({status}): {}", self.name, log.last_lines(12));
        Error::new(Kind::Upstream, message)
    }
}

/// The processes of a command, which are ended when this is dropped.
struct Group(Option<Household>);

impl Group {
    /// Ends the group with KILL, once: its id may be another's afterwards. Gives all that there may be of it.
    fn end(&mut self) -> Option<Household> {
        self.send(Signal::KILL);
        self.0.take()
    }

    fn send(&self, signal: Signal) {
        if let Some(group) = self.0.as_ref().and_then(|household| Pid::from_raw(household.pid)) {
            // It fails when nobody of the group is left.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(household) = self.end() {
            // Milliseconds, where a job is broken off: rare.
            household.end();
        }
    }
}

/// Reads to the end, whatever is written; gives the first `keep` bytes.
async fn read(pipe: Option<impl AsyncRead + Unpin>, log: &JobLog, keep: Option<usize>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return kept };
    let mut piece = vec![0; 16 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        let said = &piece[..count];
        log.add(said);
        kept.extend_from_slice(&said[..count.min(keep.unwrap_or_default().saturating_sub(kept.len()))]);
    }
    kept
}

/// The absolute path of a program that stands in one of the folders of `path`, which is separated as `PATH` is.
///
/// Folders that are not absolute are passed over: what lies in the working folder is never run.
///
/// # Errors
/// `Unavailable`: it stands in none of them.
pub fn find_program(name: &str, path: &std::ffi::OsStr) -> Result<PathBuf> {
    let found = std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    found.into_iter().find(|file| is_program(file)).ok_or_else(|| {
        let message = format!("{name} is not installed: no folder of PATH has it");
        Error::new(Kind::Unavailable, message)
    })
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
