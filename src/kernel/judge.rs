//! What the rules, the mode and the breakers say of one call: a pure question with a pure answer.
//!
//! The first that speaks decides: a deny rule; mode `plan` and a side effect; an ask rule, or something that cannot be
//! known for sure; a tripped breaker and a side effect; no side effect; mode `autonomous`; allow rules; else ask.

use std::sync::Arc;

use crate::base::settings::Mode;
use crate::kernel::breaker::Tripped;
use crate::kernel::fingerprint::Fingerprint;
use crate::kernel::rule::{List, Rule};
use crate::kernel::rules::{Match, RuleSet, allows, matches};
use crate::kernel::specifier::Specifier;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It runs.
    Allow,
    /// It does not.
    Deny,
    /// A person decides.
    Ask,
}

impl Verdict {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its caller may call no tools at all.
    Scope,
    /// A rule says so.
    Rule,
    /// Mode `plan` lets no side effect through.
    Plan,
    /// A deny or ask rule matches or not, depending on what is not known of the call.
    Unclear,
    /// The line for a shell could not be taken apart.
    Unreadable,
    /// The caller has had its number of side effects for now.
    TooManyCalls,
    /// The tool has failed too often in a row.
    TooManyFailures,
    /// It has no side effect.
    Harmless,
    /// Mode `autonomous`.
    Autonomous,
    /// A person has allowed it for ever, but for a tool that was another.
    Changed,
    /// Nothing speaks of it.
    Unspoken,
}

impl Reason {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scope => "scope",
            Self::Rule => "rule",
            Self::Plan => "plan",
            Self::Unclear => "unclear",
            Self::Unreadable => "unreadable",
            Self::TooManyCalls => "too_many_calls",
            Self::TooManyFailures => "too_many_failures",
            Self::Harmless => "no_side_effect",
            Self::Autonomous => "autonomous",
            Self::Changed => "tool_changed",
            Self::Unspoken => "no_rule",
        }
    }

    /// The same in a sentence's part, for people: `… because <this>`.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Scope => "its caller lacks the scope \"call\"",
            Self::Rule => "a rule says so",
            Self::Plan => "mode \"plan\" lets no side effect through",
            Self::Unclear => "a rule may match it, depending on what is not known of the call",
            Self::Unreadable => "its command line could not be taken apart",
            Self::TooManyCalls => "its caller has had many side effects in a short time",
            Self::TooManyFailures => "the tool has failed several times in a row",
            Self::Harmless => "it has no side effect",
            Self::Autonomous => "mode \"autonomous\" lets side effects through",
            Self::Changed => "the tool is no longer what it was when \"always\" was said",
            Self::Unspoken => "it has a side effect and no rule speaks of it",
        }
    }
}

/// The tool that is called.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name.
    pub tool: Arc<str>,
    /// Whose it is.
    pub plugin: Arc<str>,
    /// What it is.
    pub fingerprint: Fingerprint,
    /// Whether it changes anything.
    pub side_effect: bool,
}

/// What is to become of a call, and why.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The rule that decides, or that would if more were known, or that no longer counts.
    pub rule: Option<Rule>,
}

impl Judgement {
    fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, rule: None }
    }

    fn by(verdict: Verdict, reason: Reason, rule: &Rule) -> Self {
        Self { verdict, reason, rule: Some(rule.clone()) }
    }
}

/// The rules of one moment and what else decides beside them.
#[derive(Clone)]
pub struct Policy {
    /// The mode.
    pub mode: Mode,
    /// The rules.
    pub rules: Arc<RuleSet>,
}

impl Policy {
    /// What is to become of a call. `tripped` is asked only when nothing earlier has decided and it has a side effect.
    pub fn judge(
        &self,
        subject: &Subject,
        specifier: Option<&Specifier>,
        tripped: impl FnOnce() -> Option<Tripped>,
    ) -> Judgement {
        self.judge_without(subject, specifier, tripped, |_| true)
    }

    /// The same as if only the rules were there that `counts` says.
    pub fn judge_without(
        &self,
        subject: &Subject,
        specifier: Option<&Specifier>,
        tripped: impl FnOnce() -> Option<Tripped>,
        counts: impl Fn(&Rule) -> bool,
    ) -> Judgement {
        let rules = self.rules.of_tool(&subject.tool);
        let fits = |rule: &&Rule| counts(rule) && is_meant(rule, subject);
        let strongest = |list: List| {
            let candidates = rules.candidates(list, specifier).into_iter().filter(fits);
            let found = candidates.map(|rule| (matches(rule, specifier), rule));
            found.reduce(|best, next| if next.0 > best.0 { next } else { best }).filter(|(how, _)| *how != Match::No)
        };
        let denied = strongest(List::Deny);
        if let Some((Match::Yes, rule)) = denied {
            return Judgement::by(Verdict::Deny, Reason::Rule, rule);
        }
        if subject.side_effect && self.mode == Mode::Plan {
            return Judgement::new(Verdict::Deny, Reason::Plan);
        }
        let asked = strongest(List::Ask);
        if let Some((Match::Yes, rule)) = asked {
            return Judgement::by(Verdict::Ask, Reason::Rule, rule);
        }
        if specifier.is_some_and(|specifier| specifier.unreadable) {
            return Judgement::new(Verdict::Ask, Reason::Unreadable);
        }
        if let Some((_, rule)) = denied.or(asked) {
            return Judgement::by(Verdict::Ask, Reason::Unclear, rule);
        }
        if !subject.side_effect {
            return Judgement::new(Verdict::Allow, Reason::Harmless);
        }
        match tripped() {
            Some(Tripped::Calls) => return Judgement::new(Verdict::Ask, Reason::TooManyCalls),
            Some(Tripped::Failures) => return Judgement::new(Verdict::Ask, Reason::TooManyFailures),
            None => {}
        }
        if self.mode == Mode::Autonomous {
            return Judgement::new(Verdict::Allow, Reason::Autonomous);
        }
        let allowing = rules.candidates(List::Allow, specifier);
        if let Some(rule) = allowed_by(allowing.iter().copied().filter(fits), specifier) {
            return Judgement::by(Verdict::Allow, Reason::Rule, rule);
        }
        // Were it not for the tool's change, it would have been allowed.
        match allowed_by(allowing.iter().copied().filter(|rule| counts(rule)), specifier) {
            Some(_) => {
                let outdated = allowing.iter().copied().filter(|rule| counts(rule) && !is_meant(rule, subject));
                let rule = allowed_by(outdated.clone(), specifier).or_else(|| outdated.clone().next());
                Judgement { verdict: Verdict::Ask, reason: Reason::Changed, rule: rule.cloned() }
            }
            None => Judgement::new(Verdict::Ask, Reason::Unspoken),
        }
    }
}

/// Whether a rule that was made for one tool was made for this one.
fn is_meant(rule: &Rule, subject: &Subject) -> bool {
    rule.seen().is_none_or(|seen| seen.fingerprint == subject.fingerprint && seen.plugin == subject.plugin)
}

/// The rule that allows the call: one of every call, or of those that allow its parts the first part's.
fn allowed_by<'a>(rules: impl Iterator<Item = &'a Rule> + Clone, specifier: Option<&Specifier>) -> Option<&'a Rule> {
    let Some(specifier) = specifier else { return allows(rules, None) };
    let mut deciding = None;
    for part in &specifier.parts {
        let rule = allows(rules.clone(), Some(part))?;
        deciding.get_or_insert(rule);
    }
    deciding
}
