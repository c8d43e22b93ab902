//! The bytes of one connection: plain or TLS, with what was read to find out which protocol it speaks.
//!
//! Every read and write is noted in the connection's pulse. What the bytes mean is not known here.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::edge::link::{Link, Protocol, Seat};

/// What an HTTP/2 client begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for the bytes that are read to find out the protocol: most requests fit.
const FIRST_READ_BYTES: usize = 1024;

/// Up to so many bytes are sent as one piece: copying them costs less than the kernel's way with several.
const SMALL_BYTES: usize = 1024;

/// A stream of bytes.
pub enum Stream {
    /// As they come.
    Plain(TcpStream),
    /// Encrypted on the wire.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Reads until it is sure which protocol is spoken; returns that and what was read.
    ///
    /// # Errors
    /// Whatever reading fails with; `UnexpectedEof` when the client says nothing at all.
    pub async fn sniff(&mut self) -> io::Result<(Protocol, Bytes)> {
        let mut first = BytesMut::with_capacity(FIRST_READ_BYTES);
        loop {
            if self.read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let known = first.len().min(PREFACE.len());
            if first[..known] != PREFACE[..known] {
                return Ok((Protocol::Http1, first.freeze()));
            }
            if known == PREFACE.len() {
                return Ok((Protocol::Http2, first.freeze()));
            }
        }
    }
}

/// One connection's bytes, for as long as it is open, upgraded or not.
pub struct Wire {
    stream: Stream,
    /// What was read and not yet handed on.
    first: Bytes,
    link: Arc<Link>,
    _seat: Seat,
}

impl Wire {
    /// The bytes of `link`, beginning with `first`.
    pub fn new(stream: Stream, first: Bytes, link: Arc<Link>, seat: Seat) -> Self {
        Self { stream, first, link, _seat: seat }
    }

    /// Ends the connection with a reset, which no client takes for an end.
    pub fn reset(self) {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        // It fails only on a connection that is gone already.
        let _ = stream.set_zero_linger();
    }

    /// Puts back what was read and not used.
    pub fn put_back(&mut self, unused: Bytes) {
        if self.first.is_empty() {
            self.first = unused;
        } else if !unused.is_empty() {
            self.first = [unused, self.first.clone()].concat().into();
        }
    }

    /// Waits for bytes and keeps them for the next who reads, with no room held meanwhile. False at the end.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.first.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let mut room = [MaybeUninit::uninit(); FIRST_READ_BYTES];
        let mut into = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut into))?;
        if into.filled().is_empty() {
            self.link.pulse.read(0);
        }
        self.first = Bytes::copy_from_slice(into.filled());
        Poll::Ready(Ok(!self.first.is_empty()))
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.link.pulse.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.link.pulse.write_blocked(),
        }
        written
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            let before = into.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
            self.link.pulse.read(into.filled().len() - before);
        } else {
            let bytes = self.first.len().min(into.remaining());
            into.put_slice(&self.first[..bytes]);
            self.first.advance(bytes);
            if self.first.is_empty() {
                self.first = Bytes::new();
            }
            self.link.pulse.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let written = if bytes <= SMALL_BYTES {
            let mut room = [0; SMALL_BYTES];
            let mut end = 0;
            for part in parts {
                room[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            Pin::new(&mut self.stream).poll_write(context, &room[..end])
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(context, parts)
        };
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        match flushed {
            Poll::Ready(_) => self.link.pulse.wrote(0),
            Poll::Pending => self.link.pulse.write_blocked(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        if closed.is_pending() {
            self.link.pulse.write_blocked();
        }
        closed
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
