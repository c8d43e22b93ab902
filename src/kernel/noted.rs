//! What the record of a call says of the call itself and of what the gate decided.

use crate::base::settings::Keeping;
use crate::kernel::call::ToolCall;
use crate::kernel::decision::{Decision, Outcome};
use crate::kernel::fingerprint::digest_of_arguments;
use crate::kernel::gate::Facts;
use crate::kernel::journal::{Record, Text, text};
use crate::kernel::judge::Reason;
use crate::kernel::redact::{may_hide, redacted};

/// Longer arguments are not kept, only their digest.
const KEPT_BYTES: usize = 16 << 10;

/// Notes what is known of a call before anything is decided; of its tool, where there is one, the plugin's version and
/// the facts. Arguments that no schema speaks of are not kept: nobody knows what is secret in them.
pub fn note_call(record: &mut Record, keeping: Keeping, call: &ToolCall, tool: Option<(&str, &Facts)>) {
    let (given, value) = (call.arguments.text(), call.arguments.value());
    record.digest = digest_of_arguments(given.as_bytes(), value).to_string().into();
    let Some((version, facts)) = tool else { return };
    record.plugin = Some(text(&facts.plugin));
    record.version = Some(text(version));
    record.side_effect = Some(facts.side_effect);
    record.fingerprint = Some(facts.identity.fingerprint.to_string().into());
    record.prose = Some(facts.identity.prose.to_string().into());
    if keeping.arguments && given.as_bytes().len() <= KEPT_BYTES {
        record.arguments = Some(if may_hide(facts.parameters.as_str()) {
            redacted(&facts.parameters.value(), value).to_string().into()
        } else {
            Text::from(given.as_str().to_owned())
        });
    }
}

/// Notes what the gate decided, and by what.
pub fn note_decision(record: &mut Record, decision: &Decision) {
    record.decision = Some(decision.outcome.as_str().into());
    record.reason = Some(decision.reason.as_str().into());
    record.rule = decision.rule.as_ref().map(|rule| text(&rule.to_string()));
    record.approval = decision.approval.as_deref().map(text);
    record.answered_by = decision.answered_by.as_deref().map(text);
    record.specifier = decision.specifier.as_deref().map(text);
}

/// Notes that the caller may call nothing.
pub fn note_no_scope(record: &mut Record) {
    record.decision = Some(Outcome::Denied.as_str().into());
    record.reason = Some(Reason::Scope.as_str().into());
}
