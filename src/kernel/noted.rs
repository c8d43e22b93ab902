//! What the record of a call says of the call itself and of what the gate decided.

use std::sync::Arc;

use crate::base::settings::Keeping;
use crate::kernel::call::ToolCall;
use crate::kernel::decision::{Decision, Outcome};
use crate::kernel::fingerprint::keyed_digest_of_arguments;
use crate::kernel::gate::Facts;
use crate::kernel::judge::Reason;
use crate::kernel::record::{Record, Text};

/// Longer arguments are not kept, only their digest.
const KEPT_BYTES: usize = 16 << 10;

/// Notes what is known of a call before anything is decided; of its tool, where there is one, the plugin's version and
/// the facts. Arguments that no schema speaks of are not kept: nobody knows what is secret in them, and so their digest
/// has a key, too.
pub fn note_call(record: &mut Record, keeping: Keeping, call: &ToolCall, tool: Option<(&Arc<str>, &Facts)>) {
    let (given, value) = (call.arguments.text(), call.arguments.value());
    let digest = match tool {
        Some((_, facts)) => facts.digest(&call.arguments),
        None => keyed_digest_of_arguments(given.as_bytes(), value),
    };
    record.digest = Text::Shared(digest.text());
    let Some((version, facts)) = tool else { return };
    record.plugin = Some(Text::sharing(&facts.plugin));
    record.version = Some(Text::sharing(version));
    record.side_effect = Some(facts.side_effect);
    record.fingerprint = Some(Text::Shared(facts.identity.fingerprint_text.clone()));
    record.prose = Some(Text::Shared(facts.identity.prose_text.clone()));
    if keeping.arguments && given.as_bytes().len() <= KEPT_BYTES {
        record.arguments = Some(if facts.hiding.is_some() {
            Text::of(&facts.shown(value).to_string())
        } else {
            Text::of(given.as_str())
        });
    }
}

/// Notes what the gate decided, and by what.
pub fn note_decision(record: &mut Record, decision: &Decision) {
    record.decision = Some(decision.outcome.as_str().into());
    record.reason = Some(decision.reason.as_str().into());
    record.rule = decision.rule.as_ref().map(|rule| Text::of(&rule.to_string()));
    record.approval = decision.approval.as_ref().map(Text::sharing);
    record.answered_by = decision.answered_by.as_ref().map(Text::sharing);
    record.specifier = decision.specifier.as_ref().map(Text::sharing);
}

/// Notes that the caller may call nothing.
pub fn note_no_scope(record: &mut Record) {
    record.decision = Some(Outcome::Denied.as_str().into());
    record.reason = Some(Reason::Scope.as_str().into());
}
