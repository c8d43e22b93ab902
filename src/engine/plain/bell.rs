//! What wakes a Python thread that sleeps in `epoll` or in a read: an eventfd, or a pipe where there is none.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// A bell that any thread may ring and one thread hears. Ringing twice before it is heard is heard once.
pub struct Bell {
    heard: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    rung: OwnedFd,
}

impl Bell {
    /// A silent bell.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self { heard: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// A silent bell.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Self> {
        let (heard, rung) = rustix::pipe::pipe()?;
        for end in [&heard, &rung] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Self { heard, rung })
    }

    /// Rings. Never waits: a bell that cannot take another ring is ringing already.
    pub fn ring(&self) {
        #[cfg(target_os = "linux")]
        let rung = &self.heard;
        #[cfg(not(target_os = "linux"))]
        let rung = &self.rung;
        let _ = rustix::io::write(rung, &1u64.to_ne_bytes());
    }

    /// Silences it. Never waits.
    pub fn hear(&self) {
        let mut rings = [0u8; 64];
        let _ = rustix::io::read(&self.heard, &mut rings);
    }

    /// Waits until it rings, then silences it. For a thread that is not attached to the interpreter.
    pub fn wait(&self) {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut polled = [PollFd::from_borrowed_fd(self.heard.as_fd(), PollFlags::IN)];
        // An interrupted wait is a wake-up too: the caller looks at its queue and waits again.
        let _ = poll(&mut polled, None);
        self.hear();
    }

    /// The descriptor that becomes readable when it rings, for an event loop.
    pub fn descriptor(&self) -> RawFd {
        self.heard.as_raw_fd()
    }
}
