//! What the registry offers, in the words of MCP: tools, resources, templates and prompts, each list in order of name.
//!
//! Made anew when the registry has changed and somebody asks; until then the same lists serve everybody.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rmcp::ErrorData;
use rmcp::model::{JsonObject, Prompt, Resource, ResourceTemplate, Tool, ToolAnnotations};
use serde_json::Value;

use crate::edge::mcp_content::Era;
use crate::edge::mcp_prompts;
use crate::edge::uri_template::is_template;
use crate::kernel::contribution;
use crate::kernel::registry::{Registry, Snapshot};

/// So many entries a page has.
const PAGE: usize = 1000;

/// Everything that is offered, at one generation of the registry.
#[derive(Default)]
pub struct Catalogue {
    generation: u64,
    tools: Vec<Tool>,
    resources: Vec<Resource>,
    templates: Vec<ResourceTemplate>,
    prompts: Vec<Prompt>,
}

/// Which lists of two catalogues differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The tools do.
    pub tools: bool,
    /// The resources or their templates do.
    pub resources: bool,
    /// The prompts do.
    pub prompts: bool,
}

impl Catalogue {
    fn of(snapshot: &Snapshot) -> Self {
        let plugins = || snapshot.plugins().iter();
        let (mut resources, mut templates) = (Vec::new(), Vec::new());
        for resource in plugins().flat_map(|plugin| &plugin.offers.resources) {
            if is_template(&resource.uri) {
                templates.push(template(resource));
            } else {
                resources.push(plain(resource));
            }
        }
        resources.sort_by(|left, right| left.uri.cmp(&right.uri));
        templates.sort_by(|left, right| left.uri_template.cmp(&right.uri_template));
        let mut prompts: Vec<_> = plugins().flat_map(|plugin| &plugin.offers.prompts).map(prompt).collect();
        prompts.sort_by(|left, right| left.name.cmp(&right.name));
        let tools = snapshot.tools().map(|tool| self::tool(tool)).collect();
        Self { generation: snapshot.generation(), tools, resources, templates, prompts }
    }

    /// The tool of that name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        let place = self.tools.binary_search_by(|tool| (*tool.name).cmp(name)).ok()?;
        self.tools.get(place)
    }

    /// A page of the tools, and the cursor of the next. In the old era only schemas of objects are output schemas.
    ///
    /// # Errors
    /// Invalid parameters: a cursor that no page gave.
    pub fn tools(&self, cursor: Option<&str>, era: Era) -> Result<(Vec<Tool>, Option<String>), ErrorData> {
        let (mut tools, next) = page(&self.tools, cursor)?;
        if era == Era::Legacy {
            for tool in &mut tools {
                tool.output_schema = tool.output_schema.take().filter(|schema| is_of_object(schema));
            }
        }
        Ok((tools, next))
    }

    /// A page of the resources.
    ///
    /// # Errors
    /// Invalid parameters: a cursor that no page gave.
    pub fn resources(&self, cursor: Option<&str>) -> Result<(Vec<Resource>, Option<String>), ErrorData> {
        page(&self.resources, cursor)
    }

    /// A page of the templates of resources.
    ///
    /// # Errors
    /// Invalid parameters: a cursor that no page gave.
    pub fn templates(&self, cursor: Option<&str>) -> Result<(Vec<ResourceTemplate>, Option<String>), ErrorData> {
        page(&self.templates, cursor)
    }

    /// A page of the prompts.
    ///
    /// # Errors
    /// Invalid parameters: a cursor that no page gave.
    pub fn prompts(&self, cursor: Option<&str>) -> Result<(Vec<Prompt>, Option<String>), ErrorData> {
        page(&self.prompts, cursor)
    }

    /// What is different in `newer`.
    pub fn changes(&self, newer: &Self) -> Changes {
        Changes {
            tools: self.tools != newer.tools,
            resources: self.resources != newer.resources || self.templates != newer.templates,
            prompts: self.prompts != newer.prompts,
        }
    }
}

/// The catalogue as it is now. Cloning is cheap.
#[derive(Clone)]
pub struct Shelf {
    registry: Registry,
    latest: Arc<ArcSwap<Catalogue>>,
}

impl Shelf {
    /// A shelf for what `registry` offers.
    pub fn new(registry: Registry) -> Self {
        let latest = ArcSwap::from_pointee(Catalogue::of(&registry.snapshot()));
        Self { registry, latest: Arc::new(latest) }
    }

    /// What is offered now.
    pub fn now(&self) -> Arc<Catalogue> {
        let latest = self.latest.load_full();
        let snapshot = self.registry.snapshot();
        if latest.generation == snapshot.generation() {
            return latest;
        }
        let made = Arc::new(Catalogue::of(&snapshot));
        self.latest.store(made.clone());
        made
    }
}

fn tool(tool: &contribution::Tool) -> Tool {
    let parameters = object(&tool.parameters);
    let title = parameters.get("title").and_then(Value::as_str).map(str::to_owned);
    let mut made = Tool::new(tool.name.as_str().to_owned(), tool.description.to_string(), parameters)
        .with_annotations(ToolAnnotations::new().read_only(!tool.side_effect));
    made.title = title;
    made.output_schema = tool.output.as_ref().map(|schema| Arc::new(object(schema)));
    made
}

/// A schema as MCP has it, an object; the schema `true` is the empty one.
fn object(schema: &contribution::Schema) -> JsonObject {
    match schema.value() {
        Value::Object(object) => object.clone(),
        _ => JsonObject::new(),
    }
}

fn is_of_object(schema: &JsonObject) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object")
}

fn plain(resource: &contribution::Resource) -> Resource {
    let mut made = Resource::new(&*resource.uri, &*resource.name);
    made.description = some(&resource.description);
    made.mime_type = resource.mime_type.as_deref().map(str::to_owned);
    made
}

fn template(resource: &contribution::Resource) -> ResourceTemplate {
    let mut made = ResourceTemplate::new(&*resource.uri, &*resource.name);
    made.description = some(&resource.description);
    made.mime_type = resource.mime_type.as_deref().map(str::to_owned);
    made
}

fn prompt(prompt: &contribution::Prompt) -> Prompt {
    Prompt::new(&*prompt.name, some(&prompt.description), Some(mcp_prompts::described(prompt)))
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The entries of the page that begins at `cursor`, and the cursor of the next page. A cursor is the number of the entry
/// that its page begins with; clients hand it back as it came.
fn page<T: Clone>(entries: &[T], cursor: Option<&str>) -> Result<(Vec<T>, Option<String>), ErrorData> {
    let begin = match cursor {
        None => 0,
        Some(cursor) => cursor.parse::<usize>().ok().filter(|begin| *begin <= entries.len()).ok_or_else(|| {
            let shown: String = cursor.chars().take(40).collect();
            ErrorData::invalid_params(format!("cursor {shown:?} is not one of this list: begin without one"), None)
        })?,
    };
    let end = entries.len().min(begin.saturating_add(PAGE));
    let next = (end < entries.len()).then(|| end.to_string());
    Ok((entries[begin..end].to_vec(), next))
}
