//! Which processes belong to a child: its own and all that they start, also in groups and sessions of their own.
//!
//! A process belongs when it carries the child's mark, which all that it starts inherit, whatever session they open and
//! whoever their parent is then. One that has wiped off the mark belongs when it is in a session that the child or one of
//! its own opened, when one that belongs started it, or when it was seen to belong before.

use std::collections::HashMap;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::stat::Stat;

/// What the processes of one run of a child are known by: their soft limit of resident memory.
///
/// Linux has had no use for that limit since 2.4.30 (getrlimit(2)), every process inherits it, and everybody may read it
/// in `/proc/PID/stat`. As a number of bytes it is more than any machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(u64);

/// One process that runs; what has ended and was not waited for yet is none.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its id.
    pub pid: i32,
    parent: i32,
    session: i32,
    /// When it started, in clock ticks since the machine did: with the id it names one process.
    pub started: u64,
    /// Its soft limit of resident memory, perhaps a mark.
    limit_bytes: u64,
    memory_bytes: u64,
    ticks: u64,
}

/// Every process of this machine at one moment.
#[derive(Default)]
pub struct Table {
    /// By process id.
    entries: HashMap<i32, Entry>,
}

/// What a child and its own use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory, in bytes; pages that several share count for each.
    pub memory_bytes: u64,
    /// Processes.
    pub processes: u64,
    /// Time on the processors of those that run, in seconds.
    pub cpu_s: f64,
}

/// The processes of one run of a child.
#[derive(Debug)]
pub struct Family {
    /// None for those of a host that did not know marks.
    mark: Option<Mark>,
    /// The sessions that it opened, the child's own first; by their id, with the start of the process that opened it.
    sessions: HashMap<i32, u64>,
    /// Those that were seen to belong, with their start.
    known: HashMap<i32, u64>,
}

impl Mark {
    /// The least number that is a mark, in bytes.
    const LEAST: u64 = 1 << 62;

    /// A mark that no other process carries.
    ///
    /// # Errors
    /// `Internal`: the system gives no random bytes.
    pub fn new() -> Result<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::new(Kind::Internal, format!("the system gives no random bytes: {error}")))?;
        Ok(Self(Self::LEAST | u64::from_le_bytes(bytes) >> 2))
    }

    /// The soft limit of resident memory that carries it, in bytes.
    pub fn limit_bytes(self) -> u64 {
        self.0
    }

    /// What the guard is told of all that carry it.
    pub fn item(self) -> String {
        format!("%{}", self.0)
    }
}

impl Table {
    /// Looks at every process. Takes a few milliseconds: not for a thread that others wait for.
    pub fn read() -> Self {
        let page_bytes = procfs::page_size();
        let entry = |stat: Stat| Entry {
            pid: stat.pid,
            parent: stat.parent,
            session: stat.session,
            started: stat.started,
            limit_bytes: stat.limit_bytes,
            memory_bytes: stat.pages * page_bytes,
            ticks: stat.ticks,
        };
        let running = Stat::all().filter(|stat| !stat.has_ended);
        let entries = running.map(|stat| (stat.pid, entry(stat))).collect();
        Self { entries }
    }
}

/// When a process started, in clock ticks; `None` when it does not run.
pub fn started(pid: i32) -> Option<u64> {
    Stat::read(pid).filter(|stat| !stat.has_ended).map(|stat| stat.started)
}

/// Whether a process was stopped by a signal.
pub fn is_stopped(pid: i32) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.is_stopped)
}

/// The session that this host runs in; 0 when it was opened outside of this process namespace, as in a container that
/// was started with a shell's session. (`getsid` of rustix takes 0 for impossible and panics.)
fn own_session() -> i32 {
    i32::try_from(std::process::id()).ok().and_then(Stat::read).map_or(0, |stat| stat.session)
}

/// The start of a process that runs or has ended and was not waited for yet.
pub fn start_of(pid: i32) -> Option<u64> {
    Stat::read(pid).map(|stat| stat.started)
}

impl Family {
    /// The family of a process that opened a session of its own.
    pub fn of(leader: i32, started: u64, mark: Option<Mark>) -> Self {
        Self { mark, sessions: HashMap::from([(leader, started)]), known: HashMap::from([(leader, started)]) }
    }

    /// Those that run, as `table` has them; what is new is remembered.
    pub fn members(&mut self, table: &Table) -> Vec<Entry> {
        let own = own_session();
        self.known.retain(|pid, started| table.entries.get(pid).is_some_and(|entry| entry.started == *started));
        // An id that came into other hands is no session of ours any more.
        self.sessions.retain(|id, started| table.entries.get(id).is_none_or(|entry| entry.started == *started));
        let mark = self.mark;
        let is_marked = |entry: &&Entry| mark.is_some_and(|mark| entry.limit_bytes == mark.limit_bytes());
        self.known.extend(table.entries.values().filter(is_marked).map(|entry| (entry.pid, entry.started)));
        loop {
            let mut more = Vec::new();
            for entry in table.entries.values().filter(|entry| !self.known.contains_key(&entry.pid)) {
                let belongs = self.sessions.contains_key(&entry.session) || self.known.contains_key(&entry.parent);
                if belongs && entry.session != own {
                    more.push((entry.pid, entry.started));
                }
            }
            if more.is_empty() {
                break;
            }
            self.known.extend(more);
        }
        let members: Vec<Entry> = self.known.keys().filter_map(|pid| table.entries.get(pid)).copied().collect();
        for entry in &members {
            let opener = table.entries.get(&entry.session).map_or(entry.started, |opener| opener.started);
            if entry.session != own {
                self.sessions.entry(entry.session).or_insert(opener);
            }
        }
        members
    }

    /// Takes in processes that are known to belong by other means.
    pub fn include(&mut self, members: impl IntoIterator<Item = i32>) {
        self.known.extend(members.into_iter().filter_map(|pid| Some((pid, started(pid)?))));
    }

    /// Ends all of them with KILL, again and again until none is left, at most a few dozen times. Takes milliseconds:
    /// not for a thread that others wait for.
    pub fn kill(&mut self) -> bool {
        for _ in 0..50 {
            let members = self.members(&Table::read());
            if members.is_empty() {
                return true;
            }
            for entry in members {
                kill(entry);
            }
            std::thread::yield_now();
        }
        false
    }
}

/// What these use together.
pub fn usage(members: &[Entry]) -> Usage {
    let ticks_per_second = procfs::ticks_per_second();
    let ticks: u64 = members.iter().map(|entry| entry.ticks).sum();
    Usage {
        memory_bytes: members.iter().map(|entry| entry.memory_bytes).sum(),
        processes: members.len() as u64,
        cpu_s: ticks as f64 / ticks_per_second as f64,
    }
}

/// Ends this very process, and none that has got its id since.
fn kill(entry: Entry) {
    let Some(pid) = Pid::from_raw(entry.pid) else { return };
    // What the handle was opened for is looked at after that, so that it cannot be another's.
    let handle = pidfd_open(pid, PidfdFlags::empty());
    if started(entry.pid) != Some(entry.started) {
        return;
    }
    // Each fails only when the process has ended by itself.
    let _ = match handle {
        Ok(handle) => pidfd_send_signal(handle, Signal::KILL),
        Err(_) => kill_process(pid, Signal::KILL),
    };
}
