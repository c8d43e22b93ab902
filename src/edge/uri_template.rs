//! The uris of resources: whether one is a template, and what a template finds in a uri.
//!
//! Of RFC 6570 what servers use is known: `{name}` stands for text without `/`, `{+name}` and `{name*}` for any text.

use percent_encoding::percent_decode_str;
use regex::Regex;
use serde_json::{Map, Value};

/// Whether `uri` has placeholders.
pub fn is_template(uri: &str) -> bool {
    uri.contains('{')
}

/// What the placeholders of `template` stand for in `uri`, percent-decoded, or `None` when it does not fit. No
/// placeholder stands for nothing; each takes as much as it can. Takes a time that grows with the length of both.
pub fn matched(template: &str, uri: &str) -> Option<Map<String, Value>> {
    let (mut pattern, mut names) = (String::from("(?s)^"), Vec::new());
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        let (placeholder, after) = after.split_once('}')?;
        let name = placeholder.trim_start_matches('+').trim_end_matches('*');
        pattern.push_str(&regex::escape(literal));
        pattern.push_str(if name == placeholder { "([^/]+)" } else { "(.+)" });
        names.push(name);
        rest = after;
    }
    pattern.push_str(&regex::escape(rest));
    pattern.push('$');
    let found = Regex::new(&pattern).ok()?.captures(uri)?;
    let decoded = |text: &str| Value::String(percent_decode_str(text).decode_utf8_lossy().into_owned());
    let values = found.iter().skip(1).flatten().map(|value| decoded(value.as_str()));
    Some(names.into_iter().map(str::to_owned).zip(values).collect())
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
    fn a_long_uri_is_looked_at_once() {
        let uri = format!("t://{}", "a/".repeat(4000));
        assert_eq!(found("t://{+a}/{+b}/{+c}/end", &uri), None);
        assert_eq!(found("notes://{id}/meta", &format!("notes://{}", "a".repeat(1 << 20))), None);
    }

    #[test]
    fn a_template_that_is_broken_fits_nothing() {
        assert_eq!(found("notes://{id", "notes://a"), None);
    }
}
