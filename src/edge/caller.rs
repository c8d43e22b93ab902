//! The one gate in front of every route.
use std::net::SocketAddr;

use http::HeaderValue;
use http::request::Parts as Head;

use crate::base::error::{Error, Kind, Result};
use crate::edge::parts::Parts;
use crate::kernel::call::{Caller, Response};

/// What the gate says to a request.
pub enum Admission {
    /// It goes on to its route.
    Pass(Caller),
    /// It was a CORS preflight, and this is the answer to it.
    Preflight(Response),
}

/// The gate in front of every route. Cloning is cheap.
#[derive(Clone)]
pub struct Gatekeeper {}

impl Gatekeeper {
    /// A gate for the host that listens at `bound`.
    pub fn new(_parts: &Parts, _bound: SocketAddr) -> Self {
        Self {}
    }

    /// Lets a request through or refuses it; call it before anything of the request is logged.
    pub fn admit(
        &self,
        _head: &mut Head,
        _peer: SocketAddr,
        _local: SocketAddr,
        _scheme: &'static str,
    ) -> Result<Admission> {
        Err(Error::new(Kind::Internal, "not yet"))
    }

    /// The headers that let a foreign origin read the answer, errors included.
    pub fn share(&self, _origin: Option<&HeaderValue>, _response: &mut http::HeaderMap) {}
}
