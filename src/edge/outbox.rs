//! A request on its way to a server: its head, then the pieces of its body, each only when the one before it has gone.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body as _;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::base::error::Error;
use crate::kernel::call::Body;

/// Pieces up to this are copied behind what frames them, which is less than sending two.
const COPIED_BYTES: usize = 8 << 10;
/// Room for a head that is kept for the next.
const KEPT_BYTES: usize = 4 << 10;

/// What is to be sent on one connection; nothing at first.
#[derive(Default)]
pub struct Outbox {
    /// What frames the body, and small pieces of it.
    bytes: Vec<u8>,
    /// So many of them have gone.
    gone: usize,
    /// A large piece, which goes after them.
    piece: Bytes,
    /// What ends it.
    tail: &'static [u8],
    body: Body,
    framing: Framing,
}

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is nothing more of it.
    #[default]
    Whole,
    /// After so many more bytes.
    Length(u64),
    /// With a chunk without bytes.
    Chunks,
}

/// Why a request does not go on.
#[derive(Debug)]
pub enum Stopped {
    /// The server takes no more of it.
    Refused(io::Error),
    /// Its body broke off.
    Broken(Error),
}

impl Outbox {
    /// Room for the next head, and for a body that is there with it. What is left there is sent next.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.clear();
        self.gone = 0;
        &mut self.bytes
    }

    /// Begins to send what was put into the room, as far as it goes at once. A body that is to come behind it is given
    /// back if nothing has gone.
    ///
    /// # Errors
    /// Nothing was sent, and never will be.
    pub fn begin(&mut self, stream: &TcpStream, body: Body, framing: Framing) -> Result<(), (io::Error, Body)> {
        match stream.try_write(&self.bytes) {
            Ok(bytes) => self.gone = bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err((error, body)),
        }
        (self.body, self.framing) = (body, framing);
        if self.framing == Framing::Whole && self.gone == self.bytes.len() {
            self.rest();
        }
        Ok(())
    }

    /// Whether everything has gone.
    pub fn is_empty(&self) -> bool {
        self.framing == Framing::Whole && self.has_gone()
    }

    /// Sends what there is; ready when everything has gone.
    pub fn poll_send(&mut self, stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            ready!(self.poll_flush(stream, context)).map_err(Stopped::Refused)?;
            if self.framing == Framing::Whole {
                self.rest();
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                // Fields behind the body are not passed on.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.put(piece).map_err(Stopped::Broken)?,
                    Err(_) => continue,
                },
                Some(Err(error)) => return Poll::Ready(Err(Stopped::Broken(error))),
                None => self.end().map_err(Stopped::Broken)?,
            }
        }
    }

    /// Frames a piece of the body.
    fn put(&mut self, piece: Bytes) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Whole => return Err(wrong_length()),
            Framing::Length(left) => *left = left.checked_sub(piece.len() as u64).ok_or_else(wrong_length)?,
            Framing::Chunks => {
                // Memory takes all that is written.
                let _ = write!(self.bytes, "{:x}\r\n", piece.len());
                self.tail = b"\r\n";
            }
        }
        if piece.len() <= COPIED_BYTES {
            self.bytes.extend_from_slice(&piece);
            self.bytes.extend_from_slice(std::mem::take(&mut self.tail));
        } else {
            self.piece = piece;
        }
        if self.framing == Framing::Length(0) && self.body.is_end_stream() {
            self.framing = Framing::Whole;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.framing {
            Framing::Whole | Framing::Length(0) => {}
            Framing::Length(_) => return Err(wrong_length()),
            Framing::Chunks => self.bytes.extend_from_slice(b"0\r\n\r\n"),
        }
        self.framing = Framing::Whole;
        Ok(())
    }

    fn has_gone(&self) -> bool {
        self.gone == self.bytes.len() && self.piece.is_empty() && self.tail.is_empty()
    }

    fn poll_flush(&mut self, stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.has_gone() {
            let parts = [&self.bytes[self.gone..], &*self.piece, self.tail].map(IoSlice::new);
            let mut written = ready!(Pin::new(&mut *stream).poll_write_vectored(context, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_bytes = written.min(self.bytes.len() - self.gone);
            self.gone += of_bytes;
            written -= of_bytes;
            let of_piece = written.min(self.piece.len());
            self.piece.advance(of_piece);
            self.tail = &self.tail[written - of_piece..];
        }
        self.room();
        Poll::Ready(Ok(()))
    }

    /// Lets go of what is no longer needed.
    fn rest(&mut self) {
        self.room();
        self.body = Body::Empty;
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }
}

/// The framing of the body of a request with `method`, said at the end of its head.
pub fn frame(body: &Body, method: &http::Method, into: &mut Vec<u8>) -> Framing {
    let may_have_body = matches!(*method, http::Method::POST | http::Method::PUT | http::Method::PATCH);
    let length = body.size_hint().exact();
    // Memory takes all that is written.
    let _ = match length {
        None => write!(into, "transfer-encoding: chunked\r\n\r\n"),
        Some(bytes) if bytes > 0 || may_have_body => write!(into, "content-length: {bytes}\r\n\r\n"),
        Some(_) => write!(into, "\r\n"),
    };
    match (body, length) {
        (Body::Empty, _) => Framing::Whole,
        (Body::Full(bytes), _) => {
            into.extend_from_slice(bytes);
            Framing::Whole
        }
        (Body::Stream(_), Some(bytes)) => Framing::Length(bytes),
        (Body::Stream(_), None) => Framing::Chunks,
    }
}

fn wrong_length() -> Error {
    Error::new(crate::base::error::Kind::Internal, "a request's body is not as long as it said")
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_body_of_unknown_length_is_announced_whatever_the_method() {
        struct Unknown;
        impl http_body::Body for Unknown {
            type Data = Bytes;
            type Error = Error;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
                Poll::Ready(None)
            }
        }
        let said = |body: Body, method| {
            let mut bytes = Vec::new();
            let framing = frame(&body, &method, &mut bytes);
            (String::from_utf8(bytes).expect("text"), framing)
        };
        let chunked = ("transfer-encoding: chunked\r\n\r\n".to_owned(), Framing::Chunks);
        assert_eq!(said(Body::stream(Unknown), Method::GET), chunked);
        assert_eq!(said(Body::Empty, Method::GET), ("\r\n".to_owned(), Framing::Whole));
        assert_eq!(said(Body::Empty, Method::POST), ("content-length: 0\r\n\r\n".to_owned(), Framing::Whole));
        let full = Body::from(Bytes::from_static(b"abc"));
        assert_eq!(said(full, Method::GET), ("content-length: 3\r\n\r\nabc".to_owned(), Framing::Whole));
    }
}
