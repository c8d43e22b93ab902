//! What a server writes to its error stream, on its way to the host's log, as long as it is not too much.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::Instant;

/// Bytes of one line that is logged.
const LINE_BYTES: u64 = 8 << 10;
/// How much is logged within [`SPELL`], in bytes: a few times what a program says when it fails. What is beyond is counted
/// and left out.
const SPELL_BYTES: usize = 64 << 10;
const SPELL: Duration = Duration::from_secs(5);
/// What the log writes beside a line, in bytes.
const HEAD_BYTES: usize = 64;

/// Logs the lines of a server until its error stream ends. The stream is drained all along: a server whose lines nobody
/// takes would stand still.
pub async fn log(errors: impl AsyncRead + Unpin, server: Arc<str>) {
    let mut lines = BufReader::new(errors);
    let (mut line, mut room) = (Vec::new(), Room::default());
    while matches!((&mut lines).take(LINE_BYTES).read_until(b'\n', &mut line).await, Ok(1..)) {
        if room.admits(line.len()) {
            room.tell(&server);
            tracing::info!(plugin = &*server, "{}", String::from_utf8_lossy(line.trim_ascii_end()));
        }
        line.clear();
    }
    room.tell(&server);
}

/// What may still be logged.
#[derive(Default)]
struct Room {
    /// When the spell began, and what was logged in it.
    spell: Option<(Instant, usize)>,
    left_out: u64,
}

impl Room {
    /// Whether a line of so many bytes is logged; counts it either way.
    fn admits(&mut self, bytes: usize) -> bool {
        let (_, logged) = match &mut self.spell {
            Some(spell) if spell.0.elapsed() < SPELL => spell,
            spell => spell.insert((Instant::now(), 0)),
        };
        let fits = *logged + bytes < SPELL_BYTES;
        if fits {
            *logged += bytes + HEAD_BYTES;
        } else {
            self.left_out += 1;
        }
        fits
    }

    /// Says how much was left out, if anything.
    fn tell(&mut self, server: &str) {
        if self.left_out > 0 {
            let lines = std::mem::take(&mut self.left_out);
            tracing::warn!(plugin = server, "{lines} lines of its error stream are left out: too many at once");
        }
    }
}
