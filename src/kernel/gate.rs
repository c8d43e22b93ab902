//! No side effect without leave: the one place where a wish to run a tool becomes leave to run it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::{Limits, Mode, Settings};
use crate::kernel::approvals::{Answer, Approval, ApprovalLimits, Approvals, Question, State, Through};
use crate::kernel::auth::{Principal, Scope};
use crate::kernel::breaker::{Breaker, BreakerLimits};
use crate::kernel::call::{Arguments, ToolCall};
use crate::kernel::decision::{Decision, Outcome};
use crate::kernel::explain::explanation;
use crate::kernel::fingerprint::{Fingerprint, Identity, differences, digest_of_arguments, keyed_digest_of_arguments};
use crate::kernel::glob::Glob;
use crate::kernel::judge::{Judgement, Policy, Reason, Subject, Verdict};
use crate::kernel::readable::Readable;
use crate::kernel::redact::redacted;
use crate::kernel::rule::{List, Place, Rule};
use crate::kernel::rulebook::{NewRule, Rulebook, SeenTool};
use crate::kernel::rules::RuleSet;
use crate::kernel::specifier::{Part, Specifier, Template};
use crate::kernel::store::Store;

/// How many differences of a tool a person is shown.
const DIFFERENCES: usize = 20;
/// Bytes of arguments that are read at once: a long line for a shell takes a few hundredths of a second.
const SHORT: usize = 2 << 10;

/// A call that may run. Only [`Gate::admit`] makes one, so no door goes round the gate.
#[derive(Debug)]
pub struct Admitted {
    call: ToolCall,
    decision: Decision,
}

impl Admitted {
    /// The call.
    pub fn call(&self) -> &ToolCall {
        &self.call
    }

    /// The call, taken out.
    pub fn into_call(self) -> ToolCall {
        self.call
    }

    /// What was decided, and by what.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}

/// A call that may not run, or not yet.
#[derive(Debug)]
pub struct Refusal {
    /// What the caller is told. `Denied`; `Busy` when too many calls wait for a person.
    pub error: Error,
    /// What was decided, and by what.
    pub decision: Decision,
    /// The approval that lives on, where the caller's patience has ended before a person has answered.
    pub pending: Option<Approval>,
}

/// What the gate must know of a tool to decide. Cloning is cheap.
#[derive(Clone)]
pub struct Facts {
    /// Whose it is.
    pub plugin: Arc<str>,
    /// What it is.
    pub identity: Arc<Identity>,
    /// Whether it changes anything.
    pub side_effect: bool,
    /// How its specifiers are made.
    pub template: Option<Template>,
    /// The schema of its arguments, where it may mark something as secret.
    pub hiding: Option<Arc<Value>>,
}

impl Facts {
    /// The digest of a call's arguments.
    pub fn digest(&self, arguments: &Arguments) -> Fingerprint {
        let (text, value) = (arguments.text().as_bytes(), arguments.value());
        if self.hiding.is_some() { keyed_digest_of_arguments(text, value) } else { digest_of_arguments(text, value) }
    }

    /// Arguments as they may be shown and kept: without what the schema marks as secret.
    pub fn shown(&self, arguments: &Value) -> Value {
        self.hiding.as_ref().map_or_else(|| arguments.clone(), |schema| redacted(schema, arguments))
    }
}

/// Says that a person is asked, at once: the approval has the address.
pub type Notice = Arc<dyn Fn(&Approval) + Send + Sync>;

/// How a door waits for a person.
#[derive(Clone, Default)]
pub struct Patience {
    /// The longest wait; then the approval lives on for the same call to come back to. `None` waits to its end, and leaving
    /// earlier is a denial.
    pub most: Option<Duration>,
    /// Who is told that a person is asked.
    pub notice: Option<Notice>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This call may run.
    Once,
    /// It may, and so may all that these rules match; without any, those that the approval names.
    Always(Vec<String>),
    /// It may not.
    Deny,
}

/// Decides whether a call may run. Cloning is cheap: clones share everything.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    rulebook: Rulebook,
    breaker: Breaker,
    approvals: Approvals,
}

impl Gate {
    /// The gate of a host.
    ///
    /// # Errors
    /// As [`Rulebook::open`].
    pub fn open(settings: &Settings, store: &Store) -> Result<Self> {
        let trusted = settings.permissions.trusted_clients.clone();
        Ok(Self::made(Rulebook::open(settings, store)?, &settings.limits, trusted))
    }

    /// A gate without rules, in `mode`, where nobody can be asked.
    pub fn new(mode: Mode) -> Self {
        Self::made(Rulebook::empty(mode), &Limits::default(), Vec::new())
    }

    fn made(rulebook: Rulebook, limits: &Limits, trusted: Vec<Box<str>>) -> Self {
        let breaker = Breaker::new(BreakerLimits {
            calls: limits.breaker_calls,
            time: limits.breaker_time,
            failures: limits.breaker_failures,
        });
        let approvals = ApprovalLimits { time: limits.approval_time, number: limits.approvals };
        Self { shared: Arc::new(Shared { rulebook, breaker, approvals: Approvals::new(approvals, trusted) }) }
    }

    /// The mode that it is in.
    pub fn mode(&self) -> Mode {
        self.shared.rulebook.mode()
    }

    /// The rules.
    pub fn rulebook(&self) -> &Rulebook {
        &self.shared.rulebook
    }

    /// The calls that wait for a person.
    pub fn approvals(&self) -> &Approvals {
        &self.shared.approvals
    }

    /// Lets a call through or refuses it; where a person decides, waits for them as `patience` says.
    ///
    /// Dropping the answer while a person is asked is a denial.
    ///
    /// # Errors
    /// A refusal: the caller lacks the scope `call`, a rule or the mode forbids it, a person has denied it or nobody has
    /// answered, or the patience has ended first.
    pub async fn admit(&self, call: ToolCall, facts: &Facts, patience: &Patience) -> Result<Admitted, Box<Refusal>> {
        let mut decision = Decision::new(&facts.identity);
        if !call.principal.has(Scope::Call) {
            let message = format!("{} may not call tools: its token needs the scope \"call\"", call.principal.name());
            return Err(refusal(Error::new(Kind::Denied, message), decision));
        }
        let subject = subject(&call, facts);
        let specifier = specifier_of(facts, &call).await;
        decision.specifier = specifier.as_ref().map(|specifier| specifier.text.clone());
        let judgement = self.judge(&subject, specifier.as_ref(), call.principal.name());
        decision.reason = judgement.reason;
        decision.rule = judgement.rule.clone();
        match judgement.verdict {
            Verdict::Allow => Ok(Admitted { call, decision: decision.ended(Outcome::Allowed) }),
            Verdict::Deny => Err(refusal(denied(&call, &judgement), decision)),
            Verdict::Ask => self.ask(Asked { call, facts, subject, specifier, judgement, decision }, patience).await,
        }
    }

    /// Says how a call that was let through has ended, for the breakers.
    pub fn ended(&self, facts: &Facts, tool: &Arc<str>, failed: bool) {
        if facts.side_effect {
            self.shared.breaker.ended(tool, failed);
        }
    }

    /// What is to become of a call; an allowed side effect is counted.
    fn judge(&self, subject: &Subject, specifier: Option<&Specifier>, caller: &str) -> Judgement {
        let policy = self.shared.rulebook.policy();
        let tripped = || self.shared.breaker.look(caller, &subject.tool);
        let judgement = policy.judge(subject, specifier, tripped);
        if judgement.verdict != Verdict::Allow || !subject.side_effect {
            return judgement;
        }
        // Another call may have been counted since; none gets beyond the number.
        match self.shared.breaker.take(caller, &subject.tool) {
            None => judgement,
            Some(tripped) => policy.judge(subject, specifier, || Some(tripped)),
        }
    }

    async fn ask(&self, asked: Asked<'_>, patience: &Patience) -> Result<Admitted, Box<Refusal>> {
        let question = self.question(&asked);
        let Asked { call, facts, subject, mut decision, .. } = asked;
        let ticket = match self.shared.approvals.file(question) {
            Ok(ticket) => ticket,
            Err(error) => return Err(refusal(error, decision)),
        };
        decision.approval = Some(ticket.approval().id.clone());
        if let Some(notice) = patience.notice.as_ref().filter(|_| ticket.approval().state == State::Pending) {
            notice(ticket.approval());
        }
        let approval = ticket.approval().clone();
        let Some(ended) = ticket.ended(patience.most).await else {
            let message = format!("{} waits for a person: answer at {}, then call it again", call.tool, approval.url);
            let mut refusal = refusal(Error::new(Kind::Denied, message), decision.ended(Outcome::AskedPending));
            refusal.pending = Some(approval);
            return Err(refusal);
        };
        decision.answered_by = match &ended.state {
            State::Answered(answer) => Some(answer.by.clone()),
            _ => None,
        };
        if let Some((outcome, error)) = not_allowed(&call, &ended.state, ended.lapses - ended.filed) {
            return Err(refusal(error, decision.ended(outcome)));
        }
        if call.principal.is_revoked() {
            let message = format!("the token of {} was revoked while a person was asked", call.principal.name());
            return Err(refusal(Error::new(Kind::Denied, message), decision.ended(Outcome::Denied)));
        }
        // What was said meanwhile holds: no answer outranks a deny rule or `plan`, and it was given for this and no other.
        let now = specifier_of(facts, &call).await;
        let judgement = self.shared.rulebook.policy().judge(&subject, now.as_ref(), || None);
        if judgement.verdict == Verdict::Deny {
            decision.reason = judgement.reason;
            decision.rule = judgement.rule.clone();
            return Err(refusal(denied(&call, &judgement), decision.ended(Outcome::Denied)));
        }
        if now.map(|now| now.text) != decision.specifier {
            let message = format!("what {} would work on has changed since it was approved: call it again", call.tool);
            return Err(refusal(Error::new(Kind::Denied, message), decision.ended(Outcome::AskedDenied)));
        }
        if subject.side_effect {
            self.shared.breaker.count_one(call.principal.name());
        }
        Ok(Admitted { call, decision: decision.ended(Outcome::AskedAllowed) })
    }

    fn question(&self, asked: &Asked<'_>) -> Question {
        let Asked { call, facts, subject, judgement, .. } = asked;
        let specifier = asked.specifier.as_ref();
        let before = match judgement.rule.as_ref().map(Rule::place) {
            Some(Place::Store(id)) if judgement.reason == Reason::Changed => self.shared.rulebook.kept_rule(*id),
            _ => None,
        };
        let seen = before.and_then(|rule| rule.seen).or_else(|| self.last_seen(&subject.tool));
        Question {
            caller: call.principal.clone(),
            door: call.door,
            subject: subject.clone(),
            facts: facts.identity.facts.clone(),
            prose: facts.identity.prose,
            specifier: specifier.cloned(),
            arguments: facts.shown(call.arguments.value()),
            digest: facts.digest(&call.arguments),
            reason: (judgement.reason.as_str(), judgement.reason.told()),
            rule: judgement.rule.as_ref().map(ToString::to_string),
            differences: seen.as_ref().map_or_else(Vec::new, |seen| {
                let mut lines = differences(&seen.facts, &facts.identity.facts, DIFFERENCES);
                if *seen.plugin != *subject.plugin {
                    lines.insert(0, format!("plugin: {} → {}", seen.plugin, subject.plugin));
                }
                lines
            }),
            prose_changed: seen.is_some_and(|seen| seen.prose != facts.identity.prose.to_string()),
            rules: self.narrowest(subject, specifier, judgement),
        }
    }

    /// The tool of that name that somebody said "always" for last.
    fn last_seen(&self, tool: &str) -> Option<SeenTool> {
        let kept = self.shared.rulebook.kept();
        kept.iter().rev().filter_map(|rule| rule.seen.as_ref()).find(|seen| seen.facts["name"] == *tool).cloned()
    }

    /// The narrowest rules that would let the call through; none when no rule can.
    fn narrowest(&self, subject: &Subject, specifier: Option<&Specifier>, judgement: &Judgement) -> Vec<String> {
        if !matches!(judgement.reason, Reason::Unspoken | Reason::Changed) {
            return Vec::new();
        }
        let Some(specifier) = specifier else { return vec![subject.tool.to_string()] };
        let policy = self.shared.rulebook.policy();
        let mut needed: Vec<(&Part, &Glob)> = Vec::new();
        for part in &specifier.parts {
            let Some(form) = part.narrowest() else { return Vec::new() };
            let alone = Specifier { parts: vec![part.clone()], ..specifier.clone() };
            let is_allowed = policy.judge(subject, Some(&alone), || None).verdict == Verdict::Allow;
            // A rule for what another of them allows could never decide, and would not be kept.
            if !is_allowed && !needed.iter().any(|(_, other)| part.is_allowed_by(other)) {
                needed.retain(|(before, _)| !before.is_allowed_by(form));
                needed.push((part, form));
            }
        }
        needed.iter().map(|(_, form)| format!("{}({})", subject.tool, form.as_str())).collect()
    }

    /// Answers an approval. An "always" is kept before the call goes on, and only where the answer counts. Blocks until it
    /// is on the disk.
    ///
    /// # Errors
    /// As [`Approvals::claim`], and nothing is kept. `Invalid`: the rules are none, or do not let this call through.
    /// `Conflict`: no rule can let it through. `Unavailable`: the rules cannot be kept; then it waits on.
    pub fn answer(
        &self,
        id: &str,
        digest: &str,
        who: (&Principal, Through),
        (choice, reason): (&Choice, Option<&str>),
    ) -> Result<Approval> {
        let claim = self.shared.approvals.claim(id, digest, who)?;
        if let Choice::Always(rules) = choice {
            self.keep(&claim.approval().question, who.0.name(), rules)?;
        }
        let answer = Answer {
            allowed: *choice != Choice::Deny,
            by: who.0.name().into(),
            reason: reason.map(str::trim).filter(|reason| !reason.is_empty()).map(Into::into),
        };
        Ok(claim.answer(answer))
    }

    fn keep(&self, question: &Question, by: &str, rules: &[String]) -> Result<()> {
        if question.rules.is_empty() {
            let rule = question.rule.as_deref().map(|rule| format!(" ({rule})")).unwrap_or_default();
            let message =
                format!("no rule lets this call through for ever, because {}{rule}: answer once", question.reason.1);
            return Err(Error::new(Kind::Conflict, message));
        }
        let rules = if rules.is_empty() { &question.rules } else { rules };
        let mut all = self.shared.rulebook.policy().rules.rules().to_vec();
        for text in rules {
            all.push(Rule::parse(text, List::Allow, Place::Given)?);
        }
        let policy = Policy { mode: self.mode(), rules: Arc::new(RuleSet::new(all)) };
        if policy.judge(&question.subject, question.specifier.as_ref(), || None).verdict != Verdict::Allow {
            let message =
                format!("{rules:?} do not let this call through: the narrowest that do are {:?}", question.rules);
            return Err(Error::new(Kind::Invalid, message));
        }
        let seen = SeenTool {
            plugin: question.subject.plugin.to_string(),
            fingerprint: question.subject.fingerprint.to_string(),
            prose: question.prose.to_string(),
            facts: question.facts.clone(),
        };
        let new = rules.iter().map(|text| NewRule { list: List::Allow, text, by, seen: Some(seen.clone()) });
        self.shared.rulebook.add_all(new.collect())?;
        Ok(())
    }

    /// What would become of a call with these arguments now, as JSON; nothing is counted and nobody is asked. Blocks where
    /// a path is looked up.
    pub fn explain(&self, tool: &Arc<str>, facts: &Facts, caller: &str, arguments: &Value) -> Value {
        let subject = Subject {
            tool: tool.clone(),
            plugin: facts.plugin.clone(),
            fingerprint: facts.identity.fingerprint,
            side_effect: facts.side_effect,
        };
        let specifier = facts.template.as_ref().map(|template| template.render(arguments));
        let tripped = self.shared.breaker.look(caller, tool);
        explanation(&self.shared.rulebook.policy(), &subject, specifier.as_ref(), tripped)
    }

    /// The same of a resource or a prompt, whoever offers it.
    pub fn explain_reading(&self, readable: Readable, arguments: &Value) -> Value {
        let subject = Subject {
            tool: readable.as_str().into(),
            plugin: "".into(),
            fingerprint: Fingerprint::of(&Value::Null),
            side_effect: false,
        };
        explanation(&self.shared.rulebook.policy(), &subject, Some(&readable.template().render(arguments)), None)
    }
}

/// A call that a person decides on.
struct Asked<'a> {
    call: ToolCall,
    facts: &'a Facts,
    subject: Subject,
    specifier: Option<Specifier>,
    judgement: Judgement,
    decision: Decision,
}

fn subject(call: &ToolCall, facts: &Facts) -> Subject {
    Subject {
        tool: call.tool.shared(),
        plugin: facts.plugin.clone(),
        fingerprint: facts.identity.fingerprint,
        side_effect: facts.side_effect,
    }
}

/// What a call does. A path is looked up, and what is long is read, where it holds up no other request.
async fn specifier_of(facts: &Facts, call: &ToolCall) -> Option<Specifier> {
    let template = facts.template.as_ref()?;
    if !template.asks_the_disk() && call.arguments.text().as_str().len() <= SHORT {
        return Some(template.render(call.arguments.value()));
    }
    let (asked, arguments) = (template.clone(), call.arguments.value().clone());
    match tokio::task::spawn_blocking(move || asked.render(&arguments)).await {
        Ok(specifier) => Some(specifier),
        // Nothing is known of what it does.
        Err(_) => Some(template.render(&Value::Null)),
    }
}

fn refusal(error: Error, decision: Decision) -> Box<Refusal> {
    Box::new(Refusal { error, decision, pending: None })
}

fn denied(call: &ToolCall, judgement: &Judgement) -> Error {
    let message = match (&judgement.rule, judgement.reason) {
        (Some(rule), _) => format!("{} is forbidden here by {rule}: ask the operator", call.tool),
        (None, Reason::Plan) => format!(
            "{} has side effects, which mode \"plan\" never allows: ask the operator to leave that mode",
            call.tool
        ),
        (None, reason) => format!("{} is forbidden here, because {}", call.tool, reason.told()),
    };
    Error::new(Kind::Denied, message)
}

/// Why a call that was asked for may not run; `None` when it may.
fn not_allowed(call: &ToolCall, state: &State, waited: time::Duration) -> Option<(Outcome, Error)> {
    let (outcome, message) = match state {
        State::Answered(Answer { allowed: true, .. }) => return None,
        State::Answered(Answer { by, reason: Some(reason), .. }) => {
            (Outcome::AskedDenied, format!("{by} has denied {}: {reason}", call.tool))
        }
        State::Answered(Answer { by, .. }) => (Outcome::AskedDenied, format!("{by} has denied {}", call.tool)),
        State::Lapsed | State::Pending => {
            let seconds = waited.as_seconds_f64();
            (
                Outcome::AskedLapsed,
                format!("nobody has answered within {seconds} s whether {} may run, so it may not", call.tool),
            )
        }
        State::Left => (Outcome::AskedDenied, format!("the caller of {} has left", call.tool)),
    };
    Some((outcome, Error::new(Kind::Denied, message)))
}
