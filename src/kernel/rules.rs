//! The rules in force, made ready to be asked: which of them speak of a tool, and what they say of a call.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::kernel::part::Part;
use crate::kernel::rule::{List, Rule};
use crate::kernel::specifier::Specifier;

/// How many tools' rules are kept at hand; beyond it they are looked up anew.
const TOOLS: usize = 10_000;

/// Rules that never change. Cheap to ask, whatever their number.
pub struct RuleSet {
    rules: Vec<Rule>,
    /// The places in `rules` of those that name one tool, by its name.
    named: HashMap<Box<str>, Vec<usize>>,
    /// The places of those with a `*` in the tool.
    open: Vec<usize>,
    /// What was looked up before, by tool.
    known: RwLock<HashMap<Arc<str>, Arc<ToolRules>>>,
}

/// The rules that speak of one tool.
#[derive(Default)]
pub struct ToolRules {
    /// By list, in the order of [`List::ALL`].
    lists: [Listed; 3],
}

/// The rules of one list that speak of one tool.
#[derive(Default)]
struct Listed {
    /// Those of every call first.
    rules: Vec<Rule>,
    /// How many of them are of every call.
    bare: usize,
    /// The places of the others, by what their patterns begin with before the first `*`.
    heads: HashMap<Box<str>, Vec<usize>>,
    /// The lengths of these beginnings, each once.
    lengths: Vec<usize>,
}

/// Whether a rule matches a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It does not.
    No,
    /// It depends on what is not known of the call.
    Perhaps,
    /// It does.
    Yes,
}

impl RuleSet {
    /// A set of these rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut named: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut open = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            if rule.tool().is_plain() {
                named.entry(rule.tool().as_str().into()).or_default().push(place);
            } else {
                open.push(place);
            }
        }
        Self { rules, named, open, known: RwLock::default() }
    }

    /// The rules, those of the settings first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that speak of a tool.
    pub fn of_tool(&self, name: &Arc<str>) -> Arc<ToolRules> {
        if let Some(found) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return found.clone();
        }
        let mut found = ToolRules::default();
        let open = self.open.iter().filter(|place| self.rules[**place].tool().matches(name));
        for place in self.named.get(&**name).into_iter().flatten().chain(open) {
            let rule = &self.rules[*place];
            found.lists[rule.list() as usize].rules.push(rule.clone());
        }
        found.lists.iter_mut().for_each(Listed::prepare);
        let found = Arc::new(found);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < TOOLS {
            known.insert(name.clone(), found.clone());
        }
        found
    }
}

impl ToolRules {
    /// The rules of a list that may match a call, those of every call first. What begins otherwise is left out.
    pub fn candidates(&self, list: List, specifier: Option<&Specifier>) -> Vec<&Rule> {
        let listed = &self.lists[list as usize];
        let mut places: Vec<usize> = (0..listed.bare).collect();
        for form in specifier.into_iter().flat_map(|specifier| &specifier.parts).flat_map(|part| &part.forms) {
            if !form.is_plain() {
                return listed.rules.iter().collect();
            }
            let heads = listed.lengths.iter().filter_map(|length| form.as_str().get(..*length));
            places.extend(heads.filter_map(|head| listed.heads.get(head)).flatten());
        }
        places.sort_unstable();
        places.dedup();
        places.into_iter().map(|place| &listed.rules[place]).collect()
    }
}

impl Listed {
    fn prepare(&mut self) {
        self.rules.sort_by_key(|rule| rule.specifier().is_some());
        for (place, rule) in self.rules.iter().enumerate() {
            match rule.specifier() {
                None => self.bare += 1,
                Some(pattern) => self.heads.entry(pattern.head().into()).or_default().push(place),
            }
        }
        self.lengths = self.heads.keys().map(|head| head.len()).collect();
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }
}

/// Whether a deny or ask rule matches a call: any part in any form is enough. A rule with a specifier never matches a
/// call without one.
pub fn matches(rule: &Rule, specifier: Option<&Specifier>) -> Match {
    let Some(pattern) = rule.specifier() else { return Match::Yes };
    let forms = specifier.into_iter().flat_map(|specifier| &specifier.parts).flat_map(|part| &part.forms);
    let mut best = Match::No;
    for form in forms {
        if pattern.includes(form) {
            return Match::Yes;
        }
        if !form.is_plain() && best == Match::No && pattern.meets(form) {
            best = Match::Perhaps;
        }
    }
    best
}

/// The rule that allows one part of a call, or a call without any, of `rules` that may all be used.
pub fn allows<'a>(mut rules: impl Iterator<Item = &'a Rule>, part: Option<&Part>) -> Option<&'a Rule> {
    rules.find(|rule| match rule.specifier() {
        None => true,
        Some(pattern) => part.is_some_and(|part| part.is_allowed_by(pattern)),
    })
}
