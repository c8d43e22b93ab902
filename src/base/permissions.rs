//! The rules that the operator has set, as text with the place of each: what they say is the gate's business.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

/// A text of the settings and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The text.
    pub text: Box<str>,
    /// `plugbay.toml:12`, or `command line`.
    pub place: Arc<str>,
}

/// The table `[permissions]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Rules of calls that never run.
    pub deny: Vec<Written>,
    /// Rules of calls that a person is asked about.
    pub ask: Vec<Written>,
    /// Rules of calls that run.
    pub allow: Vec<Written>,
    /// Principals whose answers inside their own session count as a person's.
    pub trusted_clients: Vec<Box<str>>,
}

/// What a source says of permissions: those, and the mode, if it says one.
pub struct Said {
    /// The rules.
    pub permissions: Permissions,
    /// `default`, `plan` or `autonomous`, not checked.
    pub mode: Option<String>,
}

#[derive(Deserialize)]
struct File {
    permissions: Option<Table<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
struct Table<T> {
    mode: Option<String>,
    #[serde(default = "Vec::new")]
    deny: Vec<T>,
    #[serde(default = "Vec::new")]
    ask: Vec<T>,
    #[serde(default = "Vec::new")]
    allow: Vec<T>,
    #[serde(default)]
    trusted_clients: Vec<String>,
}

/// The table `[permissions]` of a TOML text, whose file is called `shown`; `None` when there is none.
///
/// # Errors
/// It is not such a table; the text says where and why.
pub fn of_toml(text: &str, shown: &str) -> Result<Option<Said>, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        format!("{shown}:{line}: [permissions] is not valid: {}; it has mode, deny, ask, allow and trusted_clients, the last four lists of texts", error.message())
    })?;
    let written = |rule: &Spanned<String>| Written {
        text: rule.get_ref().as_str().into(),
        place: format!("{shown}:{}", line_of(text, rule.span().start)).into(),
    };
    Ok(file.permissions.map(|table| table.said(written)))
}

/// The same of a JSON value.
///
/// # Errors
/// As [`of_toml`].
pub fn of_json(value: &Value, source: &str) -> Result<Said, String> {
    let table: Table<String> = Table::deserialize(value).map_err(|error| {
        format!("{source}: permissions is not valid: {error}; it has mode, deny, ask, allow and trusted_clients, the last four lists of texts")
    })?;
    let place: Arc<str> = source.into();
    Ok(table.said(|rule| Written { text: rule.as_str().into(), place: place.clone() }))
}

impl<T> Table<T> {
    fn said(&self, written: impl Fn(&T) -> Written) -> Said {
        let all = |rules: &[T]| rules.iter().map(&written).collect();
        let permissions = Permissions {
            deny: all(&self.deny),
            ask: all(&self.ask),
            allow: all(&self.allow),
            trusted_clients: self.trusted_clients.iter().map(|name| name.as_str().into()).collect(),
        };
        Said { permissions, mode: self.mode.clone() }
    }
}

impl Permissions {
    /// Takes the rules of a further source to these.
    pub fn extend(&mut self, more: Self) {
        self.deny.extend(more.deny);
        self.ask.extend(more.ask);
        self.allow.extend(more.allow);
        self.trusted_clients.extend(more.trusted_clients);
    }
}

/// The line of a byte, counted from one.
fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes()[..byte.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
