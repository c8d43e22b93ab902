//! Who is asking, and what they may do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Call tools and plugins' routes.
    Call,
    /// Answer approvals.
    Approve,
    /// Manage the host.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Call, Self::Approve, Self::Admin];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub const ALL: Self = Self(0b111);

    /// These scopes.
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | 1 << *scope as u8))
    }

    /// Whether `scope` is one of them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }

    /// Whether all of `other` are among them.
    pub fn hold(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The scopes one by one, in the order of [`Scope::ALL`].
    pub fn each(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

/// Who is asking. Cloning is cheap.
#[derive(Clone)]
pub struct Principal {
    shared: Arc<Facts>,
}

struct Facts {
    name: Arc<str>,
    scopes: Scopes,
    expires: Option<OffsetDateTime>,
    revoked: CancellationToken,
}

impl Principal {
    /// A principal of that name with these scopes, whom nobody can revoke.
    pub fn new(name: impl Into<Arc<str>>, scopes: Scopes) -> Self {
        Self::until(name.into(), scopes, None)
    }

    /// The same for a token that ends at `expires` or earlier, by [`Principal::revoke`].
    pub(in crate::kernel) fn until(name: Arc<str>, scopes: Scopes, expires: Option<OffsetDateTime>) -> Self {
        Self { shared: Arc::new(Facts { name, scopes, expires, revoked: CancellationToken::new() }) }
    }

    /// The name that people know it by.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The same, shared.
    pub fn shared_name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Whether it has `scope`.
    pub fn has(&self, scope: Scope) -> bool {
        self.shared.scopes.has(scope)
    }

    /// All its scopes.
    pub fn scopes(&self) -> Scopes {
        self.shared.scopes
    }

    /// Takes back the token that it came with.
    pub(in crate::kernel) fn revoke(&self) {
        self.shared.revoked.cancel();
    }

    /// Whether its token was taken back or has expired.
    pub fn is_revoked(&self) -> bool {
        self.shared.revoked.is_cancelled() || self.shared.expires.is_some_and(|end| end <= OffsetDateTime::now_utc())
    }

    /// Refuses what is still under way for a token that was taken back since the request was let in. To be asked where a
    /// change can no longer be stopped: under its lock, say.
    ///
    /// # Errors
    /// `Unauthenticated`: the token was taken back or has expired.
    pub fn still_counts(&self) -> Result<()> {
        if !self.is_revoked() {
            return Ok(());
        }
        let message = format!("the token of {} was revoked or has expired meanwhile: nothing was done", self.name());
        Err(Error::new(Kind::Unauthenticated, message))
    }

    /// Resolves when its token is taken back or expires; a socket then closes. Needs a tokio runtime with a timer.
    pub async fn revoked(&self) {
        while !self.is_revoked() {
            let Some(end) = self.shared.expires else { return self.shared.revoked.cancelled().await };
            let left = Duration::try_from(end - OffsetDateTime::now_utc()).unwrap_or_default();
            // Short naps, because the clock on the wall may be set; a timer counts on.
            let nap = left.min(Duration::from_secs(60)) + Duration::from_millis(1);
            let _ = tokio::time::timeout(nap, self.shared.revoked.cancelled()).await;
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
