//! Every limit as a row: its name, what it limits, how it is read and shown.

use std::time::Duration;

use serde_json::Value;

use crate::base::given::Given;
use crate::base::settings::Limits;

/// One limit.
pub struct Limit {
    /// Its name, with its unit, in the table `limits`; its environment variable is `PLUGBAY_LIMITS_` and the name.
    pub name: &'static str,
    /// What it limits, in one line.
    pub help: &'static str,
    /// Its place.
    pub slot: for<'a> fn(&'a mut Limits) -> Slot<'a>,
}

/// The place of a limit.
pub enum Slot<'a> {
    /// A number of bytes or of things, at least one.
    Number(&'a mut usize),
    /// The same, or 0 for no limit at all.
    Perhaps(&'a mut Option<usize>),
    /// A time, given in seconds.
    Time(&'a mut Duration),
}

impl Slot<'_> {
    /// Puts a given value in its place.
    ///
    /// # Errors
    /// It does not fit; the text says what was expected.
    pub fn set(self, given: &Given<'_>) -> Result<(), String> {
        match self {
            Self::Number(place) => {
                *place = given.number(1, usize::MAX as u64, "a whole number from 1, for example 1048576")? as usize;
            }
            Self::Perhaps(place) => {
                let number = given.number(0, usize::MAX as u64, "a whole number, 0 for no limit")? as usize;
                *place = (number > 0).then_some(number);
            }
            Self::Time(place) => *place = given.seconds()?,
        }
        Ok(())
    }

    /// The value in force.
    pub fn value(&self) -> Value {
        match self {
            Self::Number(place) => Value::from(**place),
            Self::Perhaps(place) => Value::from(place.unwrap_or(0)),
            Self::Time(place) => Value::from(place.as_secs_f64()),
        }
    }
}

/// Every limit.
pub const LIMITS: &[Limit] = &[
    Limit { name: "body_bytes", help: "bytes of a request's body", slot: |to| Slot::Number(&mut to.body_bytes) },
    Limit {
        name: "proxy_body_bytes",
        help: "bytes of a request's body to a plugin's server; 0 is no limit",
        slot: |to| Slot::Perhaps(&mut to.proxy_body_bytes),
    },
    Limit {
        name: "mcp_body_bytes",
        help: "bytes of a message on /mcp that is no call in its plainest form",
        slot: |to| Slot::Number(&mut to.mcp_body_bytes),
    },
    Limit { name: "head_bytes", help: "bytes of a request's head", slot: |to| Slot::Number(&mut to.head_bytes) },
    Limit {
        name: "head_time_s",
        help: "from the first byte of a request's head to its end",
        slot: |to| Slot::Time(&mut to.head_time),
    },
    Limit {
        name: "idle_time_s",
        help: "a kept-alive connection without a request",
        slot: |to| Slot::Time(&mut to.idle_time),
    },
    Limit {
        name: "silent_time_s",
        help: "a new connection that says nothing",
        slot: |to| Slot::Time(&mut to.silent_time),
    },
    Limit {
        name: "stall_time_s",
        help: "a body of which no byte comes, an answer of which no byte can be written",
        slot: |to| Slot::Time(&mut to.stall_time),
    },
    Limit { name: "connections", help: "open connections", slot: |to| Slot::Number(&mut to.connections) },
    Limit { name: "call_time_s", help: "from a question to its answer", slot: |to| Slot::Time(&mut to.call_time) },
    Limit { name: "frame_bytes", help: "bytes of a frame on /ws", slot: |to| Slot::Number(&mut to.frame_bytes) },
    Limit {
        name: "outbox_frames",
        help: "frames that wait for a /ws client",
        slot: |to| Slot::Number(&mut to.outbox_frames),
    },
    Limit {
        name: "outbox_bytes",
        help: "bytes that wait for a /ws client",
        slot: |to| Slot::Number(&mut to.outbox_bytes),
    },
    Limit {
        name: "mailbox_messages",
        help: "messages of one connection that wait for one channel",
        slot: |to| Slot::Number(&mut to.mailbox_messages),
    },
    Limit {
        name: "bridge_questions",
        help: "questions that wait for Python",
        slot: |to| Slot::Number(&mut to.bridge_questions),
    },
    Limit {
        name: "worker_threads",
        help: "Python threads for def handlers",
        slot: |to| Slot::Number(&mut to.worker_threads),
    },
    Limit {
        name: "hook_time_s",
        help: "import, setup and each hook of a plugin",
        slot: |to| Slot::Time(&mut to.hook_time),
    },
    Limit { name: "install_time_s", help: "each step of an installation", slot: |to| Slot::Time(&mut to.install_time) },
    Limit {
        name: "ready_time_s",
        help: "from the start of a child process to its ready line",
        slot: |to| Slot::Time(&mut to.ready_time),
    },
    Limit {
        name: "stop_grace_s",
        help: "from TERM to KILL when a child process is stopped",
        slot: |to| Slot::Time(&mut to.stop_grace),
    },
    Limit { name: "drain_time_s", help: "from the stop signal to the end", slot: |to| Slot::Time(&mut to.drain_time) },
    Limit {
        name: "approval_time_s",
        help: "a call that waits for a person's leave",
        slot: |to| Slot::Time(&mut to.approval_time),
    },
    Limit {
        name: "pending_time_s",
        help: "a call over MCP that waits for leave, whose client cannot be told meanwhile",
        slot: |to| Slot::Time(&mut to.pending_time),
    },
    Limit {
        name: "approvals",
        help: "calls that wait for a person; of one caller at most half of it",
        slot: |to| Slot::Number(&mut to.approvals),
    },
    Limit {
        name: "breaker_calls",
        help: "side effects of one caller within breaker_time_s; the next is asked for",
        slot: |to| Slot::Number(&mut to.breaker_calls),
    },
    Limit {
        name: "breaker_time_s",
        help: "the time in which side effects are counted",
        slot: |to| Slot::Time(&mut to.breaker_time),
    },
    Limit {
        name: "breaker_failures",
        help: "failures of one tool in a row; its next side effect is asked for",
        slot: |to| Slot::Number(&mut to.breaker_failures),
    },
    Limit { name: "result_bytes", help: "bytes of a tool's result", slot: |to| Slot::Number(&mut to.result_bytes) },
    Limit {
        name: "caller_calls",
        help: "tool calls of one caller that run or wait for leave",
        slot: |to| Slot::Number(&mut to.caller_calls),
    },
    Limit {
        name: "mcp_sessions",
        help: "open MCP sessions, of the eras that have them",
        slot: |to| Slot::Number(&mut to.mcp_sessions),
    },
    Limit {
        name: "caller_mcp_sessions",
        help: "the same, of one caller",
        slot: |to| Slot::Number(&mut to.caller_mcp_sessions),
    },
    Limit {
        name: "audit_records",
        help: "tool calls that run, and records of calls that wait to be written",
        slot: |to| Slot::Number(&mut to.audit_records),
    },
    Limit {
        name: "audit_time_s",
        help: "for room in the log of calls, and until a record is on the disk",
        slot: |to| Slot::Time(&mut to.audit_time),
    },
];
