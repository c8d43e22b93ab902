//! Rules that cannot work, found when they are loaded: each with where it stands, why, and the cure.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use url::Url;

use crate::kernel::glob::{Glob, Place, overlap};
use crate::kernel::readable::Readable;
use crate::kernel::rule::{List, Rule};
use crate::kernel::specifier::{Form, Piece, Template, absolute, url_forms};

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
    let never = |template: &Template| {
        let odd = template.excludes(pattern).or_else(|| template.odd_url(pattern.as_str(), rule.list()));
        let link = || (rule.list() == List::Allow).then(|| template.odd_link(pattern)).flatten();
        // Where a link leads may change.
        odd.map(|cure| (Severity::Error, cure)).or_else(|| link().map(|cure| (Severity::Warning, cure)))
    };
    // One tool that it may match is enough.
    let reasons =
        templates.iter().map(|(tool, template)| never(template).map(|(severity, cure)| (tool, severity, cure)));
    let reasons = reasons.collect::<Option<Vec<_>>>()?;
    let soft = reasons.iter().find(|(_, severity, _)| *severity == Severity::Warning);
    let (tool, severity, cure) = soft.or_else(|| reasons.first())?;
    let problem = format!("no specifier of {} can match {:?}", tool.name, pattern.as_str());
    Some(Finding::new(*severity, rule, problem, cure.as_str()))
}

impl Template {
    /// Why no specifier of this template ever fits the pattern, with the cure; `None` when one may.
    pub fn excludes(&self, pattern: &Glob) -> Option<String> {
        let mut places = Vec::new();
        let mut forms = Vec::new();
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) => text.chars().for_each(|c| {
                    places.push(Place::Is(c));
                    forms.push(None);
                }),
                Piece::Value { form, .. } => {
                    if *form == Form::Path {
                        places.push(Place::Is('/'));
                        forms.push(None);
                    }
                    places.push(Place::Open);
                    forms.push(Some(*form));
                }
            }
        }
        let may = |index: usize, c: char| forms[index].is_none_or(|form| self.can_hold(form, c));
        if !overlap(pattern.as_str(), &places, may) {
            return Some(format!("specifiers of this tool look like {:?}: {}", self.as_str(), self.cure()));
        }
        let pattern = pattern.as_str();
        self.odd_path(pattern).or_else(|| self.odd_command(pattern)).or_else(|| self.odd_escape(pattern))
    }

    fn cure(&self) -> &'static str {
        match self.pieces().iter().find_map(|piece| match piece {
            Piece::Value { form, .. } if *form != Form::Plain => Some(*form),
            _ => None,
        }) {
            Some(Form::Path) => "paths are absolute there; begin the pattern with \"/\"",
            Some(Form::Shell) => "write a rule for each simple command, and its words with one space between",
            _ => {
                "write the texts between the values as the template does, and \"*\", \"%\" and borders in values as %2A, %25 …"
            }
        }
    }

    /// What a normalised path never holds.
    fn odd_path(&self, pattern: &str) -> Option<String> {
        let [Piece::Value { form: Form::Path, .. }] = self.pieces() else { return None };
        let odd = ["//", "/./", "/../"].into_iter().find(|odd| pattern.contains(odd));
        let end = ["/", "/.", "/.."].into_iter().find(|end| pattern.len() > 1 && pattern.ends_with(end));
        odd.or(end).map(|odd| {
            format!(
                "paths are normalised before they are matched, and none has {odd:?} there: write the path that it means"
            )
        })
    }

    fn odd_command(&self, pattern: &str) -> Option<String> {
        self.shell()?;
        let odd = pattern.contains("  ") || pattern.starts_with(' ') || pattern.ends_with(' ');
        odd.then(|| "the words of a command have one space between them, and none around".to_owned())
    }

    /// A percent sign that begins no escape: those of values are escaped themselves, but for those of a URL.
    fn odd_escape(&self, pattern: &str) -> Option<String> {
        if self.pieces().iter().any(|piece| matches!(piece, Piece::Value { form: Form::Url, .. })) {
            return None;
        }
        // A `*` may stand for what is left of one.
        let begins_none = |rest: &str| {
            let digits: Vec<char> = rest.chars().take_while(|c| *c != '*').take(2).collect();
            let open = digits.len() < 2 && rest.chars().nth(digits.len()) == Some('*');
            !digits.iter().all(char::is_ascii_hexdigit) || (digits.len() < 2 && !open)
        };
        let odd = pattern.match_indices('%').any(|(at, _)| begins_none(&pattern[at + 1..]));
        odd.then(|| "every \"%\" there is followed by two hexadecimal digits: write a \"%\" as \"%25\"".to_owned())
    }

    /// Why no URL, as specifiers of this template write it, fits a rule's pattern, with the form to write.
    fn odd_url(&self, pattern: &str, list: List) -> Option<String> {
        let written = match self.pieces() {
            [Piece::Value { form: Form::Url, .. }] => pattern,
            [Piece::Text(text), Piece::Value { form: Form::Url, .. }] => pattern.strip_prefix(&**text)?,
            [.., Piece::Text(text), Piece::Value { form: Form::Url, .. }] => pattern.rsplit_once(&**text)?.1,
            _ => return None,
        };
        let before = &pattern[..pattern.len() - written.len()];
        let head = &written[..written.find('*').unwrap_or(written.len())];
        let (scheme, rest) = head.split_once("://")?;
        let whole = head.len() == written.len();
        if !whole && !rest.contains(['/', '?', '#']) {
            // The host goes on behind the `*`, so that it cannot be parsed.
            let known = ["http", "https", "ws", "wss", "ftp"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
            let odd = known && (!rest.is_ascii() || head.contains(|c: char| c.is_ascii_uppercase()));
            return odd.then(|| {
                let small = format!("{before}{}{}", head.to_lowercase(), &written[head.len()..]);
                format!(
                    "scheme and host are in small letters of ASCII there: write {small:?}, a name of others as xn--…"
                )
            });
        }
        // The last step of a path may go on behind the `*`.
        let fixed = if whole || head.contains('?') { head } else { &head[..=head.rfind('/')?] };
        let Ok(mut url) = Url::parse(fixed) else { return Some(format!("{fixed:?} begins no URL")) };
        url.set_fragment(None);
        let fits = match list {
            List::Allow => url.as_str() == fixed,
            List::Deny | List::Ask => url_forms(&url).iter().any(|form| form == fixed),
        };
        let cure = format!("{before}{url}{}", &written[fixed.len()..]);
        (!fits).then(|| format!("URLs are parsed and written anew before they are matched: write {cure:?}"))
    }

    /// Why no path fits the pattern of an allow rule on this machine, with the cure: a link leads elsewhere.
    fn odd_link(&self, pattern: &Glob) -> Option<String> {
        let [Piece::Value { form: Form::Path, .. }] = self.pieces() else { return None };
        // The last name may go on behind the `*`.
        let fixed = if pattern.is_plain() { pattern.as_str() } else { &pattern.head()[..pattern.head().rfind('/')?] };
        let found = absolute(Path::new(fixed), true).filter(|found| found != fixed && !fixed.contains('%'))?;
        let cure = format!("{found}{}", &pattern.as_str()[fixed.len()..]);
        Some(format!("links are followed before an allow rule is matched: write {cure:?}"))
    }
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
