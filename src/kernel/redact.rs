//! Arguments as they may be shown and kept: what a schema marks as secret is replaced.
//!
//! Where it is not known for sure what a schema says of a value, the value is hidden: too little shown is a nuisance, a
//! secret shown is a loss.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use serde_json::Value;

/// Stands where a secret was.
pub const HIDDEN: &str = "[hidden]";

/// The schema of a secret.
static SECRET: LazyLock<Value> = LazyLock::new(|| serde_json::json!({ "writeOnly": true }));

/// Keywords that refer to a schema elsewhere.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose schema applies to the same value.
const SAME: [&str; 3] = ["if", "then", "else"];
/// Keywords whose every schema, in a list or at a name, applies to the same value.
const ALL_SAME: [&str; 5] = ["allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies"];
/// Keywords whose schemas apply to members or items.
const BELOW: [&str; 9] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "prefixItems",
    "items",
    "additionalItems",
    "unevaluatedItems",
    "contains",
];
/// Keywords that apply no schema to anything: places to refer to, and values.
const IDLE: [&str; 6] = ["$defs", "definitions", "const", "enum", "default", "examples"];
/// Keywords that give what is below them an address of its own, or the words of another draft.
const BASES: [&str; 3] = ["$id", "id", "$schema"];

/// Whether a schema, as JSON text without needless escapes, may mark anything as secret.
pub fn may_hide(schema: &str) -> bool {
    schema.contains("writeOnly") || schema.contains("password")
}

/// A copy of `value` in which everything that `schema` marks `writeOnly: true` or `format: password` is [`HIDDEN`].
///
/// Marks count wherever they stand on the way to a value: in properties, items and the branches of `allOf`, `anyOf`,
/// `oneOf`, `if`, `then`, `else`, and behind references within the schema, whether or not the branch was the one that
/// fitted. A mark below any other keyword (`not`, `contentSchema`, `propertyNames`, or one that no draft knows) hides the
/// whole value, and so does a reference of which it is not sure where it leads.
pub fn redacted(schema: &Value, value: &Value) -> Value {
    let mut copy = value.clone();
    Reader::of(schema).hide(&[schema], &mut copy, 0);
    copy
}

/// Reads one schema. Values within it are known by where they lie in memory: they do not move while it is read.
struct Reader<'a> {
    root: &'a Value,
    /// All that lies below an address of its own: what a reference there means depends on that address.
    elsewhere: HashSet<*const Value>,
    /// What is known already of [`Reader::marks_anything`]: a list of many items asks it of the same schema for each.
    marking: HashMap<*const Value, bool>,
}

impl<'a> Reader<'a> {
    fn of(root: &'a Value) -> Self {
        Self { root, elsewhere: elsewhere(root), marking: HashMap::new() }
    }

    /// Hides in a value what these schemas, which all apply to it, mark.
    fn hide(&mut self, schemas: &[&'a Value], value: &mut Value, depth: usize) {
        let schemas = self.all_of(schemas);
        // Arguments come nested no deeper than this: `Arguments::parse` refuses them.
        if depth > 128 || schemas.iter().any(|schema| is_secret(schema)) {
            // Nothing was given: that is no secret, and `null` says so.
            if !value.is_null() {
                *value = Value::from(HIDDEN);
            }
            return;
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    self.hide_below(schemas.iter().flat_map(|schema| of_member(schema, name)), member, depth);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.hide_below(schemas.iter().flat_map(|schema| of_item(schema, index)), item, depth);
                }
            }
            _ => {}
        }
    }

    fn hide_below(&mut self, schemas: impl Iterator<Item = &'a Value>, value: &mut Value, depth: usize) {
        let schemas: Vec<&Value> = schemas.collect();
        if !schemas.is_empty() {
            self.hide(&schemas, value, depth + 1);
        }
    }

    /// These schemas and all that apply to the same value.
    fn all_of(&mut self, schemas: &[&'a Value]) -> Vec<&'a Value> {
        let mut all = Vec::new();
        // Schemas that branch and refer to themselves could go on for ever; each is looked at once.
        let mut seen = HashSet::new();
        let mut open = schemas.to_vec();
        while let Some(schema) = open.pop() {
            if seen.insert(std::ptr::from_ref(schema)) {
                all.push(schema);
                self.add_same(schema, &mut open);
            }
        }
        all
    }

    /// Adds the schemas that apply to a value because this one does.
    fn add_same(&mut self, schema: &'a Value, more: &mut Vec<&'a Value>) {
        self.add_targets(schema, more);
        for (word, below) in schema.as_object().into_iter().flatten() {
            match word.as_str() {
                word if SAME.contains(&word) => more.push(below),
                word if ALL_SAME.contains(&word) => more.extend(children(below)),
                word if REFERENCES.contains(&word) || BELOW.contains(&word) || IDLE.contains(&word) => {}
                // To which part of the value this applies is not known.
                _ if self.marks_anything(below) => more.push(&SECRET),
                _ => {}
            }
        }
    }

    /// Adds what a schema refers to.
    fn add_targets(&self, schema: &'a Value, more: &mut Vec<&'a Value>) {
        for reference in REFERENCES.into_iter().filter_map(|word| schema.get(word)) {
            more.push(self.target(schema, reference).unwrap_or(&SECRET));
        }
    }

    /// What a reference in a schema leads to. An anchor or an address is not looked for, nor is anything where `#` is not
    /// the root: there, nothing is known of the target, and it may be a secret.
    fn target(&self, schema: &Value, reference: &Value) -> Option<&'a Value> {
        if self.elsewhere.contains(&std::ptr::from_ref(schema)) {
            return None;
        }
        let pointer = reference.as_str()?.strip_prefix('#')?;
        self.root.pointer(&decoded(pointer))
    }

    /// Whether there is a mark anywhere below a keyword's value, or below what it refers to.
    fn marks_anything(&mut self, below: &'a Value) -> bool {
        let place = std::ptr::from_ref(below);
        if let Some(known) = self.marking.get(&place) {
            return *known;
        }
        let marks = self.find_mark(below);
        self.marking.insert(place, marks);
        marks
    }

    fn find_mark(&self, below: &'a Value) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![below];
        while let Some(value) = open.pop() {
            if is_secret(value) {
                return true;
            }
            if seen.insert(std::ptr::from_ref(value)) {
                self.add_targets(value, &mut open);
                open.extend(children(value));
            }
        }
        false
    }
}

/// All that lies below an address of its own: of that of the root everything does, and it is none of these.
fn elsewhere(root: &Value) -> HashSet<*const Value> {
    let mut found = HashSet::new();
    let mut open: Vec<(&Value, bool)> = children(root).map(|child| (child, false)).collect();
    while let Some((value, is_below)) = open.pop() {
        // Properties may have these names, too; they have no text there.
        let is_base = BASES.iter().any(|word| value.get(word).is_some_and(Value::is_string));
        let is_below = is_below || is_base;
        if is_below {
            found.insert(std::ptr::from_ref(value));
        }
        open.extend(children(value).map(|child| (child, is_below)));
    }
    found
}

/// The items of a list, or the members of an object; nothing else has any.
fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let (items, members) = (value.as_array(), value.as_object());
    items.into_iter().flatten().chain(members.into_iter().flat_map(|members| members.values()))
}

fn is_secret(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
        || schema.get("format").is_some_and(|format| format == "password")
}

/// A JSON pointer in a reference is percent-encoded.
fn decoded(pointer: &str) -> String {
    percent_encoding::percent_decode_str(pointer).decode_utf8_lossy().into_owned()
}

fn of_member<'a>(schema: &'a Value, name: &str) -> Vec<&'a Value> {
    let named = schema.get("properties").and_then(|properties| properties.get(name));
    // Which of the patterns fits is not asked: one that hides too much is better than one that shows a secret.
    let patterns = schema.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(|map| map.values());
    let rest = ["additionalProperties", "unevaluatedProperties"].into_iter().filter_map(|word| schema.get(word));
    match named {
        Some(named) => std::iter::once(named).chain(patterns).collect(),
        None => patterns.chain(rest).collect(),
    }
}

/// Older drafts have the first items' schemas as a list in `items`, and that of the rest in `additionalItems`.
fn of_item(schema: &Value, index: usize) -> Vec<&Value> {
    let first = ["prefixItems", "items"].into_iter().find_map(|word| schema.get(word).and_then(|list| list.get(index)));
    let rest = ["items", "additionalItems", "unevaluatedItems"].into_iter().filter_map(|word| schema.get(word));
    let contained = schema.get("contains");
    match first {
        Some(first) => std::iter::once(first).chain(contained).collect(),
        None => rest.chain(contained).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_marked_is_hidden_wherever_the_mark_stands() {
        let schema = json!({
            "type": "object",
            "properties": {
                "user": {"type": "string"},
                "password": {"type": "string", "format": "password"},
                "token": {"$ref": "#/$defs/secret"},
                "list": {"type": "array", "items": {"properties": {"key": {"writeOnly": true}}}},
                "either": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"pin": {"writeOnly": true}}}]},
                "writeOnly": {"type": "string"},
                "anchored": {"$ref": "#far"},
                "tuple": {"prefixItems": [{}, {"format": "password"}]},
            },
            "additionalProperties": {"writeOnly": true},
            "$defs": {"far": {"$anchor": "far", "writeOnly": true}, "secret": {"allOf": [{"writeOnly": true}]}, "self": {"$ref": "#/$defs/self"}},
        });
        let value = json!({
            "user": "ann", "password": "p", "token": {"a": 1}, "list": [{"key": "k", "name": "n"}],
            "either": {"pin": 1, "x": 2}, "writeOnly": "no secret", "tuple": ["a", "b", "c"], "anchored": "a", "more": "m", "nothing": null,
        });
        let expected = json!({
            "user": "ann", "password": HIDDEN, "token": HIDDEN, "list": [{"key": HIDDEN, "name": "n"}],
            "either": {"pin": HIDDEN, "x": 2}, "writeOnly": "no secret", "tuple": ["a", HIDDEN, "c"], "anchored": HIDDEN,
            "more": HIDDEN,
            "nothing": null,
        });
        assert_eq!(redacted(&schema, &value), expected);
    }

    #[test]
    fn a_schema_that_refers_to_itself_comes_to_an_end() {
        let schema = json!({"$ref": "#", "properties": {"a": {"$ref": "#"}, "s": {"writeOnly": true}}});
        assert_eq!(redacted(&schema, &json!({"a": {"a": {"s": 1}}})), json!({"a": {"a": {"s": HIDDEN}}}));
    }

    /// Checks what is shown of a value, for each pair of a schema and what is expected.
    fn check(value: &Value, table: &[(Value, Value)]) {
        for (schema, expected) in table {
            assert_eq!(redacted(schema, value), *expected, "{schema}");
        }
    }

    #[test]
    fn a_reference_below_an_address_of_its_own_hides_what_it_stands_for() {
        let value = json!({"o": {"k": "SECRET", "other": "SECRET", "plain": 1}, "other": 1});
        let hidden = json!({"o": {"k": HIDDEN, "other": HIDDEN, "plain": 1}, "other": 1});
        let below = |base: Value, reference: Value| {
            let mut o = json!({"type": "object", "properties": {"k": reference, "other": {"writeOnly": true}}});
            o.as_object_mut().unwrap().extend(base.as_object().unwrap().clone());
            json!({"$id": "http://x/", "properties": {"o": o, "other": {}}})
        };
        let to_other = json!({"$ref": "#/properties/other"});
        let table = [
            (below(json!({"$id": "http://x/o"}), to_other.clone()), hidden.clone()),
            (below(json!({"$id": "o"}), json!({"anyOf": [{"$dynamicRef": "#/properties/other"}]})), hidden.clone()),
            (below(json!({"$id": "o"}), json!({"$recursiveRef": "#/properties/other"})), hidden.clone()),
            (
                below(json!({"$schema": "http://json-schema.org/draft-04/schema#", "id": "o"}), to_other.clone()),
                hidden.clone(),
            ),
            (below(json!({}), json!({"$id": "k", "$ref": "#/properties/other"})), hidden.clone()),
            // Here the root is meant, where nothing is marked.
            (below(json!({}), to_other), json!({"o": {"k": "SECRET", "other": HIDDEN, "plain": 1}, "other": 1})),
            // Where the reference stands counts, also when another has led there.
            (
                json!({
                    "properties": {"o": {"$ref": "#/$defs/o/$defs/p"}, "other": {}},
                    "$defs": {"o": {"$id": "o", "properties": {"other": {"writeOnly": true}}, "$defs": {"p": {
                        "properties": {"k": {"$ref": "#/properties/other"}, "other": {"format": "password"}},
                    }}}},
                }),
                hidden,
            ),
        ];
        check(&value, &table);
    }

    #[test]
    fn a_property_may_be_called_like_an_address() {
        let schema = json!({"properties": {
            "$id": {"type": "string"}, "id": {"type": "string"}, "a": {"$ref": "#/$defs/plain"}, "s": {"writeOnly": true},
        }, "$defs": {"plain": {"type": "integer"}}});
        let value = json!({"$id": "x", "id": "y", "a": 1, "s": 2});
        assert_eq!(redacted(&schema, &value), json!({"$id": "x", "id": "y", "a": 1, "s": HIDDEN}));
    }

    #[test]
    fn a_mark_below_a_keyword_that_is_not_followed_hides_the_whole_value() {
        let mark = json!({"properties": {"pin": {"writeOnly": true}}});
        for word in ["contentSchema", "not", "propertyNames", "x-like-a-schema"] {
            for below in [mark.clone(), json!([mark.clone()]), json!({"$ref": "#/$defs/deep"}), json!({"$ref": "#far"})]
            {
                let schema = json!({
                    "properties": {"o": {word: below}, "plain": {word: {"type": "string", "$ref": "#/$defs/plain"}}},
                    "$defs": {"plain": {"minLength": 1}, "deep": {"allOf": [{"$ref": "#/$defs/mark"}]}, "mark": mark.clone()},
                });
                for value in [json!("{\"pin\":\"SECRET\"}"), json!({"SECRET": 1}), json!(["SECRET"])] {
                    let value = json!({"o": value, "plain": "x"});
                    assert_eq!(redacted(&schema, &value), json!({"o": HIDDEN, "plain": "x"}), "{schema} {value}");
                }
            }
        }
    }

    #[test]
    fn what_looks_like_a_mark_in_a_value_is_none() {
        for word in ["const", "enum", "default", "examples", "$defs", "definitions"] {
            let schema = json!({"properties": {"a": {word: [{"writeOnly": true}]}}});
            assert_eq!(redacted(&schema, &json!({"a": "x"})), json!({"a": "x"}), "{word}");
        }
    }

    #[test]
    fn marks_are_followed_through_every_keyword_that_applies_a_schema_to_the_same_value() {
        let mark = json!({"properties": {"k": {"writeOnly": true}}});
        let table = [
            json!({"allOf": [true, mark]}),
            json!({"anyOf": [false, mark]}),
            json!({"oneOf": [{}, mark]}),
            json!({"if": mark}),
            json!({"if": {}, "then": mark}),
            json!({"if": {}, "else": mark}),
            json!({"dependentSchemas": {"a": mark}}),
            json!({"dependencies": {"b": ["a"], "a": mark}}),
            json!({"$ref": "#/$defs/m", "$defs": {"m": mark}}),
            json!({"$ref": "#/definitions/m%20n", "definitions": {"m n": mark}}),
            json!({"$dynamicRef": "#/$defs/m", "$defs": {"m": mark}}),
            json!({"$ref": "#/$defs/m", "$defs": {"m": {"properties": {"k": {"$recursiveRef": "#/$defs/s"}}}, "s": {"writeOnly": true}}}),
            json!({"properties": {"k": {"format": "password"}}}),
            json!({"patternProperties": {"^k": {"writeOnly": true}}, "properties": {"a": {}}}),
        ];
        for schema in table {
            let is_for_all = schema.get("patternProperties").is_some();
            let shown = redacted(&schema, &json!({"k": "SECRET", "a": "x"}));
            let a = if is_for_all { HIDDEN } else { "x" };
            assert_eq!(shown, json!({"k": HIDDEN, "a": a}), "{schema}");
        }
    }

    #[test]
    fn marks_are_followed_to_members_and_items() {
        let secret = json!({"writeOnly": true});
        let rest = [
            json!({"additionalProperties": secret, "properties": {"a": {}}}),
            json!({"unevaluatedProperties": secret, "properties": {"a": {}}}),
        ];
        check(&json!({"a": 1, "b": 2}), &rest.map(|schema| (schema, json!({"a": 1, "b": HIDDEN}))));
        let second = [
            json!({"prefixItems": [{}, secret]}),
            json!({"prefixItems": [{}], "items": secret}),
            json!({"prefixItems": [{}], "unevaluatedItems": secret}),
            json!({"items": [{}, secret]}),
            json!({"items": [{}], "additionalItems": secret}),
        ];
        check(&json!(["a", "SECRET"]), &second.map(|schema| (schema, json!(["a", HIDDEN]))));
        let every =
            [json!({"items": secret}), json!({"contains": secret}), json!({"prefixItems": [{}], "contains": secret})];
        check(&json!(["SECRET", "SECRET"]), &every.map(|schema| (schema, json!([HIDDEN, HIDDEN]))));
    }

    #[test]
    fn no_number_of_references_is_too_long_to_be_followed() {
        let mut names = serde_json::Map::from_iter([("0".to_owned(), json!({"writeOnly": true}))]);
        for index in 1..40 {
            names.insert(index.to_string(), json!({"$ref": format!("#/$defs/{}", index - 1)}));
        }
        let schema = json!({"properties": {"k": {"$ref": "#/$defs/39"}}, "$defs": names});
        assert_eq!(redacted(&schema, &json!({"k": "SECRET"})), json!({"k": HIDDEN}));
    }
}
