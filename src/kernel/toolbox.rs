//! The only way to run a tool: find it, check the arguments, pass the gate, run it within its time, check the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::kernel::approvals::Approval;
use crate::kernel::call::ToolCall;
use crate::kernel::contribution::Tool;
use crate::kernel::gate::{Admitted, Facts, Gate, Patience};
use crate::kernel::guarded::Guarded;
use crate::kernel::registry::{Offered, Registry, Snapshot};

/// Runs tools for every door. Cloning is cheap.
#[derive(Clone)]
pub struct Toolbox {
    registry: Registry,
    gate: Gate,
    tally: Arc<Tally>,
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

impl Toolbox {
    /// A toolbox over the tools of `registry`, behind `gate`.
    pub fn new(registry: Registry, gate: Gate) -> Self {
        Self { registry, gate, tally: Arc::default() }
    }

    /// The gate that every call passes.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// How many calls were asked for and how many of them failed, refusals included, since the start.
    pub fn tally(&self) -> (u64, u64) {
        (self.tally.calls.load(Ordering::Relaxed), self.tally.failures.load(Ordering::Relaxed))
    }

    /// Runs one tool and returns its result, a JSON value. Needs a tokio runtime with a timer around the caller.
    ///
    /// Dropping the answer cancels the handler; while a person is asked, it denies the call.
    ///
    /// # Errors
    /// `NotFound`: no plugin offers it. `Invalid`: the arguments do not fit its schema. `Denied`: the gate refused.
    /// `Busy`: the way to its handler is full, or too many calls wait for a person. `Timeout`: it took too long.
    /// `Plugin`: it failed, or its result is not what it promised. All but `NotFound` blame the tool's plugin where it is
    /// to blame.
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
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        let outcome = self.find_and_run(call, patience).await;
        if outcome.is_err() {
            self.tally.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    async fn find_and_run(&self, call: ToolCall, patience: &Patience) -> Result<Ended> {
        let snapshot = self.registry.snapshot();
        let tool = snapshot.tool(call.tool.as_str())?;
        if let Some(failures) = tool.parameters.failures(call.arguments.value()) {
            let message = format!("the arguments of {} do not fit its schema: {failures}", tool.name);
            return Err(Error::new(Kind::Invalid, message));
        }
        let facts = self.facts(&snapshot, tool)?;
        let admitted = match self.gate.admit(call, &facts, patience).await {
            Ok(admitted) => admitted,
            Err(refusal) => match refusal.pending {
                Some(approval) => return Ok(Ended::Pending(approval)),
                None => return Err(refusal.error),
            },
        };
        if admitted.decision().approval.is_some() {
            self.still_offers(tool)?;
        }
        let result = answer(tool, admitted).await;
        let failed =
            result.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Plugin | Kind::Timeout | Kind::Upstream));
        self.gate.ended(&facts, &tool.name.shared(), failed);
        result.map(Ended::Done)
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
            parameters: tool.parameters.text().clone(),
        })
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
}

/// Runs an admitted call within its time, and checks its result.
async fn answer(tool: &Offered<Tool>, admitted: Admitted) -> Result<Json> {
    let plugin = tool.plugin.manifest.id.shared();
    let result = match tokio::time::timeout(tool.timeout, Guarded::ask(|| tool.handler.run(admitted))).await {
        Ok(result) => {
            result.map_err(|error| if error.plugin().is_none() { error.blame(plugin.clone()) } else { error })?
        }
        Err(_) => {
            let message = format!("{} gave no result within {} s", tool.name, tool.timeout.as_secs_f64());
            return Err(Error::new(Kind::Timeout, message).blame(plugin));
        }
    };
    if let Some(output) = &tool.output
        && let Some(failures) = output.failures(&result.value())
    {
        let message = format!("the result of {} does not fit its output schema: {failures}", tool.name);
        return Err(Error::new(Kind::Plugin, message).blame(plugin));
    }
    Ok(result)
}
