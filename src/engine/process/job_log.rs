//! What the commands of a job said: the last part of it, as text that is safe to show.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The output of a job, the oldest of which makes room. Cloning is cheap.
#[derive(Clone)]
pub struct JobLog {
    shared: Arc<Shared>,
}

struct Shared {
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    text: VecDeque<u8>,
    dropped: u64,
}

impl JobLog {
    /// An empty log that keeps the last `most_bytes`.
    pub fn new(most_bytes: usize) -> Self {
        Self { shared: Arc::new(Shared { most_bytes, kept: Mutex::default() }) }
    }

    /// Adds a line of the host's own.
    pub fn say(&self, line: &str) {
        self.add(format!("{line}\n").as_bytes());
    }

    /// Adds bytes as a command wrote them. What would move a terminal's cursor or change its colours is left out.
    pub fn add(&self, bytes: &[u8]) {
        let mut kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = bytes.iter().filter(|byte| !byte.is_ascii_control() || matches!(byte, b'\n' | b'\t'));
        kept.text.extend(text);
        let beyond = kept.text.len().saturating_sub(self.shared.most_bytes);
        kept.text.drain(..beyond);
        kept.dropped += beyond as u64;
    }

    /// All that is kept, after a note of what is not.
    pub fn text(&self) -> String {
        let mut kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(kept.text.make_contiguous()).into_owned();
        if kept.dropped == 0 { text } else { format!("({} bytes before this were not kept)\n{text}", kept.dropped) }
    }

    /// The last lines, for an error.
    pub fn last_lines(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}
