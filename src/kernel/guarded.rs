//! A handler's answer whose panic is a failure of that one question, not of the task that waits for it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::error::{Error, Kind, Result};
use crate::base::shutdown::panic_text;
use crate::kernel::handler::Answer;

/// An answer on its way, or the panic that came instead of one.
pub struct Guarded<T>(Result<Answer<T>, Option<Error>>);

impl<T> Guarded<T> {
    /// Asks a handler; its panic becomes an answer of kind `Plugin`.
    pub fn ask(handler: impl FnOnce() -> Answer<T>) -> Self {
        // A handler that has panicked is never looked at again, so nothing half-done of it is seen.
        Self(catch_unwind(AssertUnwindSafe(handler)).map_err(|panic| Some(failure(&*panic))))
    }
}

impl<T> Future for Guarded<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match &mut self.0 {
            Ok(answer) => catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)))
                .unwrap_or_else(|panic| Poll::Ready(Err(failure(&*panic)))),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or_else(|| failure(&"asked again after its end")))),
        }
    }
}

fn failure(panic: &(dyn std::any::Any + Send)) -> Error {
    Error::new(Kind::Plugin, format!("the handler panicked: {}", panic_text(panic)))
}
