//! WebSocket frames (RFC 6455) on a byte stream, as the server: reading with tungstenite, writing here.
//!
//! tungstenite reads a frame and keeps the rules; what it would write is thrown away, because it closes nothing by
//! itself after an error, keeps the largest buffer that it ever needed, and copies every broadcast. Nothing here knows
//! what the frames say.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::future::poll_fn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::error::{Error as WireError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

/// Bytes of a socket's read buffer, which is allocated for each from the start: half of it would cost large messages too
/// many reads, twice as much brings an idle socket beyond 8 kB.
const READ_BUFFER_BYTES: usize = 2 << 10;
/// From this size on a payload is written from where it is, not copied.
const LARGE_BYTES: usize = 16 << 10;
/// As much write buffer is kept by a socket that has nothing to write.
const KEPT_BYTES: usize = 1 << 10;

/// Bytes of the largest head of a frame without a mask.
const HEAD_BYTES: usize = 10;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What the peer said.
#[derive(Debug)]
pub enum Heard {
    /// A text message, whole, checked to be UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary,
    /// A ping. Its pong is on its way already.
    Ping,
    /// A pong.
    Pong,
}

/// How the peer's side of a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a close frame: its code, 1005 when it had none.
    Closed(u16),
    /// With bytes that break the rules: the code to close with and why.
    Broken(u16, &'static str),
    /// Without a word.
    Lost,
}

/// A WebSocket on a byte stream that has passed the handshake.
pub struct Wire<S> {
    stream: S,
    reader: WebSocketContext,
    /// Frames, and heads of large ones, that wait to be written.
    buffer: Vec<u8>,
    /// As much of the buffer is written.
    written: usize,
    /// The payload of the large frame whose head ends the buffer.
    large: Bytes,
    /// The payload of the last ping that was not answered; older ones need no answer (RFC 6455 §5.5.3).
    pong: Option<Bytes>,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A socket that reads messages, and frames, of at most `frame_bytes`.
    pub fn new(stream: S, frame_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(1 << 10)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes))
            .accept_unmasked_frames(false);
        let reader = WebSocketContext::new(Role::Server, Some(config));
        Self { stream, reader, buffer: Vec::new(), written: 0, large: Bytes::new(), pong: None, unflushed: false }
    }

    /// The next thing that the peer says. Not to be asked again after its end.
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, End>> {
        let mut stream = Readable { stream: &mut self.stream, context };
        Poll::Ready(match self.reader.read(&mut stream) {
            Ok(Message::Text(text)) => Ok(Heard::Text(text.into())),
            Ok(Message::Binary(_) | Message::Frame(_)) => Ok(Heard::Binary),
            Ok(Message::Pong(_)) => Ok(Heard::Pong),
            Ok(Message::Ping(payload)) => {
                self.pong = Some(payload);
                Ok(Heard::Ping)
            }
            // tungstenite has put 1002 in the place of a code that may not be sent.
            Ok(Message::Close(close)) => Err(End::Closed(close.map_or(1005, |close| close.code.into()))),
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => Err(end_of(&error)),
        })
    }

    /// Waits until one more frame may be written.
    ///
    /// # Errors
    /// The stream's: the peer is gone.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() - self.written < LARGE_BYTES && self.large.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(context)
    }

    /// Writes a text message; [`Wire::poll_ready`] has said that it may.
    pub fn write_text(&mut self, text: Bytes) {
        let copied = if text.len() < LARGE_BYTES { text.len() } else { 0 };
        self.buffer.reserve(HEAD_BYTES + copied);
        self.write_head(TEXT, text.len());
        if text.len() < LARGE_BYTES {
            self.buffer.extend_from_slice(&text);
        } else {
            self.large = text;
        }
    }

    /// Writes a ping without payload; [`Wire::poll_ready`] has said that it may.
    pub fn write_ping(&mut self) {
        self.write_head(PING, 0);
    }

    /// Writes what waits, and hands it to the network.
    ///
    /// # Errors
    /// The stream's: the peer is gone.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(context))?;
        if let Some(payload) = self.pong.take() {
            self.write_head(PONG, payload.len());
            self.buffer.extend_from_slice(&payload);
            ready!(self.poll_write(context))?;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// The stream's: the peer is gone.
    pub async fn send_text(&mut self, text: Bytes) -> io::Result<()> {
        poll_fn(|context| self.poll_ready(context)).await?;
        self.write_text(text);
        Ok(())
    }

    /// Sends what waits and then a close frame; 1005 stands for one without a code.
    ///
    /// # Errors
    /// The stream's: the peer is gone.
    pub async fn send_close(&mut self, code: u16, reason: &str) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await?;
        if code == 1005 {
            self.write_head(CLOSE, 0);
        } else {
            self.write_head(CLOSE, 2 + reason.len());
            self.buffer.extend_from_slice(&code.to_be_bytes());
            self.buffer.extend_from_slice(reason.as_bytes());
        }
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// After the close frame: reads until the peer's, as far as frames can still be read.
    pub async fn hear_out(&mut self) {
        while poll_fn(|context| self.poll_read(context)).await.is_ok() {}
    }

    /// Ends the stream so that the close frame arrives: a socket that is dropped while bytes of the peer are unread is
    /// reset, and a reset may overtake what was sent. Ends when the peer has ended its side.
    ///
    /// # Errors
    /// The stream's: the peer is gone.
    pub async fn hang_up(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        // On the heap: the task of every open socket would be larger by an array.
        let mut unread = vec![0; READ_BUFFER_BYTES];
        while self.stream.read(&mut unread).await? > 0 {}
        Ok(())
    }

    fn write_head(&mut self, opcode: u8, length: usize) {
        const FINAL: u8 = 0x80;
        self.buffer.push(FINAL | opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..126), _) => self.buffer.push(length),
            (_, Ok(length)) => {
                self.buffer.push(126);
                self.buffer.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                self.buffer.push(127);
                self.buffer.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        while self.written < self.buffer.len() {
            let bytes = ready!(stream.as_mut().poll_write(context, &self.buffer[self.written..]))?;
            self.written += some(bytes)?;
            self.unflushed = true;
        }
        self.written = 0;
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        while !self.large.is_empty() {
            let bytes = ready!(stream.as_mut().poll_write(context, &self.large))?;
            self.large.advance(some(bytes)?);
            self.unflushed = true;
        }
        self.large = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

/// A stream that takes no bytes has ended.
fn some(bytes: usize) -> io::Result<usize> {
    if bytes == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes) }
}

/// What an error of tungstenite's reader means. After all but the last kind the stream can still be written to.
fn end_of(error: &WireError) -> End {
    match error {
        WireError::Capacity(_) => End::Broken(1009, "the message is larger than the limit"),
        WireError::Utf8(_) => End::Broken(1007, "the text is not UTF-8"),
        WireError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | WireError::Io(_)
        | WireError::ConnectionClosed
        | WireError::AlreadyClosed => End::Lost,
        WireError::Protocol(ProtocolError::UnmaskedFrameFromClient) => {
            End::Broken(1002, "a frame of a client is masked")
        }
        _ => End::Broken(1002, "the frame breaks RFC 6455"),
    }
}

/// A stream as tungstenite reads it, within one poll. Its own pongs and closes are thrown away.
struct Readable<'a, 'b, S> {
    stream: &'a mut S,
    context: &'a mut Context<'b>,
}

impl<S: AsyncRead + Unpin> Read for Readable<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.stream).poll_read(self.context, &mut buffer) {
            Poll::Ready(outcome) => outcome.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Readable<'_, '_, S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
