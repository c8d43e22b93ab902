//! Two WebSocket streams joined byte by byte, so that compression, fragments, pings and close codes pass end to end.
//!
//! The host only follows where frames end, so that it can say a goodbye of its own between two of them. A direction
//! reads nothing while its other end takes nothing: a stream that is not read stops the one that feeds it. One task
//! serves both directions, with a buffer that all tunnels of a thread share: an idle tunnel holds none.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::poll_fn;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::edge::marks::{Marks, Reader, close_frame};

/// How much is read at a time: the most that a direction holds of what its reader does not take.
const BUFFER_BYTES: usize = 64 << 10;
/// So often a direction is read before others get their turn.
const READS_A_TURN: usize = 16;
/// From the wish to close to the cut.
const CLOSE_TIME: Duration = Duration::from_secs(5);

thread_local! {
    /// What is read and at once written on; used within one poll.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

/// A goodbye of the host: a close code and a reason.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye(pub u16, pub &'static str);

/// One end of a tunnel: its stream, and what was read of it before.
pub struct End<S> {
    /// The stream behind the handshake.
    pub stream: S,
    /// Bytes that came with the handshake.
    pub early: Bytes,
}

/// Two joined streams.
pub struct Tunnel<C, S> {
    client: C,
    server: S,
    /// From the client to the server.
    up: Way,
    /// From the server to the client.
    down: Way,
}

/// Why the streams are parted.
enum Parting {
    /// The client is gone, or takes nothing more.
    Client,
    /// The server is.
    Server,
    /// The host says so.
    Told(Goodbye),
}

/// What stopped a direction.
enum Stop {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Sink,
    /// The host has said goodbye on it.
    Said,
}

impl<C, S> Tunnel<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Joins the streams of a client and a server.
    pub fn join(client: End<C>, server: End<S>) -> Self {
        let (up, down) = (Way::new(&client.early), Way::new(&server.early));
        Self { client: client.stream, server: server.stream, up, down }
    }

    /// Moves bytes until an end is gone or `told` resolves; then parts the streams, which takes a limited time.
    pub async fn live(mut self, told: impl Future<Output = Goodbye>) {
        // In here it is polled only when it was woken, not with every byte that passes.
        let mut told: FuturesUnordered<_> = std::iter::once(Box::pin(told)).collect();
        let parting = poll_fn(|context| self.poll(&mut told, context)).await;
        drop(told);
        let _ = timeout(CLOSE_TIME, self.part(parting)).await;
    }

    fn poll<F: Future<Output = Goodbye>>(
        &mut self,
        told: &mut FuturesUnordered<Pin<Box<F>>>,
        context: &mut Context<'_>,
    ) -> Poll<Parting> {
        if let Poll::Ready(stop) = self.down.poll(&mut self.server, &mut self.client, context) {
            return Poll::Ready(if matches!(stop, Stop::Source) { Parting::Server } else { Parting::Client });
        }
        if let Poll::Ready(stop) = self.up.poll(&mut self.client, &mut self.server, context) {
            return Poll::Ready(if matches!(stop, Stop::Source) { Parting::Client } else { Parting::Server });
        }
        match told.poll_next_unpin(context) {
            Poll::Ready(Some(goodbye)) => Poll::Ready(Parting::Told(goodbye)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Ends both streams so that what was said last arrives. The caller holds the clock; dropping the streams is the cut.
    async fn part(&mut self, parting: Parting) {
        match parting {
            Parting::Client => {
                // What it said before it left is still for the server.
                let _ = poll_fn(|context| self.up.poll_rest(&mut self.server, context)).await;
                let _ = self.server.shutdown().await;
            }
            Parting::Server => self.part_from_server().await,
            Parting::Told(goodbye) => self.say(goodbye).await,
        }
    }

    async fn part_from_server(&mut self) {
        // What the server had still to say is on its way or here: it is read to its end first.
        let stop = poll_fn(|context| self.down.poll(&mut self.server, &mut self.client, context)).await;
        if !matches!(stop, Stop::Source) {
            return;
        }
        if !self.down.marks.have_closed() {
            if !self.down.marks.are_whole() {
                // In the middle of a frame nothing can be said that would not be taken for a part of it.
                return;
            }
            self.down.rest = close_frame(Reader::Client, 1011, "the plugin's server is gone");
        }
        self.hang_up().await;
    }

    /// Says goodbye to both ends, each between two frames.
    async fn say(&mut self, Goodbye(code, reason): Goodbye) {
        self.down.say(close_frame(Reader::Client, code, reason));
        self.up.say(close_frame(Reader::Server, code, reason));
        let (mut down, mut up) = (None, None);
        poll_fn(|context| {
            if down.is_none()
                && let Poll::Ready(stop) = self.down.poll(&mut self.server, &mut self.client, context)
            {
                down = Some(stop);
            }
            if up.is_none()
                && let Poll::Ready(stop) = self.up.poll(&mut self.client, &mut self.server, context)
            {
                up = Some(stop);
            }
            // The client's word is waited for; one that goes no further to the server matters to nobody.
            if down.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let _ = self.server.shutdown().await;
        if matches!(down, Some(Stop::Said)) {
            self.hang_up().await;
        }
    }

    /// Sends the client what waits and ends its stream. What it still sends is read until it ends its side too: closing
    /// over unread bytes would reset the connection, and the close frame would be lost.
    async fn hang_up(&mut self) {
        if poll_fn(|context| self.down.poll_rest(&mut self.client, context)).await.is_err() {
            return;
        }
        let _ = self.client.shutdown().await;
        let mut unread = vec![0; 4 << 10];
        while self.client.read(&mut unread).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

/// One direction.
struct Way {
    marks: Marks,
    /// What was read and could not be written yet.
    rest: Vec<u8>,
    /// As much of it is written.
    written: usize,
    /// Where in `rest` the last frame ends that ends there. What is behind it belongs to a frame that is not whole.
    mark: Option<usize>,
    /// What the host has to say between two frames.
    goodbye: Option<Vec<u8>>,
    /// It is in `rest`, which it ends.
    said: bool,
    unflushed: bool,
}

impl Way {
    fn new(early: &[u8]) -> Self {
        let mut marks = Marks::default();
        let mark = marks.pass(early);
        Self { marks, rest: early.to_vec(), written: 0, mark, goodbye: None, said: false, unflushed: false }
    }

    /// Moves bytes for as long as there are any and they are taken.
    fn poll(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<Stop> {
        for _ in 0..READS_A_TURN {
            if ready!(self.poll_rest(sink, context)).is_err() {
                return Poll::Ready(Stop::Sink);
            }
            if self.said {
                return Poll::Ready(Stop::Said);
            }
            let moved = BUFFER.with_borrow_mut(|buffer| self.poll_move(source, sink, buffer, context));
            match ready!(moved) {
                Ok(0) => return Poll::Ready(Stop::Source),
                Ok(_) => {}
                Err(stop) => return Poll::Ready(stop),
            }
        }
        // There may be more, but it is the others' turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and writes what is taken of it; the rest is kept. Gives how much was read.
    fn poll_move(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
        buffer: &mut [u8],
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, Stop>> {
        let mut read = ReadBuf::new(buffer);
        if ready!(Pin::new(source).poll_read(context, &mut read)).is_err() {
            return Poll::Ready(Err(Stop::Source));
        }
        let bytes = read.filled();
        let mark = self.marks.pass(bytes);
        if self.goodbye.is_some() {
            self.rest.extend_from_slice(bytes);
            self.mark = mark;
            self.put_goodbye();
            return Poll::Ready(Ok(bytes.len()));
        }
        let taken = match Pin::new(sink).poll_write(context, bytes) {
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Stop::Sink)),
            Poll::Pending => 0,
        };
        self.unflushed = true;
        self.rest.extend_from_slice(&bytes[taken..]);
        self.mark = mark.and_then(|mark| mark.checked_sub(taken));
        Poll::Ready(Ok(bytes.len()))
    }

    /// Writes what waits.
    fn poll_rest(&mut self, sink: &mut (impl AsyncWrite + Unpin), context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.rest.len() {
            match ready!(Pin::new(&mut *sink).poll_write(context, &self.rest[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
            self.unflushed = true;
        }
        if self.written > 0 {
            self.rest = Vec::new();
            self.written = 0;
            self.mark = None;
        }
        if self.unflushed {
            ready!(Pin::new(sink).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Has `frame` said as soon as a frame ends; nothing else is said after it.
    fn say(&mut self, frame: Vec<u8>) {
        self.goodbye = Some(frame);
        self.put_goodbye();
    }

    fn put_goodbye(&mut self) {
        let end = match self.mark {
            Some(mark) if mark >= self.written => mark,
            // Nothing waits, and what went was whole.
            _ if self.marks.are_whole() && self.rest.len() == self.written => self.rest.len(),
            _ => return,
        };
        self.rest.truncate(end);
        // A close frame that has passed already was the last word.
        if let Some(frame) = self.goodbye.take().filter(|_| !self.marks.have_closed()) {
            self.rest.extend_from_slice(&frame);
        }
        self.said = true;
    }
}
