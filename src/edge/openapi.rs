//! The OpenAPI documents of all plugins as one: absolute paths, tags by plugin, no name twice.
//!
//! A document is data of a plugin: whatever is not as expected in it is left as it is or left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// One document and where it belongs.
pub struct Document {
    /// The id of the plugin.
    pub plugin: String,
    /// Where its paths stand, as `/api/plugins/ping`.
    pub root: String,
    /// The document.
    pub content: Map<String, Value>,
}

/// A tool, as its route is described.
pub struct ToolRoute {
    /// Its name.
    pub name: String,
    /// The id of its plugin.
    pub plugin: String,
    /// What it does.
    pub description: String,
    /// The schema of its arguments.
    pub parameters: Value,
    /// The schema of its result.
    pub output: Option<Value>,
}

/// The name of the host's own way to sign in, among the security schemes.
const SIGN_IN: &str = "plugbay";

/// Where a component stands: its section and its name.
type Place = (String, String);

/// What components of one document are called in the whole.
type Renames = BTreeMap<Place, String>;

/// Merges the documents and describes the tools' routes beside them.
pub fn merge(documents: Vec<Document>, tools: &[ToolRoute]) -> Value {
    let mut whole = Whole::default();
    let twice = names_of_several(&documents);
    for document in documents {
        whole.add(document, &twice);
    }
    for tool in tools {
        whole.add_tool(tool);
    }
    whole.finish()
}

#[derive(Default)]
struct Whole {
    paths: Map<String, Value>,
    /// Section (`schemas`, `responses` …) to name to component.
    components: BTreeMap<String, Map<String, Value>>,
    operations: BTreeSet<String>,
    tags: BTreeSet<String>,
}

impl Whole {
    fn add(&mut self, mut document: Document, twice: &BTreeSet<Place>) {
        let mut renames = Renames::new();
        for (section, name, component) in components(&document.content) {
            let place = (section.clone(), name.clone());
            let kept = self.components.get(section);
            // Two documents of one plugin may share a component, but not a name for two.
            let same = kept.and_then(|kept| kept.get(name)).is_none_or(|there| there == component);
            if twice.contains(&place) || !same {
                let taken = |name: &str| kept.is_some_and(|kept| kept.contains_key(name));
                renames.insert(place, unused(&format!("{}__{name}", document.plugin), taken));
            }
        }
        for operation in operation_ids(&document.content) {
            if !self.operations.insert(operation.clone()) {
                let new = unused(&format!("{}__{operation}", document.plugin), |name| self.operations.contains(name));
                self.operations.insert(new.clone());
                renames.insert(("operations".into(), operation), new);
            }
        }
        let security = document.content.get("security").cloned();
        for (section, components) in sections(&mut document.content) {
            let kept = self.components.entry(section.clone()).or_default();
            for (name, mut component) in components {
                rename(&mut component, &renames);
                let name = renames.get(&(section.clone(), name.clone())).unwrap_or(&name);
                kept.insert(name.clone(), component);
            }
        }
        let Some(Value::Object(paths)) = document.content.remove("paths") else { return };
        for (path, mut item) in paths {
            rename(&mut item, &renames);
            mark_operations(&mut item, &document.plugin, security.as_ref(), &renames);
            let path = absolute(&document.root, &path);
            match self.paths.get_mut(&path).and_then(Value::as_object_mut) {
                None => _ = self.paths.insert(path, item),
                Some(there) => {
                    for (method, operation) in item.as_object().into_iter().flatten() {
                        there.entry(method.clone()).or_insert_with(|| operation.clone());
                    }
                }
            }
        }
        self.tags.insert(document.plugin);
    }

    fn add_tool(&mut self, tool: &ToolRoute) {
        let schema = |whole: &mut Self, kind: &str, schema: &Value| {
            let section = whole.components.entry("schemas".into()).or_default();
            let name = unused(&format!("tool_{kind}__{}", tool.name), |name| section.contains_key(name));
            let place = format!("#/components/schemas/{name}");
            let mut schema = schema.clone();
            if schema.get("$id").is_none() {
                move_references(&mut schema, &place);
            }
            section.insert(name, schema);
            json!({"$ref": place})
        };
        // No body means no arguments: it may be left out where none must be given.
        let needed = tool.parameters["required"].as_array().is_some_and(|names| !names.is_empty());
        let arguments = schema(self, "arguments", &tool.parameters);
        let result = tool.output.as_ref().map_or(json!({}), |output| schema(self, "result", output));
        let answer = json!({"type": "object", "properties": {"result": result}, "required": ["result"]});
        let problem = json!({"description": "A problem (RFC 9457)", "content": {"application/problem+json": {}}});
        let operation = json!({
            "tags": [tool.plugin],
            "summary": format!("Tool {}", tool.name),
            "description": tool.description,
            "operationId": unused(&format!("tool__{}", tool.name), |name| self.operations.contains(name)),
            "requestBody": {"required": needed, "content": {"application/json": {"schema": arguments}}},
            "responses": {
                "200": {"description": "The result", "content": {"application/json": {"schema": answer}}},
                "default": problem,
            },
        });
        self.paths.insert(format!("/api/host/tools/{}", tool.name), json!({"post": operation}));
        self.tags.insert(tool.plugin.clone());
    }

    fn finish(mut self) -> Value {
        let scheme = json!({"type": "http", "scheme": "bearer", "description": "A token of this host"});
        self.components.entry("securitySchemes".into()).or_default().insert(SIGN_IN.into(), scheme);
        let tags: Vec<Value> = self.tags.iter().map(|tag| json!({"name": tag})).collect();
        json!({
            "openapi": "3.1.0",
            "info": {"title": "Plugbay", "version": env!("CARGO_PKG_VERSION")},
            "paths": self.paths,
            "components": self.components,
            "security": [{SIGN_IN: []}],
            "tags": tags,
        })
    }
}

/// The component names that documents of two or more plugins have, and the host's own.
fn names_of_several(documents: &[Document]) -> BTreeSet<Place> {
    let mut owners: BTreeMap<Place, BTreeSet<&str>> = BTreeMap::new();
    for document in documents {
        for (section, name, _) in components(&document.content) {
            owners.entry((section.clone(), name.clone())).or_default().insert(&document.plugin);
        }
    }
    let several = owners.into_iter().filter(|(_, plugins)| plugins.len() > 1).map(|(name, _)| name);
    several.chain([("securitySchemes".to_owned(), SIGN_IN.to_owned())]).collect()
}

fn components(document: &Map<String, Value>) -> impl Iterator<Item = (&String, &String, &Value)> {
    let sections = document.get("components").and_then(Value::as_object).into_iter().flatten();
    sections.flat_map(|(section, components)| {
        components.as_object().into_iter().flatten().map(move |(name, component)| (section, name, component))
    })
}

fn sections(document: &mut Map<String, Value>) -> Vec<(String, Map<String, Value>)> {
    let Some(Value::Object(sections)) = document.remove("components") else { return Vec::new() };
    let object = |(section, components)| match components {
        Value::Object(components) => Some((section, components)),
        _ => None,
    };
    sections.into_iter().filter_map(object).collect()
}

fn operation_ids(document: &Map<String, Value>) -> Vec<String> {
    let items = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let operations = items.flat_map(|(_, item)| item.as_object().into_iter().flatten());
    operations.filter_map(|(_, operation)| Some(operation.get("operationId")?.as_str()?.to_owned())).collect()
}

/// Follows every renamed component: in `$ref`, and in the mapping of a discriminator.
fn rename(value: &mut Value, renames: &Renames) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renames)),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(text) if key == "$ref" => *text = renamed_reference(text, renames),
                    Value::String(text) if key == "operationId" => {
                        if let Some(new) = renames.get(&("operations".into(), text.clone())) {
                            text.clone_from(new);
                        }
                    }
                    Value::Object(discriminator) if key == "discriminator" => rename_mapping(discriminator, renames),
                    _ => rename(value, renames),
                }
            }
        }
        _ => {}
    }
}

fn rename_mapping(discriminator: &mut Map<String, Value>, renames: &Renames) {
    let Some(Value::Object(mapping)) = discriminator.get_mut("mapping") else { return };
    for target in mapping.values_mut() {
        let Value::String(text) = target else { continue };
        // A target is a reference, or the bare name of a schema.
        match renames.get(&("schemas".into(), text.clone())) {
            Some(new) => text.clone_from(new),
            None => *text = renamed_reference(text, renames),
        }
    }
}

/// `#/components/schemas/Item/properties/id` with `Item` renamed.
fn renamed_reference(reference: &str, renames: &Renames) -> String {
    let parts = reference.strip_prefix("#/components/").and_then(|rest| rest.split_once('/'));
    let Some((section, rest)) = parts else { return reference.to_owned() };
    let (name, below) = rest.find('/').map_or((rest, ""), |place| rest.split_at(place));
    match renames.get(&(section.to_owned(), name.to_owned())) {
        Some(new) => format!("#/components/{section}/{new}{below}"),
        None => reference.to_owned(),
    }
}

/// Tags the operations of a path with their plugin, and gives them the security that their document asked for.
fn mark_operations(item: &mut Value, plugin: &str, security: Option<&Value>, renames: &Renames) {
    const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    let Some(item) = item.as_object_mut() else { return };
    for (_, operation) in item.iter_mut().filter(|(key, _)| METHODS.contains(&key.as_str())) {
        let Some(operation) = operation.as_object_mut() else { continue };
        operation.insert("tags".into(), json!([plugin]));
        if let Some(security) = security {
            operation.entry("security").or_insert_with(|| security.clone());
        }
        let Some(Value::Array(choices)) = operation.get_mut("security") else { continue };
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            *choice = std::mem::take(choice)
                .into_iter()
                .map(|(name, scopes)| match renames.get(&("securitySchemes".into(), name.clone())) {
                    Some(new) => (new.clone(), scopes),
                    None => (name, scopes),
                })
                .collect();
        }
    }
}

/// Points the references within a schema to where it now stands.
fn move_references(value: &mut Value, place: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, place)),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(text) if key == "$ref" && (text == "#" || text.starts_with("#/")) => {
                        *text = format!("{place}{}", &text[1..]);
                    }
                    _ => move_references(value, place),
                }
            }
        }
        _ => {}
    }
}

/// A path below `root`; one that stands there already stays.
fn absolute(root: &str, path: &str) -> String {
    let already = path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if already { path.to_owned() } else { format!("{root}{path}") }
}

fn unused(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while taken(&candidate) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}
