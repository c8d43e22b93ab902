//! The channel `approvals` of `/ws`: who may answer is told of each approval, and answers here.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::base::error::{Error, Kind, Result};
use crate::base::frame::{ClientFrame, ServerFrame};
use crate::base::json::Json;
use crate::base::shutdown::Shutdown;
use crate::kernel::approvals::{Approval, Through};
use crate::kernel::auth::{Principal, Scope};
use crate::kernel::connection::Connection;
use crate::kernel::gate::{Choice, Gate};
use crate::kernel::hub::Hub;

/// The channel's name.
pub const CHANNEL: &str = "approvals";

/// How often approvals are looked through for those that have lapsed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// An answer as it comes over HTTP and over `/ws`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Which approval; in a path elsewhere.
    #[serde(default)]
    pub id: Option<String>,
    /// The digest of the arguments that were shown.
    pub digest: String,
    /// `once`, `always` or `deny`.
    pub decision: Word,
    /// The rule that "always" keeps, or several; without it those that the approval names.
    #[serde(default)]
    pub rule: Option<Rules>,
    /// Why, for the caller.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What an answer decides.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// This call may run.
    Once,
    /// It may, and all that the rule matches.
    Always,
    /// It may not.
    Deny,
}

impl Word {
    /// Reads the word.
    ///
    /// # Errors
    /// `Invalid`: it is another.
    pub fn parse(text: &str) -> Result<Self> {
        Self::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| {
            Error::new(Kind::Invalid, format!("a decision is \"once\", \"always\" or \"deny\": {error}"))
        })
    }
}

/// One rule or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Rules {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Said {
    /// Reads an answer.
    ///
    /// # Errors
    /// `Malformed`: not JSON. `Invalid`: not such an object.
    pub fn read(text: &[u8]) -> Result<Self> {
        let said: Self = serde_json::from_slice(text).map_err(|error| {
            let example = "{\"digest\": \"…\", \"decision\": \"once\"}";
            let message = format!(
                "an answer is an object like {example}; decision is \"once\", \"always\" (then \"rule\" may name another) or \
                 \"deny\" (then \"reason\" may say why): {error}"
            );
            Error::new(if error.is_data() { Kind::Invalid } else { Kind::Malformed }, message)
        })?;
        if said.rule.is_some() && said.decision != Word::Always {
            return Err(Error::new(Kind::Invalid, "a rule is kept by the decision \"always\" alone: leave it out"));
        }
        Ok(said)
    }

    /// Gives the answer. Blocks where a rule is kept.
    ///
    /// # Errors
    /// As [`Gate::answer`].
    pub fn give(self, gate: &Gate, id: &str, who: &Principal) -> Result<Approval> {
        let rules = match self.rule {
            None => Vec::new(),
            Some(Rules::One(rule)) => vec![rule],
            Some(Rules::Several(rules)) => rules,
        };
        let choice = match self.decision {
            Word::Once => Choice::Once,
            Word::Always => Choice::Always(rules),
            Word::Deny => Choice::Deny,
        };
        gate.answer(id, &self.digest, (who, Through::OwnDoor), (&choice, self.reason.as_deref()))
    }
}

/// Starts the task that tells those who may answer of each approval and ends those that have lapsed; at the stop it ends
/// all. Once, and with a tokio runtime around the caller.
pub fn start(gate: &Gate, hub: &Hub, shutdown: &Shutdown) {
    let (approvals, hub, stop) = (gate.approvals().clone(), hub.clone(), shutdown.clone());
    let mut events = approvals.events();
    shutdown.spawn("approvals", async move {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.stopping() => break,
                _ = look.tick() => approvals.sweep(),
                event = events.recv() => match event {
                    Ok(approval) => hub.send_to_those_with(Scope::Approve, &frame(&approval)),
                    // What was missed is in the list.
                    Err(RecvError::Lagged(_)) => {
                        hub.send_to_those_with(Scope::Approve, &ServerFrame::new(CHANNEL, "missed", None, &Json::NULL));
                    }
                    Err(RecvError::Closed) => break,
                },
            }
        }
        approvals.close();
    });
}

/// Does what a frame of the channel asks for: `list`, or `answer` with an `id` beside the rest.
///
/// # Errors
/// To be answered with an error frame: `NotFound`: an unknown event. `Denied`: the scope is missing. Others as [`Said`].
pub fn put(gate: &Gate, connection: &Connection, frame: &ClientFrame) -> Result<()> {
    let principal = connection.principal();
    if !principal.has(Scope::Approve) {
        let message = format!("{} may not answer: its token needs the scope \"approve\"", principal.name());
        return Err(Error::new(Kind::Denied, message));
    }
    match &*frame.event {
        "list" => {
            let data = Json::of(&json!({ "approvals": gate.approvals().pending() }));
            // A connection that is gone needs no answer.
            let _ = connection.send(ServerFrame::new(CHANNEL, "reply", frame.reference.as_ref(), &data));
            Ok(())
        }
        "answer" => {
            let mut said = Said::read(frame.data.as_bytes())?;
            let id =
                said.id.take().ok_or_else(|| Error::new(Kind::Invalid, "an answer names its approval: add \"id\""))?;
            let (gate, connection, reference) = (gate.clone(), connection.clone(), frame.reference.clone());
            // A rule is written to the disk first, which must not hold up the socket.
            tokio::task::spawn_blocking(move || match said.give(&gate, &id, connection.principal()) {
                Ok(approval) => {
                    let Some(reference) = reference else { return };
                    let _ = connection.send(ServerFrame::new(CHANNEL, "reply", Some(&reference), &Json::of(&approval)));
                }
                Err(error) => connection.send_failure(CHANNEL, reference.as_ref(), &error),
            });
            Ok(())
        }
        other => {
            let shown: String = other.chars().take(80).collect();
            Err(Error::new(
                Kind::NotFound,
                format!("channel \"approvals\" knows \"list\" and \"answer\", not {shown:?}"),
            ))
        }
    }
}

fn frame(approval: &Approval) -> ServerFrame {
    let event = match approval.state.as_str() {
        "pending" => "filed",
        "allowed" | "denied" => "answered",
        _ => "lapsed",
    };
    ServerFrame::new(CHANNEL, event, None, &Json::of(approval))
}
