//! Rules that cannot work, found when they are loaded: each with where it stands, why, and the cure.

use std::sync::Arc;

use serde::Serialize;

use crate::kernel::glob::Glob;
use crate::kernel::misfit::Misfit;
use crate::kernel::readable::Readable;
use crate::kernel::rule::{List, Rule};
use crate::kernel::specifier::Template;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The rule never does what it says.
    Error,
    /// It may: something that it speaks of is not there yet.
    Warning,
}

/// One thing that is wrong with one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which list the rule is in.
    pub list: List,
    /// The rule as it was written.
    pub rule: String,
    /// Where it stands: `plugbay.toml:12`.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub cure: String,
}

impl Finding {
    fn new(severity: Severity, rule: &Rule, problem: String, cure: impl Into<String>) -> Self {
        let place = rule.place().to_string();
        Self { severity, list: rule.list(), rule: rule.as_str().to_owned(), place, problem, cure: cure.into() }
    }

    /// Whether the rule never does what it says.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// One line with all of it.
    pub fn line(&self) -> String {
        format!("{}: {} rule {:?}: {}; {}", self.place, self.list.as_str(), self.rule, self.problem, self.cure)
    }
}

/// A tool, as far as rules may speak of it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: Arc<str>,
    /// Whose it is.
    pub plugin: Arc<str>,
    /// How its specifiers are made.
    pub template: Option<Template>,
}

/// What is wrong with the rules whatever tools there are: rules that can never decide, because another of their own or
/// of a stronger list matches all that they match.
pub fn lint_rules(rules: &[Rule]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let covers = |(place, other): &(usize, &Rule)| {
            let earlier_twin = *place < index || !rule.includes(other);
            let stronger = other.list() < rule.list() || (other.list() == rule.list() && earlier_twin);
            *place != index && stronger && other.includes(rule)
        };
        // One that a person's "always" made was of use when it was made.
        let severity = if rule.seen().is_some() { Severity::Warning } else { Severity::Error };
        if let Some((_, other)) = rules.iter().enumerate().find(covers) {
            let problem = format!("it can never decide, because {other} matches all that it matches");
            let cure =
                if other.list() == rule.list() { "remove one of them" } else { "remove it, or narrow the other" };
            found.push(Finding::new(severity, rule, problem, cure));
        } else if let Some(pattern) = rule.specifier().filter(|pattern| looks_like_a_template(pattern.as_str())) {
            let problem = format!("{:?} is a placeholder, and rules have none", pattern.as_str());
            found.push(Finding::new(severity, rule, problem, "write the text that it stands for, or \"*\""));
        }
    }
    found
}

/// What is wrong with the rules beside these tools.
pub fn lint_tools(rules: &[Rule], tools: &[Known]) -> Vec<Finding> {
    // What is read over MCP is there without any plugin.
    let read = Readable::ALL.map(|readable| Known {
        name: readable.as_str().into(),
        plugin: "".into(),
        template: Some(readable.template()),
    });
    rules.iter().filter_map(|rule| lint_tool(rule, tools, &read)).collect()
}

fn lint_tool(rule: &Rule, tools: &[Known], read: &[Known]) -> Option<Finding> {
    let named: Vec<&Known> = tools.iter().chain(read).filter(|tool| rule.tool().matches(&tool.name)).collect();
    if named.is_empty() {
        return Some(unknown(rule, tools));
    }
    let pattern = rule.specifier()?;
    let templates: Vec<(&Known, &Template)> =
        named.iter().filter_map(|tool| tool.template.as_ref().map(|template| (*tool, template))).collect();
    if templates.is_empty() {
        let problem = match &named[..] {
            [one] => format!("{} has no specifier template, so its calls have no specifier", one.name),
            _ => "none of its tools has a specifier template, so their calls have no specifier".to_owned(),
        };
        let cure =
            format!("write {:?} to match every call, or give the tool a specifier_template", rule.tool().as_str());
        return Some(Finding::new(Severity::Error, rule, problem, cure));
    }
    // One tool that it may match is enough.
    let reasons = templates.iter().map(|(tool, template)| Some((*tool, misfit(template, pattern, rule.list())?)));
    let reasons = reasons.collect::<Option<Vec<_>>>()?;
    let soft = reasons.iter().find(|(_, misfit)| !misfit.certain);
    let (tool, misfit) = soft.or_else(|| reasons.first())?;
    let unfit = || format!("no specifier of {} can match {:?}", tool.name, pattern.as_str());
    let severity = if misfit.certain { Severity::Error } else { Severity::Warning };
    Some(Finding::new(severity, rule, misfit.problem.clone().unwrap_or_else(unfit), misfit.cure.as_str()))
}

/// Why a rule of that list does nothing for the calls of a tool with this template.
fn misfit(template: &Template, pattern: &Glob, list: List) -> Option<Misfit> {
    let never = || template.excludes(pattern).map(Misfit::certain);
    // Where a link leads may change.
    let link = || {
        let cure = (list == List::Allow).then(|| template.odd_link(pattern)).flatten()?;
        Some(Misfit { certain: false, problem: None, cure })
    };
    never().or_else(|| template.odd_url(pattern.as_str(), list)).or_else(|| template.fails(pattern, list)).or_else(link)
}

/// A tool that is not there: whether its plugin is tells a typing error from a plugin that comes later.
fn unknown(rule: &Rule, tools: &[Known]) -> Finding {
    let name = rule.tool().as_str();
    let group = name.split(['.', '*']).next().unwrap_or_default();
    let family: Vec<&Known> = tools
        .iter()
        .filter(|_| !group.is_empty() && name.len() > group.len())
        .filter(|tool| *tool.plugin == *group || tool.name.split('.').next() == Some(group))
        .collect();
    let nearest = family.iter().min_by_key(|tool| distance(name, &tool.name));
    match nearest {
        Some(nearest) => {
            let problem = format!("plugin {} is loaded and has no such tool", nearest.plugin);
            Finding::new(
                Severity::Error,
                rule,
                problem,
                format!("did you mean {:?}? `plugbay tools` lists all", nearest.name),
            )
        }
        None => {
            let problem = "no plugin that is loaded has such a tool".to_owned();
            Finding::new(
                Severity::Warning,
                rule,
                problem,
                "load its plugin, or mend the name: `plugbay tools` lists all",
            )
        }
    }
}

fn looks_like_a_template(text: &str) -> bool {
    text.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(inside, _)| {
        let name = inside.split(':').next().unwrap_or_default();
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// How many letters differ, roughly: those that the one has and the other has not at that place from either end.
fn distance(left: &str, right: &str) -> usize {
    let same_start = left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
    let same_end = left.bytes().rev().zip(right.bytes().rev()).take_while(|(a, b)| a == b).count();
    (left.len().max(right.len())).saturating_sub(same_start + same_end)
}
