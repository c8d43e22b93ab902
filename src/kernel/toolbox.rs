//! The only way to run a tool: find it, check the arguments, pass the gate, run it within its time, check the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::kernel::call::ToolCall;
use crate::kernel::gate::{Facts, Gate};
use crate::kernel::guarded::Guarded;
use crate::kernel::registry::{Offered, Registry};

/// Runs tools for every door. Cloning is cheap.
#[derive(Clone)]
pub struct Toolbox {
    registry: Registry,
    gate: Arc<Gate>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
}

impl Toolbox {
    /// A toolbox over the tools of `registry`, behind `gate`.
    pub fn new(registry: Registry, gate: Gate) -> Self {
        Self { registry, gate: Arc::new(gate), tally: Arc::default() }
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
    /// Dropping the answer cancels the handler.
    ///
    /// # Errors
    /// `NotFound`: no plugin offers it. `Invalid`: the arguments do not fit its schema. `Denied`: the gate refused.
    /// `Busy`: the way to its handler is full. `Timeout`: it took too long. `Plugin`: it failed, or its result is not
    /// what it promised. All but `NotFound` blame the tool's plugin where it is to blame.
    pub async fn run(&self, call: ToolCall) -> Result<Json> {
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        let outcome = self.find_and_run(call).await;
        if outcome.is_err() {
            self.tally.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    async fn find_and_run(&self, call: ToolCall) -> Result<Json> {
        let snapshot = self.registry.snapshot();
        let tool: &Offered<_> = snapshot.tool(call.tool.as_str())?;
        let plugin = tool.plugin.manifest.id.shared();
        if let Some(failures) = tool.parameters.failures(call.arguments.value()) {
            let message = format!("the arguments of {} do not fit its schema: {failures}", tool.name);
            return Err(Error::new(Kind::Invalid, message));
        }
        let facts = Facts { side_effect: tool.side_effect, timeout: tool.timeout };
        let admitted = self.gate.admit(call, facts).await?;
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
}
