//! Specifiers: what rules see of a call, and that no argument can make it look like another.

use plugbay::kernel::glob::Glob;
use plugbay::kernel::specifier::Template;
use proptest::prelude::*;
use serde_json::{Value, json};

fn rendered(template: &str, arguments: &Value) -> String {
    Template::parse(template).unwrap().render(arguments).text.to_string()
}

#[test]
fn a_template_is_read_or_refused_with_its_cure() {
    for good in ["{a}", "{a:path}", "x {a} y", "{a} {b:url}", "{{{a}}}", "run {c:shell}"] {
        assert!(Template::parse(good).is_ok(), "{good}");
    }
    for bad in
        ["", "text", "{a}{b}", "{a", "a}", "{}", "{:path}", "{a:}", "{a:pth}", "{a} {c:shell}", "*{a}", "%{a}", "{a}\n"]
    {
        assert!(Template::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn values_are_escaped_so_that_no_border_and_no_star_is_theirs() {
    for (template, arguments, expected) in [
        ("{a}", json!({"a": "x*y%z"}), "x%2Ay%25z"),
        ("{a}:{b}", json!({"a": "1:2", "b": "3"}), "1%3A2:3"),
        ("{a} -> {b}", json!({"a": "x -> y", "b": "z"}), "x%20->%20y -> z"),
        ("{a}", json!({"a": "two words"}), "two words"),
        ("{a}", json!({"a": 1.5}), "1.5"),
        ("{a}", json!({"a": true}), "true"),
        ("{a} {b}", json!({"a": "x"}), "x *"),
        ("{a}", json!({"a": null}), "*"),
        ("{a}", json!({"a": ["x"]}), "*"),
        ("{a}", json!({"a": "a\nb\u{202e}c"}), "a%0Ab%E2%80%AEc"),
        ("{u:url}", json!({"u": "HTTP://Example.com:80/a/../b?x=*#frag"}), "http://example.com/b?x=%2A"),
        ("{u:url}", json!({"u": "not a url"}), "*"),
        ("{p:path}", json!({"p": "/a/./b//../c/"}), "/a/c"),
        ("{p:path}", json!({"p": "/../../etc"}), "/etc"),
        ("{p:path}", json!({"p": ""}), "*"),
    ] {
        assert_eq!(rendered(template, &arguments), expected, "{template} {arguments}");
    }
}

#[test]
fn what_is_not_known_for_sure_is_allowed_by_no_scoped_rule() {
    for (template, arguments) in [
        ("{a}", json!({})),
        ("{u:url}", json!({"u": "http://good.example@evil.example/"})),
        ("{p:path}", json!({"p": "~/x"})),
        ("{p:path}", json!({"p": "~root/x"})),
        ("{c:shell}", json!({"c": "echo 'open"})),
    ] {
        let specifier = Template::parse(template).unwrap().render(&arguments);
        assert!(specifier.parts.iter().all(|part| part.allowable.is_empty()), "{template} {arguments}");
    }
}

#[test]
fn a_path_is_what_it_means_with_links_followed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("data")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("data/link")).unwrap();
    std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
    let root = root.to_str().unwrap();
    for (path, expected) in [
        (format!("{root}/data/link/passwd"), "/etc/passwd".to_owned()),
        (format!("{root}/data/link/../x"), "/x".to_owned()),
        (format!("{root}/data/new/file"), format!("{root}/data/new/file")),
        (format!("{root}/loop"), "*".to_owned()),
    ] {
        assert_eq!(rendered("{p:path}", &json!({ "p": path })), expected, "{path}");
    }
}

#[test]
fn the_narrowest_rule_of_each_part_allows_it() {
    let template = Template::parse("run {c:shell}").unwrap();
    for line in
        ["sudo rm x", "sudo --what rm x", "xargs rm", "find . -exec rm {} \\;", "ssh host ls", "strace ls", "ls"]
    {
        let specifier = template.render(&json!({ "c": line }));
        assert!(!specifier.parts.is_empty());
        for part in &specifier.parts {
            assert!(part.is_allowed_by(part.narrowest().unwrap()), "{line}");
        }
    }
}

#[test]
fn a_record_is_judged_by_its_text_only_where_that_says_all() {
    for (template, arguments) in [
        ("{a}", json!({ "a": "two words" })),
        ("{a}:{b}", json!({ "a": "1:2", "b": 3 })),
        ("{a}:{b}", json!({ "a": "x" })),
    ] {
        let template = Template::parse(template).unwrap();
        let first = template.render(&arguments);
        let again = template.recorded(&first.text).unwrap();
        assert_eq!(format!("{:?}", first.parts), format!("{:?}", again.parts), "{arguments}");
    }
    for (template, text) in
        [("{c:shell}", "git log"), ("{p:path}", "/a"), ("{u:url}", "http://a/"), ("{a} {u:url}", "x http://a/")]
    {
        assert!(Template::parse(template).unwrap().recorded(text).is_none(), "{template} {text}");
    }
}

#[test]
fn a_pattern_that_no_specifier_can_match_is_told() {
    for (template, pattern, excluded) in [
        ("{p:path}", "/data/*", false),
        ("{p:path}", "data/*", true),
        ("{p:path}", "*", false),
        ("{p:path}", "/data/../x", true),
        ("{p:path}", "/data/", true),
        ("{p:path}", "/data//x", true),
        ("{a}:{b}", "x:y", false),
        ("{a}:{b}", "x", true),
        ("{a}:{b}", "x:y:z", true),
        ("{a}:{b}", "x:y%3Az", false),
        ("GET {u:url}", "POST *", true),
        ("{a}", "a\u{202e}b", true),
        ("{c:shell}", "git *", false),
        ("{c:shell}", "git log && *", true),
        ("{c:shell}", "> /tmp/*", false),
    ] {
        let reason = Template::parse(template).unwrap().excludes(&Glob::parse(pattern).unwrap());
        assert_eq!(reason.is_some(), excluded, "{template} {pattern} {reason:?}");
    }
}

proptest! {
    #[test]
    fn two_calls_with_other_texts_have_other_specifiers(
        one in ("\\PC{0,12}", "\\PC{0,12}"), other in ("\\PC{0,12}", "\\PC{0,12}"),
        template in prop::sample::select(vec!["{a} {b}", "{a}:{b}", "{a} -> {b}", "x{a}x{b}x", "{a}%{b}"]),
    ) {
        let Ok(template) = Template::parse(template) else { return Ok(()) };
        let text = |pair: &(String, String)| template.render(&json!({ "a": pair.0, "b": pair.1 })).text;
        prop_assert_eq!(one == other, text(&one) == text(&other));
    }

    #[test]
    fn a_value_never_matches_what_stands_beyond_its_border(value in "[a-c:*% >-]{0,16}") {
        // Whatever the first value is, the second is still `safe`, and the first still not `admin`.
        let template = Template::parse("{user}:{target}").unwrap();
        let text = template.render(&json!({ "user": value, "target": "safe" })).text;
        let after = text.split(':').collect::<Vec<_>>();
        prop_assert_eq!(after.len(), 2);
        prop_assert_eq!(after[1], "safe");
        prop_assert!(!text.contains('*'));
    }
}
