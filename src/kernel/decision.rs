//! What the gate has decided of one call, and by what: what the audit keeps of it.

use std::sync::Arc;

use crate::kernel::fingerprint::{Fingerprint, Identity};
use crate::kernel::judge::Reason;
use crate::kernel::rule::Rule;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was let through without asking.
    Allowed,
    /// It was refused without asking, or against a person's answer.
    Denied,
    /// A person let it through.
    AskedAllowed,
    /// A person refused it.
    AskedDenied,
    /// Nobody answered in time.
    AskedLapsed,
    /// Nobody has answered yet, and the caller may come back.
    AskedPending,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Allowed, Self::Denied, Self::AskedAllowed, Self::AskedDenied, Self::AskedLapsed, Self::AskedPending];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::AskedAllowed => "asked_allowed",
            Self::AskedDenied => "asked_denied",
            Self::AskedLapsed => "asked_lapsed",
            Self::AskedPending => "asked_pending",
        }
    }
}

/// What was decided of one call. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Decision {
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, with where it stands.
    pub rule: Option<Rule>,
    /// The approval that it waited at.
    pub approval: Option<Arc<str>>,
    /// Who answered it.
    pub answered_by: Option<Arc<str>>,
    /// What the call does, as rules see it.
    pub specifier: Option<Arc<str>>,
    /// What the tool was.
    pub fingerprint: Fingerprint,
    /// The digest of its prose.
    pub prose: Fingerprint,
}

impl Decision {
    /// A denial of a call of that tool, until it is decided otherwise.
    pub(in crate::kernel) fn new(identity: &Identity) -> Self {
        Self {
            outcome: Outcome::Denied,
            reason: Reason::Scope,
            rule: None,
            approval: None,
            answered_by: None,
            specifier: None,
            fingerprint: identity.fingerprint,
            prose: identity.prose,
        }
    }

    /// The same with another end.
    pub(in crate::kernel) fn ended(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
}
