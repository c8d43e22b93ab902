//! The resource or the prompt that a request of MCP names, found among those of the plugins.

use std::sync::Arc;

use rmcp::model::GetPromptRequestParams;
use serde_json::Map;

use crate::base::error::{Error, Kind, Result};
use crate::edge::mcp_prompts;
use crate::edge::uri_template::{is_template, matched};
use crate::kernel::contribution::Resource;
use crate::kernel::reading::Reading;
use crate::kernel::registry::{Plugin, Snapshot};

/// A longer uri is looked for nowhere.
const URI_BYTES: usize = 8 << 10;

/// What reads the resource at `uri`, and its media type. One of exactly that uri comes before a template.
///
/// # Errors
/// `NotFound`: no plugin offers it. `TooLarge`: the uri is longer than any is.
pub fn resource(snapshot: &Snapshot, uri: &str) -> Result<(Reading, Option<Arc<str>>)> {
    if uri.len() > URI_BYTES {
        let message = format!("the uri has {} bytes, and no resource's has more than {URI_BYTES}", uri.len());
        return Err(Error::new(Kind::TooLarge, message));
    }
    let mut offered = snapshot.plugins().iter().flat_map(|plugin| {
        let resources = plugin.offers.resources.iter();
        resources.map(move |resource| (plugin, resource))
    });
    let exact = |(_, resource): &(&Arc<Plugin>, &Resource)| !is_template(&resource.uri) && *resource.uri == *uri;
    let found = offered.clone().find(exact).map(|(plugin, resource)| (plugin, resource, Map::new()));
    let found = found.or_else(|| {
        let mut templates = offered.by_ref().filter(|(_, resource)| is_template(&resource.uri));
        templates.find_map(|(plugin, resource)| Some((plugin, resource, matched(&resource.uri, uri)?)))
    });
    let (plugin, resource, given) =
        found.ok_or_else(|| Error::new(Kind::NotFound, "no plugin offers this resource"))?;
    Ok((Reading::of_resource(plugin, resource, given), resource.mime_type.clone()))
}

/// What renders the prompt of a request, with its arguments, and what it is for.
///
/// # Errors
/// `NotFound`: no plugin offers it. `Invalid`: its arguments do not fit.
pub fn prompt(snapshot: &Snapshot, request: &GetPromptRequestParams) -> Result<(Reading, Arc<str>)> {
    let mut offered = snapshot.plugins().iter().flat_map(|plugin| {
        let prompts = plugin.offers.prompts.iter();
        prompts.map(move |prompt| (plugin, prompt))
    });
    let found = offered.find(|(_, prompt)| *prompt.name == request.name);
    let (plugin, prompt) = found.ok_or_else(|| no_prompt(&request.name))?;
    let given = request.arguments.clone().unwrap_or_default();
    mcp_prompts::check(prompt, &given)?;
    Ok((Reading::of_prompt(plugin, prompt, given), prompt.description.clone()))
}

/// What is said of a prompt that nobody offers.
pub fn no_prompt(name: &str) -> Error {
    let shown: String = name.chars().take(80).collect();
    Error::new(Kind::NotFound, format!("no plugin offers a prompt {shown:?}"))
}
