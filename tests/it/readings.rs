//! URLs and paths that programs read in several ways: a deny holds for each, and an allow must match each.

use std::sync::Arc;

use plugbay::base::settings::Mode;
use plugbay::kernel::fingerprint::Fingerprint;
use plugbay::kernel::judge::{Policy, Subject, Verdict};
use plugbay::kernel::rule::{List, Place, Rule};
use plugbay::kernel::rules::RuleSet;
use plugbay::kernel::specifier::Template;
use serde_json::{Value, json};

/// What one rule says of a call of a tool with this template: in mode `autonomous`, but for an allow rule.
fn said(list: List, pattern: &str, template: &str, arguments: &Value) -> Verdict {
    let rule = Rule::parse(&format!("tool({pattern})"), list, Place::Given).unwrap();
    let mode = if list == List::Allow { Mode::Default } else { Mode::Autonomous };
    let policy = Policy { mode, rules: Arc::new(RuleSet::new(vec![rule])) };
    let fingerprint = Fingerprint::of(&json!(1));
    let subject = Subject { tool: "tool".into(), plugin: "p".into(), fingerprint, side_effect: true };
    let specifier = Template::parse(template).unwrap().render(arguments);
    policy.judge(&subject, Some(&specifier), || None).verdict
}

#[test]
fn a_deny_holds_for_each_address_of_a_host() {
    for (url, pattern) in [
        ("http://[::127.0.0.1]/x", "http://127.0.0.1/*"),
        ("http://[::ffff:127.0.0.1]/x", "http://127.0.0.1/*"),
        ("http://[::ffff:0:127.0.0.1]/x", "http://127.0.0.1/*"),
        ("http://[64:ff9b::7f00:1]/x", "http://127.0.0.1/*"),
        ("http://[64:ff9b:1::7f00:1]/x", "http://127.0.0.1/*"),
        ("http://[2002:7f00:1::]/x", "http://127.0.0.1/*"),
        ("http://[2002:7f00:1::5]:8080/%61", "http://127.0.0.1:8080/a"),
        ("file://h/etc/x", "file:///etc/*"),
        ("file://h/%65tc/x", "file:///etc/*"),
        ("foo://H/admin/x", "foo://h/admin/*"),
        ("foo://H/admin/x", "foo://H/admin/*"),
        ("foo://H./%61dmin/x", "foo://h/admin/*"),
        ("foo://0x7f.1/x", "foo://127.0.0.1/*"),
    ] {
        assert_eq!(said(List::Deny, pattern, "{u:url}", &json!({ "u": url })), Verdict::Deny, "{url}");
    }
    for (url, pattern) in [
        ("http://[::1]/x", "http://0.0.0.1/*"),
        ("http://[2001:db8::7f00:1]/x", "http://127.0.0.1/*"),
        ("http://h/etc/x", "file:///etc/*"),
    ] {
        assert_eq!(said(List::Deny, pattern, "{u:url}", &json!({ "u": url })), Verdict::Allow, "{url}");
    }
}

#[test]
fn a_deny_holds_for_a_path_that_is_decoded_twice() {
    for url in [
        "http://h/%2561dmin/x",
        "http://h/pub/..%2fadmin/x",
        "http://h/pub/..%252fadmin/x",
        "http://h/pub/..%5cadmin/x",
        "http://h/pub/..%255cadmin/x",
        "http://h/pub/%252e%252e/admin/x",
        "http://h/pub/%252e%2e%2f/admin/x",
        "http://h/pub/a%252f/..%2f..%2fadmin/x",
    ] {
        let verdict = said(List::Deny, "http://h/admin/*", "{u:url}", &json!({ "u": url }));
        assert_eq!(verdict, Verdict::Deny, "{url}");
    }
}

#[test]
fn an_allow_must_match_each_place_that_a_url_may_lead_to() {
    use Verdict::{Allow, Ask};
    for (url, pattern, verdict) in [
        ("http://h/pub/..%2fadmin", "http://h/pub/*", Ask),
        ("http://h/pub/..%5cadmin", "http://h/pub/*", Ask),
        ("http://h/pub/%252e%252e/admin", "http://h/pub/*", Ask),
        ("http://h/pub/..%252fadmin", "http://h/pub/*", Ask),
        ("http://h/pub/a%2f..%2f..%2fadmin", "http://h/pub/*", Ask),
        ("file:///pub/..%2fetc/passwd", "file:///pub/*", Ask),
        // All that it may be lies there.
        ("http://h/pub/..%2fadmin", "http://h/*", Allow),
        ("http://h/api/projects/group%2Fproject", "http://h/api/*", Allow),
        ("http://h/api/projects/group%2Fproject", "http://h/api/projects/group%2F*", Ask),
        // Who writes the whole of it means it.
        ("http://h/pub/..%2fadmin", "http://h/pub/..%2fadmin", Allow),
        ("http://h/pub/a%20b/%41..%3F100%25", "http://h/pub/*", Allow),
        ("http://h/pub/a?x=..%2f..%2fadmin", "http://h/pub/*", Allow),
        ("http://h/pub//a/", "http://h/pub/*", Allow),
    ] {
        assert_eq!(said(List::Allow, pattern, "{u:url}", &json!({ "u": url })), verdict, "{url} {pattern}");
    }
    let two = json!({ "from": "http://h/pub/a", "to": "http://h/pub/..%2fadmin" });
    for (pattern, verdict) in [("http://h/* -> http://h/pub/*", Ask), ("http://h/pub/* -> http://h/*", Allow)] {
        assert_eq!(said(List::Allow, pattern, "{from:url} -> {to:url}", &two), verdict, "{pattern}");
    }
}

#[test]
fn the_narrowest_rule_for_a_url_of_several_places_is_the_url() {
    let specifier = Template::parse("{u:url}").unwrap().render(&json!({ "u": "http://h/pub/..%2fadmin" }));
    let narrowest = specifier.parts[0].narrowest().unwrap();
    assert_eq!(narrowest.as_str(), "http://h/pub/..%2fadmin");
    assert!(specifier.parts[0].is_allowed_by(narrowest));
}

#[test]
fn the_links_of_a_process_hide_no_file_and_are_never_allowed() {
    for path in [
        "/proc/1/root/etc/passwd",
        "/proc/self/root/etc/passwd",
        "/proc/thread-self/root/../etc/passwd",
        "/proc/999999999/root/etc/passwd",
    ] {
        let arguments = json!({ "p": path });
        assert_eq!(said(List::Deny, "/etc/*", "{p:path}", &arguments), Verdict::Deny, "{path}");
        assert_eq!(said(List::Deny, "/other/*", "{p:path}", &arguments), Verdict::Ask, "{path}");
        for pattern in ["/etc/*", "/proc/*", "*"] {
            assert_eq!(said(List::Allow, pattern, "{p:path}", &arguments), Verdict::Ask, "{path} {pattern}");
        }
    }
    let absent = json!({ "p": "/proc/self/fd/999999999" });
    assert_eq!(said(List::Deny, "/etc/*", "{p:path}", &absent), Verdict::Ask);
    assert_eq!(said(List::Allow, "*", "{p:path}", &absent), Verdict::Ask);
    let plain = json!({ "p": "/proc/self/status" });
    assert_eq!(said(List::Allow, "/proc/*", "{p:path}", &plain), Verdict::Allow);
}

#[test]
fn a_path_that_is_the_url_of_a_file_may_be_that_file() {
    for path in [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "file://localhost/etc/passwd",
        "file:///data/../etc/passwd",
        "file:///%65tc/passwd",
        "file:////etc/passwd",
    ] {
        let arguments = json!({ "p": path });
        assert_eq!(said(List::Deny, "/etc/*", "{p:path}", &arguments), Verdict::Deny, "{path}");
        assert_eq!(said(List::Deny, "/other/*", "{p:path}", &arguments), Verdict::Allow, "{path}");
        for pattern in ["/*", "*"] {
            assert_eq!(said(List::Allow, pattern, "{p:path}", &arguments), Verdict::Ask, "{path} {pattern}");
        }
    }
    let name = json!({ "p": "files:/etc/passwd" });
    assert_eq!(said(List::Allow, "*", "{p:path}", &name), Verdict::Allow);
}
