//! The children that run, written down, so that those of a host that has crashed are ended at the next start.
//!
//! The file is read and written under the lock of the home folder alone. A process is known by its id, its start and the
//! start of the machine: an id in other hands is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::base::error::Result;
use crate::engine::process::cgroup::Cgroup;
use crate::engine::process::family::{Family, Mark, Table};
use crate::kernel::store::Store;

/// The file: `{"boot": "…", "children": {"<plugin>": {"pid", "started", "mark", "cgroup"}}}`.
const FILE: &str = "children.json";

/// The list of children. It must not be used by two hosts at once: the home folder's lock sees to that.
pub struct Leftovers {
    store: Store,
    /// What is written. Held while it is written, so that the last word is the last.
    kept: Mutex<Kept>,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// Changes with each start of the machine.
    boot: String,
    children: BTreeMap<String, Trace>,
}

/// What names one run of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The process, which leads a session of its own.
    pub pid: i32,
    /// Its start, in clock ticks since the machine's.
    pub started: u64,
    /// What it and its own carry.
    #[serde(default)]
    pub mark: Option<Mark>,
    /// Its control group, where it has one.
    pub cgroup: Option<String>,
}

impl Leftovers {
    /// Ends what an earlier host has left in the home folder, and begins a new list. Gives how many children it found
    /// alive. Blocks for some milliseconds.
    pub fn open(store: Store) -> (Self, usize) {
        let boot = boot();
        let kept: Kept = match store.read(FILE) {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Ok(None) | Err(_) => Kept::default(),
        };
        let found = match kept.boot == boot {
            true => kept.children.values().filter(|trace| end(trace)).count(),
            false => 0,
        };
        (Self { store, kept: Mutex::new(Kept { boot, children: BTreeMap::new() }) }, found)
    }

    /// Writes down a child that runs. Waits for the disk.
    ///
    /// # Errors
    /// `Unavailable`: the file cannot be written.
    pub fn add(&self, plugin: &str, trace: Trace) -> Result<()> {
        self.change(|children| {
            children.insert(plugin.to_owned(), trace);
        })
    }

    /// Strikes out a child that has ended. Waits for the disk.
    ///
    /// # Errors
    /// `Unavailable`: the file cannot be written.
    pub fn remove(&self, plugin: &str, pid: i32) -> Result<()> {
        self.change(|children| {
            if children.get(plugin).is_some_and(|trace| trace.pid == pid) {
                children.remove(plugin);
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Trace>)) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut kept.children);
        let text = serde_json::to_vec(&*kept).unwrap_or_default();
        self.store.write(FILE, &text)
    }
}

/// Ends a child of an earlier host, and says whether anything of it ran.
fn end(trace: &Trace) -> bool {
    let mut family = Family::of(trace.pid, trace.started, trace.mark);
    let ran = !family.members(&Table::read()).is_empty();
    if let Some(cgroup) = trace.cgroup.as_deref().map(|path| Cgroup::left(Path::new(path))) {
        cgroup.kill();
        family.kill();
        cgroup.close();
    } else {
        family.kill();
    }
    ran
}

/// What names this start of the machine; empty where the system has no such name.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
