//! A response on its way to the client: what is checked of it, and when its request is over.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Frame, SizeHint};

use crate::base::error::{Error, Kind, Result};
use crate::edge::access::Account;
use crate::edge::link::Protocol;
use crate::kernel::call::{Body, Response};
use crate::kernel::principal::Principal;

/// The bytes of a response: a plugin's, or one of the host's own.
pub enum Content {
    /// From a handler.
    Kernel(Body),
    /// From the host's router.
    Axum(AxumBody),
}

/// A response's body with the account of its request, which ends with it.
pub struct Outgoing {
    content: Content,
    account: Account,
    /// A piece was given to an HTTP/2 connection and is not known to be taken.
    held_back: bool,
}

impl Outgoing {
    /// The body of the answer to the request of `account`.
    pub fn new(content: Content, account: Account) -> Self {
        Self { content, account, held_back: false }
    }

    /// On HTTP/2 a body is asked for its next piece only when the client has room for it.
    fn asked(&mut self) {
        if std::mem::take(&mut self.held_back) {
            self.account.turn().link().pulse.took_piece();
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.asked();
        let frame = match &mut self.content {
            Content::Kernel(body) => ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into)),
            Content::Axum(body) => ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into)),
        };
        if let Some(Err(_)) = &frame {
            self.account.turn().link().pulse.break_off();
        }
        if let Some(Ok(_)) = &frame
            && self.account.turn().link().protocol == Protocol::Http2
            && !self.is_end_stream()
        {
            self.held_back = true;
            self.account.turn().link().pulse.gave_piece();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Kernel(body) => body.is_end_stream(),
            Content::Axum(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Kernel(body) => body.size_hint(),
            Content::Axum(body) => body.size_hint(),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.asked();
    }
}

/// A body in pieces that is broken off when the token of who hears it is taken back.
struct Leashed {
    body: Body,
    principal: Principal,
    /// Made when the body first has to be waited for.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// A handler's response, whose body is broken off when `principal` may not hear more of it.
pub fn leashed(response: Response, principal: Principal) -> http::Response<Content> {
    response.map(|body| match body {
        Body::Stream(_) => Content::Kernel(Body::stream(Leashed { body, principal, revoked: None })),
        whole => Content::Kernel(whole),
    })
}

impl http_body::Body for Leashed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let Self { body, principal, revoked } = &mut *self;
        let frame = Pin::new(body).poll_frame(context);
        let is_over = match &frame {
            Poll::Ready(Some(_)) => principal.is_revoked(),
            Poll::Ready(None) => false,
            Poll::Pending => {
                let wait = || {
                    let principal = principal.clone();
                    Box::pin(async move { principal.revoked().await }) as Pin<Box<dyn Future<Output = ()> + Send>>
                };
                revoked.get_or_insert_with(wait).as_mut().poll(context).is_ready()
            }
        };
        if is_over {
            return Poll::Ready(Some(Err(Error::new(Kind::Unauthenticated, "the token was taken back"))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Lets a handler's response through when the wire can carry it as it is.
///
/// Lengths are checked because the server trusts them: a wrong one would make the rest of a body the next answer.
///
/// # Errors
/// `Plugin`: a status below 200, or a `content-length` that is not the body's.
pub fn check(method: &Method, mut response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_informational() {
        let message =
            format!("the handler answered {}: only a WebSocket's handshake has a status below 200", status.as_u16());
        return Err(Error::new(Kind::Plugin, message));
    }
    let announced = announced(response.headers())?;
    if method == Method::HEAD && announced.is_some()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        *response.body_mut() = Body::Empty;
        return Ok(response);
    }
    let bytes = match response.body() {
        Body::Empty => 0,
        Body::Full(bytes) => bytes.len() as u64,
        // The server counts while it sends, and cuts the connection when the length was wrong.
        Body::Stream(_) => return Ok(response),
    };
    match announced {
        Some(announced) if announced != bytes && method != Method::HEAD => Err(Error::new(
            Kind::Plugin,
            format!("the handler's content-length is {announced}, but its body has {bytes} bytes"),
        )),
        _ => Ok(response),
    }
}

fn announced(headers: &HeaderMap) -> Result<Option<u64>> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(None) };
    let number = first.to_str().ok().filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
    match (number.and_then(|text| text.parse().ok()), lengths.next()) {
        (Some(number), None) => Ok(Some(number)),
        _ => Err(Error::new(Kind::Plugin, "the handler's content-length is not one number")),
    }
}
