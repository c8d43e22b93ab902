//! A resource or a prompt that was found and is to be read: all that the gate and the record must know of it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::base::error::Result;
use crate::base::json::Json;
use crate::base::name::ToolName;
use crate::kernel::auth::Principal;
use crate::kernel::call::{Arguments, Door, Progress, ToolCall};
use crate::kernel::contribution::{Prompt, Reader, Resource};
use crate::kernel::fingerprint::{Identity, Said};
use crate::kernel::gate::{Admitted, Facts};
use crate::kernel::handler::Answer;
use crate::kernel::readable::Readable;
use crate::kernel::registry::Plugin;

/// A wish to read something, found or not.
pub struct Wish {
    /// What is asked for, as a call.
    pub call: ToolCall,
    /// What answers it.
    ///
    /// `NotFound`: no plugin offers it. `Invalid`: it cannot be read with these arguments.
    pub found: Result<Reading>,
}

/// What answers such a wish.
pub struct Reading {
    plugin: Arc<Plugin>,
    facts: Facts,
    reader: Reader,
    given: Map<String, Value>,
}

/// Who asks to read, and where progress goes.
pub struct Asking {
    /// Who asks.
    pub principal: Principal,
    /// Where it is told that a person is asked.
    pub progress: Option<Progress>,
}

impl Wish {
    /// To read the resource at `uri`.
    ///
    /// # Errors
    /// None: its own name is always one.
    pub fn of_resource(uri: &str, asking: Asking, found: Result<Reading>) -> Result<Self> {
        Self::of(Readable::Resource, object(&[("uri", json!(uri))]), asking, found)
    }

    /// To read the prompt of that name with these arguments.
    ///
    /// # Errors
    /// None: its own name is always one.
    pub fn of_prompt(name: &str, given: &Map<String, Value>, asking: Asking, found: Result<Reading>) -> Result<Self> {
        Self::of(Readable::Prompt, object(&[("name", json!(name)), ("arguments", json!(given))]), asking, found)
    }

    fn of(what: Readable, arguments: Map<String, Value>, asking: Asking, found: Result<Reading>) -> Result<Self> {
        let call = ToolCall {
            tool: ToolName::parse(what.as_str())?,
            arguments: Arguments::of(arguments)?,
            principal: asking.principal,
            door: Door::Mcp,
            progress: asking.progress,
        };
        Ok(Self { call, found })
    }
}

impl Reading {
    /// Of a resource; `given` is what its uri template found.
    pub fn of_resource(plugin: &Arc<Plugin>, resource: &Resource, given: Map<String, Value>) -> Self {
        let offered = json!({ "uri": &*resource.uri, "mime_type": resource.mime_type.as_deref() });
        Self::of(plugin, (Readable::Resource, &resource.description, &offered), &resource.reader, given)
    }

    /// Of a prompt; `given` are its arguments.
    pub fn of_prompt(plugin: &Arc<Plugin>, prompt: &Prompt, given: Map<String, Value>) -> Self {
        // It was read once already: `Json::parse` takes nothing else.
        let arguments = prompt.arguments.value().unwrap_or_default();
        let offered = json!({ "name": &*prompt.name, "arguments": arguments });
        Self::of(plugin, (Readable::Prompt, &prompt.description, &offered), &prompt.reader, given)
    }

    fn of(
        plugin: &Arc<Plugin>,
        (what, description, offered): (Readable, &str, &Value),
        reader: &Reader,
        given: Map<String, Value>,
    ) -> Self {
        let template = what.template();
        let said = Said {
            name: what.as_str(),
            description,
            parameters: offered,
            output: None,
            side_effect: false,
            template: Some(template.as_str()),
        };
        let facts = Facts {
            plugin: plugin.manifest.id.shared(),
            identity: Arc::new(Identity::of(&said)),
            side_effect: false,
            template: Some(template.clone()),
            // Nothing of a uri or of a prompt's arguments can be marked as secret.
            hiding: None,
        };
        Self { plugin: plugin.clone(), facts, reader: reader.clone(), given }
    }

    /// Whose it is.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// What the gate must know of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Asks the plugin for it, with leave.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(&self, leave: &Admitted) -> Answer<Json> {
        self.reader.read(leave, Json::of(&self.given))
    }
}

fn object(entries: &[(&str, Value)]) -> Map<String, Value> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}
