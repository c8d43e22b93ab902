//! Lint: rules that do nothing are told with what to write instead, and rules that work are not.

use plugbay::kernel::lint::{Finding, Known, Severity, lint_tools};
use plugbay::kernel::rule::{List, Place, Rule};
use plugbay::kernel::specifier::Template;

use List::{Allow, Ask, Deny};
use Severity::{Error, Warning};

const TOOLS: [(&str, &str); 7] = [
    ("run", "{c:shell}"),
    ("host", "on a: {c:shell} ."),
    ("get", "{u:url}"),
    ("send", "{method} {u:url}"),
    ("write", "{p:path}"),
    ("say", "{a}"),
    ("pair", "{a}:{b}"),
];

fn found(list: List, text: &str) -> Option<Finding> {
    let tools = TOOLS.map(|(name, template)| Known {
        name: name.into(),
        plugin: "p".into(),
        template: Some(Template::parse(template).unwrap()),
    });
    lint_tools(&[Rule::parse(text, list, Place::Given).unwrap()], &tools).pop()
}

/// Each rule with how bad it is, and what the problem or the cure says.
fn assert_told(cases: &[(List, &str, Severity, &str)]) {
    for (list, text, severity, part) in cases {
        let finding = found(*list, text).unwrap_or_else(|| panic!("{list:?} {text} is not told"));
        assert_eq!(finding.severity, *severity, "{finding:?}");
        assert!(format!("{}; {}", finding.problem, finding.cure).contains(part), "{part}: {finding:?}");
    }
}

fn assert_untold(lists: &[List], texts: &[&str]) {
    for (list, text) in lists.iter().flat_map(|list| texts.iter().map(move |text| (list, text))) {
        assert_eq!(found(*list, text), None, "{list:?} {text}");
    }
}

#[test]
fn a_file_is_a_part_of_its_own_and_its_sign_stands_at_the_beginning() {
    assert_told(&[
        (Deny, "run(>/etc/*)", Error, "\"> /etc/*\""),
        (Deny, "run(>> /etc/*)", Error, "\"> /etc/*\""),
        (Deny, "run(2> /etc/*)", Error, "\"> /etc/*\""),
        (Deny, "run(echo * > /etc/*)", Error, "\"> /etc/*\""),
        (Deny, "run(* > /etc/*)", Error, "\"> /etc/*\""),
        (Deny, "run(* &>> /etc/* 2>&1)", Error, "\"> "),
        (Ask, "run(cat </etc/*)", Error, "\"< /etc/*\""),
        (Allow, "run(cat <<< a b)", Error, "\"<<< a%20b\""),
        (Allow, "run(> /tmp/a b)", Error, "\"> /tmp/a\""),
        (Allow, "run(cat << EOF)", Error, "here-document"),
        (Deny, "host(on a: echo > /etc/* .)", Error, "\"> /etc/*\""),
    ]);
    assert_untold(
        &List::ALL,
        &[
            "run(> /etc/*)",
            "run(< /etc/*)",
            "run(<<< *)",
            "run(> *)",
            "run(>*)",
            "run(*> /etc/*)",
            "host(on a: > /x .)",
        ],
    );
}

#[test]
fn an_allow_rule_for_what_is_never_a_part_is_told_with_what_to_write() {
    assert_told(&[
        (Allow, "run(sudo *)", Warning, "\"sudo make *\""),
        (Allow, "run(sudo -u root *)", Warning, "up to its name before the first \"*\""),
        (Allow, "run(timeout *)", Warning, "write a rule for that, \"make *\""),
        (Allow, "run(timeout 5 *)", Warning, "write a rule for that, \"make *\""),
        (Allow, "run(env *)", Warning, "write a rule for that, \"make *\""),
        (Allow, "run(nice *)", Warning, "write a rule for that, \"make *\""),
        (Allow, "run(xargs *)", Warning, "write a rule for that, \"make *\""),
        (Allow, "run(bash -c *)", Warning, "a rule for each command"),
        (Allow, "run(eval *)", Warning, "a rule for each command"),
        (Allow, "run(git -c *)", Warning, "not known what that runs"),
        (Allow, "run(strace *)", Warning, "not known what that runs"),
        (Allow, "run(FOO=1 make *)", Warning, "write \"FOO=1\" and \"make *\""),
        (Allow, "run(FOO=* make *)", Warning, "write \"FOO=*\" and \"make *\""),
        (Deny, "run(FOO=1 make *)", Warning, "write \"FOO=1\" and \"make *\""),
        (Allow, "run(> /tmp/../etc/*)", Warning, "write \"> /etc/*\""),
        (Allow, "run(> /tmp/a/./*)", Warning, "write \"> /tmp/a/*\""),
        (Allow, "run(LANG=C)", Warning, "no part that a rule is asked for"),
        (Allow, "run(> /dev/null)", Warning, "no part that a rule is asked for"),
        (Deny, "run(> /dev/null)", Warning, "no part that a rule is asked for"),
        (Allow, "run(declare *)", Warning, "whatever rules say"),
        (Deny, "run(if *)", Warning, "is no command"),
        (Allow, "run(! make *)", Warning, "is no command"),
        (Allow, "host(on a: sudo * .)", Warning, "\"sudo make *\""),
    ]);
}

#[test]
fn a_rule_for_commands_that_works_is_not_told() {
    assert_untold(
        &[Allow],
        &[
            "run(*)",
            "run(git *)",
            "run(git -C x *)",
            "run(git log*)",
            "run(git -C * status)",
            "run(git -C * *)",
            "run(git * --stat)",
            "run(sudo git *)",
            "run(sudo rm *)",
            "run(sudo rm*)",
            "run(sudo)",
            "run(nice -n 10 make)",
            "run(git -c a=b log)",
            "run(timeout 5 make *)",
            "run(env make *)",
            "run(xargs rm *)",
            "run(find *)",
            "run(find * -exec rm *)",
            "run(find . -exec rm {} +)",
            "run(bash x.sh *)",
            "run(python3 -c *)",
            "run(make *)",
            "run(FOO=1)",
            "run(FOO=*)",
            "run(cat it%27s a%20b)",
            "run(ls * --color=*)",
            "run(> /tmp/*)",
            "run(echo )",
            "run(rm  x)",
            "host(on a: make * .)",
            "host(*)",
            "*(make *)",
        ],
    );
    assert_untold(
        &[Deny, Ask],
        &[
            "run(rm  x)",
            "run(echo )",
            "run(sudo *)",
            "run(timeout *)",
            "run(bash -c *)",
            "run(eval *)",
            "run(git -c *)",
            "run(git push*)",
            "run(> /tmp/../etc/*)",
            "run(FOO=1)",
        ],
    );
}

#[test]
fn an_escape_is_of_a_character_that_is_written_as_one() {
    assert_told(&[
        (Deny, "say(%61)", Error, "\"a\" stands as it is there"),
        (Deny, "write(/a%20b)", Error, "\" \" stands as it is there"),
        (Deny, "write(/a%2Fb)", Error, "\"/\" stands as it is there"),
        (Deny, "say(%2a)", Error, "\"%2A\""),
        (Deny, "say(%E2%80%ae)", Error, "\"%E2%80%AE\""),
        (Deny, "say(%C3%A9)", Error, "\"é\" stands as it is there"),
        (Deny, "say(%FF)", Error, "\"%25\""),
        (Deny, "say(%E2%80)", Error, "\"%25\""),
        (Deny, "run(rm %61)", Error, "\"a\" stands as it is there"),
        (Deny, "run(rm a%2Db)", Error, "\"-\" stands as it is there"),
        (Deny, "pair(a%20b:c)", Error, "\" \" stands as it is there"),
    ]);
    assert_untold(
        &[Deny],
        &[
            "say(%2A)",
            "say(100%25)",
            "say(%E2%80%AE)",
            "say(%E2%80*)",
            "say(%E2%*)",
            "say(*%AE)",
            "say(*)",
            "pair(a%3Ab:c)",
            "run(rm a%20b%3Bc%3E)",
            "write(/a%0Ab/*)",
            "get(http://h/%61%2f)",
        ],
    );
}

#[test]
fn a_rule_for_urls_that_none_fits_behind_its_star_is_told_too() {
    assert_told(&[
        (Deny, "get(https://*.Example.com/*)", Warning, "\"https://*.example.com/*\""),
        (Deny, "get(https://*.bücher.example/*)", Warning, "xn--"),
        (Deny, "get(https://*.example.com:443/*)", Warning, "\"https://*.example.com/*\""),
        (Deny, "get(https://*.example.com:0444/*)", Warning, "\"https://*.example.com:444/*\""),
        (Deny, "get(https://*.example.com)", Warning, "\"https://*.example.com/\""),
        (Deny, "get(http://h/*#x)", Warning, "\"http://h/*\""),
        (Deny, "get(http*://H/x)", Warning, "\"http*://h/x\""),
        (Deny, "get(http://h/a*/../b)", Warning, "\"..\""),
        (Allow, "get(http://h/*/../a)", Warning, "\"..\""),
        (Allow, "get(http://h/*/.)", Warning, "\".\""),
        (Allow, "get(http://h/*/a b)", Warning, "\"http://h/*/a%20b\""),
        (Allow, "get(http://h/*/é?x=\"é)", Warning, "\"http://h/*/%C3%A9?x=%22%C3%A9\""),
        (Allow, "get(https://u@h/x)", Error, "user name"),
        (Allow, "get(https://u@h/*)", Error, "user name"),
        (Allow, "get(https://*@h/*)", Warning, "user name"),
        (Allow, "send(GET https://*.Example.com/*)", Warning, "\"GET https://*.example.com/*\""),
    ]);
    assert_untold(
        &[Deny],
        &[
            "get(https://u@h/x)",
            "get(https://*.example.com:8443/*)",
            "get(https://*.example.com*)",
            "get(http*://h/x)",
            "get(*://H/x)",
            "get(foo://H/x*)",
            "get(http://*/x?y=/../z)",
            "get(http://h/*/a b)",
            "get(http://h/*.../x)",
            "get(*#x)",
            "get(http://[*]/*)",
        ],
    );
}
