//! The uris of resources: whether one is a template, and what a template finds in a uri.
//!
//! Of RFC 6570 what servers use is known: `{name}` stands for text without `/`, `{+name}` and `{name*}` for any text.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Whether `uri` has placeholders.
pub fn is_template(uri: &str) -> bool {
    uri.contains('{')
}

/// What the placeholders of `template` stand for in `uri`, percent-decoded, or `None` when it does not fit. No
/// placeholder stands for nothing.
pub fn matched(template: &str, uri: &str) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    fits(template, uri, &mut found).then_some(found)
}

/// Tries the longest text for each placeholder first.
fn fits(template: &str, uri: &str, found: &mut Map<String, Value>) -> bool {
    let Some((literal, rest)) = template.split_once('{') else { return template == uri };
    let Some((placeholder, template)) = rest.split_once('}') else { return false };
    let Some(uri) = uri.strip_prefix(literal) else { return false };
    let name = placeholder.trim_start_matches('+').trim_end_matches('*');
    let longest = if name == placeholder { uri.find('/').unwrap_or(uri.len()) } else { uri.len() };
    for end in (1..=longest).rev().filter(|end| uri.is_char_boundary(*end)) {
        let value = percent_decode_str(&uri[..end]).decode_utf8_lossy().into_owned();
        if fits(template, &uri[end..], found) {
            found.insert(name.to_owned(), Value::String(value));
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(template: &str, uri: &str) -> Option<Value> {
        matched(template, uri).map(Value::Object)
    }

    #[test]
    fn a_placeholder_is_one_segment_and_is_decoded() {
        let expected = serde_json::json!({ "id": "a b", "part": "c" });
        assert_eq!(found("notes://{id}/{part}", "notes://a%20b/c"), Some(expected));
        assert_eq!(found("notes://{id}", "notes://a/b"), None);
        assert_eq!(found("notes://{id}", "notes://"), None);
    }

    #[test]
    fn a_marked_placeholder_takes_slashes() {
        assert_eq!(found("file:///{+path}", "file:///a/b"), Some(serde_json::json!({ "path": "a/b" })));
        assert_eq!(found("file:///{path*}.md", "file:///a/b.md"), Some(serde_json::json!({ "path": "a/b" })));
    }

    #[test]
    fn a_template_that_is_broken_fits_nothing() {
        assert_eq!(found("notes://{id", "notes://a"), None);
    }
}
