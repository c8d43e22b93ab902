//! The processes of one run of a child, or of a command, as the host watches over them: who belongs, whose a port is, and
//! what the guard is told of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::process::cgroup::Cgroup;
use crate::engine::process::family::{Entry, Family, Mark, Table, is_stopped, start_of};
use crate::engine::process::guard::Guard;
use crate::engine::process::port::{Found, Listener, listener, look};

/// The processes of one run. The guard ends them with the host until [`Household::release`].
pub struct Household {
    /// The process id of its first, which is that of its session and its group, too.
    pub pid: i32,
    /// When that one started, in clock ticks since the machine did.
    pub started: u64,
    /// What they carry.
    pub mark: Mark,
    /// Their control group, where there is one.
    pub cgroup: Option<Cgroup>,
    /// Guards who is known to belong.
    family: Mutex<Family>,
    guard: Arc<Guard>,
}

impl Household {
    /// The household of a process that was started a moment ago and that nobody has waited for.
    pub fn open(pid: i32, mark: Mark, cgroup: Option<Cgroup>, guard: Arc<Guard>) -> Self {
        // It is not waited for yet, so that it is there at least as what is left of it.
        let started = start_of(pid).unwrap_or_default();
        let family = Mutex::new(Family::of(pid, started, Some(mark)));
        let household = Self { pid, started, mark, cgroup, family, guard };
        household.items().for_each(|item| household.guard.keep(item));
        household
    }

    /// Those that run, as `table` has them.
    pub fn members(&self, table: &Table) -> Vec<Entry> {
        self.family().members(table)
    }

    /// Looks who runs now. Takes milliseconds: not for a thread that others wait for.
    pub fn look(&self) -> Vec<Entry> {
        let mut family = self.family();
        family.include(self.cgroup.iter().flat_map(Cgroup::members));
        family.members(&Table::read())
    }

    /// Whether they may be asked at a port, and by which socket. Takes milliseconds.
    pub fn owns(&self, port: u16) -> (Found, Option<Listener>) {
        let before = listener(port);
        let members: Vec<i32> = self.look().iter().map(|entry| entry.pid).collect();
        match look(port, &members) {
            // What was looked at and what is reached are one only when it was the same all along.
            Found::Good if before.is_none() || before != listener(port) => (Found::Nobody, None),
            found => (found, before),
        }
    }

    /// Whether the first of them, or their control group, was suspended from outside.
    pub fn is_suspended(&self) -> bool {
        is_stopped(self.pid) || self.cgroup.as_ref().is_some_and(Cgroup::is_frozen)
    }

    /// Ends all of them with KILL; gives whether none is left. Takes milliseconds.
    pub fn kill(&self) -> bool {
        self.cgroup.iter().for_each(Cgroup::kill);
        let mut family = self.family();
        family.include(self.cgroup.iter().flat_map(Cgroup::members));
        family.kill()
    }

    /// Ends all of them, and forgets them where none is left. Takes milliseconds.
    pub fn end(&self) {
        if self.kill() {
            self.release();
        }
    }

    /// Has the guard forget them: nothing of them runs any more.
    pub fn release(&self) {
        self.items().for_each(|item| self.guard.release(&item));
    }

    /// What the guard is told.
    fn items(&self) -> impl Iterator<Item = String> {
        let cgroup = self.cgroup.as_ref().map(|group| format!("={}", group.path().display()));
        [format!("+{}", self.pid), self.mark.item()].into_iter().chain(cgroup)
    }

    fn family(&self) -> MutexGuard<'_, Family> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
