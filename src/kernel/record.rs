//! What is kept of one call.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;

/// Characters of a name whose record a database did not take.
const PLAIN: usize = 64;

/// A word or a text of a record, without NUL, which PostgreSQL does not take. Cloning is cheap.
#[derive(Clone)]
pub enum Text {
    /// One of the host's own words.
    Word(&'static str),
    /// Any other.
    Shared(Arc<str>),
}

impl Text {
    /// The text; in the place of each NUL stands `U+FFFD`.
    pub fn of(text: &str) -> Self {
        Self::Shared(without_nul(text).into())
    }

    /// The same of a text that may be shared.
    pub fn sharing(text: &Arc<str>) -> Self {
        if text.contains('\0') { Self::of(text) } else { Self::Shared(text.clone()) }
    }

    /// Its beginning, with `?` for all but the letters, digits and signs of ASCII.
    fn plain(&self) -> Self {
        let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        Self::Shared(self.chars().map(plain).take(PLAIN).collect::<String>().into())
    }

    /// The text as a database takes it without a copy.
    pub fn shared(&self) -> Arc<str> {
        match self {
            Self::Word(word) => (*word).into(),
            Self::Shared(text) => text.clone(),
        }
    }
}

fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Shared(text) => text,
        }
    }
}

impl From<&'static str> for Text {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

/// One call, as it is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where it stands: greater than that of every earlier record; 0 until it is appended.
    pub id: i64,
    /// What names this call and no other.
    pub call: Text,
    /// When it was asked.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Which way it came in.
    pub door: Text,
    /// Who asked.
    pub principal: Text,
    /// Which tool was named.
    pub tool: Text,
    /// Who offers it; none when nobody does.
    pub plugin: Option<Text>,
    /// That plugin's version.
    pub version: Option<Text>,
    /// Whether the tool changes anything.
    pub side_effect: Option<bool>,
    /// The digest of what the tool promises.
    pub fingerprint: Option<Text>,
    /// The digest of what it says of itself.
    pub prose: Option<Text>,
    /// What the gate's rules were matched with.
    pub specifier: Option<Text>,
    /// The SHA-256 of the arguments as RFC 8785 writes them, in hexadecimal digits.
    pub digest: Text,
    /// The arguments, a JSON object without its secrets; none when they are not kept or too long.
    #[serde(serialize_with = "as_json")]
    pub arguments: Option<Text>,
    /// What was decided: `allowed`, `denied`, `asked_allowed`, `asked_denied`, `asked_lapsed` or `asked_pending`; none
    /// when the gate was not reached.
    pub decision: Option<Text>,
    /// Why, in a word.
    pub reason: Option<Text>,
    /// The rule that decided, with where it stands.
    pub rule: Option<Text>,
    /// The approval that was waited for.
    pub approval: Option<Text>,
    /// Who answered it.
    pub answered_by: Option<Text>,
    /// How long it took, in microseconds.
    pub duration_us: i64,
    /// How it ended: `ok`, `refused` (it never ran), `failed` or `cancelled`.
    pub outcome: Text,
    /// The code of its failure.
    pub code: Option<Text>,
}

impl Record {
    /// What is known of a call that is asked now.
    pub fn new(call: &str, door: &'static str, principal: Text, tool: Text) -> Self {
        Self {
            id: 0,
            call: Text::of(call),
            time: OffsetDateTime::now_utc(),
            door: door.into(),
            principal,
            tool,
            plugin: None,
            version: None,
            side_effect: None,
            fingerprint: None,
            prose: None,
            specifier: None,
            digest: "".into(),
            arguments: None,
            decision: None,
            reason: None,
            rule: None,
            approval: None,
            answered_by: None,
            duration_us: 0,
            outcome: "refused".into(),
            code: None,
        }
    }

    /// Takes out what others have written: a database did not take it. What is left of names is what every database does.
    pub fn strip(&mut self) {
        (self.specifier, self.arguments, self.rule) = (None, None, None);
        self.principal = self.principal.plain();
        self.tool = self.tool.plain();
        for name in [&mut self.plugin, &mut self.version, &mut self.approval, &mut self.answered_by] {
            *name = name.as_ref().map(Text::plain);
        }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> i64 {
        let must = [&self.call, &self.door, &self.principal, &self.tool, &self.digest, &self.outcome];
        let may = [
            &self.plugin,
            &self.version,
            &self.fingerprint,
            &self.prose,
            &self.specifier,
            &self.arguments,
            &self.decision,
            &self.reason,
            &self.rule,
            &self.approval,
            &self.answered_by,
            &self.code,
        ];
        let texts: usize = must.into_iter().chain(may.into_iter().flatten()).map(|text| text.len()).sum();
        // The numbers, the row's own head and its line in the index.
        texts as i64 + 64 + self.tool.len() as i64
    }
}

/// The text of a JSON value as that value.
fn as_json<S: Serializer>(text: &Option<Text>, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = text.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
}
