//! The guard: a small process of ours that ends every child when the host is gone, however the host went.
//!
//! It is a shell that reads from a pipe: `+ID` for a session to end, `%MARK` for all that carry a mark, `=PATH` for a
//! control group, `-…` when one of them is gone. The pipe closes when the host ends, be it by KILL; then the guard ends all
//! that it was told, until none is left.
//! A shell, because it is on every machine, begins in a millisecond and is in no way a copy of the host: a fork of a
//! process with threads is delicate and keeps the host's memory, a second interpreter is slow and large.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::error::{Error, Kind, Result};

/// What the guard runs. Only builtins of the shell: nothing is looked up, nothing else is started. Where there is no
/// `/proc` (macOS) the groups of the children themselves are ended.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM PIPE
list=" "
while IFS= read -r line; do
  word=${line#?}
  case $line in
    [+=%]*) list="$list$line " ;;
    -*) while :; do case $list in *" $word "*) list="${list%%" $word "*} ${list#*" $word "}" ;; *) break ;; esac; done ;;
  esac
done
round=0
while [ $round -lt 100 ]; do
  found=0
  for item in $list; do
    case $item in
      =*) [ -e "${item#=}/cgroup.kill" ] && echo 1 > "${item#=}/cgroup.kill" ;;
      +*) kill -KILL -- "-${item#+}" && found=1 ;;
    esac
  done 2>/dev/null
  for file in /proc/[0-9]*/stat; do
    IFS= read -r stat < "$file" || continue
    pid=${stat%% *}
    set -- ${stat##*) }
    case $1 in Z|X) continue ;; esac
    case $list in *" +$4 "* | *" %${23} "*) kill -KILL "$pid" && found=1 ;; esac
  done 2>/dev/null
  [ $found = 0 ] && break
  round=$((round + 1))
done
"#;

/// What ends everything when the host is gone. Its process begins when it is first needed.
#[derive(Default)]
pub struct Guard {
    /// Guards the process and what it was told; a line is written while it is held, which never waits: a pipe holds
    /// thousands of them.
    post: Mutex<Post>,
}

#[derive(Default)]
struct Post {
    running: Option<Running>,
    /// What is to be ended: told anew when somebody has ended the guard.
    items: BTreeSet<String>,
}

struct Running {
    pipe: OwnedFd,
    process: Child,
}

impl Guard {
    /// Sees to it that its process runs. To be called before a child begins.
    ///
    /// # Errors
    /// `Internal`: the system gives no pipe or no process.
    pub fn wake(&self) -> Result<()> {
        let mut post = self.post();
        if post.running.as_mut().is_none_or(|running| !matches!(running.process.try_wait(), Ok(None))) {
            let running = start().map_err(|error| {
                let message = format!("cannot start the guard of child processes: {error}");
                Error::new(Kind::Internal, message).with_source(error)
            })?;
            for item in &post.items {
                running.tell(item);
            }
            post.running = Some(running);
        }
        Ok(())
    }

    /// Has an item ended with the host: `+ID` is a session, `%MARK` all that carries a mark, `=PATH` a control group.
    pub fn keep(&self, item: String) {
        let mut post = self.post();
        post.running.iter().for_each(|running| running.tell(&item));
        post.items.insert(item);
    }

    /// Forgets an item that is gone.
    pub fn release(&self, item: &str) {
        let mut post = self.post();
        post.running.iter().for_each(|running| running.tell(&format!("-{item}")));
        post.items.remove(item);
    }

    /// Lets the guard go, which then ends what it was told and itself. Waits for that.
    pub fn close(&self) {
        let running = self.post().running.take();
        if let Some(Running { pipe, mut process }) = running {
            drop(pipe);
            let _ = process.wait();
        }
    }

    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.close();
    }
}

impl Running {
    fn tell(&self, line: &str) {
        // It fails only when the guard was ended from outside; the next child starts another.
        let _ = rustix::io::write(&self.pipe, format!("{line}\n").as_bytes());
    }
}

fn start() -> io::Result<Running> {
    let (reader, writer) = io::pipe()?;
    // A guard that somebody has suspended must hold up nobody: then a line is lost.
    rustix::io::ioctl_fionbio(&writer, true)?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(SCRIPT).arg("plugbay-guard").env_clear().current_dir("/").process_group(0);
    command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Running { process: command.spawn()?, pipe: writer.into() })
}
