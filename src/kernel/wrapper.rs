//! Commands that run another command: `sudo`, `timeout`, `env` and their like, and shells that are given a line.

use crate::kernel::git::done_by_git;
use crate::kernel::options::{Wrapper, name_of, wrapper};
use crate::kernel::shells::{End, OTHER_SHELLS, SHELLS, asked_of_su, line_of, line_of_trap, read_by_source};
use crate::kernel::word::Word;

const WRAPPERS: [Wrapper; 16] = [
    Wrapper {
        flags: ("AbEHnPSkK", &["preserve-env", "non-interactive", "set-home", "stdin", "background"]),
        // Not `-i`, `-D` and `-R`: in another folder, or below another root, names are other files.
        values: ("ugphCrtTU", &["user", "group", "prompt", "host"]),
        ..wrapper("sudo", "", "")
    },
    wrapper("doas", "nsL", "uC"),
    Wrapper {
        flags: ("i0v", &["ignore-environment", "null", "debug"]),
        // Not `-u` and `-C`: without a variable, or in another folder, names are other files.
        ..wrapper("env", "", "")
    },
    Wrapper {
        flags: ("v", &["foreground", "preserve-status", "verbose"]),
        values: ("sk", &["signal", "kill-after"]),
        arguments: 1,
        ..wrapper("timeout", "", "")
    },
    Wrapper { values: ("n", &["adjustment"]), ..wrapper("nice", "", "") },
    wrapper("nohup", "", ""),
    Wrapper {
        // Not `-o`, which writes what `-f` says into a file.
        flags: ("pvq", &["portability", "verbose", "quiet"]),
        values: ("f", &["format"]),
        ..wrapper("time", "", "")
    },
    Wrapper { values: ("ioe", &["input", "output", "error"]), ..wrapper("stdbuf", "", "") },
    Wrapper { flags: ("cfw", &["ctty", "fork", "wait"]), ..wrapper("setsid", "", "") },
    Wrapper { flags: ("t", &["ignore"]), values: ("cn", &["class", "classdata"]), ..wrapper("ionice", "", "") },
    wrapper("command", "p", ""),
    wrapper("builtin", "", ""),
    wrapper("exec", "cl", "a"),
    wrapper("busybox", "", ""),
    Wrapper {
        // Not `-I` and its like: with them what is read may stand anywhere, also as the command's name.
        flags: ("0rtpxo", &["null", "no-run-if-empty", "verbose", "interactive", "exit", "open-tty"]),
        values: ("nPLdsaE", &["max-args", "max-procs", "max-lines", "delimiter", "max-chars", "arg-file"]),
        ..wrapper("xargs", "", "")
    },
    wrapper("eval", "", ""),
];

/// Options of `watch`, which has a shell run its words.
const WATCH: Wrapper = Wrapper {
    flags: ("bcdegprtwx", &["beep", "color", "differences", "errexit", "chgexit", "no-title", "precise", "exec"]),
    values: ("nq", &["interval", "equexit"]),
    ..wrapper("watch", "", "")
};

/// Options of `ssh`, up to the host. Not `-o` and `-F`, which can name a command of this machine.
const SSH: Wrapper = Wrapper { arguments: 1, ..wrapper("ssh", "46AaCfGgKkMNnqsTtVvXxYy", "BbcDEeIiLlmpQRWwJ") };

/// What runs other commands in ways that are not read here: an allow rule for them is for the whole line.
const UNREAD: [&str; 54] = [
    "chroot",
    "flock",
    "setarch",
    "linux32",
    "linux64",
    "i386",
    "x86_64",
    "prlimit",
    "choom",
    "numactl",
    "cgexec",
    "firejail",
    "bwrap",
    "proot",
    "eatmydata",
    "faketime",
    "rlwrap",
    "screen",
    "tmux",
    "at",
    "batch",
    "crontab",
    "gdb",
    "valgrind",
    "perf",
    "xvfb-run",
    "dbus-run-session",
    "ssh-agent",
    "sshpass",
    "expect",
    "gosu",
    "su-exec",
    "tini",
    "dumb-init",
    "ld.so",
    "rsh",
    "parallel",
    "pkexec",
    "runuser",
    "systemd-run",
    "script",
    "strace",
    "ltrace",
    "unshare",
    "nsenter",
    "chrt",
    "taskset",
    "setpriv",
    "entr",
    "fakeroot",
    "start-stop-daemon",
    "run-parts",
    "unbuffer",
    "sg",
];

/// What a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwrapped {
    /// Where the commands begin that it runs, each inside the one before: indices of words.
    pub starts: Vec<usize>,
    /// Variables that they get, `NAME=value` as in a specifier.
    pub variables: Vec<String>,
    /// Whether the last gets further arguments that do not stand here.
    pub appended: bool,
    /// What the last one is.
    pub end: End,
    /// What runs beside it.
    pub beside: Vec<Beside>,
}

/// What a command runs that is a part of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A command of these words.
    Words(Vec<Word>),
    /// A line that a shell reads, perhaps of another machine; `None` when it is not known.
    Line(Option<String>),
}

/// Whether the first word may be a command that runs others.
pub fn is_wrapper(words: &[Word]) -> bool {
    let name = words.first().and_then(|word| word.known.as_deref());
    name.and_then(|name| name.rsplit('/').next()).is_some_and(|name| {
        SHELLS.contains(&name) || is_read_apart(name) || WRAPPERS.iter().any(|wrapper| wrapper.name == name)
    })
}

/// What a command of these words runs in the end.
pub fn unwrapped(words: &[Word]) -> Unwrapped {
    let mut found = Unwrapped::default();
    let mut start = 0;
    loop {
        let rest = &words[start..];
        let Some(name) = rest.first().and_then(name_of) else {
            // Of that name, but of another folder: it may do the same.
            if is_wrapper(rest) {
                found.end = End::Unknown;
            }
            return found;
        };
        if name == "command" && matches!(rest.get(1).and_then(|word| word.known.as_deref()), Some("-v" | "-V")) {
            // It tells what a name stands for.
            return found;
        }
        if name == "eval" && found.appended {
            found.end = End::Line(None);
            return found;
        }
        if name == "eval" {
            found.end = End::Line(joined(&rest[1..]));
            return found;
        }
        if name == "trap" {
            found.end = line_of_trap(&rest[1..]);
            return found;
        }
        if SHELLS.contains(&name) {
            // Further arguments may be the line, or stand in it.
            found.end = if found.appended { End::Line(None) } else { line_of(&rest[1..]) };
            return found;
        }
        if is_read_apart(name) {
            let (end, beside) = match name {
                "find" => found_by(&rest[1..]),
                "ssh" => asked_of_host(rest),
                "watch" => (watched(rest), Vec::new()),
                "git" => (done_by_git(rest), Vec::new()),
                "su" => (asked_of_su(&rest[1..]), Vec::new()),
                "." | "source" => (read_by_source(&rest[1..]), Vec::new()),
                _ => (End::Unknown, Vec::new()),
            };
            // What is added to its words may be anything of these.
            found.end = if found.appended { End::Line(None) } else { end };
            found.beside = beside;
            return found;
        }
        let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) else { return found };
        let Some(inner) = wrapper.inner(rest, &mut found.variables) else {
            // `env -S` takes a whole command as one word.
            let is_line = |word: &Word| word.known.as_deref().is_some_and(|known| known.contains([' ', '\t']));
            found.end = if name == "env" && rest.iter().any(is_line) { End::Line(None) } else { End::Unknown };
            return found;
        };
        if inner >= rest.len() {
            // What is appended is the command.
            found.end = if found.appended { End::Unknown } else { End::Command };
            return found;
        }
        found.appended |= name == "xargs";
        start += inner;
        found.starts.push(start);
    }
}

/// Whether the words of a command are read in a way of their own.
fn is_read_apart(name: &str) -> bool {
    matches!(name, "find" | "ssh" | "watch" | "git" | "su" | "." | "source")
        || UNREAD.contains(&name)
        || OTHER_SHELLS.contains(&name)
        || name.starts_with("ld-linux")
}

/// What `find` runs for what it finds.
fn found_by(arguments: &[Word]) -> (End, Vec<Beside>) {
    let mut commands = Vec::new();
    let mut at = 0;
    while let Some(word) = arguments.get(at) {
        at += 1;
        match word.known.as_deref() {
            Some("-exec" | "-ok") => {}
            // It writes into a file that its words name, takes away what it finds, or goes to where that is; what is not
            // known may be any of its options, or several.
            Some("-fprint" | "-fprint0" | "-fprintf" | "-fls" | "-delete" | "-execdir" | "-okdir") | None => {
                return (End::Unknown, Vec::new());
            }
            Some(_) => continue,
        }
        let rest = &arguments[at..];
        // A `+` is an argument like others, but behind `{}`.
        let is = |at: usize, text: &str| rest[at].known.as_deref() == Some(text);
        let ends = |at: &usize| is(*at, ";") || (*at > 0 && is(*at, "+") && is(at - 1, "{}"));
        let length = (0..rest.len()).find(ends).filter(|length| *length > 0);
        let Some(length) = length.filter(|length| rest[..*length].iter().all(|word| word.known.is_some())) else {
            return (End::Unknown, Vec::new());
        };
        let is_name = |word: &Word| word.known.as_deref().is_some_and(|known| known.contains("{}"));
        let named = |word: &Word| if is_name(word) { Word::unknown() } else { word.clone() };
        commands.push(Beside::Words(rest[..length].iter().map(named).collect()));
        at += length + 1;
    }
    (End::Command, commands)
}

/// What `ssh` has the other machine run: a line for its shell, of all words after the host.
fn asked_of_host(words: &[Word]) -> (End, Vec<Beside>) {
    let Some(rest) = SSH.inner(words, &mut Vec::new()).map(|inner| &words[inner..]) else {
        return (End::Unknown, Vec::new());
    };
    match rest.first() {
        None => (End::Command, Vec::new()),
        // Options may stand after the host, too.
        Some(word) if word.known.as_deref().is_none_or(|known| known.starts_with('-')) => {
            (End::Command, vec![Beside::Line(None)])
        }
        Some(_) => (End::Command, vec![Beside::Line(joined(rest))]),
    }
}

/// The line that `watch` has a shell run again and again.
fn watched(words: &[Word]) -> End {
    match WATCH.inner(words, &mut Vec::new()).map(|inner| &words[inner..]) {
        None => End::Unknown,
        Some([]) => End::Command,
        Some(rest) => End::Line(joined(rest)),
    }
}

fn joined(words: &[Word]) -> Option<String> {
    let texts: Option<Vec<&str>> = words.iter().map(|word| word.known.as_deref()).collect();
    texts.map(|texts| texts.join(" "))
}
