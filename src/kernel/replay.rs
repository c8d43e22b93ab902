//! Calls that were recorded, judged by the rules of now: what a change of rules would have done.
//!
//! What a call would have worked on is made anew from its arguments: the recorded text alone does not say in which other
//! ways a command, a path or a URL may be read. Breakers are left out, since they depend on the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::kernel::fingerprint::Fingerprint;
use crate::kernel::gate::Gate;
use crate::kernel::judge::{Reason, Subject, Verdict};
use crate::kernel::readable::Readable;
use crate::kernel::record::Record;
use crate::kernel::registry::Snapshot;
use crate::kernel::specifier::{Specifier, Template};

/// Why a person is asked, beside an ask rule.
const ASKING: [Reason; 6] = [
    Reason::Unspoken,
    Reason::Changed,
    Reason::Unclear,
    Reason::Unreadable,
    Reason::TooManyCalls,
    Reason::TooManyFailures,
];

/// Calls that would now be decided otherwise, alike in tool, specifier and decisions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// Which tool.
    pub tool: String,
    /// What the calls would have worked on.
    pub specifier: Option<String>,
    /// What was decided: `allow`, `ask` or `deny`.
    pub was: &'static str,
    /// What would be now.
    pub now: &'static str,
    /// Why, in a word.
    pub reason: &'static str,
    /// The rule that would decide, with where it stands.
    pub rule: Option<String>,
}

/// What the rules of now say of recorded calls.
#[derive(Debug, Default, Serialize)]
pub struct Replay {
    /// How many calls were looked at: all that the gate had decided.
    pub calls: u64,
    /// How many of them would be allowed, asked for and denied.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// How many could not be judged, by why.
    pub unjudged: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    changes: BTreeMap<Change, u64>,
}

impl Replay {
    /// Judges one more call.
    pub fn add(&mut self, gate: &Gate, snapshot: &Snapshot, record: &Record) {
        let Some(was) = verdict_of(record) else { return };
        // What the caller's token lacked is no matter of rules.
        if record.reason.as_deref() == Some("scope") {
            return;
        }
        self.calls += 1;
        match judge(gate, snapshot, record, was) {
            Ok(change) => {
                *self.verdicts.entry(change.now).or_default() += 1;
                if change.was != change.now {
                    *self.changes.entry(change).or_default() += 1;
                }
            }
            Err(why) => *self.unjudged.entry(why).or_default() += 1,
        }
    }

    /// What would be decided otherwise, with how many calls, the most first; at most `limit`.
    pub fn changes(&self, limit: usize) -> Vec<(&Change, u64)> {
        let mut changes: Vec<_> = self.changes.iter().map(|(change, number)| (change, *number)).collect();
        changes.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        changes.truncate(limit);
        changes
    }
}

/// What was decided, as a verdict; none for a call that was never decided.
fn verdict_of(record: &Record) -> Option<&'static str> {
    match record.decision.as_deref()? {
        "allowed" => Some("allow"),
        "denied" if was_asked(record) => Some("ask"),
        "denied" => Some("deny"),
        decision if decision.starts_with("asked_") => Some("ask"),
        _ => None,
    }
}

/// Whether a person was to be asked about a call that is denied: there was no room for another that waits, or its caller's
/// token was taken back meanwhile.
fn was_asked(record: &Record) -> bool {
    let is = |reason: Reason| record.reason.as_deref() == Some(reason.as_str());
    let by_ask_rule = || record.rule.as_deref().is_some_and(|rule| rule.starts_with("ask "));
    ASKING.into_iter().any(is) || (is(Reason::Rule) && by_ask_rule())
}

fn judge(gate: &Gate, snapshot: &Snapshot, record: &Record, was: &'static str) -> Result<Change, &'static str> {
    let tool = snapshot.tool(&record.tool).ok();
    let read = Readable::of(&record.tool).map(Readable::template);
    let template = tool.and_then(|tool| tool.specifier_template.as_ref()).or(read.as_ref());
    let specifier = match (record.specifier.as_deref(), template, tool.is_some()) {
        (None, None, _) => None,
        (Some(text), Some(template), _) => Some(specifier_of(template, record, text)?),
        (None, Some(_), _) => return Err("the tool had no specifier then"),
        (Some(_), None, true) => return Err("the tool has no specifier any more"),
        (Some(_), None, false) => return Err("the tool is not loaded"),
    };
    let subject = match tool {
        Some(tool) => Subject {
            tool: tool.name.shared(),
            plugin: tool.plugin.manifest.id.shared(),
            fingerprint: snapshot.identity(tool.name.as_str()).ok_or("the tool is not loaded")?.fingerprint,
            side_effect: tool.side_effect,
        },
        None => Subject {
            tool: Arc::from(&*record.tool),
            plugin: Arc::from(record.plugin.as_deref().unwrap_or_default()),
            fingerprint: record.fingerprint.as_deref().and_then(Fingerprint::parse).ok_or("the tool is not loaded")?,
            side_effect: record.side_effect.unwrap_or(true),
        },
    };
    let judgement = gate.rulebook().policy().judge(&subject, specifier.as_ref(), || None);
    let now = match judgement.verdict {
        Verdict::Allow => "allow",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
    };
    Ok(Change {
        tool: record.tool.to_string(),
        specifier: record.specifier.as_deref().map(Into::into),
        was,
        now,
        reason: judgement.reason.as_str(),
        rule: judgement.rule.as_ref().map(ToString::to_string),
    })
}

/// What the call worked on, as the gate saw it.
fn specifier_of(template: &Template, record: &Record, text: &str) -> Result<Specifier, &'static str> {
    let arguments = record.arguments.as_deref().and_then(|kept| serde_json::from_str::<Value>(kept).ok());
    let Some(arguments) = arguments.filter(Value::is_object) else {
        let reason = "its arguments were not kept, and its specifier alone does not say all that they mean";
        return template.recorded(text).ok_or(reason);
    };
    let specifier = template.render(&arguments);
    // Another template, a link that leads elsewhere, a value that is hidden: nothing is known of what the gate saw.
    if *specifier.text == *text { Ok(specifier) } else { Err("its arguments mean something else now") }
}
