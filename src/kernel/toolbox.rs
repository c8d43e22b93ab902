//! The only way to run a tool: find it, check the arguments, pass the gate, run it within its time and its limits, check
//! the result, and record all of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::settings::Limits;
use crate::kernel::approvals::Approval;
use crate::kernel::audit::Audit;
use crate::kernel::auth::{Principal, Scope};
use crate::kernel::call::{Door, ToolCall};
use crate::kernel::contribution::Tool;
use crate::kernel::entry::{Entry, Proof};
use crate::kernel::gate::{Admitted, Facts, Gate, Notice, Patience};
use crate::kernel::guarded::Guarded;
use crate::kernel::noted::{note_call, note_decision, note_no_scope};
use crate::kernel::quota::{Quota, Turn};
use crate::kernel::reading::{Reading, Wish};
use crate::kernel::record::Text;
use crate::kernel::registry::{Offered, Registry, Snapshot};

/// Characters of a tool's name that are recorded when nobody has read it.
const SHOWN: usize = 128;

/// Runs tools for every door. Cloning is cheap.
#[derive(Clone)]
pub struct Toolbox {
    registry: Registry,
    gate: Gate,
    audit: Audit,
    callers: Quota,
    tools: Quota,
    caller_calls: usize,
    result_bytes: usize,
    /// How long a resource or a prompt may take.
    call_time: Duration,
    tally: Arc<Tally>,
}

/// A call that its door cannot hand over, because it cannot be read or is one too many.
pub struct Misfit<'a> {
    /// Which way it came in.
    pub door: Door,
    /// Who asks.
    pub principal: &'a Principal,
    /// The tool that it names, whatever that is.
    pub tool: &'a str,
}

/// How a call has ended for its door.
#[derive(Debug)]
pub enum Ended {
    /// With a result.
    Done(Json),
    /// Its door's patience ended before a person has answered; the same call may come back to this approval.
    Pending(Approval),
}

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
}

/// What is known of a call while it goes through.
struct Course {
    entry: Entry,
    /// When its record must be on the disk.
    proof: Proof,
}

impl Toolbox {
    /// A toolbox over the tools of `registry`, behind `gate`, with the usual limits and without a record.
    pub fn new(registry: Registry, gate: Gate) -> Self {
        let Limits { caller_calls, result_bytes, call_time, .. } = Limits::default();
        Self {
            registry,
            gate,
            audit: Audit::none(),
            callers: Quota::default(),
            tools: Quota::default(),
            caller_calls,
            result_bytes,
            call_time,
            tally: Arc::default(),
        }
    }

    /// The same with these limits, and with a record of every call.
    #[must_use]
    pub fn recording(self, audit: Audit, limits: &Limits) -> Self {
        let Limits { caller_calls, result_bytes, call_time, .. } = *limits;
        Self { audit, caller_calls, result_bytes, call_time, ..self }
    }

    /// The gate that every call passes.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Where every call is recorded.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// How many calls were asked for and how many of them failed, refusals included, since the start.
    pub fn tally(&self) -> (u64, u64) {
        (self.tally.calls.load(Ordering::Relaxed), self.tally.failures.load(Ordering::Relaxed))
    }

    /// Runs one tool and returns its result, a JSON value. Needs a tokio runtime with a timer around the caller.
    ///
    /// Dropping the answer cancels the handler; while a person is asked, it denies the call. When the tool has a side
    /// effect, the record of the call is on the disk before this returns.
    ///
    /// # Errors
    /// `NotFound`: no plugin offers it. `Invalid`: the arguments do not fit its schema. `Denied`: the gate refused.
    /// `Busy`: as many calls as may are under way, the way to its handler is full, or too many calls wait for a person.
    /// `Unavailable`: a side effect cannot be recorded. `Timeout`: it took too long. `TooLarge`: its result is more than
    /// the limit. `Plugin`: it failed, or its result is not what it promised. Failures of the tool itself blame its plugin.
    pub async fn run(&self, call: ToolCall) -> Result<Json> {
        self.run_to_the_end(call, Patience::default()).await
    }

    /// The same, waiting for a person to the end of the approval; `patience` says who is told of it.
    ///
    /// # Errors
    /// As [`Toolbox::run`].
    pub async fn run_to_the_end(&self, call: ToolCall, patience: Patience) -> Result<Json> {
        match self.run_patiently(call, &Patience { most: None, ..patience }).await? {
            Ended::Done(result) => Ok(result),
            // Patience without an end never ends first.
            Ended::Pending(approval) => Err(Error::new(Kind::Denied, format!("answer at {}", approval.url))),
        }
    }

    /// The same, waiting for a person as `patience` says.
    ///
    /// # Errors
    /// As [`Toolbox::run`].
    pub async fn run_patiently(&self, call: ToolCall, patience: &Patience) -> Result<Ended> {
        let mut course = self.begin(&call).await?;
        let principal = call.principal.clone();
        let outcome = until_revoked(&principal, self.find_and_run(call, patience, &mut course)).await;
        match outcome {
            Some(outcome) => self.end(course, outcome).await,
            None => self.break_off(course, &principal).await,
        }
    }

    /// Reads a resource or a prompt: a call without side effect, through the same gate, limits and record.
    ///
    /// # Errors
    /// As [`Toolbox::run`].
    pub async fn read(&self, wish: Wish, patience: &Patience) -> Result<Ended> {
        let mut course = self.begin(&wish.call).await?;
        let principal = wish.call.principal.clone();
        match until_revoked(&principal, self.find_and_read(wish, patience, &mut course)).await {
            Some(outcome) => self.end(course, outcome).await,
            None => self.break_off(course, &principal).await,
        }
    }

    /// Records a call that its door refuses, and gives what its caller is told: `error`, or `Busy` where there is no room
    /// for the record.
    pub fn refuse(&self, misfit: &Misfit<'_>, error: Error) -> Error {
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        let tool: String = misfit.tool.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let principal = Text::sharing(misfit.principal.shared_name());
        match self.audit.enter_now(misfit.door.as_str(), principal, Text::of(&tool)) {
            Err(full) => full,
            Ok(mut entry) => {
                entry.note(|_, record| {
                    record.code = Some(error.kind().code().into());
                    if !misfit.principal.has(Scope::Call) {
                        note_no_scope(record);
                    }
                });
                entry.close_later();
                error
            }
        }
    }

    async fn begin(&self, call: &ToolCall) -> Result<Course> {
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        let (principal, tool) = (Text::sharing(call.principal.shared_name()), Text::sharing(&call.tool.shared()));
        let entry = self.audit.enter(call.door.as_str(), principal, tool).await;
        if entry.is_err() {
            self.tally.failures.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Course { entry: entry?, proof: Proof::Later })
    }

    async fn end(&self, mut course: Course, outcome: Result<Ended>) -> Result<Ended> {
        course.entry.note(|_, record| match &outcome {
            Ok(Ended::Done(_)) => record.outcome = "ok".into(),
            Ok(Ended::Pending(_)) => record.code = Some("approval_pending".into()),
            Err(error) => record.code = Some(error.kind().code().into()),
        });
        let outcome = course.entry.close(course.proof).await.and(outcome);
        if outcome.is_err() {
            self.tally.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Ends a call whose caller's token was taken back. It is answered, and what it may have changed is on the disk then.
    async fn break_off(&self, mut course: Course, principal: &Principal) -> Result<Ended> {
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        course.entry.note_cancelled();
        let ran = course.proof == Proof::OnDisk;
        course.entry.close(course.proof).await?;
        let had = if ran { "; it had begun to run, and may have changed what it was to change" } else { "" };
        let message =
            format!("the token of {} was taken back, or has expired, while the call ran{had}", principal.name());
        Err(Error::new(Kind::Unauthenticated, message))
    }

    async fn find_and_run(&self, call: ToolCall, patience: &Patience, course: &mut Course) -> Result<Ended> {
        let _turn = self.turn_of_caller(&call)?;
        let snapshot = self.registry.snapshot();
        let found = snapshot.tool(call.tool.as_str());
        let facts = found.as_ref().ok().map(|tool| self.facts(&snapshot, tool)).transpose()?;
        course.entry.note(|keeping, record| {
            let known = found.as_ref().ok().zip(facts.as_ref());
            note_call(record, keeping, &call, known.map(|(tool, facts)| (&tool.plugin.manifest.version, facts)));
        });
        // Who may call nothing is not told what there is.
        may_call(&call.principal, course)?;
        let tool = found?;
        let facts = facts.ok_or_else(|| Error::new(Kind::Internal, "a tool that was found has no facts"))?;
        if let Some(failures) = tool.parameters.failures(call.arguments.value()) {
            let message = format!("the arguments of {} do not fit its schema: {failures}", tool.name);
            return Err(Error::new(Kind::Invalid, message));
        }
        let admitted = match self.admit(call, &facts, patience, course).await {
            Ok(admitted) => admitted,
            Err(outcome) => return outcome,
        };
        if admitted.decision().approval.is_some() {
            self.still_offers(tool)?;
        }
        let _turn = self.turn_of_tool(tool)?;
        if tool.side_effect {
            self.audit.ready().await?;
            course.proof = Proof::OnDisk;
        }
        course.entry.note(|_, record| record.outcome = "failed".into());
        let plugin = tool.plugin.manifest.id.shared();
        let result = run_in_time(tool, admitted).await.and_then(|result| self.check(tool, result));
        let result = result.map_err(|error| if error.plugin().is_none() { error.blame(plugin) } else { error });
        let failed =
            result.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Plugin | Kind::Timeout | Kind::Upstream));
        self.gate.ended(&facts, &tool.name.shared(), failed);
        result.map(Ended::Done)
    }

    async fn find_and_read(&self, wish: Wish, patience: &Patience, course: &mut Course) -> Result<Ended> {
        let Wish { call, found } = wish;
        let _turn = self.turn_of_caller(&call)?;
        course.entry.note(|keeping, record| {
            let known = found.as_ref().ok().map(|reading| (&reading.plugin().manifest.version, reading.facts()));
            note_call(record, keeping, &call, known);
        });
        may_call(&call.principal, course)?;
        let reading = found?;
        let admitted = match self.admit(call, reading.facts(), patience, course).await {
            Ok(admitted) => admitted,
            Err(outcome) => return outcome,
        };
        course.entry.note(|_, record| record.outcome = "failed".into());
        let content = self
            .read_in_time(&reading, &admitted)
            .await
            .and_then(|content| self.of_size(format_args!("what was read"), content));
        let plugin = reading.plugin().manifest.id.shared();
        content.map(Ended::Done).map_err(|error| if error.plugin().is_none() { error.blame(plugin) } else { error })
    }

    async fn read_in_time(&self, reading: &Reading, leave: &Admitted) -> Result<Json> {
        let limit = self.call_time;
        let answer = tokio::time::timeout(limit, Guarded::ask(|| reading.read(leave))).await;
        answer.unwrap_or_else(|_| {
            Err(Error::new(Kind::Timeout, format!("the plugin gave no answer within {} s", limit.as_secs_f64())))
        })
    }

    /// Passes the gate and notes what it decides; without leave, how the call has ended.
    async fn admit(
        &self,
        call: ToolCall,
        facts: &Facts,
        patience: &Patience,
        course: &mut Course,
    ) -> Result<Admitted, Result<Ended>> {
        let patience = Patience { most: patience.most, notice: self.noting(patience, &course.entry) };
        match self.gate.admit(call, facts, &patience).await {
            Ok(admitted) => {
                course.entry.note(|_, record| note_decision(record, admitted.decision()));
                Ok(admitted)
            }
            Err(refusal) => {
                course.entry.note(|_, record| note_decision(record, &refusal.decision));
                Err(refusal.pending.map(Ended::Pending).ok_or(refusal.error))
            }
        }
    }

    /// What the gate must know of a tool.
    ///
    /// # Errors
    /// `NotFound`: the tool is of another snapshot.
    pub fn facts(&self, snapshot: &Snapshot, tool: &Offered<Tool>) -> Result<Facts> {
        let identity = snapshot.identity(tool.name.as_str()).cloned();
        let identity = identity.ok_or_else(|| Error::new(Kind::NotFound, format!("{} is gone", tool.name)))?;
        Ok(Facts {
            plugin: tool.plugin.manifest.id.shared(),
            identity,
            side_effect: tool.side_effect,
            template: tool.specifier_template.clone(),
            hiding: tool.parameters.hiding(),
        })
    }

    /// Tells the record, too, that a person is asked: who leaves meanwhile is told by nobody else.
    fn noting(&self, patience: &Patience, entry: &Entry) -> Option<Notice> {
        let (asked, told) = (entry.asked(), patience.notice.clone());
        let Some(asked) = asked else { return told };
        Some(Arc::new(move |approval| {
            // It is asked once.
            let specifier = approval.question.specifier.as_ref().map(|specifier| Text::sharing(&specifier.text));
            let _ = asked.set((approval.id.clone(), specifier));
            if let Some(told) = &told {
                told(approval);
            }
        }))
    }

    /// Says that what a person has let through is what is still offered: its plugin may have gone while it was asked.
    fn still_offers(&self, tool: &Offered<Tool>) -> Result<()> {
        let snapshot = self.registry.snapshot();
        if snapshot.tool(tool.name.as_str()).is_ok_and(|now| Arc::ptr_eq(&now.plugin, &tool.plugin)) {
            return Ok(());
        }
        let message = format!(
            "plugin {} of {} was taken out while a person was asked: call it again",
            tool.plugin.manifest.id, tool.name
        );
        Err(Error::new(Kind::Denied, message))
    }

    /// A caller that has too many calls under way is told so before anything is done for it.
    fn turn_of_caller(&self, call: &ToolCall) -> Result<Turn> {
        let name = call.principal.name();
        self.callers.enter(name, self.caller_calls).ok_or_else(|| {
            let message = format!("{} calls of {name} run or wait for leave: wait for one to end", self.caller_calls);
            Error::new(Kind::Busy, message)
        })
    }

    fn turn_of_tool(&self, tool: &Offered<Tool>) -> Result<Option<Turn>> {
        let Some(limit) = tool.concurrency else { return Ok(None) };
        let turn = self.tools.enter(tool.name.as_str(), limit.get()).ok_or_else(|| {
            let message =
                format!("{limit} calls of {} run, which is all that it allows at a time: ask again", tool.name);
            Error::new(Kind::Busy, message)
        });
        turn.map(Some)
    }

    /// Says that a value is not too large to be handed on; `what` it is stands in the message.
    fn of_size(&self, what: fmt::Arguments<'_>, value: Json) -> Result<Json> {
        let (bytes, most) = (value.as_bytes().len(), self.result_bytes);
        if bytes <= most {
            return Ok(value);
        }
        let message = format!(
            "{what} has {bytes} bytes, and at most {most} are handed on: return less, or raise limits.result_bytes"
        );
        Err(Error::new(Kind::TooLarge, message))
    }

    /// Whether a result may be handed on.
    fn check(&self, tool: &Offered<Tool>, result: Json) -> Result<Json> {
        let result = self.of_size(format_args!("the result of {}", tool.name), result)?;
        if let Some(output) = &tool.output
            && let Some(failures) = output.failures(&result.value()?)
        {
            let message = format!("the result of {} does not fit its output schema: {failures}", tool.name);
            return Err(Error::new(Kind::Plugin, message));
        }
        Ok(result)
    }
}

/// What comes of `work`, unless the token of who asked is taken back before.
async fn until_revoked<T>(principal: &Principal, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = work => Some(outcome),
        () = principal.revoked() => None,
    }
}

/// Says that a principal may call; the record says why not.
fn may_call(principal: &Principal, course: &mut Course) -> Result<()> {
    if principal.has(Scope::Call) {
        return Ok(());
    }
    course.entry.note(|_, record| note_no_scope(record));
    let message = format!("{} may not call tools: its token needs the scope \"call\"", principal.name());
    Err(Error::new(Kind::Denied, message))
}

async fn run_in_time(tool: &Offered<Tool>, admitted: Admitted) -> Result<Json> {
    let run = Guarded::ask(|| tool.handler.run(admitted));
    tokio::time::timeout(tool.timeout, run).await.unwrap_or_else(|_| {
        let message = format!("{} gave no result within {} s", tool.name, tool.timeout.as_secs_f64());
        Err(Error::new(Kind::Timeout, message))
    })
}
