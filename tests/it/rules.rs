//! Rules: how a call is judged, and what holds whatever the rules are.

use std::collections::BTreeSet;
use std::sync::Arc;

use plugbay::base::settings::Mode;
use plugbay::kernel::breaker::Tripped;
use plugbay::kernel::fingerprint::Fingerprint;
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
