//! A control group (cgroup v2) for each child, where the host may make one.
//!
//! What is in it cannot leave by opening a session of its own, and all of it ends with one write. Limits hold there when
//! the machine has handed the controllers down; else the group is looked at once a second.
//!
//! A group that hands controllers down may have no processes of its own (cgroups(7), "no internal processes"): so the
//! host goes into a leaf beside its children's groups, where the group that it was started in was handed over to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
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

/// Tasks that the kernel lets a child have for each process of its limit: it counts threads, too, and what it refuses to
/// start nobody hears of. So it only bounds what may come between two looks.
const TASKS: u64 = 64;

/// Why the kernel has ended what ran in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starved {
    /// Its own limit of memory.
    Itself,
    /// A limit further up, or the machine had none left.
    Around,
}

impl Cgroups {
    /// Where the host may make control groups; `None` where it may not, or where nothing can end one as a whole.
    pub fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        // A mount that shows what is outside of this namespace does not say where in it this host is.
        let (root, mount) = mounts.lines().find_map(cgroup2).filter(|(root, _)| !root.starts_with("/.."))?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or(own).trim_start_matches('/');
        let own = Path::new(mount).join(below);
        let found = Self { parent: settle(&own, own == Path::new(mount)).unwrap_or(own) };
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
                let _ = remove(&entry.path());
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

    /// Whether a process that nobody has waited for yet has come in.
    pub fn holds(&self, pid: i32) -> bool {
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let name = self.path.file_name().and_then(|name| name.to_str());
        own.lines().filter_map(|line| line.strip_prefix("0::")).any(|own| own.split('/').any(|part| Some(part) == name))
    }

    /// Asks the kernel to enforce limits, and says whether it does so for memory.
    pub fn limit(&self, memory_bytes: Option<u64>, processes: Option<u64>) -> bool {
        let set = |file: &str, value: Option<u64>| {
            value.is_some_and(|value| write(&self.path.join(file), &value.to_string()).is_ok())
        };
        let memory = set("memory.max", memory_bytes);
        if memory {
            // All or nothing: a child that has lost one of its processes is of no use.
            let _ = write(&self.path.join("memory.oom.group"), "1");
            // Else it would go on in the swap for ever, slowly. There is no such file where the kernel has none.
            let _ = write(&self.path.join("memory.swap.max"), "0");
        }
        set("pids.max", processes.map(|processes| processes.saturating_mul(TASKS)));
        memory
    }

    /// Whether the kernel has ended something in it for want of memory, and whose.
    pub fn starved(&self) -> Option<Starved> {
        if self.count("memory.events", "oom_kill ")? == 0 {
            return None;
        }
        Some(if self.count("memory.events.local", "oom ") == Some(0) { Starved::Around } else { Starved::Itself })
    }

    /// The time on the processors of all that ever ran in it, in seconds.
    pub fn cpu_s(&self) -> Option<f64> {
        self.count("cpu.stat", "usage_usec ").map(|microseconds| microseconds as f64 / 1e6)
    }

    fn count(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name))?.parse().ok()
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

    /// Removes it, with the groups that were made in it. It must be empty; what is dying is still in it for a moment.
    pub fn close(&self) -> bool {
        match remove(&self.path) {
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

/// Removes a group in which nothing runs, and what is below it.
fn remove(group: &Path) -> io::Result<()> {
    fs::remove_dir(group).or_else(|error| {
        let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
        if !events.lines().any(|line| line == "populated 0") {
            return Err(error);
        }
        let below = fs::read_dir(group)?.filter_map(Result::ok);
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove(&entry.path())?;
        }
        fs::remove_dir(group)
    })
}

/// The group below which the kernel keeps limits, where one was handed over to this host: its own, out of which it goes
/// into a leaf, or the one above its own, where it was started in a leaf.
fn settle(own: &Path, is_top: bool) -> Option<PathBuf> {
    let id = std::process::id().to_string();
    let leaf = format!("plugbay-{id}-host");
    let above = own.parent().filter(|_| !is_top);
    if !is_handed_over(own, is_top) {
        let above = above.filter(|above| own.ends_with(&leaf) || is_handed_over(above, false))?;
        return hands_down(above).then(|| above.to_owned());
    }
    // Others that run there are not the host's to move.
    if fs::read_to_string(own.join("cgroup.procs")).ok()?.trim() != id {
        return None;
    }
    let leaf = own.join(leaf);
    // One of an earlier host that had this process id is as good.
    if fs::create_dir(&leaf).is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        return None;
    }
    if write(&leaf.join("cgroup.procs"), "0").is_ok() && hands_down(own) {
        return Some(own.to_owned());
    }
    // It fails only when it has never left.
    let _ = write(&own.join("cgroup.procs"), "0");
    let _ = fs::remove_dir(&leaf);
    None
}

/// Has a group hand the controllers of limits down, and says whether it does so with that of memory.
fn hands_down(group: &Path) -> bool {
    let file = group.join("cgroup.subtree_control");
    for controller in ["+memory", "+pids"] {
        // Each by itself: not every machine has both.
        let _ = write(&file, controller);
    }
    fs::read_to_string(&file).is_ok_and(|down| down.split_whitespace().any(|name| name == "memory"))
}

/// Whether a group was handed over to this host: by systemd (`Delegate=yes`), as the whole of a container, or by who gave
/// it to the host's user.
fn is_handed_over(group: &Path, is_top: bool) -> bool {
    let is_marked = |name: &str| {
        let mut value = [0_u8; 8];
        rustix::fs::getxattr(group, name, &mut value).is_ok_and(|length| value.starts_with(b"1") && length == 1)
    };
    let owner = |path: &Path| fs::metadata(path).ok().map(|about| about.uid());
    let user = rustix::process::geteuid();
    let is_given = !user.is_root() && owner(group) == Some(user.as_raw()) && {
        // What is the user's further up, too, is perhaps another's to manage: systemd's of this user.
        is_top || group.parent().and_then(owner) != Some(user.as_raw())
    };
    // The root of the machine has no type.
    let is_container = is_top && group.join("cgroup.type").exists();
    is_container || is_given || is_marked("user.delegate") || is_marked("trusted.delegate")
}
