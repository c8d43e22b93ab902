//! Arguments as they may be shown and kept: what a schema marks as secret is replaced.

use std::sync::LazyLock;

use serde_json::Value;

/// Stands where a secret was.
pub const HIDDEN: &str = "[hidden]";

/// The schema of a secret.
static SECRET: LazyLock<Value> = LazyLock::new(|| serde_json::json!({ "writeOnly": true }));

/// How many `$ref`s are followed on the way to one value: a schema may refer to itself.
const REFERENCES: usize = 16;

/// Whether a schema, as JSON text without needless escapes, may mark anything as secret.
pub fn may_hide(schema: &str) -> bool {
    schema.contains("writeOnly") || schema.contains("password")
}

/// A copy of `value` in which everything that `schema` marks `writeOnly: true` or `format: password` is [`HIDDEN`].
///
/// Marks count wherever they stand on the way to a value: in properties, items and the branches of `allOf`, `anyOf`,
/// `oneOf`, `if`, `then`, `else`, and behind references within the schema, whether or not the branch was the one that
/// fitted.
pub fn redacted(schema: &Value, value: &Value) -> Value {
    let mut copy = value.clone();
    hide(schema, &[schema], &mut copy, 0);
    copy
}

fn hide(root: &Value, schemas: &[&Value], value: &mut Value, depth: usize) {
    let schemas = all_of(root, schemas);
    if schemas.iter().any(|schema| is_secret(schema)) {
        // Nothing was given: that is no secret, and `null` says so.
        if !value.is_null() {
            *value = Value::from(HIDDEN);
        }
        return;
    }
    // Arguments come nested no deeper than this: `Arguments::parse` refuses them.
    if depth > 128 {
        *value = Value::from(HIDDEN);
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                let below: Vec<&Value> = schemas.iter().flat_map(|schema| of_member(schema, name)).collect();
                if !below.is_empty() {
                    hide(root, &below, member, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let below: Vec<&Value> = schemas.iter().flat_map(|schema| of_item(schema, index)).collect();
                if !below.is_empty() {
                    hide(root, &below, item, depth + 1);
                }
            }
        }
        _ => {}
    }
}

fn is_secret(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
        || schema.get("format").is_some_and(|format| format == "password")
}

/// These schemas and all that apply to the same value.
fn all_of<'a>(root: &'a Value, schemas: &[&'a Value]) -> Vec<&'a Value> {
    let mut all: Vec<(&Value, usize)> = schemas.iter().map(|schema| (*schema, 0)).collect();
    let mut next = 0;
    while let Some((schema, references)) = all.get(next).copied() {
        next += 1;
        // Schemas that branch and refer to themselves could go on for ever; each is looked at once.
        let mut add = |more: &'a Value, references: usize| {
            if references <= REFERENCES && !all.iter().any(|(known, _)| std::ptr::eq(*known, more)) {
                all.push((more, references));
            }
        };
        for word in ["$ref", "$dynamicRef"] {
            let pointer = schema.get(word).and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
            match pointer.and_then(|pointer| root.pointer(&decoded(pointer))) {
                Some(target) => add(target, references + 1),
                // An anchor or an id: what it refers to is not looked for, and may be a secret.
                None if schema.get(word).is_some() => add(&SECRET, 0),
                None => {}
            }
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            schema.get(word).and_then(Value::as_array).into_iter().flatten().for_each(|branch| add(branch, references));
        }
        for word in ["if", "then", "else"] {
            schema.get(word).into_iter().for_each(|branch| add(branch, references));
        }
        schema
            .get("dependentSchemas")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .for_each(|(_, branch)| add(branch, references));
    }
    all.into_iter().map(|(schema, _)| schema).collect()
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

fn of_item(schema: &Value, index: usize) -> Vec<&Value> {
    let first = schema.get("prefixItems").and_then(|items| items.get(index));
    let rest = ["items", "contains", "unevaluatedItems"].into_iter().filter_map(|word| schema.get(word));
    match first {
        Some(first) => std::iter::once(first).chain(schema.get("contains")).collect(),
        None => rest.collect(),
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
}
