//! The first messages to a host, in the order in which `rmcp`'s client bears them.
//!
//! That client does one thing after the other until it is connected: it posts one request and waits for the whole answer;
//! after `initialize` it takes the next message, whatever it is, for `notifications/initialized`. A client on standard
//! streams may begin with anything that HTTP takes.

use std::collections::VecDeque;
use std::mem;

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, InitializedNotification, RequestId, ServerJsonRpcMessage,
};
use serde_json::json;

use crate::engine::mcp::message::{answered, id_of, own};

/// What names the first request that the relay sends where the client does not send one.
pub const HELLO: &str = "plugbay-stdio:server/discover";

/// How far the connection is.
#[derive(Default)]
pub struct Opening {
    stage: Stage,
    /// What the client has said since the first request, until that is answered.
    held: VecDeque<ClientJsonRpcMessage>,
}

#[derive(Default)]
enum Stage {
    /// Nothing was sent.
    #[default]
    Fresh,
    /// A request was sent whose answer decides how it goes on.
    Begun { id: RequestId, is_initialize: bool },
    /// `initialize` is answered, `notifications/initialized` has to come.
    Due,
    /// Messages pass as they are.
    Open,
}

/// What an answer of the host means.
pub enum Step {
    /// Nothing.
    None,
    /// These are to be sent.
    Send(Vec<ClientJsonRpcMessage>),
    /// The host refuses `initialize`: this connection takes no other.
    Refused,
}

impl Opening {
    /// What is to be sent for a message of the client.
    pub fn accept(&mut self, message: ClientJsonRpcMessage) -> Vec<ClientJsonRpcMessage> {
        match &self.stage {
            Stage::Begun { .. } => {
                self.held.push_back(message);
                Vec::new()
            }
            Stage::Fresh => self.begin(message),
            Stage::Due if is_initialized(&message) => {
                self.stage = Stage::Open;
                vec![message]
            }
            Stage::Due => {
                self.stage = Stage::Open;
                let mut sent = vec![initialized()];
                sent.extend(self.accept(message));
                sent
            }
            // It has been said for the client, or nothing waits for it; it would wait for all calls that run.
            Stage::Open if is_initialized(&message) => Vec::new(),
            Stage::Open => {
                if is_initialize(&message)
                    && let Some(id) = id_of(&message)
                {
                    self.stage = Stage::Begun { id: id.clone(), is_initialize: true };
                }
                vec![message]
            }
        }
    }

    fn begin(&mut self, message: ClientJsonRpcMessage) -> Vec<ClientJsonRpcMessage> {
        // Before the first request there is nothing that a notification could be about.
        let Some(id) = id_of(&message) else { return Vec::new() };
        let is_initialize = is_initialize(&message);
        if is_initialize || is_discover(&message) {
            self.stage = Stage::Begun { id: id.clone(), is_initialize };
            return vec![message];
        }
        let Some(hello) = own(HELLO, "server/discover", json!({})) else { return vec![message] };
        self.stage = Stage::Begun { id: RequestId::String(HELLO.into()), is_initialize };
        self.held.push_back(message);
        vec![hello]
    }

    /// What an answer means.
    pub fn hear(&mut self, message: &ServerJsonRpcMessage) -> Step {
        let Stage::Begun { id, is_initialize } = &self.stage else { return Step::None };
        let is_error = matches!(message, ServerJsonRpcMessage::Error(_));
        // An error may not say what it is about.
        let is_it = answered(message).map_or(is_error, |answered| answered == id);
        match (is_it, *is_initialize) {
            (false, _) => Step::None,
            (true, true) if is_error => Step::Refused,
            (true, is_initialize) => {
                self.stage = if is_initialize { Stage::Due } else { Stage::Open };
                Step::Send(self.release())
            }
        }
    }

    /// There is another connection, which nothing was sent over: what is to be sent.
    pub fn anew(&mut self) -> Vec<ClientJsonRpcMessage> {
        self.stage = Stage::Fresh;
        self.release()
    }

    fn release(&mut self) -> Vec<ClientJsonRpcMessage> {
        let held = mem::take(&mut self.held);
        held.into_iter().flat_map(|message| self.accept(message)).collect()
    }

    /// Whether a request of that name is held back.
    pub fn holds(&self, id: &RequestId) -> bool {
        self.held.iter().any(|message| id_of(message) == Some(id))
    }

    /// Whether messages are held back.
    pub fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Begun { .. })
    }

    /// Whether there is a connection to end.
    pub fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::Fresh)
    }

    /// What has to be sent before the connection can be ended.
    pub fn last(&self) -> Option<ClientJsonRpcMessage> {
        matches!(self.stage, Stage::Due).then(initialized)
    }
}

fn initialized() -> ClientJsonRpcMessage {
    ClientJsonRpcMessage::notification(ClientNotification::InitializedNotification(InitializedNotification::default()))
}

fn is_initialized(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, ClientJsonRpcMessage::Notification(notice)
        if matches!(notice.notification, ClientNotification::InitializedNotification(_)))
}

fn is_initialize(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, ClientJsonRpcMessage::Request(asked)
        if matches!(asked.request, ClientRequest::InitializeRequest(_)))
}

fn is_discover(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, ClientJsonRpcMessage::Request(asked)
        if matches!(asked.request, ClientRequest::DiscoverRequest(_)))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn said(message: Value) -> ClientJsonRpcMessage {
        serde_json::from_value(message).unwrap()
    }

    fn methods(messages: &[ClientJsonRpcMessage]) -> Vec<String> {
        messages.iter().map(|message| serde_json::to_value(message).unwrap()["method"].to_string()).collect()
    }

    #[test]
    fn what_waits_for_an_initialize_that_is_refused_goes_over_another_connection() {
        let client = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
        let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client });
        let mut opening = Opening::default();
        assert_eq!(methods(&opening.accept(said(initialize))), ["\"initialize\""]);
        assert!(opening.accept(initialized()).is_empty());
        assert!(opening.accept(said(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }))).is_empty());
        assert!(opening.holds(&RequestId::Number(2)));
        let error = json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32000, "message": "no" } });
        assert!(matches!(opening.hear(&serde_json::from_value(error).unwrap()), Step::Refused));
        assert_eq!(methods(&opening.anew()), ["\"server/discover\""]);
        let hello = json!({ "jsonrpc": "2.0", "id": HELLO, "result": {} });
        let Step::Send(sent) = opening.hear(&serde_json::from_value(hello).unwrap()) else { panic!("it is answered") };
        assert_eq!(methods(&sent), ["\"tools/list\""]);
    }
}
