//! One run of a child: from its start to the end of the last process that it has started.

use std::fmt::Write;
use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::cgroup::{Cgroup, Starved};
use crate::engine::process::equipment::{Equipment, blocking};
use crate::engine::process::family::{Usage, usage};
use crate::engine::process::household::Household;
use crate::engine::process::leftovers::Trace;
use crate::engine::process::log::{ChildLog, Stream, escaped};
use crate::engine::process::manifest::{ChildLimits, ChildManifest, most_open_files};
use crate::engine::process::port::{Found, Listener};
use crate::engine::process::ready::{Ear, Heard};
use crate::engine::process::spawn::{Order, Spawned};

/// The number of the signal; a shell ends with 128 more when what it runs was ended so.
const KILL: i32 = Signal::KILL.as_raw();
/// So much of what it last wrote to standard error is kept for messages, in bytes.
const LAST_WORDS_BYTES: usize = 4 << 10;
/// So many lines of it are shown.
const LAST_WORDS_LINES: usize = 12;
/// How long a child that says it is ready may take to listen.
const LISTEN_TIME: Duration = Duration::from_secs(1);
/// How often its port is looked at meanwhile, and a group that is to end.
const STEP: Duration = Duration::from_millis(15);
/// How long the last output may take to come when every process has ended.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// One run of a child. It is to be ended by [`Child::stop`] or [`Child::bury`].
pub struct Child {
    plugin: Arc<str>,
    process: tokio::process::Child,
    /// Its process and all that it has started.
    pub household: Arc<Household>,
    /// The key with which the host signs what it says of callers: base64url text.
    pub key: Arc<str>,
    /// Whether it is in its control group.
    joined: bool,
    /// Whether the kernel keeps its limit of memory.
    enforced: bool,
    limits: ChildLimits,
    ear: Arc<Mutex<Ear>>,
    heard: Option<oneshot::Receiver<Heard>>,
    last_words: Arc<Mutex<Vec<u8>>>,
    drains: Vec<JoinHandle<Option<()>>>,
    /// What writes it down for the host after this one.
    writing: Option<JoinHandle<Option<()>>>,
    equipment: Arc<Equipment>,
}

impl Child {
    /// Starts the server of a plugin.
    ///
    /// # Errors
    /// `Invalid`: its program is not there. `Unavailable`: the host does not run. `Upstream`: the system cannot start it.
    pub async fn start(equipment: &Arc<Equipment>, manifest: &ChildManifest, log: &ChildLog) -> Result<Self> {
        if let Some(check) = equipment.check.get().cloned() {
            let manifest = manifest.clone();
            blocking(move || check(&manifest)).await.unwrap_or(Ok(()))?;
        }
        let plugin = manifest.id.shared();
        let cgroup = equipment.cgroups.as_ref().and_then(|cgroups| cgroups.open(&plugin));
        let limited =
            cgroup.as_ref().is_some_and(|group| group.limit(manifest.limits.memory_bytes, manifest.limits.processes));
        let order = order(equipment, manifest, cgroup.as_ref())?;
        let shown = order.program.display().to_string();
        let Spawned { mut process, mark } = equipment.spawner()?.spawn(order).await.map_err(|error| {
            let message = format!("cannot start {shown} of plugin {plugin}: {error}");
            Error::new(Kind::Upstream, message).with_source(error)
        })?;
        let pid = process.id().map_or(0, u32::cast_signed);
        // A group that it could not join limits nothing.
        let joined = cgroup.as_ref().is_some_and(|group| group.holds(pid));
        let household = Arc::new(Household::open(pid, mark, cgroup, equipment.guard.clone()));
        let key = new_key()?;
        if let Some(input) = process.stdin.take() {
            equipment.shutdown.spawn("child-key", hand_over(input, key.clone()));
        }
        let (ear, last_words) = (Arc::new(Mutex::new(Ear::default())), Arc::default());
        let (told, heard) = oneshot::channel();
        let drains = drains(&mut process, log, equipment, (ear.clone(), told, Arc::clone(&last_words)));
        let mut child = Self {
            plugin,
            process,
            household,
            key,
            joined,
            enforced: limited && joined,
            limits: manifest.limits,
            ear,
            heard: Some(heard),
            last_words,
            drains,
            writing: None,
            equipment: equipment.clone(),
        };
        child.write_down();
        Ok(child)
    }

    /// Resolves with the port, and the socket there, when the child is ready and may be asked, at most
    /// [`Limits::ready_time`] after this call. It does not end when the child does. To be called once.
    ///
    /// [`Limits::ready_time`]: crate::base::settings::Limits::ready_time
    ///
    /// # Errors
    /// `Upstream`: it did not get ready in time, or what it says cannot be; the message says which.
    pub fn readiness(&mut self) -> impl Future<Output = Result<(u16, Listener)>> + Send + use<> {
        let (heard, ear, household) = (self.heard.take(), self.ear.clone(), self.household.clone());
        let (equipment, plugin) = (self.equipment.clone(), self.plugin.clone());
        async move {
            let limit = equipment.limits.ready_time;
            let wrong =
                |text: String| Error::new(Kind::Upstream, format!("the server of plugin {plugin} is not used: {text}"));
            let said = timeout(limit, async {
                match heard {
                    Some(heard) => match heard.await {
                        Ok(heard) => heard,
                        // Its standard output has closed. If that is its end, it is seen elsewhere.
                        Err(_) => std::future::pending().await,
                    },
                    None => std::future::pending().await,
                }
            });
            match said.await {
                Ok(Heard::Ready(port)) if port == equipment.port() => Err(wrong(format!(
                    "port {port}, which its ready line names, is the host's own: let it listen on port 0"
                ))),
                Ok(Heard::Ready(port)) => listening(port, household).await.map_err(wrong),
                Ok(Heard::Never(text)) => Err(wrong(text)),
                Ok(Heard::Nothing) | Err(_) => {
                    let almost = ear.lock().unwrap_or_else(PoisonError::into_inner).almost().map(ToOwned::to_owned);
                    let almost = almost.map(|almost| format!("; {almost}")).unwrap_or_default();
                    let message = format!(
                        "the server of plugin {plugin} did not report ready within {} s: let it print {{\"ready\": true, \
                         \"port\": N}} once it listens{almost}",
                        limit.as_secs_f64()
                    );
                    Err(Error::new(Kind::Upstream, message))
                }
            }
        }
    }

    /// Resolves when the child's own process has ended. May be dropped and called again.
    pub async fn exited(&mut self) -> Option<ExitStatus> {
        // It fails only when somebody else has waited for our child: then it has ended, too.
        self.process.wait().await.ok()
    }

    /// Looks at what it and its own use. Gives the limit that it has broken, as a text that names limit and use.
    pub async fn measure(&self) -> (Usage, Option<String>) {
        let table = self.equipment.table().await;
        let mut used = usage(&self.household.members(&table));
        used.cpu_s = self.cpu_s().unwrap_or(used.cpu_s);
        let over = |limit: Option<u64>, used: u64| limit.filter(|limit| used > *limit);
        let broken = over(self.limits.memory_bytes.filter(|_| !self.enforced), used.memory_bytes)
            .map(|limit| format!("its processes use {} bytes of memory, its limit is {limit}", used.memory_bytes))
            .or_else(|| {
                let limit = over(self.limits.processes, used.processes)?;
                Some(format!("it has {} processes, its limit is {limit}", used.processes))
            });
        (used, broken)
    }

    /// Ends it: TERM to its group, KILL to all that is left after `grace`. Returns when nothing of it runs.
    pub async fn stop(&mut self, grace: Duration) {
        let until = Instant::now() + grace;
        // Now, while it can still be seen who belongs.
        let household = self.household.clone();
        let _ = blocking(move || household.look()).await;
        let group = Pid::from_raw(self.household.pid);
        if let Some(group) = group {
            // It fails only when the group has ended.
            let _ = kill_process_group(group, Signal::TERM);
            let _ = timeout(grace, self.process.wait()).await;
            while Instant::now() < until && test_kill_process_group(group).is_ok() {
                sleep(STEP).await;
            }
        }
        self.bury().await;
    }

    /// Ends all of it at once, and lets go of what it held. Returns when nothing of it runs.
    pub async fn bury(&mut self) {
        let household = self.household.clone();
        if blocking(move || household.kill()).await != Some(true) {
            tracing::error!(plugin = &*self.plugin, "processes of this plugin could not be ended");
        }
        let _ = self.process.wait().await;
        for drain in std::mem::take(&mut self.drains) {
            let abort = drain.abort_handle();
            if timeout(DRAIN_TIME, drain).await.is_err() {
                abort.abort();
            }
        }
        self.strike_out().await;
    }

    /// A failure together with the last lines that it wrote to standard error, each on a line of its own.
    pub fn explain(&self, error: &Error) -> Error {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&[u8]> = words.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let mut text = error.message().to_owned();
        for line in &lines[lines.len().saturating_sub(LAST_WORDS_LINES)..] {
            // A String takes everything.
            let _ = write!(text, "\n  | {}", escaped(line));
        }
        Error::new(error.kind(), text)
    }

    /// How its process has ended, as a part of a sentence. To be asked before it is buried.
    pub fn how_it_ended(&self, status: Option<ExitStatus>) -> String {
        // Something may have been ended long before, and the child has lived on.
        let was_killed = status.is_none_or(|status| status.signal() == Some(KILL) || status.code() == Some(128 + KILL));
        match self.household.cgroup.as_ref().filter(|_| was_killed).and_then(Cgroup::starved) {
            Some(Starved::Itself) if self.enforced => {
                let limit = self.limits.memory_bytes.unwrap_or_default();
                format!("was ended: it used all of its limit of {limit} bytes of memory")
            }
            Some(_) => {
                format!("{}: the machine, or a control group around the host, ran out of memory", how_ended(status))
            }
            None => how_ended(status),
        }
    }

    /// The time on the processors of all that it has started so far, in seconds, where its control group counts it.
    pub fn cpu_s(&self) -> Option<f64> {
        self.household.cgroup.as_ref().filter(|_| self.joined).and_then(Cgroup::cpu_s)
    }

    /// For the host after this one; nothing waits for it.
    fn write_down(&mut self) {
        let (equipment, plugin) = (self.equipment.clone(), self.plugin.clone());
        let Household { pid, started, mark, cgroup, .. } = &*self.household;
        let cgroup = cgroup.as_ref().map(|group| group.path().display().to_string());
        let trace = Trace { pid: *pid, started: *started, mark: Some(*mark), cgroup };
        self.writing = Some(self.equipment.shutdown.spawn("child-trace", async move {
            let written = blocking(move || equipment.leftovers.add(&plugin, trace)).await;
            if let Some(Err(error)) = written {
                tracing::warn!("{error}");
            }
        }));
    }

    async fn strike_out(&mut self) {
        if let Some(writing) = self.writing.take() {
            // In the right order: what is written last is what is read.
            let _ = writing.await;
        }
        if let Some(group) = &self.household.cgroup {
            let until = Instant::now() + DRAIN_TIME;
            while !group.close() && Instant::now() < until {
                sleep(STEP).await;
            }
        }
        self.household.release();
        let (equipment, plugin, pid) = (self.equipment.clone(), self.plugin.clone(), self.household.pid);
        let written = blocking(move || equipment.leftovers.remove(&plugin, pid)).await;
        if let Some(Err(error)) = written {
            tracing::warn!("{error}");
        }
    }
}

/// How a process has ended, as a part of a sentence.
pub fn how_ended(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("ended with exit code {code}"),
        Some((_, Some(signal))) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

/// What is to be started for a plugin.
fn order(equipment: &Equipment, manifest: &ChildManifest, cgroup: Option<&Cgroup>) -> Result<Order> {
    let program = manifest.command.first().map_or("", String::as_str);
    let (folder, surroundings) = (&manifest.folder, &equipment.surroundings);
    if let Some(server) = manifest.server.as_ref().filter(|server| manifest.command.contains(server))
        && !folder.join(server).is_file()
    {
        let message = format!(
            "plugin {} has no file {server:?} in {}: build it (`npm run build`), or mend \"server\" of manifest.json",
            manifest.id,
            folder.display()
        );
        return Err(Error::new(Kind::Invalid, message));
    }
    // Node is given its file as a whole path, as the host that these plugins were written for does.
    let whole = |word: &String| match manifest.server.as_ref() == Some(word) {
        true => folder.join(word).to_string_lossy().into_owned(),
        false => word.clone(),
    };
    Ok(Order {
        program: surroundings.find(program, folder)?,
        arguments: manifest.command.iter().skip(1).map(whole).collect(),
        folder: folder.clone(),
        environment: surroundings.environment(manifest.id.as_str()),
        open_files: manifest.limits.open_files.map(|files| files.min(most_open_files())),
        door: cgroup.and_then(|group| group.door().ok()),
    })
}

/// What listens to a child's output, beside its log.
type Listeners = (Arc<Mutex<Ear>>, oneshot::Sender<Heard>, Arc<Mutex<Vec<u8>>>);

/// Reads both of its outputs for ever: a child whose pipe is full stands still.
fn drains(
    process: &mut tokio::process::Child,
    log: &ChildLog,
    equipment: &Equipment,
    (ear, told, last_words): Listeners,
) -> Vec<JoinHandle<Option<()>>> {
    let mut drains = Vec::new();
    if let Some(output) = process.stdout.take() {
        let (log, mut told) = (log.clone(), Some(told));
        let listen = move |piece: &[u8]| {
            if told.is_none() {
                return;
            }
            let heard = ear.lock().unwrap_or_else(PoisonError::into_inner).hear(piece);
            if heard != Heard::Nothing
                && let Some(told) = told.take()
            {
                // It fails when nobody waits for it any more.
                let _ = told.send(heard);
            }
        };
        let drain = async move { log.drain(Stream::Out, output, listen).await };
        drains.push(equipment.shutdown.spawn("child-output", drain));
    }
    if let Some(errors) = process.stderr.take() {
        let log = log.clone();
        let keep = move |piece: &[u8]| {
            let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
            words.extend_from_slice(&piece[piece.len().saturating_sub(LAST_WORDS_BYTES)..]);
            let spare = words.len().saturating_sub(LAST_WORDS_BYTES);
            words.drain(..spare);
        };
        let drain = async move { log.drain(Stream::Err, errors, keep).await };
        drains.push(equipment.shutdown.spawn("child-errors", drain));
    }
    drains
}

/// Says the key and ends the input. One short line fits into the pipe, so a child that never reads holds up nothing.
async fn hand_over(mut input: ChildStdin, key: Arc<str>) {
    let line = format!("{{\"plugbay\":1,\"key\":\"{key}\"}}\n");
    // It fails when the child has closed its input, which it may.
    let _ = input.write_all(line.as_bytes()).await;
}

/// Waits until the child listens at the port that it has named. The error says what is wrong with it.
async fn listening(port: u16, household: Arc<Household>) -> std::result::Result<(u16, Listener), String> {
    let until = Instant::now() + LISTEN_TIME;
    loop {
        let household = household.clone();
        match blocking(move || household.owns(port)).await {
            Some((Found::Good, Some(listener))) => return Ok((port, listener)),
            Some((Found::Bad(text), _)) => return Err(text),
            Some(_) if Instant::now() < until => sleep(STEP).await,
            _ => return Err(format!("nobody listens at port {port}, which its ready line names")),
        }
    }
}

fn new_key() -> Result<Arc<str>> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::Internal, format!("the system gives no random bytes: {error}")))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes).into())
}
