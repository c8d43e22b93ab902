//! Which rule decides a call, where it stands, and what would decide without it: as JSON, for people and programs.

use serde_json::{Value, json};

use crate::kernel::breaker::Tripped;
use crate::kernel::glob::Glob;
use crate::kernel::judge::{Judgement, Policy, Subject};
use crate::kernel::specifier::{Part, Specifier};

/// `{"tool", "decision", "reason", "why", "rule", "specifier", "parts", "without"}`: `rule` is `{"rule", "list", "place"}`
/// or null, `parts` what each simple command of a line is matched as, `without` the same judgement if `rule` were not
/// there, or null.
pub fn explanation(
    policy: &Policy,
    subject: &Subject,
    specifier: Option<&Specifier>,
    tripped: Option<Tripped>,
) -> Value {
    let judgement = policy.judge(subject, specifier, || tripped);
    let mut whole = told(&judgement);
    whole["tool"] = Value::from(&*subject.tool);
    whole["side_effect"] = Value::from(subject.side_effect);
    whole["fingerprint"] = Value::from(subject.fingerprint.to_string());
    whole["specifier"] = specifier.map_or(Value::Null, |specifier| Value::from(&*specifier.text));
    whole["parts"] = specifier.map_or(Value::Null, parts);
    whole["without"] = match &judgement.rule {
        None => Value::Null,
        Some(rule) => told(&policy.judge_without(subject, specifier, || tripped, |other| !other.is(rule))),
    };
    whole
}

fn told(judgement: &Judgement) -> Value {
    let rule = judgement.rule.as_ref();
    json!({
        "decision": judgement.verdict.as_str(),
        "reason": judgement.reason.as_str(),
        "why": judgement.reason.told(),
        "rule": rule.map(|rule| json!({
            "rule": rule.as_str(), "list": rule.list().as_str(), "place": rule.place().to_string(),
        })),
    })
}

fn parts(specifier: &Specifier) -> Value {
    let texts = |globs: &[Glob]| globs.iter().map(|glob| glob.as_str().to_owned()).collect::<Vec<_>>();
    let spelled = |part: &Part| part.spelled.as_ref().map(|spelled| spelled.form.as_str().to_owned());
    let part = |part: &Part| json!({ "forms": texts(&part.forms), "allowable": texts(&part.allowable), "spelled": spelled(part) });
    specifier.parts.iter().map(part).collect()
}
