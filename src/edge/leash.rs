//! A request's body that is cut where its sender's token is taken back, so that nobody acts with a token that is gone by
//! beginning a request early and ending it late.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::base::error::{Error, Result};
use crate::kernel::call::Body;
use crate::kernel::principal::Principal;

/// Why a body was cut, if it was: a handler may make another failure of it.
#[derive(Clone, Default)]
pub struct Cut(Arc<OnceLock<Error>>);

impl Cut {
    /// The refusal that its request is to be answered with.
    pub fn take(self) -> Option<Error> {
        self.0.get().cloned()
    }
}

struct Leashed {
    body: Body,
    principal: Principal,
    /// Made when the body first has to be waited for.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    cut: Cut,
}

/// A body of which no byte comes, and no end, once `principal` may ask no more.
pub fn leash(body: Body, principal: &Principal) -> (Body, Option<Cut>) {
    let cut = Cut::default();
    let leashed = Leashed { body, principal: principal.clone(), revoked: None, cut: cut.clone() };
    (Body::stream(leashed), Some(cut))
}

impl http_body::Body for Leashed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let Self { body, principal, revoked, cut } = &mut *self;
        let frame = Pin::new(body).poll_frame(context);
        if frame.is_pending() {
            let wait = || {
                let principal = principal.clone();
                Box::pin(async move { principal.revoked().await }) as Pin<Box<dyn Future<Output = ()> + Send>>
            };
            if revoked.get_or_insert_with(wait).as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        match principal.still_counts() {
            Ok(()) => frame,
            Err(error) => Poll::Ready(Some(Err(cut.0.get_or_init(|| error).clone()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
