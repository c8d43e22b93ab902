//! Who is asking, and what they may do.

use std::fmt;
use std::sync::Arc;

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Call tools and plugins' routes.
    Call,
    /// Answer approvals.
    Approve,
    /// Manage the host.
    Admin,
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
}

/// Who is asking. Cloning is cheap.
#[derive(Clone)]
pub struct Principal {
    name: Arc<str>,
    scopes: Scopes,
}

impl Principal {
    /// A principal of that name with these scopes.
    pub fn new(name: impl Into<Arc<str>>, scopes: Scopes) -> Self {
        Self { name: name.into(), scopes }
    }

    /// The name that people know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has `scope`.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.has(scope)
    }

    /// All its scopes.
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Knows the credentials. Cloning is cheap.
#[derive(Clone)]
pub struct Auth {}
