//! What the kernel says of one process in a line of `/proc/PID/stat` (proc_pid_stat(5)).
//!
//! Every process of the machine is looked at once a second while a child runs, so it is read with as few calls as can be
//! and only for what is needed.

use std::fs::{self, File};
use std::io::Read;

/// Room for one line: a name of at most 64 bytes and some fifty numbers.
const LINE_BYTES: usize = 2048;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub pid: i32,
    /// Whether it has ended and only waits to be waited for.
    pub has_ended: bool,
    /// Whether a signal has stopped it, and none has let it go on.
    pub is_stopped: bool,
    /// Who started it, or took it over.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// Its time on the processors, and that of those it has waited for, in clock ticks.
    pub ticks: u64,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
    /// Its resident memory, in pages.
    pub pages: u64,
    /// Its soft limit of resident memory, in bytes.
    pub limit_bytes: u64,
}

impl Stat {
    /// Looks at a process; `None` when there is none with this id.
    pub fn read(pid: i32) -> Option<Self> {
        let mut line = [0; LINE_BYTES];
        // The kernel gives it whole.
        let bytes = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line)).ok()?;
        Self::parse(pid, std::str::from_utf8(behind_name(&line[..bytes])?).ok()?)
    }

    /// Every process that this one may see.
    pub fn all() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?))
    }

    /// Reads the fields from the state on.
    fn parse(pid: i32, fields: &str) -> Option<Self> {
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let (has_ended, is_stopped) = (matches!(state, "Z" | "X" | "x"), state == "T");
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let user: u64 = fields.nth(7)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        // Of those that it has started and waited for.
        let (ended_user, ended_system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let ticks = user + system + ended_user + ended_system;
        let started = fields.nth(4)?.parse().ok()?;
        let pages = fields.nth(1)?.parse().ok()?;
        let limit_bytes = fields.next()?.parse().ok()?;
        Some(Self { pid, has_ended, is_stopped, parent, session, ticks, started, pages, limit_bytes })
    }
}

/// What stands behind the name, which may have any bytes, brackets and line ends too.
fn behind_name(line: &[u8]) -> Option<&[u8]> {
    let end = line.iter().rposition(|byte| *byte == b')')?;
    line.get(end + 1..)
}

#[cfg(test)]
mod tests {
    use procfs::process::Process;

    use super::*;

    #[test]
    fn a_line_is_read_as_procfs_reads_it() {
        let known = Process::myself().and_then(|process| process.stat()).expect("this process");
        let stat = Stat::read(known.pid).expect("this process");
        assert_eq!((stat.parent, stat.session, stat.started), (known.ppid, known.session, known.starttime));
        assert_eq!(stat.limit_bytes, known.rsslim);
        assert!(!stat.has_ended && stat.pages > 0 && stat.ticks >= known.utime + known.stime);
        assert!(Stat::all().any(|each| (each.pid, each.started) == (stat.pid, stat.started)));
    }

    #[test]
    fn a_name_may_have_any_bytes() {
        let line =
            b"7 (a) S 1) \n\xff) Z 5 6 8 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 1 0 900 1000 33 18446744073709551615 1";
        let fields = std::str::from_utf8(behind_name(line).expect("fields")).expect("text");
        let stat = Stat::parse(7, fields).expect("a process");
        assert_eq!((stat.pid, stat.parent, stat.session, stat.ticks), (7, 5, 8, 110));
        assert_eq!((stat.started, stat.pages, stat.limit_bytes), (900, 33, u64::MAX));
        assert!(stat.has_ended && !stat.is_stopped);
    }
}
