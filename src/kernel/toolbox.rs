//! The only way to run a tool: find it, check the arguments, pass the gate, run it within its time and its limits, check
//! the result, and record all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::settings::{Keeping, Limits};
use crate::kernel::audit::{Audit, Entry, Proof};
use crate::kernel::call::ToolCall;
use crate::kernel::contribution::Tool;
use crate::kernel::gate::{Admitted, Facts, Gate};
use crate::kernel::guarded::Guarded;
use crate::kernel::journal::{Record, text};
use crate::kernel::quota::{Quota, Turn};
use crate::kernel::registry::{Offered, Registry};

/// Longer arguments are not kept, only their digest.
const KEPT_BYTES: usize = 16 << 10;

/// Runs tools for every door. Cloning is cheap.
#[derive(Clone)]
pub struct Toolbox {
    registry: Registry,
    gate: Arc<Gate>,
    audit: Audit,
    /// Calls by caller, and by tool.
    quotas: (Quota, Quota),
    caller_calls: usize,
    result_bytes: usize,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
}

impl Toolbox {
    /// A toolbox over the tools of `registry`, behind `gate`, with the usual limits and without a record.
    pub fn new(registry: Registry, gate: Gate) -> Self {
        let Limits { caller_calls, result_bytes, .. } = Limits::default();
        let (audit, quotas, tally) = (Audit::none(), Default::default(), Arc::default());
        Self { registry, gate: Arc::new(gate), audit, quotas, caller_calls, result_bytes, tally }
    }

    /// The same with these limits, and with a record of every call.
    #[must_use]
    pub fn recording(self, audit: Audit, limits: &Limits) -> Self {
        Self { audit, caller_calls: limits.caller_calls, result_bytes: limits.result_bytes, ..self }
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
    /// Dropping the answer cancels the handler. When the tool has a side effect, the record of the call is on the disk
    /// before this returns.
    ///
    /// # Errors
    /// `NotFound`: no plugin offers it. `Invalid`: the arguments do not fit its schema. `Denied`: the gate refused.
    /// `Busy`: as many calls as may are running already, or the way to its handler is full. `Unavailable`: a side effect
    /// cannot be recorded. `Timeout`: it took too long. `TooLarge`: its result is more than the limit. `Plugin`: it
    /// failed, or its result is not what it promised. All but `NotFound` blame the tool's plugin where it is to blame.
    pub async fn run(&self, call: ToolCall) -> Result<Json> {
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        let outcome = self.run_and_record(call).await;
        if outcome.is_err() {
            self.tally.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    async fn run_and_record(&self, call: ToolCall) -> Result<Json> {
        let mut entry = self.audit.enter(call.door.as_str(), call.principal.name(), call.tool.as_str()).await?;
        let mut proof = Proof::Later;
        let outcome = self.find_and_run(call, &mut entry, &mut proof).await;
        entry.note(|_, record| match &outcome {
            Ok(_) => record.outcome = "ok".into(),
            Err(error) => record.code = Some(error.kind().code().into()),
        });
        entry.close(proof).await?;
        outcome
    }

    async fn find_and_run(&self, call: ToolCall, entry: &mut Entry, proof: &mut Proof) -> Result<Json> {
        let _turn = self.turn_of_caller(&call)?;
        let snapshot = self.registry.snapshot();
        let found = snapshot.tool(call.tool.as_str());
        entry.note(|keeping, record| note_call(record, keeping, &call, found.as_ref().ok()));
        let tool = found?;
        if let Some(failures) = tool.parameters.failures(call.arguments.value()) {
            let message = format!("the arguments of {} do not fit its schema: {failures}", tool.name);
            return Err(Error::new(Kind::Invalid, message));
        }
        let facts = Facts { side_effect: tool.side_effect, timeout: tool.timeout };
        let admitted = self.gate.admit(call, facts).await?;
        let _turn = self.turn_of_tool(tool)?;
        if tool.side_effect {
            self.audit.ready().await?;
            *proof = Proof::OnDisk;
        }
        entry.note(|_, record| record.outcome = "failed".into());
        let plugin = tool.plugin.manifest.id.shared();
        let result = run_in_time(tool, admitted).await;
        let result = result.and_then(|result| self.check(tool, result));
        result.map_err(|error| if error.plugin().is_none() { error.blame(plugin) } else { error })
    }

    /// A caller that has too many calls under way is told so before anything is done for it.
    fn turn_of_caller(&self, call: &ToolCall) -> Result<Turn> {
        let name = call.principal.name();
        self.quotas.0.enter(name, self.caller_calls).ok_or_else(|| {
            let message = format!("{} calls of {name} run or wait for leave: wait for one to end", self.caller_calls);
            Error::new(Kind::Busy, message)
        })
    }

    fn turn_of_tool(&self, tool: &Offered<Tool>) -> Result<Option<Turn>> {
        let Some(limit) = tool.concurrency else { return Ok(None) };
        let turn = self.quotas.1.enter(tool.name.as_str(), limit.get()).ok_or_else(|| {
            let message =
                format!("{limit} calls of {} run, which is all that it allows at a time: ask again", tool.name);
            Error::new(Kind::Busy, message)
        });
        turn.map(Some)
    }

    /// Whether a result may be handed on.
    fn check(&self, tool: &Offered<Tool>, result: Json) -> Result<Json> {
        let (bytes, most) = (result.as_bytes().len(), self.result_bytes);
        if bytes > most {
            let message = format!(
                "the result of {} has {bytes} bytes, and at most {most} are handed on: return less, or raise \
                 limits.result_bytes",
                tool.name
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        if let Some(output) = &tool.output
            && let Some(failures) = output.failures(&result.value())
        {
            let message = format!("the result of {} does not fit its output schema: {failures}", tool.name);
            return Err(Error::new(Kind::Plugin, message));
        }
        Ok(result)
    }
}

async fn run_in_time(tool: &Offered<Tool>, admitted: Admitted) -> Result<Json> {
    let run = Guarded::ask(|| tool.handler.run(admitted));
    tokio::time::timeout(tool.timeout, run).await.unwrap_or_else(|_| {
        let message = format!("{} gave no result within {} s", tool.name, tool.timeout.as_secs_f64());
        Err(Error::new(Kind::Timeout, message))
    })
}

/// What the record has of a call before anything is decided.
fn note_call(record: &mut Record, keeping: Keeping, call: &ToolCall, tool: Option<&&Arc<Offered<Tool>>>) {
    record.digest = call.arguments.digest().into();
    if keeping.arguments && call.arguments.text().as_bytes().len() <= KEPT_BYTES {
        record.arguments = Some(text(call.arguments.text().as_str()));
    }
    if let Some(tool) = tool {
        record.plugin = Some(text(tool.plugin.manifest.id.as_str()));
        record.version = Some(text(&tool.plugin.manifest.version));
        record.side_effect = Some(tool.side_effect);
    }
}
