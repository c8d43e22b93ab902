//! Questions about rules that need no host: everything that decides comes with the question, as JSON.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Mode;
use crate::kernel::breaker::Tripped;
use crate::kernel::explain::explanation;
use crate::kernel::fingerprint::Fingerprint;
use crate::kernel::judge::{Policy, Subject};
use crate::kernel::lint::{Known, lint_rules, lint_tools};
use crate::kernel::rule::{List, Place, Rule, Seen};
use crate::kernel::rules::RuleSet;
use crate::kernel::specifier::Template;

/// A rule.
#[derive(Deserialize)]
struct Given {
    list: List,
    rule: String,
    /// Where it stands.
    #[serde(default)]
    place: Option<String>,
    /// The tool that it was made for.
    #[serde(default)]
    plugin: Option<String>,
    #[serde(default)]
    fingerprint: Option<String>,
}

/// A tool.
#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    plugin: String,
    #[serde(default)]
    side_effect: bool,
    #[serde(default)]
    specifier_template: Option<String>,
    #[serde(default)]
    fingerprint: Option<String>,
}

/// Which call is asked about.
#[derive(Deserialize)]
struct Call {
    /// `default`, `plan` or `autonomous`.
    mode: String,
    rules: Vec<Given>,
    tool: Tool,
    #[serde(default)]
    arguments: Map<String, Value>,
    /// `too_many_calls`, `too_many_failures` or nothing.
    #[serde(default)]
    tripped: Option<String>,
}

/// Which rules are asked about.
#[derive(Deserialize)]
struct Lists {
    rules: Vec<Given>,
    tools: Vec<Tool>,
}

/// What would become of a call: `{"mode", "rules": [{"list", "rule", "place"?, "plugin"?, "fingerprint"?}], "tool":
/// {"name", "plugin"?, "side_effect"?, "specifier_template"?, "fingerprint"?}, "arguments"?, "tripped"?}` gives what
/// [`explanation`] says.
///
/// # Errors
/// `Malformed`, `Invalid`: the question cannot be read, or a rule or the template is none.
pub fn explain(question: &str) -> Result<Value> {
    let call: Call = read(question)?;
    let mode = match call.mode.as_str() {
        "default" => Mode::Default,
        "plan" => Mode::Plan,
        "autonomous" => Mode::Autonomous,
        other => return Err(Error::new(Kind::Invalid, format!("there is no mode {other:?}"))),
    };
    let tripped = match call.tripped.as_deref() {
        None => None,
        Some("too_many_calls") => Some(Tripped::Calls),
        Some("too_many_failures") => Some(Tripped::Failures),
        Some(other) => return Err(Error::new(Kind::Invalid, format!("there is no breaker {other:?}"))),
    };
    let template = call.tool.template()?;
    let fingerprint = call.tool.fingerprint.as_deref().map_or(Ok(Fingerprint::of(&Value::Null)), fingerprint)?;
    let subject = Subject {
        tool: call.tool.name.as_str().into(),
        plugin: call.tool.plugin.as_str().into(),
        fingerprint,
        side_effect: call.tool.side_effect,
    };
    let specifier = template.map(|template| template.render(&Value::Object(call.arguments)));
    let policy = Policy { mode, rules: Arc::new(RuleSet::new(rules(call.rules)?)) };
    Ok(explanation(&policy, &subject, specifier.as_ref(), tripped))
}

/// What is wrong with rules: `{"rules": […], "tools": […]}` as in [`explain`] gives `{"findings": […]}`.
///
/// # Errors
/// As [`explain`].
pub fn lint(question: &str) -> Result<Value> {
    let lists: Lists = read(question)?;
    let rules = rules(lists.rules)?;
    let known = |tool: &Tool| {
        Ok(Known { name: tool.name.as_str().into(), plugin: tool.plugin.as_str().into(), template: tool.template()? })
    };
    let tools = lists.tools.iter().map(known).collect::<Result<Vec<_>>>()?;
    let mut found = lint_rules(&rules);
    found.extend(lint_tools(&rules, &tools));
    Ok(json!({ "findings": found }))
}

impl Tool {
    fn template(&self) -> Result<Option<Template>> {
        self.specifier_template.as_deref().map(Template::parse).transpose()
    }
}

fn rules(given: Vec<Given>) -> Result<Vec<Rule>> {
    given
        .into_iter()
        .map(|given| {
            let place = given.place.map_or(Place::Given, |place| Place::Settings(place.into()));
            let rule = Rule::parse(&given.rule, given.list, place)?;
            Ok(match given.fingerprint {
                None => rule,
                Some(text) => rule.only_for(Seen {
                    plugin: given.plugin.unwrap_or_default().into(),
                    fingerprint: fingerprint(&text)?,
                }),
            })
        })
        .collect()
}

fn fingerprint(text: &str) -> Result<Fingerprint> {
    Fingerprint::parse(text).ok_or_else(|| Error::new(Kind::Invalid, format!("{text:?} is no fingerprint")))
}

fn read<'a, T: Deserialize<'a>>(question: &'a str) -> Result<T> {
    serde_json::from_str(question).map_err(|error| {
        let kind = if error.is_data() { Kind::Invalid } else { Kind::Malformed };
        Error::new(kind, format!("the question cannot be read: {error}"))
    })
}
