//! What a plugin may offer: mounts, tools, channels, facades, hooks, assets, resources and prompts.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::name::{ChannelName, FacadeName, Prefix, ToolName};
use crate::kernel::call::Moment;
use crate::kernel::fingerprint::{Identity, Said};
use crate::kernel::gate::Admitted;
use crate::kernel::handler::{Answer, ChannelHandler, HookHandler, RouteHandler, TextHandler, ToolHandler};
use crate::kernel::redact::{may_hide, redacted};
use crate::kernel::specifier::Template;

/// A path of a mount, below its prefix: segments that are text, one parameter, or all the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(Box<str>),
    Any,
    Rest,
}

impl Pattern {
    /// Everything below the prefix, for an app whose routes nobody can see.
    pub fn everything() -> Self {
        Self(vec![Segment::Rest])
    }

    /// Reads a route's path in Starlette's form: `/items/{id}`, `/files/{path:path}`.
    pub fn parse(path: &str) -> Self {
        let segment = |text: &str| match text {
            _ if text.contains('{') && text.contains(":path}") => Segment::Rest,
            _ if text.contains('{') => Segment::Any,
            _ => Segment::Text(text.into()),
        };
        let mut segments = Vec::new();
        for text in path.split('/').filter(|text| !text.is_empty()) {
            segments.push(segment(text));
            if segments.last() == Some(&Segment::Rest) {
                break;
            }
        }
        Self(segments)
    }

    /// The same path below a prefix.
    #[must_use]
    pub fn below(&self, prefix: &Prefix) -> Self {
        let mut segments: Vec<Segment> = prefix.as_str().split('/').map(|text| Segment::Text(text.into())).collect();
        segments.extend(self.0.iter().cloned());
        Self(segments)
    }

    /// Whether some path fits both. Errs on the side of yes.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut left = self.0.iter();
        let mut right = other.0.iter();
        loop {
            match (left.next(), right.next()) {
                (Some(Segment::Rest), _) | (_, Some(Segment::Rest)) | (None, None) => return true,
                (Some(Segment::Text(a)), Some(Segment::Text(b))) if a != b => return false,
                (Some(_), Some(_)) => {}
                (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }

    /// Whether `path`, given below the prefix, fits; a trailing slash does not count.
    pub fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('/').filter(|text| !text.is_empty());
        for segment in &self.0 {
            match (segment, segments.next()) {
                (Segment::Rest, _) => return true,
                (Segment::Text(text), Some(found)) if **text == *found => {}
                (Segment::Any, Some(_)) => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }

    /// Whether the first segment can be `word`.
    pub fn begins_with(&self, word: &str) -> bool {
        match self.0.first() {
            Some(Segment::Text(text)) => **text == *word,
            Some(Segment::Any | Segment::Rest) => true,
            None => false,
        }
    }
}

/// Routes at a prefix below `/api`.
#[derive(Clone)]
pub struct Mount {
    /// Where: `plugins/ping` is `/api/plugins/ping`.
    pub prefix: Prefix,
    /// The paths that it has, so that clashes are seen at commit. Empty paths mean none.
    pub patterns: Vec<Pattern>,
    /// What answers.
    pub handler: Arc<dyn RouteHandler>,
    /// Gives the OpenAPI document of these routes, a JSON object; `None` for an app that has none.
    pub openapi: Option<Arc<dyn TextHandler>>,
}

/// A JSON schema (2020-12), compiled. Cloning is cheap.
#[derive(Clone)]
pub struct Schema {
    text: Json,
    value: Arc<Value>,
    validator: Arc<Validator>,
}

impl Schema {
    /// Compiles a schema. References outside it are refused: nothing is fetched.
    ///
    /// # Errors
    /// `Invalid`: it is no valid schema; the message names `what` and where.
    pub fn compile(what: &str, schema: &Value) -> Result<Self> {
        let problem = |text: String| {
            Error::new(Kind::Invalid, format!("{what} is not a valid JSON schema (2020-12): {text}; mend it there"))
        };
        jsonschema::draft202012::meta::validate(schema)
            .map_err(|error| problem(format!("{error} at {:?}", error.instance_path().as_str())))?;
        let validator = jsonschema::draft202012::new(schema).map_err(|error| problem(error.to_string()))?;
        let text = Json::written(schema).map_err(|error| problem(error.message().to_owned()))?;
        Ok(Self { text, value: Arc::new(schema.clone()), validator: Arc::new(validator) })
    }

    /// The schema, parsed.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The schema where it may mark anything as secret.
    pub fn hiding(&self) -> Option<Arc<Value>> {
        may_hide(self.text.as_str()).then(|| self.value.clone())
    }

    /// The schema as it was given.
    pub fn text(&self) -> &Json {
        &self.text
    }

    /// Checks a value; the text of the first failures, at most five, or `None` when it fits. Where the schema marks
    /// anything as secret, no text shows a value, nor a name within what is hidden.
    pub fn failures(&self, value: &Value) -> Option<String> {
        if self.validator.is_valid(value) {
            return None;
        }
        let shown = self.hiding().map(|schema| redacted(&schema, value));
        let failures: Vec<String> = self
            .validator
            .iter_errors(value)
            .take(5)
            .map(|error| match &shown {
                Some(shown) => said_discreetly(&error, shown),
                None => said(&error.to_string(), error.instance_path().as_str()),
            })
            .collect();
        Some(failures.join("; "))
    }
}

/// A failure as it is told: where, and what.
fn said(what: &str, place: &str) -> String {
    let what: String = what.chars().take(300).collect();
    if place.is_empty() { what } else { format!("{place}: {what}") }
}

/// The same without values, and without names that `shown`, the value as it may be shown, does not have: the members of
/// a secret may be named by what nobody is to see.
fn said_discreetly(error: &ValidationError<'_>, shown: &Value) -> String {
    let mut place = error.instance_path().as_str();
    let is_open = shown.pointer(place).is_some_and(Value::is_object);
    while shown.pointer(place).is_none() {
        place = place.rfind('/').map_or("", |end| &place[..end]);
    }
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::UnevaluatedProperties { .. }
        | ValidationErrorKind::PropertyNames { .. }
            if !is_open =>
        {
            said("a property has a name that is not allowed", place)
        }
        _ => said(&error.masked().to_string(), place),
    }
}

/// A function that agents, people and programs can call.
#[derive(Clone)]
pub struct Tool {
    /// Unique among all tools.
    pub name: ToolName,
    /// What it does, for people and models.
    pub description: Arc<str>,
    /// The schema of its arguments, of type `object`.
    pub parameters: Schema,
    /// The schema of its result, where it promises one.
    pub output: Option<Schema>,
    /// Whether it changes anything: such a call needs leave.
    pub side_effect: bool,
    /// How a call's specifier is made from its arguments: `{path}`.
    pub specifier_template: Option<Template>,
    /// A heading under which lists show it.
    pub group: Option<Arc<str>>,
    /// How long one call may take.
    pub timeout: Duration,
    /// How many calls may run at a time; any number when there is none.
    pub concurrency: Option<NonZeroUsize>,
    /// What runs it.
    pub handler: Arc<dyn ToolHandler>,
}

impl Tool {
    /// What identifies it: two digests over all that it says of itself.
    pub fn identity(&self) -> Identity {
        Identity::of(&Said {
            name: self.name.as_str(),
            description: &self.description,
            parameters: self.parameters.value(),
            output: self.output.as_ref().map(Schema::value),
            side_effect: self.side_effect,
            template: self.specifier_template.as_ref().map(Template::as_str),
        })
    }

    /// Checks that its specifier template names arguments that it has.
    ///
    /// # Errors
    /// `Invalid`: it names another, and the message has those that there are; or one that is secret.
    pub fn check_template(&self) -> Result<()> {
        let Some(template) = &self.specifier_template else { return Ok(()) };
        self.check_discretion(template)?;
        let schema = self.parameters.value();
        // Where other keywords may add arguments, any name may be one.
        let open = ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"];
        let Some(known) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
        if open.iter().any(|word| schema.get(word).is_some()) {
            return Ok(());
        }
        match template.names().find(|name| !known.contains_key(*name)) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&String> = known.keys().collect();
                let message = format!(
                    "the specifier template of tool {} names {name:?}, which is none of its arguments {known:?}: mend the name",
                    self.name
                );
                Err(Error::new(Kind::Invalid, message))
            }
        }
    }

    /// Checks that a specifier template names no argument that is secret, wherever in the schema the mark stands.
    fn check_discretion(&self, template: &Template) -> Result<()> {
        let Some(schema) = self.parameters.hiding() else { return Ok(()) };
        let given = Value::from_iter(template.names().map(|name| (name.to_owned(), Value::from(""))));
        let shown = redacted(&schema, &given);
        if template.names().all(|name| shown.get(name) == given.get(name)) {
            return Ok(());
        }
        let message = format!(
            "the specifier template of tool {} names an argument that its schema marks as secret, and specifiers are \
             shown: leave it out",
            self.name
        );
        Err(Error::new(Kind::Invalid, message))
    }
}

/// A named stream of messages on `/ws`.
#[derive(Clone)]
pub struct Channel {
    /// Unique among all channels.
    pub name: ChannelName,
    /// What takes its messages.
    pub handler: Arc<dyn ChannelHandler>,
}

/// An object on `dash`. Only the engine that made it can open what `factory` stands for.
#[derive(Clone)]
pub struct Facade {
    /// Its name on `dash`.
    pub name: FacadeName,
    /// The engine's own handle on the factory.
    pub factory: Arc<dyn std::any::Any + Send + Sync>,
}

/// Something to do at a moment of the host's life.
#[derive(Clone)]
pub struct Hook {
    /// When.
    pub moment: Moment,
    /// What it is called in messages.
    pub name: Arc<str>,
    /// What acts.
    pub handler: Arc<dyn HookHandler>,
}

/// A folder of web files at `/api/plugins/<id>/assets/…`.
#[derive(Clone, Debug)]
pub struct Assets {
    /// An absolute path.
    pub folder: PathBuf,
}

/// What gives the content of a resource or a prompt, to who has leave. Cloning is cheap.
#[derive(Clone)]
pub struct Reader(Arc<dyn TextHandler>);

impl Reader {
    /// Around what a plugin offers.
    pub fn new(handler: Arc<dyn TextHandler>) -> Self {
        Self(handler)
    }

    /// Asks for the content; the gate gives leave.
    ///
    /// # Errors
    /// As [`TextHandler::read`].
    pub fn read(&self, _leave: &Admitted, given: Json) -> Answer<Json> {
        self.0.read(given)
    }
}

/// An MCP resource.
#[derive(Clone)]
pub struct Resource {
    /// Its uri, or a template of one (RFC 6570).
    pub uri: Arc<str>,
    /// The name that people see.
    pub name: Arc<str>,
    /// Its media type.
    pub mime_type: Option<Arc<str>>,
    /// What it is.
    pub description: Arc<str>,
    /// What reads it.
    pub reader: Reader,
}

/// An MCP prompt.
#[derive(Clone)]
pub struct Prompt {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Arc<str>,
    /// Its arguments, a JSON list of `{"name", "description", "required", "choices"}`; a choice is a text that it may be.
    pub arguments: Json,
    /// What renders it.
    pub reader: Reader,
}

/// All that one plugin offers.
#[derive(Clone, Default)]
pub struct Contributions {
    /// Its routes.
    pub mounts: Vec<Mount>,
    /// Its tools.
    pub tools: Vec<Tool>,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// Its names on `dash`.
    pub facades: Vec<Facade>,
    /// Its hooks, in the order of startup.
    pub hooks: Vec<Hook>,
    /// Its web files.
    pub assets: Option<Assets>,
    /// Its MCP resources.
    pub resources: Vec<Resource>,
    /// Its MCP prompts.
    pub prompts: Vec<Prompt>,
    /// Whether it has a server, a child process: then `rpc` below its own prefix belongs to the host.
    pub server: bool,
}
