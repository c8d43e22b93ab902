//! One rule: which calls it speaks of, in which list it is, and where it stands.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::kernel::fingerprint::Fingerprint;
use crate::kernel::glob::Glob;

/// What a rule says of the calls that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// They never run.
    Deny,
    /// A person is asked each time.
    Ask,
    /// They run.
    Allow,
}

impl List {
    /// The lists, the strongest first.
    pub const ALL: [Self; 3] = [Self::Deny, Self::Ask, Self::Allow];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Ask => "ask",
            Self::Allow => "allow",
        }
    }
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Among the settings: `plugbay.toml:12`, or `command line`.
    Settings(Arc<str>),
    /// Among those that people added while the host ran, under a number that stays.
    Store(u64),
    /// Nowhere: it was given for this one question.
    Given,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(place) => f.write_str(place),
            Self::Store(number) => write!(f, "rules.json, rule {number}"),
            Self::Given => f.write_str("the rules given"),
        }
    }
}

/// The tool that a person saw when they said "always".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose it was.
    pub plugin: Arc<str>,
    /// What it was.
    pub fingerprint: Fingerprint,
}

/// One rule. Cloning is cheap.
#[derive(Clone)]
pub struct Rule {
    shared: Arc<Shared>,
}

struct Shared {
    text: Box<str>,
    list: List,
    place: Place,
    tool: Glob,
    specifier: Option<Glob>,
    seen: Option<Seen>,
}

impl Rule {
    /// Reads `tool` or `tool(specifier)`; `*` is any text in both.
    ///
    /// # Errors
    /// `Invalid`: it is neither; the message says where it stands and how to write it.
    pub fn parse(text: &str, list: List, place: Place) -> Result<Self> {
        let text = text.trim();
        let bad = |why: &str| {
            let shown: String = text.chars().take(120).collect();
            let message = format!(
                "{place}: {} rule {shown:?} is not valid: {why}; write it like \"files.read\", \"files.*\" or \
                 \"files.write(/data/*)\"",
                list.as_str()
            );
            Error::new(Kind::Invalid, message)
        };
        let (tool, specifier) = match text.split_once('(') {
            None => (text, None),
            Some((tool, rest)) => {
                let inside =
                    rest.strip_suffix(')').ok_or_else(|| bad("the bracket after the tool is not closed at its end"))?;
                (tool, Some(inside))
            }
        };
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*');
        if tool.is_empty() || !tool.chars().all(known) {
            return Err(bad("a tool's name has letters, digits, \"_\", \"-\" and \".\", and \"*\" for any text"));
        }
        if specifier == Some("") {
            return Err(bad("the brackets are empty; leave them out to match every call of the tool"));
        }
        let control = || bad("it holds a control character");
        let tool = Glob::parse(tool).ok_or_else(control)?;
        let specifier = specifier.map(|inside| Glob::parse(inside).ok_or_else(control)).transpose()?;
        Ok(Self { shared: Arc::new(Shared { text: text.into(), list, place, tool, specifier, seen: None }) })
    }

    /// The same rule for that tool alone: another that takes its name is not meant.
    #[must_use]
    pub fn only_for(&self, seen: Seen) -> Self {
        let Shared { text, list, place, tool, specifier, .. } = &*self.shared;
        Self {
            shared: Arc::new(Shared {
                text: text.clone(),
                list: *list,
                place: place.clone(),
                tool: tool.clone(),
                specifier: specifier.clone(),
                seen: Some(seen),
            }),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.shared.text
    }

    /// What it says of the calls that it matches.
    pub fn list(&self) -> List {
        self.shared.list
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        &self.shared.place
    }

    /// Which tools it speaks of.
    pub fn tool(&self) -> &Glob {
        &self.shared.tool
    }

    /// Which of their calls; `None` is every call.
    pub fn specifier(&self) -> Option<&Glob> {
        self.shared.specifier.as_ref()
    }

    /// The tool that it was made for, where a person's "always" made it.
    pub fn seen(&self) -> Option<&Seen> {
        self.shared.seen.as_ref()
    }

    /// Whether it matches all that `other` matches.
    pub fn includes(&self, other: &Self) -> bool {
        self.tool().includes(other.tool())
            && match (self.specifier(), other.specifier()) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(mine), Some(theirs)) => mine.includes(theirs),
            }
            && self.seen().is_none_or(|seen| other.seen() == Some(seen))
    }

    /// Whether two handles are of one rule.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {:?} ({})", self.list().as_str(), self.as_str(), self.place())
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
