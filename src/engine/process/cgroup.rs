//! A control group (cgroup v2) for each child, where the host may make one.
//!
//! What is in it cannot leave by opening a session of its own, and all of it ends with one write. Limits hold there when
//! the machine has handed the controllers down; else the group is looked at once a second.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the host may make control groups: its own. Cloning is cheap enough.
#[derive(Clone, Debug)]
pub struct Cgroups {
    parent: PathBuf,
}

/// The control group of one run of a child. It is removed by [`Cgroup::close`].
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// Which limits the kernel itself enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// That of memory.
    pub memory: bool,
    /// That of processes.
    pub processes: bool,
}

impl Cgroups {
    /// Where the host may make control groups; `None` where it may not, or where nothing can end one as a whole.
    pub fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let (root, mount) = mounts.lines().find_map(cgroup2)?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or(own).trim_start_matches('/');
        let found = Self { parent: Path::new(mount).join(below) };
        let probe = found.open("probe")?;
        found.tidy();
        probe.path.join("cgroup.kill").exists().then_some(found)
    }

    /// Removes the groups of hosts that are gone. The system refuses where anything runs in one.
    fn tidy(&self) {
        for entry in fs::read_dir(&self.parent).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name();
            let host = name.to_str().and_then(|name| name.strip_prefix("plugbay-")?.split('-').next());
            if host.is_some_and(|host| !Path::new("/proc").join(host).exists()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Makes a group for a run of a plugin.
    pub fn open(&self, plugin: &str) -> Option<Cgroup> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = self.parent.join(format!("plugbay-{}-{number}-{plugin}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Cgroup { path })
    }
}

impl Cgroup {
    /// A group that an earlier host has left.
    pub fn left(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file into which a process that is to join writes `0`.
    ///
    /// # Errors
    /// What the system says.
    pub fn door(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Asks the kernel to enforce limits, and says which it does.
    pub fn limit(&self, memory_bytes: Option<u64>, processes: Option<u64>) -> Enforced {
        let set = |file: &str, value: Option<u64>| {
            value.is_some_and(|value| write(&self.path.join(file), &value.to_string()).is_ok())
        };
        let memory = set("memory.max", memory_bytes);
        if memory {
            // All or nothing: a child that has lost one of its processes is of no use.
            let _ = write(&self.path.join("memory.oom.group"), "1");
        }
        Enforced { memory, processes: set("pids.max", processes) }
    }

    /// Whether the kernel has ended it for its memory.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
    }

    /// Whether somebody has frozen it, or a group that it is in.
    pub fn is_frozen(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "frozen 1")
    }

    /// The processes in it.
    pub fn members(&self) -> Vec<i32> {
        let list = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
    }

    /// Ends all that is in it, at once.
    pub fn kill(&self) {
        // It fails only when the group is gone.
        let _ = write(&self.path.join("cgroup.kill"), "1");
    }

    /// Removes it. It must be empty; what is dying is still in it for a moment.
    pub fn close(&self) -> bool {
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Where nothing ever ran it is empty; else it was closed, or is another host's to close.
        self.close();
    }
}

/// Root and place of a mount of cgroup v2, as a line of mountinfo has them (proc_pid_mountinfo(5)).
fn cgroup2(line: &str) -> Option<(&str, &str)> {
    let (about, kind) = line.split_once(" - ")?;
    kind.starts_with("cgroup2 ").then_some(())?;
    let mut fields = about.split(' ').skip(3);
    Some((fields.next()?, fields.next()?))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    use io::Write;
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
