//! Specifiers: what rules see of a call, and that no argument can make it look like another.

use plugbay::kernel::glob::Glob;
use plugbay::kernel::shell;
use plugbay::kernel::specifier::Template;
use proptest::prelude::*;
use serde_json::{Value, json};

fn rendered(template: &str, arguments: &Value) -> String {
    Template::parse(template).unwrap().render(arguments).text.to_string()
}

/// The commands of a line as rules see them first, or `None` when it cannot be read.
fn commands(line: &str) -> Option<Vec<String>> {
    Some(shell::commands(line)?.iter().map(|command| command.text().to_owned()).collect())
}

fn allowed(line: &str, rule: &str) -> bool {
    let rule = Glob::parse(rule).unwrap();
    shell::commands(line).is_some_and(|commands| {
        commands.iter().all(|command| command.allowable.iter().any(|form| rule.includes(&Glob::parse(form).unwrap())))
    })
}

fn forbidden(line: &str, rule: &str) -> bool {
    let rule = Glob::parse(rule).unwrap();
    shell::commands(line).is_some_and(|commands| {
        commands.iter().any(|command| command.forms.iter().any(|form| rule.includes(&Glob::parse(form).unwrap())))
    })
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
fn a_line_is_taken_apart_into_its_simple_commands() {
    for (line, expected) in [
        ("git status", vec!["git status"]),
        ("a && b || c; d & e | f", vec!["a", "b", "c", "d", "e", "f"]),
        ("(cd /x; rm -rf y)", vec!["cd /x", "rm -rf y"]),
        ("echo $(whoami) `id`", vec!["whoami", "id", "echo * *"]),
        ("echo \"a $(b) c\"", vec!["b", "echo a%20*%20c"]),
        ("r\\m 'x y' \"z\"", vec!["rm x%20y z"]),
        ("if a; then b; else c; fi", vec!["a", "b", "c"]),
        ("for x in $(ls); do cat $x; done", vec!["ls", "cat *"]),
        ("f() { rm x; }; f", vec!["rm x", "f"]),
        ("cat < in > out 2>&1", vec!["< in", "> out", "cat"]),
        ("x > /dev/null", vec!["x"]),
        ("diff <(a) <(b)", vec!["a", "b", "diff * *"]),
        ("X=1 a", vec!["a"]),
        ("PATH=/tmp a", vec!["PATH=/tmp", "a"]),
        ("sudo -u root rm x", vec!["sudo -u root rm x"]),
        ("bash -c 'rm x; ls'", vec!["rm x", "ls"]),
        ("eval 'rm x'", vec!["rm x"]),
        ("! a", vec!["a"]),
        ("a # rm x", vec!["a"]),
        ("a\nb", vec!["a", "b"]),
        ("X=$(rm x)", vec!["rm x"]),
        ("ls *.txt a{b,c} ~/x", vec!["ls *.txt * ~/x"]),
    ] {
        assert_eq!(commands(line), Some(expected.iter().map(|text| (*text).to_owned()).collect()), "{line}");
    }
}

#[test]
fn what_cannot_be_read_for_sure_is_told_as_such() {
    let deep = format!("{}x{}", "(".repeat(2000), ")".repeat(2000));
    let blocks = "if ".repeat(5000);
    let long = format!("echo {}", "x".repeat(100_000));
    let quotes = "$(".repeat(3000);
    for line in [
        "echo 'open",
        "(",
        "a &&",
        "a | | b",
        "echo ${x:-$(rm y)}",
        "((a[$(id)]))",
        "[[ -v a[$(id)] ]]",
        "bash -c \"$X\"",
        "eval $X",
        "cat <<E\n$(rm x)\nE",
        "a\u{0}b",
        "a\u{1b}b",
        &deep,
        &blocks,
        &long,
        &quotes,
    ] {
        assert_eq!(commands(line), None, "{line:.60}");
    }
}

#[test]
fn wrappers_are_taken_off_and_a_rule_that_forbids_holds_for_every_form() {
    for line in [
        "rm x",
        "sudo rm x",
        "sudo -u root rm x",
        "timeout -s KILL 5 rm x",
        "env -i A=b rm x",
        "nice -n 5 nohup rm x",
        "/usr/bin/sudo rm x",
        "sudo --what rm x",
        "bash -c 'rm x'",
        "sudo sh -c 'rm x'",
        "echo a | xargs rm x",
        "a; b && rm x",
        "echo $(rm x)",
        "(rm x) &",
        "/tmp/sudo rm x",
        "command rm x",
        "sudo -u $U rm x",
        "/bin/rm x",
        "sudo ../bin/rm x",
        "su --command='rm x' ann",
        "trap 'rm x' EXIT",
        "trap -- 'ls; rm x' EXIT",
        "find . -exec rm {} \\;",
        "ssh host rm x",
        "ssh -o A=b host rm x",
        "flock /tmp/lock rm x",
        "flock /tmp/lock -c 'rm x'",
        "watch rm x",
        "env -S rm x",
        "strace -f rm x",
    ] {
        assert!(forbidden(line, "rm *"), "{line}");
    }
    // What the shell puts in may be anything, so that such a rule may match and the call is asked.
    for line in ["{r\"m\",x}", "[\"r\"]m x"] {
        let rule = Glob::parse("rm *").unwrap();
        let commands = shell::commands(line).unwrap();
        assert!(
            commands.iter().flat_map(|command| &command.forms).any(|form| {
                let form = Glob::parse(form).unwrap();
                rule.meets(&form) || form.as_str() == "*"
            }),
            "{line}"
        );
    }
    for line in ["sudo ls", "sudo bash -c 'ls'"] {
        assert!(forbidden(line, "sudo *"), "{line}");
    }
}

#[test]
fn every_part_must_be_allowed() {
    for line in [
        "git status",
        "git log && git diff",
        "timeout 5 git log",
        "env A=b git log",
        "git log 2>&1 >/dev/null",
        "bash -c 'git log; git diff'",
        "git show $X",
        "git show $(git rev)",
    ] {
        assert!(allowed(line, "git *"), "{line}");
    }
    for line in [
        "git status; rm x",
        "git $(rm x)",
        "git log > /etc/passwd",
        "GIT_SSH_COMMAND=x git fetch",
        "env PATH=/tmp git log",
        "env LD_PRELOAD=/tmp/x bash -c 'git log'",
        "/tmp/sudo git log",
        "$X git log",
        "sudo --what git log",
        "github x",
        "git log | xargs rm",
        "for PATH in /tmp; do git log; done",
        "git log & rm x",
        "echo '; rm x' | xargs -I{} sh -c 'git {}'",
        "echo rm | xargs -I git git log",
        "/tmp/git log",
        // It may be `-c` and an alias.
        "git $(git rev)",
    ] {
        assert!(!allowed(line, "git *"), "{line}");
    }
}

/// Whether the gate lets a line run with nothing but this rule.
fn let_through(line: &str, rule: &str) -> bool {
    let (rule, template) = (Glob::parse(rule).unwrap(), Template::parse("{c:shell}").unwrap());
    let specifier = template.render(&json!({ "c": line }));
    !specifier.unreadable && specifier.parts.iter().all(|part| part.is_allowed_by(&rule))
}

#[test]
fn a_rule_for_what_runs_others_allows_none_that_it_does_not_name() {
    for (line, outer) in [
        ("find . -exec rm {} \\;", "find *"),
        ("find . -execdir rm {} +", "find *"),
        ("find . -ok rm {} \\;", "find *"),
        ("find . -okdir rm {} \\;", "find *"),
        ("find . -name x -exec ls {} \\; -exec rm {} \\;", "find *"),
        ("find . -exec sh -c 'rm x' \\;", "find *"),
        ("find . -exec rm x", "find *"),
        ("find $X", "find *"),
        ("ssh host rm x", "ssh *"),
        ("ssh -p 22 ann@host 'ls; rm x'", "ssh *"),
        ("ssh -o ProxyCommand='rm x' host", "ssh *"),
        ("ssh host -t rm x", "ssh *"),
        ("ssh host $X", "ssh *"),
        ("flock /tmp/lock rm x", "flock *"),
        ("flock -n /tmp/lock -c 'rm x'", "flock *"),
        ("watch rm x", "watch *"),
        ("watch -n 1 'ls; rm x'", "watch *"),
        ("echo a | xargs rm", "*o a"),
        ("xargs rm", "xargs *"),
        ("xargs -I{} rm {}", "xargs *"),
        ("git -c alias.x='!rm x' x", "git *"),
        ("git -calias.x='!rm x' x", "git *"),
        ("git --config-env=alias.x=X x", "git *"),
        ("git --exec-path=/tmp x", "git *"),
        ("git config alias.x '!rm x'", "git *"),
        ("git submodule foreach rm x", "git *"),
        ("git rebase -x 'rm x' main", "git *"),
        ("git clone --upload-pack='rm x' a b", "git *"),
        ("git clone 'ext::rm x' b", "git *"),
        ("env -S 'rm x'", "env *"),
        ("env -Srm", "env *"),
        ("env --split-string=rm", "env *"),
        ("env A=b rm x", "env *"),
        ("nice -n 5 rm x", "nice *"),
        ("nohup rm x", "nohup *"),
        ("stdbuf -oL rm x", "stdbuf *"),
        ("setsid rm x", "setsid *"),
        ("timeout 5 rm x", "timeout *"),
        ("sudo rm x", "sudo *"),
        ("sudo --what rm x", "sudo *"),
        ("sudo timeout 5 rm x", "sudo timeout *"),
        ("bash -c 'rm x'", "bash *"),
        ("eval rm x", "eval *"),
        ("eval rm x", "e*"),
        ("strace -f rm x", "strace *"),
        ("parallel rm ::: x", "parallel *"),
    ] {
        assert!(!let_through(line, outer), "{line}");
    }
}

#[test]
fn what_runs_others_is_allowed_by_a_rule_for_these_or_one_that_names_both() {
    for (line, rule) in [
        ("sudo rm x", "rm *"),
        ("sudo rm x", "sudo rm *"),
        ("sudo rm x", "sudo rm x"),
        ("sudo timeout 5 rm x", "sudo timeout 5 rm*"),
        ("xargs rm", "rm *"),
        ("xargs rm", "xargs rm"),
        ("nice -n 5 nohup rm x", "rm *"),
        ("flock /tmp/lock rm x", "rm *"),
        ("flock /tmp/lock -c 'rm x; rm y'", "rm *"),
        ("watch -n 1 rm x", "rm *"),
        ("sudo --what rm x", "sudo --what rm x"),
        ("strace -f rm x", "strace -f rm x"),
        ("find . -name '*.txt' -type f", "find *"),
        ("find . -name *.txt", "find *"),
        ("ssh host", "ssh *"),
        ("git -C /tmp log --format=%h", "git *"),
        ("git --no-pager rebase main", "git *"),
        ("watch", "watch"),
    ] {
        assert!(let_through(line, rule), "{line} by {rule}");
    }
    for (line, rules) in [
        ("find . -exec rm {} \\;", ["find *", "rm *"]),
        ("find . -exec sudo rm {} + -print", ["find *", "rm *"]),
        ("ssh -p 22 host 'rm x'", ["ssh *", "rm *"]),
    ] {
        let template = Template::parse("{c:shell}").unwrap();
        let specifier = template.render(&json!({ "c": line }));
        let rules = rules.map(|rule| Glob::parse(rule).unwrap());
        let allowed = specifier.parts.iter().all(|part| rules.iter().any(|rule| part.is_allowed_by(rule)));
        assert!(allowed && rules.iter().all(|rule| !let_through(line, rule.as_str())), "{line}");
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
fn a_record_is_judged_as_the_call_was() {
    let template = Template::parse("{c:shell}").unwrap();
    for line in [
        "git log && rm 'a b'",
        "sudo -u root rm x > 'out;put'",
        "sudo --what rm x",
        "find . -exec rm {} \\; -o -name '*.c'",
        "ssh host 'ls; rm x'",
    ] {
        let first = template.render(&json!({ "c": line }));
        let again = template.recorded(&first.text).unwrap();
        assert_eq!(first.text, again.text);
        let forms = |parts: &[plugbay::kernel::specifier::Part]| {
            parts.iter().map(|part| format!("{part:?}")).collect::<Vec<_>>()
        };
        assert_eq!(forms(&first.parts), forms(&again.parts), "{line}");
    }
    assert!(template.recorded("*").is_none());
    let path = Template::parse("{p:path}").unwrap();
    assert_eq!(path.recorded("/a").unwrap().parts[0].allowable.len(), 1);
    assert_eq!(path.recorded("/a*").unwrap().parts[0].allowable.len(), 0);
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
        ("{c:shell}", "git  log", true),
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

    #[test]
    fn a_quoted_word_is_one_word_whatever_it_holds(word in "\\PC{0,20}") {
        let quoted = format!("echo '{}'", word.replace('\'', "'\\''"));
        if let Some(commands) = commands(&quoted) {
            prop_assert_eq!(commands.len(), 1);
            prop_assert!(commands[0].starts_with("echo ") && !commands[0][5..].contains([' ', ';', '*', '|', '&']));
        }
    }

    #[test]
    fn no_line_makes_the_reader_fail(line in "[a-z$(){}\\[\\]'\"`;&|<> \\\\!#~*?=\n-]{0,60}") {
        let _ = shell::commands(&line);
    }
}
