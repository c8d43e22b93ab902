//! What a child writes: drained for ever into a log of its own, which is bounded, rotating, escaped and rate-limited.
//!
//! A line is `2030-01-31T23:59:58.123Z out text` (`err` for standard error, `host` for what the host says of the child).
//! The last lines are also kept in memory, for those who look and for messages about a child that has ended.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::broadcast;

/// A file that has reached this size is put aside, in bytes; one such file is kept.
const FILE_BYTES: u64 = 1 << 20;
/// The longest line that is kept, in bytes; the rest of a longer one is dropped.
const LINE_BYTES: usize = 4 << 10;
/// How much may be written within [`SPELL`], in bytes; what is beyond is counted and dropped.
const SPELL_BYTES: usize = 256 << 10;
const SPELL: Duration = Duration::from_secs(1);
/// Lines in memory.
const LINES_KEPT: usize = 1000;
/// Lines that a reader may be behind.
const LINES_BEHIND: usize = 1024;
/// How much of the file is read when the log is opened anew, in bytes.
const READ_BYTES: u64 = 64 << 10;

/// From where a line comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// The host.
    Host,
}

impl Stream {
    const fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Host => "host",
        }
    }
}

/// The log of one plugin's child, over all of its runs. Cloning is cheap: clones share it.
#[derive(Clone)]
pub struct ChildLog {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// Guards the file and the last lines; nothing is called while it is held.
    book: Mutex<Book>,
    lines: broadcast::Sender<Arc<str>>,
}

#[derive(Default)]
struct Book {
    file: Option<File>,
    file_bytes: u64,
    last: VecDeque<Arc<str>>,
    /// What is written in the spell that began then.
    spell: Option<(Instant, usize)>,
    dropped: u64,
}

impl ChildLog {
    /// The log of a plugin in the folder of logs. Nothing is written before there is something to write.
    pub fn open(folder: &Path, plugin: &str) -> Self {
        let path = folder.join(format!("{plugin}.log"));
        let book = Book { last: last_lines(&path), ..Book::default() };
        Self { shared: Arc::new(Shared { path, book: Mutex::new(book), lines: broadcast::Sender::new(LINES_BEHIND) }) }
    }

    /// Adds what the host has to say of the child.
    pub fn note(&self, text: &str) {
        self.write(Stream::Host, &[text.as_bytes()]);
    }

    /// The last lines, at most so many, oldest first.
    pub fn last(&self, lines: usize) -> Vec<Arc<str>> {
        let book = self.shared.book();
        book.last.iter().skip(book.last.len().saturating_sub(lines)).cloned().collect()
    }

    /// The last lines, and a receiver of all that come after them.
    pub fn follow(&self, lines: usize) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let book = self.shared.book();
        // While the book is held no line is written: none is missed and none comes twice.
        let receiver = self.shared.lines.subscribe();
        let last = book.last.iter().skip(book.last.len().saturating_sub(lines)).cloned().collect();
        (last, receiver)
    }

    /// Drains a stream of the child until it ends. Each piece is shown to `look` as it comes.
    pub async fn drain(&self, from: Stream, mut source: impl AsyncRead + Unpin, mut look: impl FnMut(&[u8])) {
        let mut buffer = vec![0; 16 << 10];
        let mut line = Line::default();
        // A stream that fails is at its end: there is nothing more to drain.
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            look(&buffer[..count]);
            let whole = line.take(&buffer[..count]);
            let whole: Vec<&[u8]> = whole.iter().map(Vec::as_slice).collect();
            self.write(from, &whole);
        }
        if let Some(rest) = line.rest() {
            self.write(from, &[&rest]);
        }
    }

    fn write(&self, from: Stream, lines: &[&[u8]]) {
        if lines.is_empty() {
            return;
        }
        let mut book = self.shared.book();
        let mut text = String::new();
        for line in lines {
            if from != Stream::Host && !book.admits(line.len()) {
                continue;
            }
            if book.dropped > 0 {
                let dropped = std::mem::take(&mut book.dropped);
                self.add(
                    &mut book,
                    &mut text,
                    stamped(Stream::Host, format!("{dropped} lines dropped: too many at once")),
                );
            }
            self.add(&mut book, &mut text, stamped(from, escaped(line)));
        }
        book.append(&self.shared.path, text.as_bytes());
    }

    fn add(&self, book: &mut Book, text: &mut String, line: String) {
        text.push_str(&line);
        text.push('\n');
        let line: Arc<str> = line.into();
        if book.last.len() == LINES_KEPT {
            book.last.pop_front();
        }
        book.last.push_back(line.clone());
        // It fails only when nobody follows.
        let _ = self.shared.lines.send(line);
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Whether a line of so many bytes may be written now; counts it either way.
    fn admits(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        let (_, written) = match &mut self.spell {
            Some(spell) if now.duration_since(spell.0) < SPELL => spell,
            spell => spell.insert((now, 0)),
        };
        // An empty line takes room too.
        if *written + bytes >= SPELL_BYTES {
            self.dropped += 1;
            return false;
        }
        *written += bytes + 32;
        true
    }

    /// Adds to the file. A disk that is full loses lines, and ends nothing.
    fn append(&mut self, path: &Path, text: &[u8]) {
        if self.file.is_none() {
            self.file = open(path);
            self.file_bytes = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |about| about.len());
        }
        if self.file_bytes >= FILE_BYTES {
            let _ = fs::rename(path, path.with_extension("log.1"));
            self.file = open(path);
            self.file_bytes = 0;
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(text);
            self.file_bytes += text.len() as u64;
        }
    }
}

fn open(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    if let Some(folder) = path.parent() {
        let _ = fs::create_dir_all(folder);
    }
    options.open(path).ok()
}

/// The last lines of a log that an earlier host wrote.
fn last_lines(path: &Path) -> VecDeque<Arc<str>> {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |about| about.len());
        let from = length.saturating_sub(READ_BYTES);
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut text));
        if read.is_ok() && from > 0 {
            // The first line is probably but a part of one.
            text.drain(..text.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        }
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<Arc<str>> = text.lines().map(Into::into).collect();
    lines[lines.len().saturating_sub(LINES_KEPT)..].iter().cloned().collect()
}

/// Lines out of pieces; none is longer than [`LINE_BYTES`].
#[derive(Default)]
struct Line {
    begun: Vec<u8>,
}

impl Line {
    /// The lines that end in this piece, without their ends.
    fn take(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = LINE_BYTES.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                whole.push(std::mem::take(&mut self.begun));
            }
        }
        whole
    }

    fn rest(self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then_some(self.begun)
    }
}

fn stamped(from: Stream, text: String) -> String {
    let now = OffsetDateTime::now_utc();
    let (date, (hour, minute, second, milli)) = (now.date(), now.to_hms_milli());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let word = from.word();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z {word} {text}")
}

/// Text that can neither begin a line nor speak to a terminal.
pub fn escaped(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for character in String::from_utf8_lossy(line).trim_end_matches('\r').chars() {
        let turns = matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || (character.is_control() && character != '\t') {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}
