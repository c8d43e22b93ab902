//! Writes the log's lines to standard error from a thread of its own.
//!
//! Who logs never waits for a terminal or a full pipe: lines go into a bounded buffer, and when that is full they are
//! counted and the count is written. What is in the buffer when the process ends is written by [`Scribe::flush`].

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much may wait, in bytes.
const WAITING_BYTES: usize = 4 << 20;
/// So much is written without waiting for more.
const BATCH_BYTES: usize = 64 << 10;
/// How long a line that has no haste waits for others.
const PATIENCE: Duration = Duration::from_millis(20);

/// How soon a line is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// At once.
    Prompt,
    /// With others, a moment later.
    Leisurely,
}

/// A handle on the thread that writes; cloning is cheap.
#[derive(Clone)]
pub struct Scribe {
    desk: Arc<Desk>,
    /// The process that has the thread; a forked child has none.
    process: u32,
}

struct Desk {
    /// The lines that wait. Nothing is called while it is held.
    pile: Mutex<Pile>,
    work: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct Pile {
    lines: Vec<u8>,
    lost: u64,
    prompt: bool,
    writing: bool,
}

impl Scribe {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> io::Result<Self> {
        let desk = Arc::new(Desk { pile: Mutex::default(), work: Condvar::new(), done: Condvar::new() });
        let writing = desk.clone();
        std::thread::Builder::new().name("plugbay-log".into()).spawn(move || writing.write_for_ever())?;
        Ok(Self { desk, process: std::process::id() })
    }

    /// Hands over whole lines; never waits for them to be written.
    pub fn write(&self, lines: &[u8], haste: Haste) {
        if haste == Haste::Prompt && std::process::id() != self.process {
            let _ = io::stderr().write_all(lines);
            return;
        }
        let mut pile = self.desk.pile();
        if pile.lines.len() + lines.len() > WAITING_BYTES {
            pile.lost += 1;
            return;
        }
        // The thread is told when there is something new to know: a wake-up a line would cost more than the line.
        let tell = pile.lines.is_empty() || (haste == Haste::Prompt && !pile.prompt) || pile.is_batch(lines.len());
        pile.lines.extend_from_slice(lines);
        pile.prompt |= haste == Haste::Prompt;
        drop(pile);
        if tell {
            self.desk.work.notify_one();
        }
    }

    /// Waits until everything that was handed over is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        if std::process::id() != self.process {
            return;
        }
        let mut pile = self.desk.pile();
        pile.prompt = true;
        self.desk.work.notify_one();
        let waiting = |pile: &mut Pile| pile.writing || !pile.lines.is_empty();
        drop(self.desk.done.wait_timeout_while(pile, limit, waiting));
    }
}

impl Pile {
    /// Whether so many more bytes complete a batch.
    fn is_batch(&self, more_bytes: usize) -> bool {
        self.lines.len() < BATCH_BYTES && self.lines.len() + more_bytes >= BATCH_BYTES
    }
}

impl Desk {
    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self) {
        let mut batch = Vec::new();
        loop {
            let nothing = |pile: &mut Pile| pile.lines.is_empty();
            let pile = self.work.wait_while(self.pile(), nothing).unwrap_or_else(PoisonError::into_inner);
            let little = |pile: &mut Pile| !pile.prompt && pile.lines.len() < BATCH_BYTES;
            let waited = self.work.wait_timeout_while(pile, PATIENCE, little);
            let mut pile = waited.unwrap_or_else(PoisonError::into_inner).0;
            std::mem::swap(&mut batch, &mut pile.lines);
            let lost = std::mem::take(&mut pile.lost);
            pile.prompt = false;
            pile.writing = true;
            drop(pile);
            // Nobody can be told that standard error is gone.
            let _ = io::stderr().write_all(&batch);
            if lost > 0 {
                let _ = writeln!(
                    io::stderr(),
                    "{{\"level\":\"warn\",\"message\":\"{lost} log lines were lost: standard error is too slow\"}}"
                );
            }
            batch.clear();
            batch.shrink_to(BATCH_BYTES);
            self.pile().writing = false;
            self.done.notify_all();
        }
    }
}
