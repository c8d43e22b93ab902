//! Lines for a shell: the commands that they hold, and what no rule may let through.

use plugbay::kernel::glob::Glob;
use plugbay::kernel::shell;
use plugbay::kernel::specifier::Template;
use proptest::prelude::*;
use serde_json::json;

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

pub fn forbidden(line: &str, rule: &str) -> bool {
    let rule = Glob::parse(rule).unwrap();
    shell::commands(line).is_some_and(|commands| {
        commands.iter().any(|command| command.forms.iter().any(|form| rule.includes(&Glob::parse(form).unwrap())))
    })
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
        ("cat < in > out 2>&1", vec!["< in", "> out", "cat"]),
        ("x > /dev/null", vec!["x"]),
        ("diff <(a) <(b)", vec!["a", "b", "diff * *"]),
        ("X=1 a", vec!["X=1", "a"]),
        ("LC_ALL=C a", vec!["a"]),
        ("X=1; a", vec!["a"]),
        ("a <<< x", vec!["<<< x", "a"]),
        ("a > /x/../y//z", vec!["> /x/../y//z", "a"]),
        ("echo ${x:-y} ${#x} $1 \"${x%.*}\"", vec!["echo * * * *"]),
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
        "a <<E\nx\nE",
        "f() { rm x; }; f",
        "case x in a) b ;; esac",
        "coproc a",
        "select x in a; do b; done",
        "echo $((1+2))",
        "a=(b c)",
        "echo $(a # b\n)",
        "echo \"`a`\"",
        "-- touch x",
        "echo \u{a0}#'",
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
        "//bin/sh -c 'rm x'",
        "/bin/../usr//bin/sh -c 'rm x'",
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
        "watch rm x",
        "env -S rm x",
        "strace -f rm x",
    ] {
        assert!(forbidden(line, "rm *"), "{line}");
    }
    // What the shell puts in may be anything, and so may be what is run by what is not read: such a rule may match, and the
    // call is asked.
    for line in [
        "{r\"m\",x}",
        "[\"r\"]m x",
        "flock /tmp/lock -c 'rm x'",
        "script -qc 'rm x' /dev/null",
        "git -c alias.x='!rm x' x",
        "zsh -c 'rm x'",
        "su root --session-command='rm x'",
        "setarch x86_64 sh -c 'rm x'",
        "xargs -I{} sh -c '{}'",
        "/lib64/ld-linux-x86-64.so.2 /usr/bin/rm",
        "./sh -c 'rm x'",
        "/opt/bin/bash -c 'rm x'",
        "/bin/r? x",
        "/bin/$X x",
    ] {
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
        "env LANG=C git log",
        "git log 2>&1 >/dev/null",
        "bash -c 'git log; git diff'",
        "git commit -m \"$X\"",
        "git log -- $(git rev-parse)",
    ] {
        assert!(allowed(line, "git *"), "{line}");
    }
    for line in [
        "git status; rm x",
        "git $(rm x)",
        "git log > /etc/passwd",
        "GIT_SSH_COMMAND=x git fetch",
        "env PATH=/tmp git log",
        "env A=b git log",
        "A=b git log",
        "git show $X",
        "git show $(git rev)",
        "git commit -m $X",
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
pub fn let_through(line: &str, rule: &str) -> bool {
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
        ("find . -fprintf M x", "find *"),
        ("find . -name x -delete", "find *"),
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
fn no_line_ends_the_host_or_takes_it_long() {
    let words = format!("xargs sudo{}", " ~".repeat(8000));
    assert_eq!(commands(&words), None);
    for piece in [
        "(:')';",
        "(",
        "{ ",
        "! ",
        "[[ ! ",
        "$((-",
        "$((~",
        "`",
        "${x:-",
        "((",
        "if ",
        "a=(",
        "<(",
        "case x in (",
        "\"$(",
    ] {
        for line in [
            piece.repeat(16_000 / piece.len()),
            format!("echo {}", piece.repeat(190 / piece.matches(['(', '{', '[', '`', '!', 'i']).count().max(1))),
        ] {
            // What is told of it does not matter here.
            let _ = commands(&line);
        }
    }
    let many = format!("echo{}", " $(a)".repeat(16));
    assert!(commands(&many).is_some(), "many that stand side by side are read");
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
        ("flock /tmp/lock rm x", "flock /tmp/lock rm x"),
        ("bash -lc 'rm x; rm y'", "rm *"),
        ("bash -o pipefail -ec 'rm x'", "rm *"),
        ("su -c 'rm x' ann", "rm *"),
        ("bash ./x -c rm", "bash ./x *"),
        ("git commit -a -m \"$X\"", "git *"),
        ("git commit -am \"$X\"", "git *"),
        ("git rev-parse --git-dir", "git *"),
        ("git cherry-pick -s abc", "git *"),
        ("command -v git", "command *"),
        ("[ \"$X\" = a ]", "[ *"),
        ("test -n \"$X\"", "test *"),
        ("time ls", "ls"),
        ("LC_ALL=C.UTF-8 TZ=Europe/Berlin rm x", "rm *"),
        ("echo a > \"$HOME/x\"", "*"),
        ("watch -n 1 rm x", "rm *"),
        ("sudo --what rm x", "sudo --what rm x"),
        ("strace -f rm x", "strace -f rm x"),
        ("find . -name '*.txt' -type f", "find *"),
        ("ssh host", "ssh *"),
        ("git -C /tmp log --format=%h", "git *"),
        ("git --no-pager rebase main", "git *"),
        ("watch", "watch"),
        ("watch -n", "watch -n"),
        ("ssh -p", "ssh -p"),
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

proptest! {
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
