//! No side effect without leave: the one place where a wish to run a tool becomes leave to run it.

use std::time::Duration;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Mode;
use crate::kernel::auth::Scope;
use crate::kernel::call::ToolCall;

/// A call that may run. Only [`Gate::admit`] makes one, so no door goes round the gate.
#[derive(Debug)]
pub struct Admitted {
    call: ToolCall,
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
}

/// What the gate must know of a tool to decide.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Whether the tool changes anything.
    pub side_effect: bool,
    /// How long one call may take.
    pub timeout: Duration,
}

/// Decides whether a call may run.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    mode: Mode,
}

impl Gate {
    /// A gate in `mode`.
    pub fn new(mode: Mode) -> Self {
        Self { mode }
    }

    /// The mode that it is in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Lets a call through or refuses it: a side effect needs mode `autonomous`, all else needs the scope `call`.
    ///
    /// # Errors
    /// `Denied`: the caller lacks the scope, or the call would change something and nobody gave leave.
    pub async fn admit(&self, call: ToolCall, facts: Facts) -> Result<Admitted> {
        if !call.principal.has(Scope::Call) {
            return Err(Error::new(
                Kind::Denied,
                format!("{} may not call tools: its token needs the scope \"call\"", call.principal.name()),
            ));
        }
        match (facts.side_effect, self.mode) {
            (false, _) | (true, Mode::Autonomous) => Ok(Admitted { call }),
            (true, Mode::Default) => Err(Error::new(
                Kind::Denied,
                format!(
                    "{} has side effects, which this host allows only in mode \"autonomous\": start it with --mode autonomous",
                    call.tool
                ),
            )),
            (true, Mode::Plan) => Err(Error::new(
                Kind::Denied,
                format!(
                    "{} has side effects, which mode \"plan\" never allows: ask the operator to leave that mode",
                    call.tool
                ),
            )),
        }
    }
}
