//! What a tool is, as a digest: a leave that was given for one tool must not hold for another that took its name.
//!
//! Two digests: of all that decides what a call does, and of the prose around it.

use std::fmt;
use std::sync::{Arc, LazyLock};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::kernel::secret::{Digest, digest_of, digest_of_hex, hex};

/// What only explains a schema and decides nothing.
const PROSE: [&str; 4] = ["title", "description", "examples", "$comment"];

/// Keywords whose value is a schema.
const SCHEMA: [&str; 14] = [
    "additionalProperties",
    "additionalItems",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "extends",
    "disallow",
];
/// Keywords whose value is a list of schemas.
const SCHEMAS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
/// Keywords whose value has a schema at each name; the names are the author's, and `title` may be one of them.
const NAMED_SCHEMAS: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];

/// Integers beyond this lose digits in the canonical form, which has floating-point numbers alone (RFC 8785 §3.2.2.3).
const EXACT: u64 = 1 << 53;

/// A SHA-256. Cloning is cheap; it shows as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(Digest);

impl Fingerprint {
    /// The digest of the canonical JSON (RFC 8785) of a value.
    pub fn of(value: &Value) -> Self {
        Self(digest_of(canonical(value).as_bytes()))
    }

    /// The digest that [`fmt::Display`] has written; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        digest_of_hex(text).map(Self)
    }

    /// What [`fmt::Display`] writes.
    pub fn text(&self) -> Arc<str> {
        hex(&self.0).into()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What identifies a tool. Cloning copies its JSON.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `{"name", "output_schema", "parameters", "side_effect", "specifier_template"}`, both schemas without prose; what
    /// the fingerprint is the digest of.
    pub facts: Value,
    /// The digest of the facts.
    pub fingerprint: Fingerprint,
    /// The digest of the description and of both schemas with their prose.
    pub prose: Fingerprint,
    /// The fingerprint as every record has it.
    pub fingerprint_text: Arc<str>,
    /// The digest of the prose as every record has it.
    pub prose_text: Arc<str>,
}

/// What a tool says of itself, as far as it is part of its identity.
pub struct Said<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it does, for people and models.
    pub description: &'a str,
    /// The schema of its arguments.
    pub parameters: &'a Value,
    /// The schema of its result.
    pub output: Option<&'a Value>,
    /// Whether it changes anything.
    pub side_effect: bool,
    /// How a call's specifier is made.
    pub template: Option<&'a str>,
}

impl Identity {
    /// The identity of a tool that says this of itself.
    pub fn of(said: &Said<'_>) -> Self {
        let facts = json!({
            "name": said.name,
            "output_schema": said.output.map(without_prose),
            "parameters": without_prose(said.parameters),
            "side_effect": said.side_effect,
            "specifier_template": said.template,
        });
        let prose =
            json!({ "description": said.description, "output_schema": said.output, "parameters": said.parameters });
        let (fingerprint, prose) = (Fingerprint::of(&facts), Fingerprint::of(&prose));
        Self { facts, fingerprint, prose, fingerprint_text: fingerprint.text(), prose_text: prose.text() }
    }
}

/// The digest of a call's arguments. Where the canonical form would lose digits of an integer, so that two calls would
/// have one digest, it is the digest of the text as it came.
pub fn digest_of_arguments(text: &[u8], value: &Value) -> Fingerprint {
    if is_exact(value) { Fingerprint::of(value) } else { Fingerprint(digest_of(text)) }
}

/// The same of arguments that hold a secret: with a key of this run of the host, so that nobody who sees the digest and the
/// rest of the arguments finds the secret by trying.
pub fn keyed_digest_of_arguments(text: &[u8], value: &Value) -> Fingerprint {
    static KEY: LazyLock<Digest> = LazyLock::new(|| {
        let mut key = Digest::default();
        // The host has had random bytes from the system already, else it would not run.
        let _ = getrandom::fill(&mut key);
        key
    });
    let mut mac = Hmac::<Sha256>::new_from_slice(&*KEY).expect("a key of HMAC may have any length");
    mac.update(&digest_of_arguments(text, value).0);
    Fingerprint(mac.finalize().into_bytes().into())
}

/// What differs between two values, one line a place: `/parameters/properties/path/type: "string" → "integer"`. At most
/// `limit` lines, and one that says how many there were.
pub fn differences(old: &Value, new: &Value, limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    compare(String::new(), Some(old), Some(new), &mut lines);
    if lines.len() > limit {
        let more = lines.len() - limit;
        lines.truncate(limit);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn compare(place: String, old: Option<&Value>, new: Option<&Value>, lines: &mut Vec<String>) {
    match (old, new) {
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut names: Vec<&String> =
                old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))).collect();
            names.sort();
            for name in names {
                let step = name.replace('~', "~0").replace('/', "~1");
                compare(format!("{place}/{step}"), old.get(name), new.get(name), lines);
            }
        }
        (old, new) => {
            let shown = |value: Option<&Value>| match value {
                None => "nothing".to_owned(),
                Some(value) => canonical(value).chars().take(200).collect(),
            };
            lines.push(format!("{place}: {} → {}", shown(old), shown(new)));
        }
    }
}

/// The canonical JSON of a value (RFC 8785).
fn canonical(value: &Value) -> String {
    // A parsed value has text keys and finite numbers, which is all that the canonical form asks for.
    serde_json_canonicalizer::to_string(value).unwrap_or_else(|_| value.to_string())
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match (whole, number.as_f64()) {
                (Some(whole), _) => whole <= EXACT,
                // An integer of more than 64 bits is read as such a number, too.
                (None, Some(number)) => number.abs() <= EXACT as f64,
                (None, None) => false,
            }
        }
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        _ => true,
    }
}

/// A copy of a schema without [`PROSE`], which is left out only where it is a keyword.
fn without_prose(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut kept = Map::new();
    for (word, value) in members.iter().filter(|(word, _)| !PROSE.contains(&word.as_str())) {
        let word_str = word.as_str();
        let value = match value {
            Value::Array(items) if SCHEMAS.contains(&word_str) => items.iter().map(without_prose).collect(),
            Value::Object(named) if NAMED_SCHEMAS.contains(&word_str) => {
                named.iter().map(|(name, schema)| (name.clone(), without_prose(schema))).collect()
            }
            Value::Object(_) if SCHEMA.contains(&word_str) => without_prose(value),
            _ => value.clone(),
        };
        kept.insert(word.clone(), value);
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(parameters: &Value, description: &str) -> Identity {
        let said =
            Said { name: "t", description, parameters, output: None, side_effect: true, template: Some("{path}") };
        Identity::of(&said)
    }

    #[test]
    fn prose_is_no_part_of_the_fingerprint_but_of_the_other_digest() {
        let plain = json!({"type": "object", "properties": {"path": {"type": "string"}}});
        let told = json!({
            "title": "T", "$comment": "c", "type": "object",
            "properties": {"path": {"description": "where", "examples": ["/a"], "type": "string"}},
        });
        let (one, other) = (identity(&plain, "a"), identity(&told, "a"));
        assert_eq!(one.fingerprint, other.fingerprint);
        assert_ne!(one.prose, other.prose);
        assert_ne!(identity(&plain, "b").prose, one.prose);
        assert_eq!(identity(&plain, "b").fingerprint, one.fingerprint);
    }

    #[test]
    fn a_parameter_may_be_called_like_prose() {
        let one = json!({"properties": {"title": {"type": "string"}, "description": {"type": "string"}}});
        let other = json!({"properties": {"title": {"type": "integer"}, "description": {"type": "string"}}});
        assert_ne!(identity(&one, "").fingerprint, identity(&other, "").fingerprint);
        assert_eq!(identity(&one, "").facts["parameters"], one);
        let constants = json!({"const": {"title": 1}, "enum": [{"description": 2}], "default": {"examples": []}});
        assert_eq!(without_prose(&constants), constants);
    }

    #[test]
    fn the_order_of_members_does_not_count_and_the_digest_is_that_of_the_canonical_text() {
        let (one, other) = (json!({"b": 1.0, "a": "é"}), json!({"a": "é", "b": 1}));
        assert_eq!(Fingerprint::of(&one), Fingerprint::of(&other));
        assert_eq!(Fingerprint::of(&one), Fingerprint(digest_of("{\"a\":\"é\",\"b\":1}".as_bytes())));
        let shown = Fingerprint::of(&one).to_string();
        assert_eq!(Fingerprint::parse(&shown), Some(Fingerprint::of(&one)));
    }

    #[test]
    fn integers_that_the_canonical_form_cannot_tell_apart_have_two_digests() {
        let digest = |text: &str| digest_of_arguments(text.as_bytes(), &serde_json::from_str(text).unwrap());
        for (one, other) in [
            ("{\"n\":9007199254740993}", "{\"n\":9007199254740992}"),
            ("{\"n\":100000000000000000000001}", "{\"n\":100000000000000000000002}"),
        ] {
            assert_ne!(digest(one), digest(other), "{one} {other}");
        }
        assert_eq!(digest("{\"a\":1, \"b\":2}"), digest("{\"b\":2,\"a\":1.0}"));
    }

    #[test]
    fn differences_name_their_place() {
        let old = json!({"parameters": {"properties": {"a/b": {"type": "string"}}, "required": ["x"]}, "same": 1});
        let new = json!({"parameters": {"properties": {"a/b": {"type": "integer"}}}, "same": 1, "side_effect": true});
        let expected = [
            "/parameters/properties/a~1b/type: \"string\" → \"integer\"",
            "/parameters/required: [\"x\"] → nothing",
            "/side_effect: nothing → true",
        ];
        assert_eq!(differences(&old, &new, 10), expected);
        assert_eq!(differences(&old, &new, 1), [expected[0], "and 2 more"]);
    }
}
