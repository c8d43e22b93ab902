//! A host with a tool that changes something, an agent that may call it, and a person who may answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plugbay::base::json::Json;
use plugbay::base::settings::Settings;
use plugbay::kernel::auth::{Scope, Scopes};
use plugbay::kernel::call::ToolCall;
use plugbay::kernel::contribution::{Schema, Tool};
use plugbay::kernel::handler::Answer;
use plugbay::kernel::specifier::Template;
use serde_json::{Value, json};

use crate::stand::{Client, Stand, answer, tool};

/// The request of the tool's call.
pub const WRITE: &str = "POST /api/host/tools/files.write";

/// A host with a tool that changes something, an agent that may call, and a person who may answer.
pub struct Scene {
    pub stand: Stand,
    /// The token of the person, ann.
    pub person: String,
    runs: Arc<AtomicUsize>,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let stand = Stand::set(Scopes::of(&[Scope::Call]), change);
        let person = stand.add("ann", &[Scope::Approve, Scope::Admin]);
        let runs = Arc::new(AtomicUsize::new(0));
        let scene = Self { stand, person, runs };
        scene.offer("kit", "text");
        scene
    }

    /// Makes a plugin offer the tool, whose argument beside the path has that name.
    pub fn offer(&self, plugin: &str, argument: &str) {
        let schema = json!({
            "type": "object",
            "properties": {
                "path": {"type": "string"}, argument: {"type": "string"}, "key": {"type": "string", "writeOnly": true},
            },
        });
        let runs = self.runs.clone();
        let run = move |call: ToolCall| -> Answer<Json> {
            runs.fetch_add(1, Ordering::SeqCst);
            answer(&json!({ "wrote": call.arguments.value()["path"] }))
        };
        let tool = Tool {
            side_effect: true,
            parameters: Schema::compile("parameters", &schema).unwrap(),
            specifier_template: Some(Template::parse("{path}").unwrap()),
            ..tool("files.write", run)
        };
        self.stand.plugin(plugin, |draft| draft.add_tool(tool).unwrap());
    }

    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// The agent's call, which waits.
    pub fn call(&self, path: &str) -> impl Future<Output = (u16, Value)> {
        self.stand.as_of(&self.stand.token, WRITE, json!({ "path": path }))
    }

    /// The agent's call that comes back at once.
    pub async fn call_async(&self, path: &str) -> (String, Value) {
        self.stand
            .request(&self.stand.token, WRITE, &["Prefer: respond-async"], &json!({ "path": path }).to_string())
            .await
    }

    /// The person, listening.
    pub async fn listen(&self) -> Client {
        self.stand.connect_as(&self.person).await
    }

    pub async fn answer(&self, approval: &Value, said: Value) -> (u16, Value) {
        self.answer_as(&self.person, approval, said).await
    }

    pub async fn answer_as(&self, token: &str, approval: &Value, said: Value) -> (u16, Value) {
        let mut body = json!({ "digest": approval["digest"] });
        body.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        let start = format!("POST /api/host/approvals/{}", approval["id"].as_str().unwrap());
        self.stand.as_of(token, &start, body).await
    }
}

/// The data of the next frame, which is this event of the channel.
pub async fn heard(client: &mut Client, event: &str) -> Value {
    let frame = client.hear().await;
    assert_eq!((&frame["channel"], &frame["event"]), (&json!("approvals"), &json!(event)), "{frame}");
    frame["data"].clone()
}
