//! Where an MCP client writes and where it reads: lines of standard input and output.

use std::collections::VecDeque;
use std::fs::File;
use std::future::pending;
use std::mem;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::engine::mcp::lines::LINE_BYTES;

/// So many bytes may wait for the client to read before nothing more is heard from the host.
const ROOM_BYTES: usize = 1 << 20;

/// What the client writes, line by line.
pub struct Input {
    reader: BufReader<tokio::fs::File>,
    line: Vec<u8>,
    /// Whether the line has become too long; the rest of it is skipped.
    is_over: bool,
}

impl Input {
    /// What is read of a file.
    pub fn new(file: File) -> Self {
        Self { reader: BufReader::new(tokio::fs::File::from_std(file)), line: Vec::new(), is_over: false }
    }

    /// The next line, or that it is too long; `None` when there is no more. The last one may have no end: whoever writes
    /// one message and goes does not always write a line. Loses nothing when it is dropped half way.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        loop {
            let text = self.reader.fill_buf().await.unwrap_or_default();
            if text.is_empty() {
                let is_rest = self.is_over || !self.line.is_empty();
                return is_rest.then(|| self.whole());
            }
            let end = memchr::memchr(b'\n', text);
            let taken = end.map_or(text.len(), |end| end + 1);
            if self.line.len() + taken > LINE_BYTES {
                (self.line, self.is_over) = (Vec::new(), true);
            }
            if !self.is_over {
                self.line.extend_from_slice(&text[..taken]);
            }
            self.reader.consume(taken);
            if end.is_some() {
                return Some(self.whole());
            }
        }
    }

    /// The line that has ended.
    fn whole(&mut self) -> Result<Vec<u8>> {
        let line = mem::take(&mut self.line);
        match mem::take(&mut self.is_over) {
            false => Ok(line),
            true => Err(Error::new(Kind::TooLarge, format!("a message has at most {} MiB", LINE_BYTES >> 20))),
        }
    }
}

/// Where the client reads. What is said waits here, so that a client that does not read keeps nobody from hearing that it
/// has gone, or that the relay is to end.
pub struct Output {
    file: tokio::fs::File,
    lines: VecDeque<Vec<u8>>,
    /// Bytes that wait.
    waiting: usize,
    /// Bytes of the first line that are written.
    written: usize,
    /// Whether nobody reads any more.
    is_gone: bool,
}

impl Output {
    /// What is written to a file.
    pub fn new(file: File) -> Self {
        let file = tokio::fs::File::from_std(file);
        Self { file, lines: VecDeque::new(), waiting: 0, written: 0, is_gone: false }
    }

    /// Puts a message at the end of what waits.
    pub fn say(&mut self, message: &impl Serialize) {
        // A client that reads no more has gone; its input ends too.
        if self.is_gone {
            return;
        }
        let mut line = Json::of(message).as_bytes().to_vec();
        line.push(b'\n');
        self.waiting += line.len();
        self.lines.push_back(line);
    }

    /// Whether more can be said.
    pub fn has_room(&self) -> bool {
        self.waiting < ROOM_BYTES
    }

    /// Writes a piece of what waits; pending when nothing does. Loses nothing when it is dropped half way.
    pub async fn write(&mut self) {
        let Some(line) = self.lines.front() else { return pending().await };
        match self.file.write(&line[self.written..]).await {
            Ok(count) => {
                (self.written, self.waiting) = (self.written + count, self.waiting - count);
                if self.written == line.len() {
                    self.lines.pop_front();
                    self.written = 0;
                }
            }
            Err(_) => {
                self.is_gone = true;
                self.lines.clear();
                (self.written, self.waiting) = (0, 0);
            }
        }
    }

    /// Writes all that waits.
    pub async fn drain(&mut self) {
        while !self.lines.is_empty() {
            self.write().await;
        }
        let _ = self.file.flush().await;
    }
}
