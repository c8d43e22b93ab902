//! The rules of the settings and those that people added while the host ran, which are kept in `rules.json`.
//!
//! What calls are judged by is swapped in whole, after it is on the disk.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::base::error::{Error, Kind, Result};
use crate::base::permissions::{Permissions, Written};
use crate::base::settings::{Mode, Settings};
use crate::kernel::fingerprint::Fingerprint;
use crate::kernel::judge::Policy;
use crate::kernel::lint::{Finding, Severity, lint_rules};
use crate::kernel::rule::{List, Place, Rule, Seen};
use crate::kernel::rules::RuleSet;
use crate::kernel::store::Store;

/// Holds the rules that people added.
const RULES_FILE: &str = "rules.json";
/// How many rules people may add.
const RULES: usize = 10_000;

/// A rule that a person added.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptRule {
    /// Stays with it.
    pub id: u64,
    /// Which list it is in.
    pub list: List,
    /// As it was written.
    pub rule: String,
    /// Who added it.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub added: OffsetDateTime,
    /// The tool that was seen, where an "always" made the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<SeenTool>,
}

/// The tool that a person saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenTool {
    /// Whose it was.
    pub plugin: String,
    /// The digest of what it was.
    pub fingerprint: String,
    /// The digest of its prose.
    pub prose: String,
    /// What it was: what the fingerprint is the digest of.
    pub facts: Value,
}

/// A rule that is to be added.
pub struct NewRule<'a> {
    /// Which list it is for.
    pub list: List,
    /// As it is written.
    pub text: &'a str,
    /// Who adds it.
    pub by: &'a str,
    /// The tool that was seen.
    pub seen: Option<SeenTool>,
}

/// The rules. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Rulebook {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` for a host that keeps nothing.
    store: Option<Store>,
    mode: Mode,
    set: Vec<Rule>,
    /// What calls are judged by; replaced as a whole.
    policy: ArcSwap<Policy>,
    /// What people added. Held while it is changed, so that two changes cannot lose one another.
    kept: Mutex<Kept>,
    /// The same for those that only look: a call does not wait while the disk is written.
    shown: ArcSwap<Vec<KeptRule>>,
}

/// What `rules.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// The id of the next rule.
    next: u64,
    rules: Vec<KeptRule>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { version: 1, next: 1, rules: Vec::new() }
    }
}

impl Rulebook {
    /// The rules of the settings and of the store.
    ///
    /// # Errors
    /// `Invalid`: a rule of the settings cannot work; the message has every one, with its line and the cure, since a deny
    /// that is silently dead is worse than a host that does not start. `Malformed`: `rules.json` is not what this host
    /// wrote. `Unavailable`: it cannot be read.
    pub fn open(settings: &Settings, store: &Store) -> Result<Self> {
        let set = rules_of_settings(&settings.permissions)?;
        let kept = read(store)?;
        let added = kept
            .rules
            .iter()
            .map(KeptRule::read)
            .collect::<Result<Vec<_>>>()
            .map_err(|error| bad_file(store, error.message()))?;
        let rules = set.iter().cloned().chain(added).collect();
        Ok(Self::made(Some(store.clone()), settings.mode, set, kept, rules))
    }

    /// No rules, and nothing is kept.
    pub fn empty(mode: Mode) -> Self {
        Self::made(None, mode, Vec::new(), Kept::default(), Vec::new())
    }

    fn made(store: Option<Store>, mode: Mode, set: Vec<Rule>, kept: Kept, rules: Vec<Rule>) -> Self {
        let policy = ArcSwap::from_pointee(Policy { mode, rules: Arc::new(RuleSet::new(rules)) });
        let shown = ArcSwap::from_pointee(kept.rules.clone());
        Self { shared: Arc::new(Shared { store, mode, set, policy, kept: Mutex::new(kept), shown }) }
    }

    /// What calls are judged by now.
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.policy.load_full()
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.shared.mode
    }

    /// The rules that people added, oldest first.
    pub fn kept(&self) -> Arc<Vec<KeptRule>> {
        self.shared.shown.load_full()
    }

    /// The rule that a person added under this number.
    pub fn kept_rule(&self, id: u64) -> Option<KeptRule> {
        self.kept().iter().find(|rule| rule.id == id).cloned()
    }

    /// Adds a rule. Blocks until it is on the disk.
    ///
    /// # Errors
    /// `Invalid`: it is no rule, or cannot work beside the others. `Busy`: there are too many. `Unavailable`: it cannot
    /// be kept; then it does not hold.
    pub fn add(&self, new: NewRule<'_>) -> Result<KeptRule> {
        let made = self.add_all(vec![new])?.pop();
        made.ok_or_else(|| Error::new(Kind::Internal, "a rule that was added is not there"))
    }

    /// Adds several rules, all or none, in one write.
    ///
    /// # Errors
    /// As [`Rulebook::add`], of any; also `Invalid`: one cannot work beside another of them.
    pub fn add_all(&self, new: Vec<NewRule<'_>>) -> Result<Vec<KeptRule>> {
        let mut kept = self.locked();
        if kept.rules.len() + new.len() > RULES {
            return Err(Error::new(Kind::Busy, format!("there can be {RULES} added rules: remove some first")));
        }
        let mut changed = kept.clone();
        for new in new {
            let made = KeptRule {
                id: changed.next,
                list: new.list,
                rule: new.text.trim().to_owned(),
                by: new.by.to_owned(),
                added: OffsetDateTime::now_utc(),
                seen: new.seen,
            };
            changed.next += 1;
            // The same "always" for what the tool was before counts no more.
            changed.rules.retain(|rule| made.seen.is_none() || rule.seen.is_none() || rule.rule != made.rule);
            changed.rules.push(made);
        }
        let rules = self.all(&changed)?;
        let made: Vec<KeptRule> = changed.rules.iter().filter(|rule| rule.id >= kept.next).cloned().collect();
        let places: HashSet<String> = made.iter().map(|rule| rule.place().to_string()).collect();
        if let Some(finding) = lint_rules(&rules).into_iter().find(|finding| places.contains(&finding.place)) {
            return Err(Error::new(
                Kind::Invalid,
                format!("{:?}: {}; {}", finding.rule, finding.problem, finding.cure),
            ));
        }
        self.keep(&changed)?;
        self.shared.shown.store(Arc::new(changed.rules.clone()));
        *kept = changed;
        self.swap(rules);
        Ok(made)
    }

    /// Removes a rule that a person added. Blocks until that is on the disk.
    ///
    /// # Errors
    /// `NotFound`: there is none of that number. `Unavailable`: it cannot be written; then it still holds.
    pub fn remove(&self, id: u64) -> Result<KeptRule> {
        let mut kept = self.locked();
        let Some(place) = kept.rules.iter().position(|rule| rule.id == id) else {
            let message = format!(
                "there is no added rule {id}: `plugbay perms list` shows all; those of the settings are removed there"
            );
            return Err(Error::new(Kind::NotFound, message));
        };
        let mut changed = kept.clone();
        let gone = changed.rules.remove(place);
        let rules = self.all(&changed)?;
        self.keep(&changed)?;
        self.shared.shown.store(Arc::new(changed.rules.clone()));
        *kept = changed;
        self.swap(rules);
        Ok(gone)
    }

    /// The rules of the settings.
    pub fn set(&self) -> &[Rule] {
        &self.shared.set
    }

    /// The rules of the settings, then those that people added.
    fn all(&self, kept: &Kept) -> Result<Vec<Rule>> {
        self.shared.set.iter().cloned().map(Ok).chain(kept.rules.iter().map(KeptRule::read)).collect()
    }

    fn keep(&self, kept: &Kept) -> Result<()> {
        let Some(store) = &self.shared.store else {
            return Err(Error::new(
                Kind::Unavailable,
                "no host runs, so nothing is kept: start one with `plugbay serve`",
            ));
        };
        let text = serde_json::to_vec_pretty(kept)
            .map_err(|error| Error::new(Kind::Internal, "the rules cannot be written as JSON").with_source(error))?;
        store.write(RULES_FILE, &text)
    }

    fn swap(&self, rules: Vec<Rule>) {
        self.shared.policy.store(Arc::new(Policy { mode: self.shared.mode, rules: Arc::new(RuleSet::new(rules)) }));
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptRule {
    fn place(&self) -> Place {
        Place::Store(self.id)
    }

    fn read(&self) -> Result<Rule> {
        let rule = Rule::parse(&self.rule, self.list, self.place())?;
        let Some(seen) = &self.seen else { return Ok(rule) };
        let fingerprint = Fingerprint::parse(&seen.fingerprint)
            .ok_or_else(|| Error::new(Kind::Malformed, format!("rule {} has a fingerprint that is none", self.id)))?;
        Ok(rule.only_for(Seen { plugin: seen.plugin.as_str().into(), fingerprint }))
    }
}

/// Reads the rules of `[permissions]` and checks what can be checked without tools.
///
/// # Errors
/// `Invalid`: some cannot work; the message has one line for each.
pub fn rules_of_settings(permissions: &Permissions) -> Result<Vec<Rule>> {
    let lists: [(List, &[Written]); 3] =
        [(List::Deny, &permissions.deny), (List::Ask, &permissions.ask), (List::Allow, &permissions.allow)];
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for (list, texts) in lists {
        for Written { text, place } in texts {
            match Rule::parse(text, list, Place::Settings(place.clone())) {
                Ok(rule) => rules.push(rule),
                Err(error) => problems.push(error.message().to_owned()),
            }
        }
    }
    let found = lint_rules(&rules);
    problems.extend(found.iter().filter(|finding| finding.severity == Severity::Error).map(Finding::line));
    if problems.is_empty() { Ok(rules) } else { Err(Error::new(Kind::Invalid, problems.join("\n"))) }
}

fn read(store: &Store) -> Result<Kept> {
    let Some(bytes) = store.read(RULES_FILE)? else { return Ok(Kept::default()) };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| bad_file(store, &error.to_string()))?;
    if kept.version != 1 {
        return Err(bad_file(store, &format!("it has version {}, this host reads 1", kept.version)));
    }
    Ok(kept)
}

fn bad_file(store: &Store, why: &str) -> Error {
    let path = store.home().join(RULES_FILE);
    let message = format!(
        "cannot read the rules in {}: {why}; put back a good copy, or remove the file and add the rules anew with \
         `plugbay perms add`",
        path.display()
    );
    Error::new(Kind::Malformed, message)
}
