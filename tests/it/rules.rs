//! Rules: how a call is judged, and what holds whatever the rules are.

use std::collections::BTreeSet;
use std::sync::Arc;

use plugbay::base::settings::Mode;
use plugbay::kernel::breaker::Tripped;
use plugbay::kernel::fingerprint::Fingerprint;
use plugbay::kernel::glob::Glob;
use plugbay::kernel::judge::{Judgement, Policy, Reason, Subject, Verdict};
use plugbay::kernel::lint::{Known, Severity, lint_rules, lint_tools};
use plugbay::kernel::rule::{List, Place, Rule, Seen};
use plugbay::kernel::rules::RuleSet;
use plugbay::kernel::specifier::{Specifier, Template};
use proptest::prelude::*;
use serde_json::json;

fn rule(list: List, text: &str) -> Rule {
    Rule::parse(text, list, Place::Settings(format!("plugbay.toml:{}", text.len()).into())).unwrap()
}

fn policy(mode: Mode, rules: &[(List, &str)]) -> Policy {
    let rules = rules.iter().map(|(list, text)| rule(*list, text)).collect();
    Policy { mode, rules: Arc::new(RuleSet::new(rules)) }
}

fn subject(side_effect: bool) -> Subject {
    Subject { tool: "files.write".into(), plugin: "files".into(), fingerprint: Fingerprint::of(&json!(1)), side_effect }
}

fn specifier(path: &str) -> Specifier {
    Template::parse("{path}").unwrap().render(&json!({ "path": path }))
}

fn judged(policy: &Policy, path: Option<&str>, side_effect: bool) -> Judgement {
    let specifier = path.map(specifier);
    policy.judge(&subject(side_effect), specifier.as_ref(), || None)
}

#[test]
fn a_rule_is_a_tool_or_a_tool_with_a_specifier() {
    for good in ["files.read", "files.*", "*", "files.write(/data/*)", "a(b(c))", " a ", "a(x y)"] {
        assert!(Rule::parse(good, List::Allow, Place::Given).is_ok(), "{good}");
    }
    for bad in ["", "()", "a()", "a(b", "a(b) c", "a b", "ä", "a(b\nc)", "a(b)(c"] {
        let error = Rule::parse(bad, List::Deny, Place::Settings("plugbay.toml:3".into())).unwrap_err();
        assert!(error.message().starts_with("plugbay.toml:3: deny rule"), "{error}");
    }
}

#[test]
fn the_first_that_speaks_decides() {
    use List::{Allow, Ask, Deny};
    use Verdict as V;
    type Case<'a> = (&'a [(List, &'a str)], Mode, bool, V, Reason);
    let table: [Case<'_>; 13] = [
        (&[], Mode::Default, false, V::Allow, Reason::Harmless),
        (&[], Mode::Default, true, V::Ask, Reason::Unspoken),
        (&[], Mode::Plan, false, V::Allow, Reason::Harmless),
        (&[], Mode::Plan, true, V::Deny, Reason::Plan),
        (&[], Mode::Autonomous, true, V::Allow, Reason::Autonomous),
        (&[(Deny, "files.*"), (Allow, "files.write")], Mode::Autonomous, false, V::Deny, Reason::Rule),
        (&[(Allow, "files.write")], Mode::Plan, true, V::Deny, Reason::Plan),
        (&[(Ask, "files.write")], Mode::Plan, true, V::Deny, Reason::Plan),
        (&[(Ask, "files.write"), (Allow, "*")], Mode::Autonomous, true, V::Ask, Reason::Rule),
        (&[(Ask, "files.write")], Mode::Default, false, V::Ask, Reason::Rule),
        (&[(Allow, "files.write(/data/*)")], Mode::Default, true, V::Allow, Reason::Rule),
        (&[(Allow, "files.write(/other/*)")], Mode::Default, true, V::Ask, Reason::Unspoken),
        (&[(Deny, "files.write(/data/*)"), (Allow, "files.write")], Mode::Default, true, V::Deny, Reason::Rule),
    ];
    for (rules, mode, side_effect, verdict, reason) in table {
        let found = judged(&policy(mode, rules), Some("/data/x"), side_effect);
        assert_eq!((found.verdict, found.reason), (verdict, reason), "{rules:?} {mode:?} {side_effect}");
    }
}

#[test]
fn a_scoped_rule_never_matches_a_call_without_a_specifier() {
    let rules = [(List::Deny, "files.write(*)"), (List::Ask, "files.write(*)"), (List::Allow, "files.write(*)")];
    let found = judged(&policy(Mode::Default, &rules), None, true);
    assert_eq!((found.verdict, found.reason), (Verdict::Ask, Reason::Unspoken));
    let bare = judged(&policy(Mode::Default, &[(List::Allow, "files.write")]), None, true);
    assert_eq!(bare.verdict, Verdict::Allow);
}

#[test]
fn a_breaker_asks_where_a_rule_or_the_mode_would_allow_and_nowhere_else() {
    let specifier = specifier("/x");
    let judge = |policy: &Policy, side_effect: bool| {
        policy.judge(&subject(side_effect), Some(&specifier), || Some(Tripped::Calls)).verdict
    };
    assert_eq!(judge(&policy(Mode::Autonomous, &[]), true), Verdict::Ask);
    assert_eq!(judge(&policy(Mode::Default, &[(List::Allow, "*")]), true), Verdict::Ask);
    assert_eq!(judge(&policy(Mode::Default, &[(List::Allow, "*")]), false), Verdict::Allow);
    assert_eq!(judge(&policy(Mode::Plan, &[]), true), Verdict::Deny);
    assert_eq!(judge(&policy(Mode::Autonomous, &[(List::Deny, "*")]), true), Verdict::Deny);
}

#[test]
fn an_always_holds_for_the_tool_that_was_seen_and_no_other() {
    let subject = subject(true);
    let seen = Seen { plugin: "files".into(), fingerprint: subject.fingerprint };
    let judge = |seen: Seen| {
        let rule = rule(List::Allow, "files.write(/data/*)").only_for(seen);
        let policy = Policy { mode: Mode::Default, rules: Arc::new(RuleSet::new(vec![rule])) };
        let found = policy.judge(&subject, Some(&specifier("/data/x")), || None);
        (found.verdict, found.reason, found.rule.is_some())
    };
    assert_eq!(judge(seen.clone()), (Verdict::Allow, Reason::Rule, true));
    let changed = Seen { fingerprint: Fingerprint::of(&json!(2)), ..seen.clone() };
    assert_eq!(judge(changed), (Verdict::Ask, Reason::Changed, true));
    assert_eq!(judge(Seen { plugin: "evil".into(), ..seen }), (Verdict::Ask, Reason::Changed, true));
}

#[test]
fn what_is_missing_is_asked_about_when_a_rule_might_have_matched_it() {
    let missing = Template::parse("{path}").unwrap().render(&json!({}));
    let judge = |mode, rules: &[(List, &str)]| {
        let found = policy(mode, rules).judge(&subject(true), Some(&missing), || None);
        (found.verdict, found.reason)
    };
    assert_eq!(judge(Mode::Default, &[(List::Allow, "files.write(*)")]), (Verdict::Ask, Reason::Unspoken));
    assert_eq!(judge(Mode::Default, &[(List::Allow, "files.write")]), (Verdict::Allow, Reason::Rule));
    assert_eq!(judge(Mode::Autonomous, &[(List::Deny, "files.write(/etc/*)")]), (Verdict::Ask, Reason::Unclear));
    assert_eq!(judge(Mode::Autonomous, &[(List::Deny, "files.write(*)")]), (Verdict::Deny, Reason::Rule));
    assert_eq!(judge(Mode::Autonomous, &[]), (Verdict::Allow, Reason::Autonomous));
}

#[test]
fn a_rule_that_can_never_decide_is_an_error_with_its_line_and_cure() {
    let lint = |rules: &[(List, &str)]| {
        let rules: Vec<Rule> = rules.iter().map(|(list, text)| rule(*list, text)).collect();
        lint_rules(&rules).into_iter().map(|finding| (finding.rule.clone(), finding.line())).collect::<Vec<_>>()
    };
    use List::{Allow, Ask, Deny};
    for (rules, dead) in [
        (&[(Deny, "files.*"), (Allow, "files.read")][..], Some("files.read")),
        (&[(Deny, "a(/x/*)"), (Ask, "a(/x/y)")], Some("a(/x/y)")),
        (&[(Ask, "a"), (Allow, "a(*)")], Some("a(*)")),
        (&[(Allow, "a*"), (Allow, "ab(c)")], Some("ab(c)")),
        (&[(Allow, "a"), (Allow, "a")], Some("a")),
        (&[(Allow, "a(x)"), (Deny, "a")], Some("a(x)")),
        (&[(Deny, "a(/x/*)"), (Allow, "a(/*)")], None),
        (&[(Deny, "a(*)"), (Allow, "a")], None),
        (&[(Allow, "a"), (Deny, "a(x)")], None),
        (&[(Allow, "a({path})")], Some("a({path})")),
    ] {
        let found = lint(rules);
        assert_eq!(found.iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>(), Vec::from_iter(dead), "{found:?}");
        assert!(found.iter().all(|(_, line)| line.starts_with("plugbay.toml:")), "{found:?}");
    }
}

#[test]
fn rules_are_held_against_the_tools_that_there_are() {
    let known = |name: &str, plugin: &str, template: Option<&str>| Known {
        name: name.into(),
        plugin: plugin.into(),
        template: template.map(|text| Template::parse(text).unwrap()),
    };
    let tools = [
        known("files.write", "files", Some("{path:path}")),
        known("files.read", "files", None),
        known("sh", "sh", Some("{c:shell}")),
    ];
    for (text, expected) in [
        ("files.write(/data/*)", None),
        ("files.write", None),
        ("files.*(/data/*)", None),
        ("files.read(/data/*)", Some((Severity::Error, "no specifier template"))),
        ("files.write(data/*)", Some((Severity::Error, "begin the pattern with \"/\""))),
        ("sh(a && b)", Some((Severity::Error, "each simple command"))),
        ("files.raed", Some((Severity::Error, "files.read"))),
        ("mail.send", Some((Severity::Warning, "no plugin that is loaded"))),
    ] {
        let found = lint_tools(&[rule(List::Deny, text)], &tools);
        match expected {
            None => assert_eq!(found, [], "{text}"),
            Some((severity, part)) => {
                assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [severity], "{text}");
                assert!(found[0].line().contains(part), "{}", found[0].line());
            }
        }
    }
}

/// What one rule beside mode `mode` says of a call of a tool with this template.
fn said(mode: Mode, list: List, pattern: &str, template: &Template, arguments: &serde_json::Value) -> Verdict {
    let text = format!("files.write({pattern})");
    policy(mode, &[(list, &text)]).judge(&subject(true), Some(&template.render(arguments)), || None).verdict
}

#[test]
fn a_deny_holds_for_the_path_as_it_is_written_and_an_allow_for_where_it_leads() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("real")).unwrap();
    std::os::unix::fs::symlink("real", root.join("link")).unwrap();
    std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
    let root = root.to_str().unwrap();
    let template = Template::parse("{p:path}").unwrap();
    for (path, pattern, verdict) in [
        ("/link/x", "/link/*", Verdict::Deny),
        ("/link/x", "/real/*", Verdict::Deny),
        ("/link/../link/./x", "/link/*", Verdict::Deny),
        ("/loop/x", "/loop/*", Verdict::Deny),
        ("/link/x", "/other/*", Verdict::Allow),
    ] {
        let (path, pattern) = (json!({ "p": format!("{root}{path}") }), format!("{root}{pattern}"));
        assert_eq!(said(Mode::Autonomous, List::Deny, &pattern, &template, &path), verdict, "{path} {pattern}");
        let asked = if verdict == Verdict::Deny { Verdict::Ask } else { verdict };
        assert_eq!(said(Mode::Autonomous, List::Ask, &pattern, &template, &path), asked, "{path} {pattern}");
    }
    let path = json!({ "p": format!("{root}/link/x") });
    for (pattern, verdict) in [("/link/*", Verdict::Ask), ("/real/*", Verdict::Allow)] {
        let pattern = format!("{root}{pattern}");
        assert_eq!(said(Mode::Default, List::Allow, &pattern, &template, &path), verdict, "{pattern}");
    }
    // Each of two values in each of its forms.
    let template = Template::parse("{from:path} -> {to:path}").unwrap();
    let both = json!({ "from": format!("{root}/link/a"), "to": format!("{root}/link/b") });
    for (from, to) in [("link", "link"), ("link", "real"), ("real", "link"), ("real", "real")] {
        let pattern = format!("{root}/{from}/* -> {root}/{to}/*");
        assert_eq!(said(Mode::Autonomous, List::Deny, &pattern, &template, &both), Verdict::Deny, "{pattern}");
    }
}

#[test]
fn what_has_too_many_forms_is_asked_about_when_a_rule_might_have_matched_it() {
    let names = ["a", "b", "c", "d"];
    let template = Template::parse("{a:url} {b:url} {c:url} {d:url}").unwrap();
    let urls: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), json!("http://h.example.//%61%20b"))).collect();
    let specifier = template.render(&json!(urls));
    assert!(specifier.parts[0].forms.len() <= 65, "{}", specifier.parts[0].forms.len());
    let verdict = said(Mode::Autonomous, List::Deny, "http://h.example/* * * *", &template, &json!(urls));
    assert_eq!(verdict, Verdict::Ask);
}

#[test]
fn a_url_that_parsers_read_in_several_ways_is_never_allowed_and_perhaps_denied() {
    let template = Template::parse("{u:url}").unwrap();
    for url in [
        "http://good.example\\@127.0.0.1:80/steal",
        "http:\\\\good.example/x",
        "http:good.example/x",
        "http:/good.example/x",
        "http:///good.example/x",
        " http://good.example/x",
        "http://good.example/x ",
        "http://good.example/\tx",
        "http://good.exa\nmple/x",
        "http://good.example/\u{1}x",
        "http://good.example/a b",
        "http://good.example@evil.example/",
        "http://user@good.example/x",
    ] {
        let arguments = json!({ "u": url });
        for pattern in ["http://good.example/*", "http*", "*"] {
            let verdict = said(Mode::Default, List::Allow, pattern, &template, &arguments);
            assert_eq!(verdict, Verdict::Ask, "{url:?} {pattern}");
        }
        if !url.contains("e@") && !url.contains("r@") {
            let verdict = said(Mode::Autonomous, List::Deny, "http://127.0.0.1*", &template, &arguments);
            assert_eq!(verdict, Verdict::Ask, "{url:?}");
            let verdict = said(Mode::Autonomous, List::Deny, "http://good.example/*", &template, &arguments);
            assert_eq!(verdict, Verdict::Deny, "{url:?}");
        }
        assert_eq!(said(Mode::Autonomous, List::Deny, "*", &template, &arguments), Verdict::Deny, "{url:?}");
    }
    for (url, pattern) in [
        ("HTTP://Good.Example:80/x?q=a@b#c", "http://good.example/*"),
        ("http://good.example", "http://good.example/"),
        ("file:///data/x", "file:///data/*"),
        ("http://good.example/a%20b", "http://good.example/a%20b"),
    ] {
        let verdict = said(Mode::Default, List::Allow, pattern, &template, &json!({ "u": url }));
        assert_eq!(verdict, Verdict::Allow, "{url}");
    }
}

#[test]
fn a_deny_holds_for_each_way_to_write_a_url_and_an_allow_for_one() {
    let template = Template::parse("{u:url}").unwrap();
    for (url, pattern) in [
        ("http://evil.example./x", "http://evil.example/*"),
        ("http://evil.example.:8080/x", "http://evil.example:8080/*"),
        ("http://h/%61dmin/x", "http://h/admin/*"),
        ("http://h//admin/x", "http://h/admin/*"),
        ("http://h/./y/..%2fadmin", "http://h/admin"),
        ("http://h/..%2Fadmin/x?y", "http://h/admin/*"),
        ("http://h/y%5c..%5cadmin/x", "http://h/admin/*"),
        ("http://h./%61dmin%20x/", "http://h/admin%20x/"),
        ("http://h/admin%20x", "http://h/admin x"),
        ("http://[::ffff:169.254.169.254]/latest", "http://169.254.169.254/*"),
        ("http://[::ffff:a9fe:a9fe]:81//latest", "http://169.254.169.254:81/latest"),
        ("http://169.254.43518/latest", "http://169.254.169.254/*"),
    ] {
        let arguments = json!({ "u": url });
        let verdict = said(Mode::Autonomous, List::Deny, pattern, &template, &arguments);
        assert_eq!(verdict, Verdict::Deny, "{url} {pattern}");
        let allowed = said(Mode::Default, List::Allow, pattern, &template, &arguments) == Verdict::Allow;
        assert_eq!(allowed, url.ends_with("43518/latest"), "{url} {pattern}");
        let verdict = said(Mode::Autonomous, List::Deny, "http://other.example/*", &template, &arguments);
        assert_eq!(verdict, Verdict::Allow, "{url}");
    }
}

#[test]
fn a_deny_holds_for_each_name_of_a_file() {
    let template = Template::of_uri("uri");
    for (uri, pattern) in [
        ("file:///etc/passwd", "file:///etc/*"),
        ("FILE:///etc/passwd", "file:///etc/*"),
        ("file:/etc/passwd", "file:///etc/*"),
        ("file:etc/passwd", "file:///etc/*"),
        ("file://localhost/etc/passwd", "file:///etc/*"),
        ("File://LocalHost/x/..//%65tc/passwd", "file:///etc/*"),
        ("file:////etc/passwd", "file:///etc/*"),
        ("file://localhost/etc/passwd", "file://localhost/*"),
        ("Notes://private/x", "notes://private/*"),
    ] {
        let verdict = said(Mode::Autonomous, List::Deny, pattern, &template, &json!({ "uri": uri }));
        assert_eq!(verdict, Verdict::Deny, "{uri} {pattern}");
    }
    let other = json!({ "uri": "file:/data/etc/passwd" });
    assert_eq!(said(Mode::Autonomous, List::Deny, "file:///etc/*", &template, &other), Verdict::Allow);
}

#[test]
fn a_rule_that_no_url_or_path_fits_is_told_with_the_form_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::os::unix::fs::symlink("real", root.join("link")).unwrap();
    let root = root.to_str().unwrap();
    let tools = [("get", "{u:url}"), ("send", "{method} {u:url}"), ("write", "{p:path}"), ("say", "{a}")];
    let tools = tools.map(|(name, template)| Known {
        name: name.into(),
        plugin: "p".into(),
        template: Some(Template::parse(template).unwrap()),
    });
    let (link, real) = (format!("write({root}/link/*)"), format!("{root}/real/*"));
    let (one, only) = (format!("write({root}/link)"), format!("{root}/real"));
    use List::{Allow, Ask, Deny};
    use Severity::{Error, Warning};
    for (list, text, expected) in [
        (Deny, "get(http://Evil.example/*)", Some((Error, "http://evil.example/*"))),
        (Deny, "get(https://evil.example:443/*)", Some((Error, "https://evil.example/*"))),
        (Deny, "get(http://evil.example)", Some((Error, "http://evil.example/"))),
        (Deny, "get(http://evil.example?x=*)", Some((Error, "http://evil.example/?x=*"))),
        (Ask, "get(http://bücher.example/*)", Some((Error, "http://xn--bcher-kva.example/*"))),
        (Deny, "get(http://bücher*)", Some((Error, "xn--"))),
        (Deny, "get(HTTP://evil*)", Some((Error, "http://evil*"))),
        (Deny, "get(http://h/a/../b*)", Some((Error, "http://h/b*"))),
        (Deny, "get(http://h:99999/*)", Some((Error, "begins no URL"))),
        (Allow, "send(GET http://Good.example/*)", Some((Error, "GET http://good.example/*"))),
        (Allow, "get(http://h/a b/*)", Some((Error, "http://h/a%20b/*"))),
        (Deny, "get(http://h/a b/*)", None),
        (Deny, "get(http://evil.example/*)", None),
        (Deny, "get(http://evil.example*)", None),
        (Deny, "get(http://10.*)", None),
        (Deny, "get(http://*.Evil.example/*)", Some((Warning, "http://*.evil.example/*"))),
        (Deny, "get(http://h/..*)", None),
        (Deny, "get(http://Admin:*@h/*)", None),
        (Deny, "get(http://Admin@h/*)", None),
        (Deny, "get(http://Admin@Evil*)", Some((Error, "http://"))),
        (Allow, "get(https://good.example:8443/a/100%/*)", None),
        (Allow, "get(file:///data/*)", None),
        (Allow, "get(*)", None),
        (Allow, "send(* http://good.example/*)", None),
        (Deny, "*(http://Evil.example/*)", None),
        (Deny, "write(/data/50% off)", Some((Error, "%25"))),
        (Deny, "say(100%)", Some((Error, "%25"))),
        (Deny, "say(100%2)", Some((Error, "%25"))),
        (Deny, "say(100%25)", None),
        (Deny, "say(100%*)", None),
        (Deny, "say(100%2*)", None),
        (Allow, &link, Some((Warning, real.as_str()))),
        (Allow, &one, Some((Warning, only.as_str()))),
        (Deny, &link, None),
        (Ask, &link, None),
    ] {
        let found = lint_tools(&[rule(list, text)], &tools);
        assert_eq!(
            found.first().map(|found| found.severity),
            expected.map(|(severity, _)| severity),
            "{text} {found:?}"
        );
        assert!(expected.is_none_or(|(_, part)| found[0].cure.contains(part)), "{found:?}");
    }
}

const TOOLS: [&str; 5] = ["files.write", "files.*", "*", "other", "f*e"];
const PATTERNS: [&str; 6] = ["", "(*)", "(/data/*)", "(/data/x)", "(*x)", "(/etc/*)"];

fn any_rules() -> impl Strategy<Value = Vec<(List, String)>> {
    let one = (0..3_usize, prop::sample::select(TOOLS.to_vec()), prop::sample::select(PATTERNS.to_vec()));
    prop::collection::vec(one.prop_map(|(list, tool, pattern)| (List::ALL[list], format!("{tool}{pattern}"))), 0..8)
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Default, Mode::Plan, Mode::Autonomous])
}

fn any_call() -> impl Strategy<Value = (Option<Option<&'static str>>, bool, bool)> {
    let path =
        prop::sample::select(vec![None, Some(None), Some(Some("/data/x")), Some(Some("/etc/y")), Some(Some("*"))]);
    (path, any::<bool>(), any::<bool>())
}

type Call = (Option<Option<&'static str>>, bool, bool);

fn verdict(mode: Mode, rules: &[(List, String)], (path, side_effect, tripped): Call) -> Verdict {
    let rules: Vec<(List, &str)> = rules.iter().map(|(list, text)| (*list, text.as_str())).collect();
    let specifier = path.map(|path| Template::parse("{path}").unwrap().render(&json!({ "path": path })));
    let tripped = tripped.then_some(Tripped::Failures);
    policy(mode, &rules).judge(&subject(side_effect), specifier.as_ref(), || tripped).verdict
}

proptest! {
    #[test]
    fn adding_a_deny_never_allows_more(rules in any_rules(), more in any_rules(), mode in any_mode(), call in any_call()) {
        let before = verdict(mode, &rules, call);
        let denies = more.into_iter().map(|(_, text)| (List::Deny, text));
        let after = verdict(mode, &rules.iter().cloned().chain(denies).collect::<Vec<_>>(), call);
        let strength = |verdict| [Verdict::Allow, Verdict::Ask, Verdict::Deny].iter().position(|known| *known == verdict);
        prop_assert!(strength(after) >= strength(before), "{before:?} became {after:?}");
    }

    #[test]
    fn no_url_uri_or_path_makes_the_reader_fail_and_what_is_allowed_is_a_form(
        form in prop::sample::select(vec!["url", "path"]),
        text in "(http:|file:|x:|[A-Z]:)?[/\\\\]{0,3}[a-z0-9:.@%?#*~é\\[\\] -]{0,30}",
    ) {
        let template = Template::parse(&format!("{{a:{form}}}")).unwrap();
        for template in [template, Template::of_uri("a")] {
            let specifier = template.render(&json!({ "a": text }));
            let part = &specifier.parts[0];
            let forms: Vec<&str> = part.forms.iter().map(Glob::as_str).collect();
            prop_assert_eq!(forms[0], &*specifier.text);
            prop_assert!(part.allowable.len() <= 1 && part.allowable.iter().all(|form| form.as_str() == forms[0]));
            prop_assert!(part.allowable.iter().all(Glob::is_plain));
        }
    }

    #[test]
    fn in_plan_no_side_effect_is_allowed_or_asked_for(rules in any_rules(), call in any_call()) {
        let found = verdict(Mode::Plan, &rules, (call.0, true, call.2));
        prop_assert_eq!(found, Verdict::Deny);
    }

    #[test]
    fn the_order_of_rules_never_matters(
        (rules, shuffled) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        mode in any_mode(), call in any_call(),
    ) {
        prop_assert_eq!(verdict(mode, &rules, call), verdict(mode, &shuffled, call));
    }

    #[test]
    fn an_allow_never_outranks_what_is_stronger(rules in any_rules(), more in any_rules(), mode in any_mode(), call in any_call()) {
        let allows = more.into_iter().map(|(_, text)| (List::Allow, text));
        let after = verdict(mode, &rules.iter().cloned().chain(allows).collect::<Vec<_>>(), call);
        let before = verdict(mode, &rules, call);
        prop_assert!(after == before || (before == Verdict::Ask && after == Verdict::Allow));
        let stronger: BTreeSet<List> = rules.iter().map(|(list, _)| *list).collect();
        if stronger.is_empty() && mode == Mode::Default && !call.1 {
            prop_assert_eq!(after, Verdict::Allow);
        }
    }
}
