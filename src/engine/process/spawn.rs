//! Starts processes, all from one thread that lives as long as the host.
//!
//! A child is told to die when the *thread* that started it ends, and tokio's come and go: hence the thread. A child gets
//! a session of its own, an environment that was named word by word, and no file of the host's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::family::Mark;
use crate::engine::process::guard::Guard;

/// The variables of the host's environment that a child gets, besides those that begin with [`PREFIX`].
const PASSED: [&str; 7] = ["HOME", "NODE_ENV", "LANG", "TZ", "TMPDIR", "SHELL", "USER"];
/// The beginning of the names of further variables that a child gets.
const PREFIX: &str = "LC_";

/// A process that is to be started.
pub struct Order {
    /// An absolute path.
    pub program: PathBuf,
    /// What it is called with.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// How many files each of its processes may have open.
    pub open_files: Option<u64>,
    /// The file into which it writes itself to be in a control group.
    pub door: Option<File>,
}

/// A process that was started.
pub struct Spawned {
    /// The process, with a pipe for each of its three streams.
    pub process: Child,
    /// What it and all that it starts carry. The guard ends them with the host until it is told that they are gone.
    pub mark: Mark,
}

/// An order, and where it is told what came of it.
type Asked = (Order, oneshot::Sender<io::Result<Spawned>>);

/// Starts processes. When it is ended or dropped its thread ends, and with it every process that it has started.
pub struct Spawner {
    orders: Mutex<Option<Sender<Asked>>>,
}

impl Spawner {
    /// Starts the thread. Children are waited for by the runtime of `handle`.
    ///
    /// # Errors
    /// `Internal`: the system gives no thread.
    pub fn start(handle: Handle, guard: Arc<Guard>) -> Result<Self> {
        let (orders, taken) = mpsc::channel::<Asked>();
        let work = move || {
            for (order, answer) in taken {
                let _inside = handle.enter();
                let started = guard.wake().and_then(|()| Mark::new()).map_err(io::Error::other);
                let started = started.and_then(|mark| guarded(order, mark, &guard));
                // Who has asked may have gone: then the process is ended as it is dropped.
                let _ = answer.send(started);
            }
        };
        std::thread::Builder::new().name("plugbay-spawn".into()).spawn(work).map_err(|error| {
            Error::new(Kind::Internal, "the system gives no thread to start processes").with_source(error)
        })?;
        Ok(Self { orders: Mutex::new(Some(orders)) })
    }

    /// Starts a process.
    ///
    /// # Errors
    /// What the system says.
    pub async fn spawn(&self, order: Order) -> io::Result<Spawned> {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the host is ending");
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        orders.ok_or_else(gone)?.send((order, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Ends the thread, which holds on to the runtime: whoever keeps the host keeps nothing of it.
    pub fn end(&self) {
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Starts a process of which the guard knows before it runs.
fn guarded(order: Order, mark: Mark, guard: &Guard) -> io::Result<Spawned> {
    let item = mark.item();
    guard.keep(item.clone());
    let started = start(order, mark).inspect_err(|_| guard.release(&item));
    started.map(|process| Spawned { process, mark })
}

#[expect(unsafe_code, reason = "what a child does between fork and exec can be said in no other way")]
fn start(order: Order, mark: Mark) -> io::Result<Child> {
    let mut command = std::process::Command::new(&order.program);
    command.args(&order.arguments).current_dir(&order.folder).env_clear().envs(order.environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let beginning = Beginning {
        host: std::process::id().cast_signed(),
        door: order.door.as_ref().map(AsRawFd::as_raw_fd),
        open_files: order.open_files,
        mark,
    };
    // SAFETY: the closure calls only functions that are safe between fork and exec (signal-safety(7)), on data that was
    // made before the fork; the file stays open until `spawn` has returned.
    unsafe { command.pre_exec(move || beginning.run()) };
    Command::from(command).kill_on_drop(true).spawn()
}

/// What a child does before it becomes its program. Everything it needs was made before the fork.
struct Beginning {
    host: libc::pid_t,
    mark: Mark,
    door: Option<RawFd>,
    open_files: Option<u64>,
}

impl Beginning {
    #[expect(unsafe_code, reason = "only plain system calls are safe here")]
    fn run(&self) -> io::Result<()> {
        // SAFETY: each call is a plain system call on numbers, or on memory of this function.
        unsafe {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            // The host may have ended before that was set; then nobody would tell.
            if libc::getppid() != self.host {
                libc::_exit(1);
            }
            let mut memory = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            if libc::getrlimit(libc::RLIMIT_RSS, &raw mut memory) == 0 {
                memory.rlim_cur = self.mark.limit_bytes();
                // Who may not is known by its session and by its parents.
                libc::setrlimit(libc::RLIMIT_RSS, &raw const memory);
            }
            if let Some(door) = self.door {
                // Without its control group it can still run.
                libc::write(door, b"0".as_ptr().cast(), 1);
            }
            if let Some(files) = self.open_files {
                let limit = libc::rlimit { rlim_cur: files, rlim_max: files };
                if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            // What the host ignores its children would ignore, too.
            for signal in 1..32 {
                libc::signal(signal, libc::SIG_DFL);
            }
            // Whatever a library of the host has left open for its own children.
            #[cfg(target_os = "linux")]
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
        Ok(())
    }
}

/// What a child's environment is made of: the host's own when it started, and nothing of what changes it later.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The absolute folders of `PATH`.
    path: OsString,
    variables: Vec<(OsString, OsString)>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self::of(std::env::vars_os())
    }

    /// Those that consist of these variables.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut found = Self::default();
        for (name, value) in variables {
            if name == "PATH" {
                // A program of the folder that the host happens to run in is never meant.
                let folders = std::env::split_paths(&value).filter(|folder| folder.is_absolute());
                found.path = std::env::join_paths(folders).unwrap_or_default();
            } else if PASSED.iter().any(|passed| name == *passed)
                || name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
            {
                found.variables.push((name, value));
            }
        }
        if !found.variables.iter().any(|(name, _)| name == "NODE_ENV") {
            found.variables.push(("NODE_ENV".into(), "production".into()));
        }
        found
    }

    /// The environment of a plugin's child.
    pub fn environment(&self, plugin: &str) -> Vec<(OsString, OsString)> {
        let own = [("PATH".into(), self.path.clone()), ("PLUGIN_NAME".into(), plugin.into())];
        own.into_iter().chain(self.variables.iter().cloned()).collect()
    }

    /// The absolute path of a program: as it is, in the plugin's folder, or on `PATH`.
    ///
    /// # Errors
    /// `Invalid`: there is no such program, or it cannot be executed.
    pub fn find(&self, program: &str, folder: &Path) -> Result<PathBuf> {
        let found = match program.contains('/') {
            true => Some(folder.join(program)).filter(|path| is_program(path)),
            false => std::env::split_paths(&self.path).map(|place| place.join(program)).find(|path| is_program(path)),
        };
        found.ok_or_else(|| {
            let place = match program.contains('/') {
                true => folder.as_os_str(),
                false => OsStr::new("PATH of the host"),
            };
            let message = format!(
                "there is no program {program:?} in {}: install it, or name another in \"command\" of manifest.json",
                place.to_string_lossy()
            );
            Error::new(Kind::Invalid, message)
        })
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
