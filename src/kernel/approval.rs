//! One call that waits for a person: what is asked, how it stands, and how it is shown.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::kernel::call::Door;
use crate::kernel::fingerprint::Fingerprint;
use crate::kernel::judge::Subject;
use crate::kernel::principal::Principal;
use crate::kernel::specifier::Specifier;

/// What is asked of a person.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who wants it.
    pub caller: Principal,
    /// Which way it came in.
    pub door: Door,
    /// The tool.
    pub subject: Subject,
    /// What the tool is: what its fingerprint is the digest of.
    pub facts: Value,
    /// The digest of the tool's prose.
    pub prose: Fingerprint,
    /// What the call does, as rules see it.
    pub specifier: Option<Specifier>,
    /// The arguments, without secrets.
    pub arguments: Value,
    /// The digest of the arguments.
    pub digest: Fingerprint,
    /// Why it is asked: a word for programs and a part of a sentence.
    pub reason: (&'static str, &'static str),
    /// The rule that asks, or that no longer counts, with its place.
    pub rule: Option<String>,
    /// How the tool differs from the one that "always" was said for.
    pub differences: Vec<String>,
    /// Whether the tool's prose differs from that which was seen then.
    pub prose_changed: bool,
    /// The narrowest rules that would let it through; none when no rule can.
    pub rules: Vec<String>,
}

impl Question {
    /// Whether the same principal asks for the same call: what may come back to an approval. Whose token was taken back
    /// is no longer the same: another may have the name now.
    pub fn is_same(&self, other: &Self) -> bool {
        !self.caller.is_revoked()
            && self.caller.name() == other.caller.name()
            && self.subject.tool == other.subject.tool
            && self.subject.plugin == other.subject.plugin
            && self.subject.fingerprint == other.subject.fingerprint
            && self.digest == other.digest
    }
}

/// One approval, from its filing to its end. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Approval {
    /// 256 random bits.
    pub id: Arc<str>,
    /// What is asked.
    pub question: Arc<Question>,
    /// When it was filed.
    pub filed: OffsetDateTime,
    /// When it lapses.
    pub lapses: OffsetDateTime,
    /// How it stands.
    pub state: State,
    /// Where a person answers it.
    pub url: Arc<str>,
}

/// How an approval stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has answered.
    Pending,
    /// Somebody has.
    Answered(Answer),
    /// Nobody has in time.
    Lapsed,
    /// The caller left before anybody had.
    Left,
}

impl State {
    /// The word for it: `pending`, `allowed`, `denied`, `lapsed`, `left`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Answered(answer) if answer.allowed => "allowed",
            Self::Answered(_) => "denied",
            Self::Lapsed => "lapsed",
            Self::Left => "left",
        }
    }
}

/// What a person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the call may run.
    pub allowed: bool,
    /// Who said so.
    pub by: Arc<str>,
    /// Why, for the caller.
    pub reason: Option<Arc<str>>,
}

/// Through what an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// The answerer's own way in: the console, `/ws`, the command line.
    OwnDoor,
    /// The session of the agent that asks: it counts only where the operator trusts that client.
    CallersSession,
}

impl Serialize for Approval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let question = &self.question;
        let time = |at: OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let answer = match &self.state {
            State::Answered(answer) => serde_json::json!({ "by": &*answer.by, "reason": answer.reason }),
            _ => Value::Null,
        };
        let shown = serde_json::json!({
            "id": &*self.id,
            "state": self.state.as_str(),
            "answer": answer,
            "tool": &*question.subject.tool,
            "plugin": &*question.subject.plugin,
            "side_effect": question.subject.side_effect,
            "specifier": question.specifier.as_ref().map(|specifier| &*specifier.text),
            "arguments": question.arguments,
            "digest": question.digest.to_string(),
            "caller": question.caller.name(),
            "door": question.door.as_str(),
            "fingerprint": question.subject.fingerprint.to_string(),
            "prose": question.prose.to_string(),
            "reason": question.reason.0,
            "why": question.reason.1,
            "rule": question.rule,
            "differences": question.differences,
            "prose_changed": question.prose_changed,
            "rules": question.rules,
            "filed": time(self.filed),
            "lapses": time(self.lapses),
            "url": &*self.url,
        });
        shown.serialize(serializer)
    }
}
